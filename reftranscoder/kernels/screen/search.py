"""The screen from packed inputs to the features that are kept, in one compiled call.

What Python does around a call takes longer than a row that is encoded.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ..engine.jit import kernel, routine
from .cpu_target import TILE
from .layout import Candidates, Operands
from .quantised import SCREENED
from .rescoring import NO_ROOM, Closer, Encoding, Selected, rescore_rows
from .screening import screen_part


# Flat: to hand over named tuples takes Numba several times as long.
@kernel
def search(
    panels, features, steps, sixteen, closer, order, x_panels, rows, starts, states, x_sixteen,
    x, W, b_enc, theta, kept, keep_all, levels, caution, tasks, segments, parts, ids, bounds,
    estimates, kept_ids, kept_p,
):  # fmt: skip
    """Find the features that are kept of every row of ``x`` (B, I).

    ``panels`` to ``order`` are packed weights, ``x_panels`` to ``x_sixteen`` packed inputs
    (``layout.py``, ``rescoring.Closer``).  A feature is active where p is above its ``theta`` (D,),
    which is 0 or more; what is below ``levels`` (B,) is not wanted.  Rows are screened in ``tasks``
    times the features in ``segments``, and rescored in ``parts``, side by side.  ``ids``,
    ``bounds`` and ``estimates`` have room for `Candidates`, ``kept_ids`` and ``kept_p`` (B, K) for
    what is kept.

    Returns how many features each row has (B,), or `NO_ROOM` or `WRONG_GUESS`; where each row
    starts (B + 1,); the features (nnz,), ascending by row; their p (nnz,) float64; and the most
    candidates that a row had in a segment.
    """
    padded, B = rows.shape[1], len(states)
    thresholds = np.empty((segments, padded), np.float32)
    counts = np.empty((padded, segments), np.int64)
    found = np.empty(B, np.int64)
    _begin(states, levels, thresholds, counts, found)
    tiles, groups = padded // TILE.rows, features.shape[1] // TILE.features
    operands = Operands(panels, features, x_panels, rows, starts, steps, int(B == 1))
    candidates = Candidates(thresholds, counts, ids, bounds, estimates)
    for n in prange(tasks * segments):
        task, segment = n // segments, n % segments
        screen_part(
            operands, candidates, kept, caution, tiles * task // tasks,
            tiles * (task + 1) // tasks, segment, groups * segment // segments,
            groups * (segment + 1) // segments,
        )  # fmt: skip
    encoding = Encoding(W, b_enc, theta, order)
    near = Closer(sixteen, closer, features, x_sixteen, rows, starts)
    selected = Selected(found, kept_ids, kept_p)
    for part in prange(parts):
        rescore_rows(
            B * part // parts, B * (part + 1) // parts, x, encoding, near, candidates, kept,
            caution, keep_all, selected,
        )  # fmt: skip
    ends, indices, p = _together(found, kept_ids, kept_p)
    return found, ends, indices, p, _most(counts)


# Loops, where NumPy has functions: these take Numba seconds to compile.
@routine
def _begin(states, levels, thresholds, counts, found):
    for b in range(len(counts)):
        screened = b < len(states) and states[b] == SCREENED
        for s in range(len(thresholds)):
            thresholds[s, b] = levels[b] if screened else np.inf
            counts[b, s] = 0
        if b < len(states):
            found[b] = 0 if screened else NO_ROOM


@routine
def _most(counts):
    most = np.int64(0)
    for b in range(len(counts)):
        for s in range(counts.shape[1]):
            most = max(most, counts[b, s])
    return most


@routine
def _together(found, ids, p):
    """Where each row starts, and what is kept of all rows, one after the other."""
    ends = np.empty(len(found) + 1, np.int32)
    ends[0] = 0
    for b in range(len(found)):
        ends[b + 1] = ends[b] + max(found[b], 0)
    indices, values = np.empty(ends[-1], np.int32), np.empty(ends[-1])
    for b in range(len(found)):
        start = ends[b]
        for n in range(ends[b + 1] - start):
            indices[start + n], values[start + n] = ids[b, n], p[b, n]
    return ends, indices, values
