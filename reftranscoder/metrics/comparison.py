"""Two dictionaries side by side: how far features moved, and which is like which.

`decoder_shift` and `firing_shift` are for two of the same build, one of them trained further, as in
Edifice's Diffing: feature j of one is compared with feature j of the other.  `nearest_neighbours`
and `mean_max_cosine` are for any two whose decoders write to the same space.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import to_matrix
from ..errors import ShapeError
from .features import firing_rates

_BLOCK_BYTES = 1 << 26


def decoder_shift(before: Any, after: Any) -> np.ndarray:
    """The cosine of each decoder row with itself ``after``wards.

    Edifice calls a feature moved where it is below 0.95.

    Args:
        before: W_dec (D, O) of one, or its transcoder.
        after: (D, O) of the other, whose rows are the same features.

    Returns:
        (D,) float64, from -1 to 1; 0 for a row of zeros.

    Raises:
        ShapeError: the shapes differ.

    >>> rt.metrics.decoder_shift([[1, 0], [0, 2]], [[3, 0], [0, -1]])
    array([ 1., -1.])
    """
    a, b = _decoder(before, "before"), _decoder(after, "after")
    if a.shape != b.shape:
        raise ShapeError("after", a.shape, b.shape, "It must be of the same build.", "(D, O)")
    cosines: np.ndarray = (_unit(a) * _unit(b)).sum(axis=1)
    return cosines


def firing_shift(before: Any, after: Any) -> np.ndarray:
    """How much more often each feature fires: its rate ``after`` less its rate ``before``.

    Args:
        before: hidden (B, D), sparse or dense, of one on its own rows.
        after: (B', D) of the other on its own.

    Returns:
        (D,) float64, from -1 to 1.

    Raises:
        ShapeError: not as many features, or no row.

    >>> rt.metrics.firing_shift([[1, 0], [1, 0]], [[1, 1], [0, 1]])
    array([-0.5,  1. ])
    """
    rates, later = firing_rates(before), firing_rates(after)
    if rates.shape != later.shape:
        raise ShapeError("after", f"(any, {len(rates)})", f"(any, {len(later)})", letters="(B, D)")
    shift: np.ndarray = later - rates
    return shift


def nearest_neighbours(of: Any, among: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """For each decoder row the most similar one ``among`` others, by the cosine.

    Args:
        of: W_dec (D, O), or its transcoder.
        among: (D', O) of another; without it, the other rows of the same.

    Returns:
        Indices (D,) into ``among``, the lowest of equal ones, and cosines (D,) float64.

    Raises:
        ShapeError: the widths differ, or there is no other row.

    >>> rt.metrics.nearest_neighbours([[1, 0], [0, 1]], [[0, 2], [5, 0]])
    (array([1, 0]), array([1., 1.]))
    """
    a = _unit(_decoder(of, "of"))
    b = a if among is None else _unit(_decoder(among, "among"))
    if a.shape[1] != b.shape[1]:
        want = f"(any, {a.shape[1]})"
        raise ShapeError("among", want, b.shape, "Both must write to one space.", "(D, O)")
    if len(b) <= (among is None):
        raise ShapeError("among", "with another row", b.shape)
    indices, cosines = np.empty(len(a), np.intp), np.empty(len(a))
    step = max(1, _BLOCK_BYTES // (8 * len(b)))
    for start in range(0, len(a), step):
        rows = np.arange(start, min(start + step, len(a)))
        found = a[rows] @ b.T
        if among is None:
            found[np.arange(len(rows)), rows] = -np.inf
        indices[rows] = found.argmax(axis=1)
        cosines[rows] = found.max(axis=1)
    return indices, cosines


def mean_max_cosine(of: Any, among: Any) -> float:
    """The mean over decoder rows of the cosine with the most similar one ``among`` others.

    It is not symmetric.  Source: Sharkey, Braun and Millidge (2022), "Taking features out of
    superposition with sparse autoencoders", there called mean max cosine similarity (MMCS).

    Args:
        of: W_dec (D, O), or its transcoder.
        among: (D', O) of another.

    Returns:
        A number from -1 to 1.

    Raises:
        ShapeError: the widths differ.

    >>> rt.metrics.mean_max_cosine([[1, 0], [0, 1]], [[2, 0]])
    0.5
    """
    return float(nearest_neighbours(of, among)[1].mean())


def _decoder(value: Any, name: str) -> np.ndarray:
    """``W_dec`` of a transcoder, or the array itself, in float64."""
    params = getattr(value, "params", value)
    array = getattr(params, "W_dec", params)
    return to_matrix(array, name, "(D, O)", None, np.float64)


def _unit(rows: np.ndarray) -> np.ndarray:
    norms = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    return rows / np.where(norms > 0, norms, 1)
