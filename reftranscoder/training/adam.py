"""One training step: the gradient of the loss on a batch, then one step of Adam for every array.

What Adam does stands in ``reference/adam.py``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .. import reference
from ..arrays import spread_non_finite
from ..declaring import option
from ..errors import OptionError
from ..options import finite_number, truth
from ..params import Params, TranscoderConfig
from ..transcoder import Transcoder
from .schedule import positive_number


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What every step is made with.

    Raises:
        OptionError: a negative ``l1_coeff``, a beta outside 0 to below 1, or an ``eps`` of 0.
    """

    l1_coeff: float = option(1e-3, "of mean(abs(hidden)) in the loss", "in training units")
    unit_norm_decoder: bool = option(
        False, "keep the rows of W_dec at norm 1", "each is divided by its norm after every step"
    )
    beta1: float = option(0.9, "of Adam (``reference/adam.py``)")
    beta2: float = option(0.999, "of Adam")
    eps: float = option(1e-8, "of Adam")

    def __post_init__(self) -> None:
        object.__setattr__(self, "l1_coeff", finite_number("l1_coeff", self.l1_coeff))
        object.__setattr__(self, "eps", positive_number("eps", self.eps))
        for name in ("beta1", "beta2"):
            beta = finite_number(name, getattr(self, name))
            if beta >= 1:
                raise OptionError(name, "from 0 to below 1", getattr(self, name))
            object.__setattr__(self, name, beta)
        unit_norm = truth("unit_norm_decoder", self.unit_norm_decoder)
        object.__setattr__(self, "unit_norm_decoder", unit_norm)


@dataclasses.dataclass
class State:
    """A transcoder in training: its arrays, Adam's two means of each, and the steps made so far.

    The arrays belong to this object, and each step overwrites them.
    """

    config: TranscoderConfig
    arrays: dict[str, np.ndarray]  # by their names in `Params`
    m: dict[str, np.ndarray]  # the mean gradient
    v: dict[str, np.ndarray]  # the mean squared gradient
    t: int
    encoder: Any = dataclasses.field(default=None, repr=False)  # what the kernels know of W_enc

    @classmethod
    def start(cls, config: TranscoderConfig, arrays: dict[str, np.ndarray]) -> State:
        """Before the first step, at ``arrays``, which from now on belong to the state."""
        m, v = ({name: np.zeros_like(a) for name, a in arrays.items()} for _ in range(2))
        return cls(config, arrays, m, v, 0)


def training_step(
    state: State, recipe: Recipe, lr: float, x: np.ndarray, target: np.ndarray, backend: str
) -> float:
    """Make the next step on ``x`` (B, I) and ``target`` (B, O); return the loss before it."""
    step = _by_kernels if backend == "kernels" else _by_reference
    options = state.t + 1, lr, recipe.beta1, recipe.beta2, recipe.eps
    loss = step(state, recipe, options, x, target)
    state.t += 1
    return loss


def _by_kernels(
    state: State, recipe: Recipe, options: tuple[float, ...], x: np.ndarray, target: np.ndarray
) -> float:
    from ..kernels.fused_step import step_in_place
    from ..kernels.screened_encoder import Encoder

    if state.encoder is None:
        state.encoder = Encoder(state.arrays["W_enc"], state.arrays["b_enc"])
    loss = step_in_place(
        state.arrays,
        state.m,
        state.v,
        spread_non_finite(x),
        target,
        *options,
        l1_coeff=recipe.l1_coeff,
        top_k=state.config.top_k,
        activation=state.config.activation,
        ties=state.config.ties,
        unit_norm_decoder=recipe.unit_norm_decoder,
        encoder=state.encoder,
    )
    return float(x.dtype.type(loss))  # as `Transcoder.value_and_grad` returns it


def _by_reference(
    state: State, recipe: Recipe, options: tuple[float, ...], x: np.ndarray, target: np.ndarray
) -> float:
    # A new `Transcoder` for each step: no other may be used once its arrays have been written to.
    transcoder = Transcoder(state.config, Params.adopt(**state.arrays))
    loss, grads = transcoder.value_and_grad(
        x, target, recipe.l1_coeff, backend="reference", check_finite=False
    )
    for name, g in grads.arrays().items():
        p, m, v = state.arrays[name], state.m[name], state.v[name]
        p[...], m[...], v[...] = reference.adam_step(p, g, m, v, *options)
    if recipe.unit_norm_decoder:
        to_unit_rows(state.arrays["W_dec"])
    return float(loss)


def to_unit_rows(W: np.ndarray) -> None:
    """Divide each row of ``W`` by its Euclidean norm, in place; a row of zeros stays."""
    norms = np.sqrt(np.square(W, dtype=np.result_type(W, np.float64)).sum(axis=1, keepdims=True))
    W /= np.where(norms > 0, norms, 1).astype(W.dtype)
