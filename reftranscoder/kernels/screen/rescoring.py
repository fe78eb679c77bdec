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
from ..engine.sparse_loops import ByFeature, four_dots, row_dot
from ..engine.vector import fma
from .layout import BIAS, CLOSER, NORM, RESIDUAL, SCALE
from .screening import drop_below, raise_threshold
from .sixteen_bits import four_products

#: Of weights that stay in a cache while the rows of a task pass by: each is then read from memory
#: once a task, not once a candidate.
_CACHED_BYTES = 1 << 21
#: Where there are more features than so many times the candidates of all rows, most have none.
_FEW = 2

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
    D = len(W)
    scratch = np.empty(C, np.float32)
    left = np.empty(last - first, np.int64)
    highest = np.empty(last - first, np.float32)
    for b in range(first, last):
        left[b - first] = highest[b - first] = 0
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
        look_closer(first, closer, candidates, left)
        for b in range(first, last):
            count, threshold = left[b - first], highest[b - first]
            if count > kept:
                count, threshold = raise_threshold(
                    candidates, b * C, count, threshold, kept, np.float32(1), scratch
                )
            left[b - first] = drop_below(candidates, b * C, count, threshold)
            highest[b - first] = threshold

    starts = _row_starts(left)
    p = np.empty(starts[-1])
    _score(first, x, encoding, ids, C, starts, p)
    sums = np.empty(C)
    for b in range(first, last):
        if found[b] >= 0:
            n = starts[b - first]
            threshold = highest[b - first] if kept < D else np.float32(0)
            found[b] = _select(
                ids, b * C - n, p, n, starts[b - first + 1], threshold, kept, keep_all, sums,
                selected, b,
            )  # fmt: skip


# Loops, where NumPy has functions: these take Numba seconds to compile.
@routine
def _row_starts(left):
    starts = np.empty(len(left) + 1, np.int64)
    starts[0] = 0
    for row in range(len(left)):
        starts[row + 1] = starts[row] + left[row]
    return starts


@routine
def _by_feature(ids, C, first, starts, D):
    """A `ByFeature` of the candidates of rows from ``first`` on, those of row ``first + n`` from
    ``ids[(first + n) * C]``; their entries are from ``starts[n]`` to ``starts[n + 1]``."""
    places = np.empty(D + 1, np.int32)
    for j in range(D + 1):
        places[j] = 0
    for row in range(len(starts) - 1):
        for n in range(starts[row + 1] - starts[row]):
            places[ids[(first + row) * C + n] + 1] += 1
    ends = np.empty(D, np.int32)
    for j in range(D):
        ends[j] = places[j]
        places[j + 1] += places[j]
    rows, entries = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.int32)
    for row in range(len(starts) - 1):
        for n in range(starts[row + 1] - starts[row]):
            j = ids[(first + row) * C + n]
            rows[ends[j]], entries[ends[j]] = row, starts[row] + n
            ends[j] += 1
    return ByFeature(places, rows, entries)


@routine
def look_closer(first, closer, candidates, left):
    """Make bounds and estimates of the ``left`` (B,) candidates of rows from ``first`` on anew."""
    weights, inputs, ids = closer.weights, closer.inputs, candidates.ids
    C = len(ids) // len(candidates.counts)
    D = len(weights)
    stretch = D  # what one row reads, it reads once
    if len(left) > 1:
        stretch = max(_CACHED_BYTES // (2 * weights.shape[1]), 1)
    done = np.empty(len(left), np.int64)
    for row in range(len(left)):
        done[row] = 0
    for end in range(stretch, D + stretch, stretch):
        for row in range(len(left)):
            b = first + row
            n, stop = b * C + done[row], b * C + left[row]
            until = n
            while until < stop and ids[until] < end:
                until += 1
            done[row] = until - b * C
            while n < until:
                # Past the end, the last again.
                n1, n2, n3 = min(n + 1, until - 1), min(n + 2, until - 1), min(n + 3, until - 1)
                sums = four_products(inputs, b, weights, ids[n], ids[n1], ids[n2], ids[n3])
                for k in range(min(until - n, 4)):
                    _bound(sums[k], ids[n + k], b, n + k, closer, candidates)
                n += 4


@routine
def _bound(product, j, b, place, closer, candidates):
    """Write bound and estimate of feature ``j`` in row ``b`` to ``place`` of the `Candidates`."""
    _, of_weights, features, _, rows, starts = closer
    total = np.float32(product) * of_weights[SCALE, j]
    estimate = fma(total, rows[CLOSER + SCALE, b], features[BIAS + starts[1, b], j])
    bound = fma(rows[CLOSER + RESIDUAL, b], of_weights[NORM, j], estimate)
    bound = fma(rows[CLOSER + NORM, b], of_weights[RESIDUAL, j], bound)
    candidates.bounds[place] = bound
    # One without limits must not raise the threshold.
    candidates.estimates[place] = estimate if bound < np.inf else -np.inf


@routine
def _score(first, x, encoding, ids, C, starts, p):
    """Compute p of every candidate; those of row ``first + n`` go to ``p[starts[n]:]``, 0 where
    they are inactive.  ``ids`` become features, where there were places in ``order``."""
    W, b_enc, theta, order = encoding
    for row in range(len(starts) - 1):
        for n in range((first + row) * C, (first + row) * C + starts[row + 1] - starts[row]):
            ids[n] = order[ids[n]]
    if starts[-1] >= len(W) // _FEW:
        # Each row of weights is then read once a thread, not once a candidate.
        places, rows, entries = _by_feature(ids, C, first, starts, len(W))
        for j in range(len(W)):
            n, last = places[j], places[j + 1]
            while n < last:
                n3 = min(n + 3, last - 1)
                # Four at a time, or of the last two or one each: one dot product takes half as
                # long as four.
                if n + 2 < last:
                    p[entries[n]], p[entries[n + 1]], p[entries[n + 2]], p[entries[n3]] = four_dots(
                        W, j, x, first + rows[n], first + rows[n + 1], first + rows[n + 2],
                        first + rows[n3],
                    )  # fmt: skip
                    n += 4
                else:
                    p[entries[n]] = row_dot(W, j, x, first + rows[n])
                    n += 1
    else:
        for row in range(len(starts) - 1):
            b, place = first + row, (first + row) * C - starts[row]
            last = starts[row + 1] - 1
            for n in range(starts[row], last + 1, 4):
                n1, n2, n3 = min(n + 1, last), min(n + 2, last), min(n + 3, last)
                p[n], p[n1], p[n2], p[n3] = four_dots(
                    x, b, W, ids[place + n], ids[place + n1], ids[place + n2], ids[place + n3]
                )
    for row in range(len(starts) - 1):
        place = (first + row) * C - starts[row]
        for n in range(starts[row], starts[row + 1]):
            j = ids[place + n]
            p[n] += b_enc[j]
            if p[n] <= theta[j]:
                p[n] = 0.0


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
    m = np.int64(0)
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
