"""The hand-derived gradients against differences, in exact fractions: equal or wrong.

Where no feature enters or leaves the selection and none changes its sign, the loss along a line is
a polynomial of degree four at most.  Five points determine it, so that its slope at the middle is
exactly::

    (8 (L(h) - L(-h)) - (L(2h) - L(-2h))) / (12 h)                                        (D1)

and over fractions nothing is rounded.  The step h is so small that 2h is within the cell.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from .. import reference
from ..errors import KinkError
from ..gradcheck import kink_free_radius

B, I, D, O, K = 3, 4, 6, 3, 2
L1_COEFF = Fraction(1, 10)
ARRAYS = {
    "x": (B, I),
    "W_enc": (D, I),
    "b_enc": (D,),
    "W_dec": (D, O),
    "b_dec": (O,),
    "W_skip": (O, I),
}

Arrays = dict[str, np.ndarray]


class Slope(NamedTuple):
    """The derivative of the loss when ``moved`` moves along a line."""

    moved: str
    derived: Fraction  # the gradient, times the direction
    difference: Fraction  # (D1)

    @property
    def equal(self) -> bool:
        """Whether the two are the same fraction; a float that crept in would make this False."""
        are_exact = all(isinstance(n, Fraction) for n in (self.derived, self.difference))
        return are_exact and self.derived == self.difference


def prove(seed: int) -> list[Slope]:
    """Compare both for each array of a small random case by itself, then for all parameters.

    The case has a skip connection and an L1 penalty.

    Raises:
        KinkError: the case of this ``seed`` has a tie, so that there is no derivative.
    """
    rng = np.random.default_rng(seed)
    point = {name: _fractions(rng, shape) for name, shape in ARRAYS.items()}
    target = _fractions(rng, (B, O))
    blocks: list[tuple[str, ...]] = [(name,) for name in ARRAYS]
    blocks.append(tuple(name for name in ARRAYS if name != "x"))
    slopes = []
    for block in blocks:
        direction = {name: _fractions(rng, ARRAYS[name]) for name in block}
        slope = _slope(point, target, direction)
        slopes.append(Slope(block[0] if len(block) == 1 else "all parameters", *slope))
    return slopes


def _fractions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    numerators = rng.integers(-12, 13, shape)
    denominators = rng.integers(1, 8, shape)
    fractions: np.ndarray = np.vectorize(Fraction, otypes=[object])(numerators, denominators)
    return fractions


def _slope(point: Arrays, target: np.ndarray, direction: Arrays) -> tuple[Fraction, Fraction]:
    forward = _forward(point)
    gradients = reference.transcoder_backward(
        point["x"],
        target,
        forward,
        point["W_enc"],
        point["W_dec"],
        point["W_skip"],
        l1_coeff=L1_COEFF,
        activation="topk",
    )
    derived = sum(np.sum(getattr(gradients, f"d{name}") * d) for name, d in direction.items())

    rate = _forward(_moved(point, direction, 1)).pre - forward.pre
    radius: Any = kink_free_radius(forward.pre, rate, K)  # a Fraction, if not infinite
    if radius == 0:
        raise KinkError("two features tie at the last place; there is no derivative", None, 0)
    h = Fraction(1) if radius == float("inf") else radius / 3
    loss = {n: _loss(_moved(point, direction, n * h), target) for n in (-2, -1, 1, 2)}
    return derived, (8 * (loss[1] - loss[-1]) - (loss[2] - loss[-2])) / (12 * h)  # (D1)


def _moved(point: Arrays, direction: Arrays, step: Fraction | int) -> Arrays:
    return {
        name: a + step * direction[name] if name in direction else a for name, a in point.items()
    }


def _forward(arrays: Arrays) -> reference.Forward:
    options = {"top_k": K, "activation": "topk", "ties": "lowest_index"}
    forward: reference.Forward = reference.transcoder_forward(**arrays, **options)
    return forward


def _loss(arrays: Arrays, target: np.ndarray) -> Any:
    forward = _forward(arrays)
    return reference.transcoder_loss(target, forward.reconstruction, forward.hidden, L1_COEFF)
