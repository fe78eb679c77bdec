"""One training step: the gradient of the loss on a batch, then one step of Adam for every array.

In order: the gradient, with AuxK's where features are dead; clipping by its norm; without what is
parallel to the rows of W_dec, if these have norm 1; Adam; the average of the weights.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .. import reference
from ..arrays import spread_non_finite
from ..backends import Aim, backend_for
from ..declaring import chosen
from ..params import Losses, Params
from .adam import Recipe, State

_EVERY_STEP = 64  # up to which each is averaged
_TAKEN = 8  # of so many steps after these, the last
Parts = Iterable[tuple[np.ndarray, np.ndarray]]


def training_step(
    state: State, recipe: Recipe, lr: float, x: np.ndarray, target: np.ndarray, backend: str
) -> float:
    """Make the next step on ``x`` (B, I) and ``target`` (B, O); return the loss before it, without
    AuxK's."""
    return step_on_parts(state, recipe, lr, [(x, target)], len(x), backend)


def step_on_parts(
    state: State,
    recipe: Recipe,
    lr: float,
    parts: Parts,
    rows: int,
    backend: str,
    top_k: int | None = None,
) -> float:
    """`training_step` on a batch of ``rows`` rows that comes in ``parts``, one after the other.

    The kernels give the same bits however the batch is divided, unless its rows compete; the
    reference puts it together first.  ``top_k`` is that of this step, if it is another.
    """
    plain = recipe.plain and state.own is None and state.config.conventions.plain
    fused = backend == "kernels" and plain
    step = _fused if fused else functools.partial(_by_stages, backend=backend)
    options = state.t + 1, lr, recipe.beta1, recipe.beta2, recipe.eps
    config = state.config
    if top_k is not None and top_k != config.top_k:
        config = dataclasses.replace(config, top_k=top_k)
    active = np.zeros(config.dict_size, bool)
    loss = step(state, config, recipe, options, parts, rows, active)
    count_step(state, recipe, active, backend)
    return loss


def count_step(state: State, recipe: Recipe, active: np.ndarray, backend: str) -> None:
    """What follows a step in which the features ``active`` (D,) were."""
    state.t += 1
    state.silent += 1
    state.silent[active] = 0
    average_weights(state, recipe, backend)


def average_weights(state: State, recipe: Recipe, backend: str) -> None:
    """Take the arrays into the averages, whose rows of W_dec have norm 1 if those of W_dec do.

    After step 64 one step in 8 is taken, for all 8: each costs a pass over all arrays.
    """
    n = 1 if state.t <= _EVERY_STEP else _TAKEN
    if state.t % n:
        return
    for name, average in state.average.items():
        _average(backend)(average, state.arrays[name], state.t // n, recipe.average**n)
    if state.average and recipe.unit_norm_decoder:
        W_dec = state.average["W_dec"]
        W_dec[...] = reference.unit_rows_forward(wide(W_dec))


def _average(backend: str) -> Any:
    if backend == "kernels":
        from ..kernels import average_step

        return average_step

    def in_place(average: np.ndarray, *options: Any) -> None:
        average[...] = reference.average_step(average, *options)

    return in_place


def _fused(
    state: State,
    config: Any,
    recipe: Recipe,
    options: tuple[float, ...],
    parts: Parts,
    rows: int,
    active: np.ndarray,
) -> float:
    from ..kernels.batch_part import Aux
    from ..kernels.fused_step import apply_gradients, step_in_place
    from ..kernels.gradient_sums import clip_gradients, gradient_sums
    from ..kernels.screened_encoder import Encoder

    arrays, moments = state.arrays, (state.m, state.v)
    if state.encoder is None:
        state.encoder = Encoder(arrays["W_enc"], arrays["b_enc"])
    dead = state.silent >= recipe.dead_after
    common = {
        "l1_coeff": recipe.l1_coeff,
        "encoder": state.encoder,
        "aux": Aux(dead, recipe.aux_k, recipe.aux_coeff) if recipe.aux_k else None,
        "active": active,
    }
    selection = {name: getattr(config, name) for name in ("top_k", "activation", "ties")}
    finite = ((spread_non_finite(x), target) for x, target in parts)
    unit = recipe.unit_norm_decoder
    first = next(finite)
    dtype = first[0].dtype.type
    if len(first[0]) == rows and not recipe.clip_norm:
        common |= {**selection, "unit_norm_decoder": unit}
        loss = step_in_place(arrays, *moments, *first, *options, **common)
    else:
        whole = itertools.chain([first], finite)
        gradients, loss = gradient_sums(arrays, whole, rows, selection=selection, **common)
        if recipe.clip_norm:
            clip_gradients(gradients, recipe.clip_norm)
        apply_gradients(arrays, *moments, gradients, options, state.encoder, unit)
    return float(dtype(loss))  # as `Transcoder.value_and_grad` returns it


def _by_stages(
    state: State,
    config: Any,
    recipe: Recipe,
    options: tuple[float, ...],
    parts: Parts,
    rows: int,
    active: np.ndarray,
    backend: str,
) -> float:
    """The step of whatever can be differentiated, with the gradients in memory."""
    x, target = (np.concatenate(arrays) for arrays in zip(*parts))
    aim = Aim(target, recipe.l1_coeff, Losses(**chosen(Losses, recipe)))
    # New `Params` for each step: no others may be used once their arrays have been written to.
    gradients, loss, hidden, reconstruction = _differentiated(
        config, state.params(), spread_non_finite(x), aim, backend
    )
    active[hidden.indices] = True
    dead = state.silent >= recipe.dead_after
    if recipe.aux_k and dead.any():
        _add_aux(gradients, state.arrays, recipe, dead, x, target - reconstruction())
    if recipe.clip_norm:
        clip(gradients, recipe.clip_norm)
    move(state, recipe, options, gradients, backend)
    return loss


def move(
    state: State,
    recipe: Recipe,
    options: tuple[float, ...],
    gradients: dict[str, np.ndarray],
    backend: str,
) -> None:
    """A step of Adam for every array of ``state``, without what is parallel to rows of norm 1."""
    for name, g in gradients.items():
        p, m, v = state.arrays[name], state.m[name], state.v[name]
        if name == "W_dec" and recipe.unit_norm_decoder:
            g = reference.unit_rows_backward(wide(g), wide(p)).astype(p.dtype)
        _adam(backend, v.shape == p.shape)(p, g, m, v, *options)
    if recipe.unit_norm_decoder:
        W_dec = state.arrays["W_dec"]
        W_dec[...] = reference.unit_rows_forward(wide(W_dec))


def _differentiated(
    config: Any, params: Params, x: np.ndarray, aim: Aim, backend: str
) -> tuple[dict[str, np.ndarray], float, Any, Callable[[], np.ndarray]]:
    """The gradients by the names of the arrays, the loss, hidden or what has its entries, and how
    to get the reconstruction.  Where the kernels have none, gradients are the reference's."""
    if params.own is not None and params.own.of_the_reference:
        backend = "reference"
    run = backend_for(backend, config, params)
    if backend == "kernels":
        stages = run.backward(x, aim)
        hidden, reconstruction = stages["d_hidden"], functools.partial(run.reconstruct, x)
    else:
        stages = run.stages(x, aim)
        hidden, reconstruction = stages["hidden"], functools.partial(stages.get, "reconstruction")
    gradients = {name: stages[f"d{name}"] for name in params.all_arrays()}
    return gradients, float(stages["loss"]), hidden, reconstruction


def _adam(backend: str, by_entry: bool) -> Callable[..., None]:
    """A step of Adam that overwrites its first, third and fourth argument."""
    if backend == "kernels":
        from ..kernels import adam_row_step, adam_step

        return adam_step if by_entry else adam_row_step
    made: Any = reference.adam_step if by_entry else reference.adam_row_step

    def in_place(p: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray, *options: Any) -> None:
        p[...], m[...], v[...] = made(p, g, m, v, *options)

    return in_place


def _add_aux(
    gradients: dict[str, np.ndarray],
    arrays: dict[str, np.ndarray],
    recipe: Recipe,
    dead: np.ndarray,
    x: np.ndarray,
    residual: np.ndarray,
) -> None:
    """Add to ``gradients`` those of AuxK, computed in float64."""
    W_enc, b_enc, W_dec = (wide(arrays[name]) for name in ("W_enc", "b_enc", "W_dec"))
    x, residual = wide(x), wide(residual)
    hidden, found = reference.aux_k_forward(x, dead, W_enc, b_enc, W_dec, recipe.aux_k)
    coeff = recipe.aux_coeff
    added = reference.aux_k_backward(x, residual, hidden, found, W_enc, W_dec, coeff)
    for name in ("W_enc", "b_enc", "W_dec"):
        gradients[name] = gradients[name] + getattr(added, f"d{name}").astype(arrays[name].dtype)


def clip(gradients: dict[str, np.ndarray], clip_norm: float) -> None:
    """Multiply ``gradients`` so that their norm, all together, is at most ``clip_norm``."""
    norm = np.sqrt(sum(np.sum(np.square(wide(g))) for g in gradients.values()))
    if norm > clip_norm:
        for name, g in gradients.items():
            gradients[name] = g * g.dtype.type(clip_norm / norm)


def wide(array: np.ndarray) -> np.ndarray:
    """``array`` in float64, or in its dtype, if that is wider."""
    return array.astype(np.result_type(array, np.float64))
