"""The second half of a step in a worker: the gradients of the slice that it owns, and Adam on them.

Each sum over the rows of the batch is made whole, by the one worker that owns the feature, in the
order in which `rt.fit` makes it: nothing depends on how many workers there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..params import NAMES
from ..training.step import average_weights
from .slices import Chosen, Errors, Pieces, Slice, held_slice, together

Arrays = dict[str, np.ndarray]


class Rates(NamedTuple):
    """What differs from step to step."""

    t: int
    lr: float
    rows: int  # in the batch


class Part(NamedTuple):
    """A part of the rows of a batch, and what the tasks of ``slices.py`` made of it."""

    x: Pieces
    chosen: Chosen
    errors: Errors


def move(run: str, number: int, rates: Rates, parts: Sequence[Any]) -> float | None:
    """Make step ``rates.t`` of the slice; return the loss before it, if it is the last slice.

    ``parts`` are those of the batch, in order, each as a `Part` or its fields.
    """
    from ..kernels.fused_step import apply_gradients, move

    held = held_slice(run, number, rates.t - 1)
    parts = [Part(*part) for part in parts]
    if len(parts) > 1:
        held.gradients = _summed(held, rates, parts)
        _apply(held, rates, apply_gradients)
    else:
        state, options = held.state, _adam(held, rates)
        inputs, dense = _inputs(held, rates, parts[0]), _dense(held, parts)
        of_features = state.arrays, state.m, state.v, dense, inputs, None, state.encoder, options
        move(*of_features, held.recipe.unit_norm_decoder)
    _end(held, _active(held, parts))
    return _loss(held, parts)


def gradient(run: str, number: int, rates: Rates, parts: Sequence[Any]) -> Arrays:
    """Make the gradients of the slice, for `move_clipped`; return what `norm` takes of them."""
    from ..kernels.row_dots import row_dots

    held = held_slice(run, number, rates.t - 1)
    parts = [Part(*part) for part in parts]
    held.gradients, held.active = _summed(held, rates, parts), _active(held, parts)
    held.loss = _loss(held, parts)
    return {
        name: array if name == "b_enc" else row_dots(*2 * [np.atleast_2d(array)])[:, 0]
        for name, array in held.gradients.items()
    }


def norm(of_slices: Sequence[Mapping[str, np.ndarray]]) -> float:
    """The norm of all gradients, from what `gradient` returned of each slice: as in
    ``kernels/gradient_sums.py``, the squares of rows in the order of the rows."""
    from ..kernels.mse import in_order
    from ..kernels.row_dots import row_dots

    total = 0.0
    for name in NAMES:
        held = [arrays[name] for arrays in of_slices if name in arrays]
        if not held:
            continue
        squares = np.concatenate(held)
        if name == "b_enc":  # which is one row
            squares = row_dots(squares[None], squares[None])[:, 0]
        total += float(in_order(squares))
    return math.sqrt(total)


def move_clipped(run: str, number: int, rates: Rates, norm: float) -> float | None:
    """`move` by the gradients that `gradient` made, clipped where ``norm`` is too large."""
    from ..kernels.fused_step import apply_gradients

    held = held_slice(run, number, rates.t - 1)
    if norm > held.recipe.clip_norm:
        for array in held.gradients.values():
            array *= array.dtype.type(held.recipe.clip_norm / norm)
    _apply(held, rates, apply_gradients)
    _end(held, held.active)
    return held.loss


def fetch(run: str, number: int, t: int) -> Arrays:
    """Every array of the slice after step ``t``, by its name in a checkpoint: copies."""
    state = held_slice(run, number, t).state
    return {name: array.copy() for name, array in state.named().items()}


def _apply(held: Slice, rates: Rates, apply_gradients: Any) -> None:
    state, options = held.state, _adam(held, rates)
    own = state.arrays, state.m, state.v, held.gradients, options, state.encoder
    apply_gradients(*own, held.recipe.unit_norm_decoder)
    held.gradients = {}


def _adam(held: Slice, rates: Rates) -> tuple[float, ...]:
    recipe = held.recipe
    return rates.t, rates.lr, recipe.beta1, recipe.beta2, recipe.eps


def _inputs(held: Slice, rates: Rates, part: Part) -> Any:
    """What the gradients of the features are sums over."""
    from ..kernels.batch_part import gradient_inputs
    from ..kernels.feature_slices import columns
    from ..kernels.l1 import l1_slopes

    chosen, owned = part.chosen, held.owned
    hidden, found = (
        None if matrix is None else columns(matrix, owned.first, owned.stop)
        for matrix in (chosen.hidden, chosen.found)
    )
    penalties = l1_slopes(chosen.hidden, held.recipe.l1_coeff, rates.rows)
    ours = columns(chosen.hidden.with_values(penalties), owned.first, owned.stop).values
    x, aux_G = together(part.x), part.errors.aux_G
    return gradient_inputs(x, part.errors.G, hidden, ours, found, aux_G)


def _summed(held: Slice, rates: Rates, parts: Sequence[Part]) -> Arrays:
    """The gradients of the slice, of all ``parts``."""
    from ..kernels.gradient_sums import add_of_features

    arrays = held.state.arrays
    sums = {name: np.zeros_like(arrays[name]) for name in ("W_enc", "b_enc", "W_dec")}
    for part in parts:
        add_of_features(sums, _inputs(held, rates, part), arrays["W_dec"])
    return sums | _dense(held, parts)


def _dense(held: Slice, parts: Sequence[Part]) -> Arrays:
    """The gradients of b_dec and W_skip, if this is the last slice."""
    from ..kernels.decode import sum_rows
    from ..kernels.skip import skip_weights_backward

    arrays = held.state.arrays
    dense: Arrays = {
        name: np.zeros_like(array) for name, array in arrays.items() if name in ("b_dec", "W_skip")
    }
    for part in parts:
        if "b_dec" in dense:
            sum_rows(part.errors.G, dense["b_dec"])
        if "W_skip" in dense:
            G, x = part.errors.G, together(part.x)
            skip_weights_backward(G, x, arrays["W_skip"], dense["W_skip"])
    return dense


def _active(held: Slice, parts: Sequence[Part]) -> np.ndarray:
    active = np.zeros(held.owned.config.dict_size, bool)
    for part in parts:
        active[part.chosen.hidden.indices] = True
    return active[held.owned.first : held.owned.stop]


def _loss(held: Slice, parts: Sequence[Part]) -> float | None:
    from ..kernels.fused_step import loss_of

    if not held.owned.last:
        return None
    config = held.owned.config
    squares, absolutes = (
        np.concatenate([getattr(part.errors, name) for part in parts])
        for name in ("squares", "absolutes")
    )
    sizes = config.output_size, config.dict_size
    loss = loss_of(squares, absolutes, *sizes, held.recipe.l1_coeff)
    return float(np.dtype(config.dtype).type(loss))


def _end(held: Slice, active: np.ndarray) -> None:
    """Count the step."""
    state = held.state
    state.t += 1
    state.silent += 1
    state.silent[active] = 0
    average_weights(state, held.recipe, "kernels")
