"""What remains of a screen is computed as the definition says, and selected from.

p of a candidate is the float64 sum in lane order of ``kernels/affine.py``, to the last bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from ..engine.jit import kernel, routine
from ..engine.quickselect import kth_largest
from ..engine.sparse_loops import four_dots
from .layout import Candidates
from .screening import raise_threshold

#: Of weights that stay in the second-level cache while the rows of a task pass by: each is then
#: read from memory once a task, not once a candidate.
_CACHED_BYTES = 1 << 21

NO_ROOM, WRONG_GUESS = -1, -2


class Encoding(NamedTuple):
    """What p is computed of, and when a feature is active."""

    W: np.ndarray  # (D, I)
    b_enc: np.ndarray  # (D,)
    theta: np.ndarray  # (D,) float64
    order: np.ndarray  # (D,) int32: the feature at each place


class Selected(NamedTuple):
    """The features that are kept of every row, ascending, with room for K."""

    counts: np.ndarray  # (B,) int64; or `NO_ROOM` or `WRONG_GUESS`
    ids: np.ndarray  # (B, K) int32
    p: np.ndarray  # (B, K) float64


# Flat, as `screening.screen` is, and for as much a call.
@kernel
def rescore(
    x, W, b_enc, theta, order, kept, caution, keep_all, thresholds, row_tasks, counts, ids, bounds,
    estimates, found, out_ids, out,
):  # fmt: skip
    """Write the selected features of every row to ``out_ids`` and their p to ``out``, ascending.

    ``thresholds`` and ``counts`` to ``estimates`` are those of ``screening.screen``, whose ``ids``
    are places in ``order``.  A feature is active where p is above its ``theta`` (D,), which is 0 or
    more.  ``found`` (B,) receives how many features a row has; or `NO_ROOM` or
    `WRONG_GUESS`, if its candidates were too many or the wrong ones.  A row whose entry is negative
    already is left alone.
    """
    for task in prange(len(row_tasks) - 1):
        _rescore_rows(
            row_tasks[task], row_tasks[task + 1], x, Encoding(W, b_enc, theta, order),
            Candidates(
                thresholds, counts, ids.reshape(-1), bounds.reshape(-1), estimates.reshape(-1)
            ),
            kept, caution, keep_all, Selected(found, out_ids, out),
        )  # fmt: skip


@routine
def _rescore_rows(first, last, x, encoding, candidates, kept, caution, keep_all, selected):
    W, counts, ids, found = encoding.W, candidates.counts, candidates.ids, selected.counts
    S = counts.shape[1]
    C = len(ids) // counts.size
    D, I = W.shape
    scratch = np.empty(S * C, np.float32)
    highest = np.zeros(last - first, np.float32)
    starts = np.zeros(last - first + 1, np.int64)
    for b in range(first, last):
        count = 0
        if found[b] >= 0:
            count, threshold = _join_segments(b, C, candidates)
            if count < 0:
                found[b] = NO_ROOM
                count = 0
            elif count > kept:
                count, threshold = raise_threshold(
                    candidates, b * S * C, count, threshold, kept, caution, scratch
                )
            highest[b - first] = threshold
        starts[b - first + 1] = starts[b - first] + count

    p = np.empty(starts[-1])
    done = starts.copy()
    # What one row reads, it reads once.
    stretch = D if last - first == 1 else max(_CACHED_BYTES // (I * W.itemsize), 1)
    for end in range(stretch, D + stretch, stretch):
        for b in range(first, last):
            place = b * S * C - starts[b - first]
            n = done[b - first]
            until = n
            while until < starts[b - first + 1] and ids[place + until] < end:
                until += 1
            if n < until:
                _score(x, encoding, b, ids, place, n, until, p)
                done[b - first] = until

    sums = np.empty(S * C)
    for b in range(first, last):
        if found[b] >= 0:
            n = starts[b - first]
            found[b] = _select(
                ids, b * S * C - n, p, n, starts[b - first + 1], highest[b - first], kept, keep_all,
                sums, selected, b,
            )  # fmt: skip


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
    # Four at a time; past the end, the last again.
    for n in range(first, last, 4):
        n1, n2, n3 = min(n + 1, last - 1), min(n + 2, last - 1), min(n + 3, last - 1)
        j0, j1 = order[ids[place + n]], order[ids[place + n1]]
        j2, j3 = order[ids[place + n2]], order[ids[place + n3]]
        p0, p1, p2, p3 = four_dots(x, b, W, j0, j1, j2, j3)
        p[n] = p0 + b_enc[j0]
        p[n1] = p1 + b_enc[j1]
        p[n2] = p2 + b_enc[j2]
        p[n3] = p3 + b_enc[j3]
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
