"""What remains of a screen is computed as the definition says, and selected from.

First it is looked at closer: in 16 bits the bounds of ``quantised.py`` are some thirty times as
narrow as in 8, and hardly more is left than will be kept.  p of that is the float64 sum in lane
order of ``kernels/affine.py``, to the last bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..engine.jit import routine
from ..engine.quickselect import kth_largest
from ..engine.sparse_loops import four_dots
from ..engine.vector import fma
from ..row_dots import row_dot
from .layout import BIAS, CLOSER, NORM, RESIDUAL, SCALE
from .screening import drop_below, raise_threshold
from .sixteen_bits import four_products

#: Of weights that stay in a cache while the rows of a task pass by: each is then read from memory
#: once a task, not once a candidate.
_CACHED_BYTES = 1 << 21

#: But a row is not read for fewer candidates than these: it has to be in the cache as well.
_FEWEST_AT_ONCE = 8

NO_ROOM, WRONG_GUESS = -1, -2


class Encoding(NamedTuple):
    """What p is computed of, and when a feature is active."""

    W: np.ndarray  # (D, I)
    b_enc: np.ndarray  # (D,)
    theta: np.ndarray  # (D,) float64
    order: np.ndarray  # (D,) int32: the feature at each place


class Closer(NamedTuple):
    """Weights and inputs in 16 bits, or none of them."""

    weights: np.ndarray  # (D, J) int16, by place
    closer: np.ndarray  # (3, D) float32: their scale, norm and residual
    features: np.ndarray  # (5, D) float32: of these, the biases
    inputs: np.ndarray  # (B, J) int16
    rows: np.ndarray  # (6, B) float32: from `CLOSER` on, their scale, norm and residual
    starts: np.ndarray  # (2, B) int32: whether the mean was moved


class Selected(NamedTuple):
    """The features that are kept of every row, ascending, with room for K."""

    counts: np.ndarray  # (B,) int64; or `NO_ROOM` or `WRONG_GUESS`
    ids: np.ndarray  # (B, K) int32
    p: np.ndarray  # (B, K) float64


@routine
def rescore_rows(
    first, last, x, encoding, closer, candidates, kept, caution, keep_all, selected
):  # fmt: skip
    """Select the features of rows ``first`` to ``last`` of ``x`` from the `Candidates`, whose ids
    are places in ``order``.  A row whose count is negative already is left alone."""
    W, found = encoding.W, selected.counts
    counts, ids = candidates.counts, candidates.ids
    C = len(ids) // len(counts)
    D, I = W.shape
    scratch = np.empty(C, np.float32)
    left = np.zeros(last - first, np.int64)
    highest = np.zeros(last - first, np.float32)
    for b in range(first, last):
        if found[b] < 0:
            continue
        count, threshold = _join_segments(b, C // counts.shape[1], candidates)
        if count < 0:
            found[b] = NO_ROOM
            continue
        if count > kept:
            count, threshold = raise_threshold(
                candidates, b * C, count, threshold, kept, caution, scratch
            )
        left[b - first], highest[b - first] = count, threshold

    if len(closer.weights):
        stretch = _stretch(left, D, 2 * closer.weights.shape[1])
        _look_closer(first, last, stretch, closer, candidates, left)
        for b in range(first, last):
            count, threshold = left[b - first], highest[b - first]
            if count > kept:
                count, threshold = raise_threshold(
                    candidates, b * C, count, threshold, kept, np.float32(1), scratch
                )
            left[b - first] = drop_below(candidates, b * C, count, threshold)
            highest[b - first] = threshold

    starts = np.zeros(last - first + 1, np.int64)
    starts[1:] = np.cumsum(left)
    p = np.empty(starts[-1])
    _score_rows(first, _stretch(left, D, I * W.itemsize), x, encoding, ids, C, starts, p)
    sums = np.empty(C)
    for b in range(first, last):
        if found[b] >= 0:
            n = starts[b - first]
            threshold = highest[b - first] if kept < D else np.float32(0)
            found[b] = _select(
                ids, b * C - n, p, n, starts[b - first + 1], threshold, kept, keep_all, sums,
                selected, b,
            )  # fmt: skip


@routine
def _stretch(left, D, bytes_each):
    """How many of ``D`` features are looked at before the rows pass by again, of which each has
    ``left`` (B,) candidates."""
    if len(left) == 1:
        return D  # what one row reads, it reads once
    among = _FEWEST_AT_ONCE * len(left) * D // max(left.sum(), 1)
    return min(max(_CACHED_BYTES // bytes_each, among, 1), D)


@routine
def _look_closer(first, last, stretch, closer, candidates, left):
    """Make bounds and estimates of the ``left`` (B,) candidates of each row anew, in 16 bits."""
    weights, of_weights, features, inputs, rows, starts = closer
    _, counts, ids, bounds, estimates = candidates
    C = len(ids) // len(counts)
    D = len(weights)
    done = np.zeros(last - first, np.int64)
    for end in range(stretch, D + stretch, stretch):
        for b in range(first, last):
            n = b * C + done[b - first]
            stop = b * C + left[b - first]
            until = n
            while until < stop and ids[until] < end:
                until += 1
            done[b - first] = until - b * C
            scale, norm, residual = (
                rows[CLOSER + SCALE, b], rows[CLOSER + NORM, b], rows[CLOSER + RESIDUAL, b],
            )  # fmt: skip
            bias = BIAS + starts[1, b]
            while n < until:
                # Past the end, the last again.
                n1, n2, n3 = min(n + 1, until - 1), min(n + 2, until - 1), min(n + 3, until - 1)
                sums = four_products(inputs, b, weights, ids[n], ids[n1], ids[n2], ids[n3])
                for k in range(min(until - n, 4)):
                    j = ids[n + k]
                    total = np.float32(sums[k]) * of_weights[SCALE, j]
                    estimate = fma(total, scale, features[bias, j])
                    bound = fma(residual, of_weights[NORM, j], estimate)
                    bound = fma(norm, of_weights[RESIDUAL, j], bound)
                    bounds[n + k] = bound
                    # One without limits must not raise the threshold.
                    estimates[n + k] = estimate if bound < np.inf else -np.inf
                n += 4


@routine
def _score_rows(first, stretch, x, encoding, ids, C, starts, p):
    """Compute p of every candidate; those of row ``first + n`` go to ``p[starts[n]:]``."""
    done = starts.copy()
    D = len(encoding.W)
    for end in range(stretch, D + stretch, stretch):
        for row in range(len(starts) - 1):
            b = first + row
            place = b * C - starts[row]
            n = done[row]
            until = n
            while until < starts[row + 1] and ids[place + until] < end:
                until += 1
            if n < until:
                _score(x, encoding, b, ids, place, n, until, p)
                done[row] = until


@routine
def _join_segments(b, C, candidates):
    """Move the candidates of all segments of row ``b`` together.

    Returns their number, -1 if there were too many, and the highest threshold of any segment.
    """
    thresholds, counts, ids, bounds, estimates = candidates
    S = counts.shape[1]
    joined, highest = 0, np.float32(0)
    for s in range(S):
        if counts[b, s] > C:
            return -1, highest
        highest = max(highest, thresholds[s, b])
        for n in range(counts[b, s]):
            here, there = b * S * C + joined, (b * S + s) * C + n
            ids[here], bounds[here], estimates[here] = ids[there], bounds[there], estimates[there]
            joined += 1
    return joined, highest


@routine
def _score(x, encoding, b, ids, place, first, last, p):
    """Write p of row ``b`` to ``p[first:last]``, or 0 where it is inactive, and to
    ``ids[place + first:]`` of which features, where there were their places in ``order``."""
    W, b_enc, theta, order = encoding
    n = first
    while n < last:
        # Four at a time, or of the last two or one each: a dot product takes half as long as four.
        j0 = order[ids[place + n]]
        if n + 2 < last:
            n1, n2, n3 = n + 1, n + 2, min(n + 3, last - 1)
            j1, j2, j3 = order[ids[place + n1]], order[ids[place + n2]], order[ids[place + n3]]
            p0, p1, p2, p3 = four_dots(x, b, W, j0, j1, j2, j3)
            p[n] = p0 + b_enc[j0]
            p[n1] = p1 + b_enc[j1]
            p[n2] = p2 + b_enc[j2]
            p[n3] = p3 + b_enc[j3]
            n += 4
        else:
            p[n] = row_dot(x, b, W, j0) + b_enc[j0]
            n += 1
    for n in range(first, last):
        j = order[ids[place + n]]
        ids[place + n] = j
        if p[n] <= theta[j]:
            p[n] = 0.0


@routine
def _select(ids, place, p, first, last, threshold, kept, keep_all, scratch, selected, b):
    """Write the selected of ``p[first:last]`` to row ``b`` of the results; return their number, or
    `WRONG_GUESS` if the threshold was too high or a p is not a number."""
    positive, reached, numbers = np.int64(0), 0, 0
    for n in range(first, last):
        scratch[positive] = p[n]
        positive += p[n] > 0
        reached += p[n] >= threshold
        numbers += p[n] == p[n]
    if numbers < last - first or (threshold > 0 and reached < kept):
        return WRONG_GUESS
    kth = 0.0
    if positive > kept:
        kth = kth_largest(scratch, positive, kept)
    above, tied = 0, np.int64(0)
    for n in range(first, last):
        scratch[tied] = ids[place + n]
        above += p[n] > kth
        tied += p[n] == kth
    last_tied = np.inf
    if not keep_all and 0 < kept - above <= tied:
        # Of the tied ones, those of the lowest indices.
        last_tied = kth_largest(scratch, tied, tied - (kept - above) + 1)
    m = 0
    for n in range(first, last):
        j = ids[place + n]
        if p[n] > 0 and (p[n] > kth or (p[n] == kth and j <= last_tied)):
            selected.ids[b, m], selected.p[b, m] = j, p[n]
            m += 1
    _sort(selected.ids, selected.p, b, m)
    return m


@routine
def _sort(ids, p, b, count):
    """Sort ``ids[b, :count]`` by Shell's method, and ``p`` with them."""
    gap = count // 2
    while gap > 0:
        for n in range(gap, count):
            j, value, at = ids[b, n], p[b, n], n
            while at >= gap and ids[b, at - gap] > j:
                ids[b, at], p[b, at] = ids[b, at - gap], p[b, at - gap]
                at -= gap
            ids[b, at], p[b, at] = j, value
        gap = 1 if gap == 2 else gap * 5 // 11
