"""The screen: which features of which inputs may be among the K largest.

Every feature whose bound (``quantised.py``) is not below the row's threshold becomes a candidate.
A threshold starts at 0, for a negative p is never kept, and rises: to one of the largest
*estimates* so far, less a part of its bound's width.  Which one follows from how many features were
visited: these are a fair sample of all (`random_order`), so that hardly ever more than
`sample_rank` of the K largest are among them.  That is a guess, and the rescoring verifies it;
where fewer than K values of p reach the threshold, the row is done again another way.
"""

from __future__ import annotations

import math

import numpy as np

from ..engine.jit import routine
from .cpu_target import TILE
from .layout import NORM, RESIDUAL
from .products import configure, release
from .tile import lowest_bit, screen_tile

#: Halvings of an interval in which a threshold is sought.
_HALVINGS = 8


@routine
def screen_part(
    operands, candidates, kept, caution, first_tile, last_tile, segment, first_panel, last_panel
):
    """Find the candidates of some tiles of rows among some panels of features, a ``segment``.

    They are added to the `Candidates`, ascending by place; a count above C says that there were
    more.  Thresholds are inf in a row that is not to be screened.
    """
    W, features, x, rows, _, _, _ = operands
    thresholds, counts, ids, bounds, estimates = candidates
    tile_bounds = np.empty((TILE.rows, TILE.features), np.float32)
    masks = np.empty(TILE.rows, np.int64)
    first_row = first_tile * TILE.rows
    due = np.empty(last_tile * TILE.rows - first_row, np.int64)
    for row in range(len(due)):
        due[row] = kept + kept // 2
    S = counts.shape[1]
    C = len(ids) // counts.size
    scratch = np.empty(C, np.float32)
    norms, residuals = features[NORM], features[RESIDUAL]
    row_stride = len(x) // (rows.shape[1] // TILE.rows)
    feature_stride = len(W) // (features.shape[1] // TILE.features)
    configure(W)
    for panel in range(first_panel, last_panel):
        j = panel * TILE.features
        rank = kept
        if caution < 1:
            visited = (panel + 1 - first_panel) * TILE.features
            rank = sample_rank(visited, features.shape[1], kept)
        for tile in range(first_tile, last_tile):
            r = tile * TILE.rows
            if screen_tile(
                operands, panel * feature_stride, tile * row_stride, r, j,
                thresholds, segment, tile_bounds, masks,
            ):  # fmt: skip
                for m in range(TILE.rows):
                    mask, b = masks[m], r + m
                    if mask == 0:
                        continue
                    n = counts[b, segment]
                    norm, residual = rows[1, b], rows[2, b]
                    place = (b * S + segment) * C
                    while mask != 0 and n < C:
                        f = lowest_bit(mask)
                        mask &= mask - 1
                        bound = tile_bounds[m, f]
                        width = norm * residuals[j + f] + residual * norms[j + f]
                        ids[place + n] = j + f
                        bounds[place + n] = bound
                        # One without limits must not raise the threshold.
                        estimates[place + n] = bound - width if width < np.inf else -np.inf
                        n += 1
                    if mask != 0:
                        n = C + 1
                        thresholds[segment, b] = np.inf
                    elif n >= due[b - first_row]:
                        n, thresholds[segment, b] = raise_threshold(
                            candidates, place, n, thresholds[segment, b], rank, caution, scratch
                        )
                        due[b - first_row] = n + n // 2 + kept + 16
                    counts[b, segment] = n
    release(W)


@routine
def sample_rank(visited, D, kept):
    """A number that hardly ever so many of the ``kept`` largest of ``D`` are among ``visited``.

    It is four standard deviations and more above the mean of the hypergeometric distribution: that
    is too low for one row in 40 000, if it is below ``kept`` at all; and for more, where the four
    neighbours that are packed side by side are alike.
    """
    share = visited / D
    expected = kept * share
    return min(kept, int(expected + 4 * math.sqrt(expected * (1 - share))) + 4)


@routine
def raise_threshold(candidates, place, count, threshold, rank, caution, scratch):
    """Guess a threshold from the candidates of a row, and drop those that are below it.

    They are ``count`` entries from ``place`` of the `Candidates`; ``scratch`` holds as many
    float32.  Returns how many are left, and the threshold, which is not below the one given.
    """
    _, _, _, bounds, estimates = candidates
    low = threshold
    high = low
    for n in range(count):
        scratch[n] = estimates[place + n]
        high = max(high, scratch[n])
    # Halving the interval needs neither exchanges nor branches, and no more than a guess is wanted.
    for _ in range(_HALVINGS):
        middle = np.float32(0.5) * (low + high)
        reached = 0
        for n in range(count):
            reached += scratch[n] >= middle
        low, high = (middle, high) if reached >= rank else (low, middle)
    n = count - 1
    while n >= 0 and not scratch[n] >= low:
        n -= 1
    if n >= 0:
        low -= caution * (bounds[place + n] - scratch[n])
    if not low > threshold:
        return count, threshold
    return drop_below(candidates, place, count, low), low


@routine
def drop_below(candidates, place, count, threshold):
    """Drop what is below ``threshold`` of ``count`` candidates from ``place``; return how many are
    left."""
    _, _, ids, bounds, estimates = candidates
    left = 0
    for n in range(count):
        bound, estimate = bounds[place + n], estimates[place + n]
        ids[place + left] = ids[place + n]
        bounds[place + left] = bound
        estimates[place + left] = estimate
        left += not bound < threshold
    return left
