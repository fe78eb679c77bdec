"""What is done to x before the encoder, and the way back, on intervals: row by row.

The formulas are those of ``reference/normalizations.py``.  An implementation takes means and norms
of I entries in whatever order, stores each step, and takes a deviation from its own differences
from its own mean, as the libraries do; the difference of two means of squares is not granted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...bounds import FLOAT64, PRECISIONS, Precision, Reals
from ..task.arithmetic import Arithmetic
from ..task.definition import Definition
from .interval import Interval, growth


class Normalized(NamedTuple):
    """What the encoder reads of rows x (B, I), and what decoded is multiplied by and added to."""

    read: Interval  # (B, I)
    gain: Interval  # (B, 1)
    shift: Interval  # (B, 1)


#: What is returned of a row for one tier: u, the gain and the shift, each with its error.
_Errors = tuple[Reals, Reals, Reals]


def normalized(x: np.ndarray, definition: Definition, arithmetic: Arithmetic) -> Normalized:
    """What `Conventions` makes of ``x`` (B, I), which is exact."""
    values, errors_of = _KINDS[definition.normalize](x, definition)
    # Ours are computed in float64, and rounded as well.
    ours = errors_of(float(len(x[0]) * FLOAT64.unit), PRECISIONS["float64"])
    tiers = [
        [theirs + own for theirs, own in zip(errors_of(float(grown), arithmetic.store), ours)]
        for grown in growth(x.shape[1], x.size, arithmetic)
    ]
    found = zip(values, zip(*tiers))
    return Normalized(*(Interval(value, tuple(errors)) for value, errors in found))


def _layer_norm(x: np.ndarray, definition: Definition) -> tuple[Any, Callable[..., _Errors]]:
    """(Y1) to (Y3)."""
    I = x.shape[1]
    mean, size = x.mean(axis=1, keepdims=True), np.abs(x).mean(axis=1, keepdims=True)
    z = x - mean
    sigma = np.sqrt(np.sum(z * z, axis=1, keepdims=True) / (I - 1))
    q = sigma + definition.eps
    u = z / q

    def errors(grown: float, store: Precision) -> _Errors:
        e_mean = grown * size + _rounded(mean, 3, store)
        e_z = e_mean + _rounded(np.abs(z) + e_mean, 1, store)
        moved = np.sqrt(np.sum(e_z * e_z, axis=1, keepdims=True) / (I - 1))
        e_sigma = moved + (sigma + moved) * (grown + 8 * store.unit) + store.spacing
        e_q = e_sigma + _rounded(q + e_sigma, 2, store)
        least = np.where(q > e_q, q - e_q, 0.0)
        e_u = (e_z + np.abs(u) * e_q) / least
        return e_u + _rounded(np.abs(u) + e_u, 2, store), e_sigma, e_mean

    return (u, sigma, mean), errors


def _constant_norm(x: np.ndarray, definition: Definition) -> tuple[Any, Callable[..., _Errors]]:
    """(H1) to (H3): a root of a sum of squares, and a division or two."""
    c = np.sqrt(x.shape[1] / np.sum(x * x, axis=1, keepdims=True))
    u, gain = c * x, 1 / c

    def errors(grown: float, store: Precision) -> _Errors:
        relative = 1.01 * (grown + 8 * store.unit)
        return (
            relative * np.abs(u) + store.spacing,
            relative * gain + store.spacing,
            np.zeros_like(gain),
        )

    return (u, gain, np.zeros_like(gain)), errors


def _constant_scale(x: np.ndarray, definition: Definition) -> tuple[Any, Callable[..., _Errors]]:
    """(F1) and (F2)."""
    ones = np.ones((len(x), 1))
    u, gain = definition.scale * x, ones / definition.scale

    def errors(grown: float, store: Precision) -> _Errors:
        return _rounded(u, 2, store), _rounded(gain, 2, store), 0 * ones

    return (u, gain, 0 * ones), errors


def _rounded(value: np.ndarray, times: int, store: Precision) -> np.ndarray:
    rounding: np.ndarray = 1.01 * times * (store.unit * np.abs(value) + store.spacing)
    return rounding


_KINDS: dict[str, Callable[..., tuple[Any, Callable[..., _Errors]]]] = {
    "layer_norm": _layer_norm,
    "constant_norm_rescale": _constant_norm,
    "expected_average_only_in": _constant_scale,
}
