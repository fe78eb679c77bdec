"""The straight-through gradient of jumprelu on intervals.

It is a sum as others are, though it is no derivative.  What a candidate may see otherwise is which
rows are within the window, (J3) of ``reference/jumprelu.py``: where pre is nearer to the window's
edge than it is known, a term may be there or not.
"""

from __future__ import annotations

import numpy as np

from ...bounds import FLOAT64, add_up, multiply_up
from ...sparse import Sparse, row_starts
from ..task.arithmetic import Arithmetic, representable_mask
from .interval import TIERS, Interval, entrywise
from .sparse_interval import SparseInterval


def slope(
    theta: np.ndarray, bandwidth: float, pre: Interval, d_hidden: Interval, arithmetic: Arithmetic
) -> SparseInterval:
    """``d_hidden theta window`` (rows, D), what (J4) sums and (J5) adds, where it may be not zero.

    ``theta`` is (D,), and ``pre`` and ``d_hidden`` are (rows, D).  The difference of pre and theta,
    the quotient and what it is compared with are rounded; so is the product, three times.
    """
    store, half = arithmetic.store, bandwidth / 2
    distance = np.abs(pre.value - theta)
    cast = np.where(representable_mask(theta, store), 0.0, store.unit) * np.abs(theta)
    own = add_up(4 * store.unit * (distance + half), cast, 2 * store.spacing)
    own = add_up(own, 8 * FLOAT64.unit * (np.abs(pre.value) + np.abs(theta) + bandwidth))
    slack = add_up(own, pre.error(0))
    doubtful = np.abs(distance - half) <= slack
    rows, columns = np.nonzero((distance < half) | doubtful)
    at = rows, columns
    factor = theta[columns] / bandwidth
    whole = d_hidden.value[at] * factor
    value = np.where(distance[at] < half, whole, 0.0)
    perhaps = np.where(doubtful[at], np.abs(whole), 0.0)
    lost = multiply_up(cast[columns] / bandwidth, np.abs(d_hidden.value[at]))
    lost = add_up(lost, entrywise(np.abs(whole), 4, arithmetic))
    errors = []
    for tier in range(len(TIERS)):
        e = np.broadcast_to(d_hidden.error(tier), d_hidden.value.shape)[at]
        seen = multiply_up(e, np.abs(factor), 1 + 8 * store.unit)
        errors.append(add_up(seen, lost, perhaps))
    starts = row_starts(np.bincount(rows, minlength=len(pre.value)))
    pattern = Sparse(starts, columns.astype(np.int32), value, pre.value.shape)
    return SparseInterval(pattern, Interval(value, tuple(errors)))


def negative(features: SparseInterval) -> SparseInterval:
    """The same with the other sign."""
    entries = features.entries
    return SparseInterval(features.pattern, Interval(-entries.value, entries.errors))


def added(one: SparseInterval, other: SparseInterval, arithmetic: Arithmetic) -> SparseInterval:
    """The sum of both, stored: at the entries of either."""
    shape = one.pattern.shape
    keys = [p.rows().astype(np.int64) * shape[1] + p.indices for p, _ in (one, other)]
    every = np.union1d(*keys)

    def together(parts: list[np.ndarray]) -> np.ndarray:
        total = np.zeros(len(every))
        for key, part in zip(keys, parts):
            place = np.searchsorted(every, key)
            total[place] = add_up(total[place], part)
        return total

    value = np.zeros(len(every))
    for key, part in zip(keys, (one, other)):
        value[np.searchsorted(every, key)] += part.entries.value
    rounding = entrywise(value, 1, arithmetic)
    errors = []
    for tier in range(len(TIERS)):
        parts = [
            np.broadcast_to(f.entries.error(tier), f.pattern.indices.shape) for f in (one, other)
        ]
        errors.append(add_up(together(parts), rounding))
    rows, columns = np.divmod(every, shape[1])
    starts = row_starts(np.bincount(rows, minlength=shape[0]))
    pattern = Sparse(starts, columns.astype(np.int32), value, shape)
    return SparseInterval(pattern, Interval(value, tuple(errors)))
