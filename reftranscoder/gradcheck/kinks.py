"""Where the loss has kinks.

It has one where a selected feature j meets an unselected one i, where a selected one meets zero,
and, in a row with fewer than top_k selected, where an unselected one does.  With p the
pre-activations and r their rate of change along a line, the nearest kink is at the step::

    radius  =  min( (p_j - p_i) / |r_i - r_j|,  |p_j / r_j|,  |p_i / r_i| )                   (G3)

That needs p to be straight along the line: x may move, or the encoder, but not both.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import reference


def kink_free_radius(
    pre: np.ndarray,
    rate: np.ndarray,
    top_k: int,
    ties: str = "lowest_index",
    rounding: np.ndarray | float = 0,
) -> float:
    """How far one can go along a line before the selected features, or the sign of one, change.

    ``pre`` (B, D) are the pre-activations, ``pre + step * rate`` what they are along the line.
    For the activation ``"relu"``, ``top_k`` is D.  ``rounding`` (B, D), if given, is how far
    ``pre`` may be off, anywhere on the way.

    Returns (G3): infinity if nothing is in the way, 0 if the line starts on a kink, which is a tie
    at the top_k-th place or a zero that could enter.  Fractions give a Fraction.
    """
    rounding = np.broadcast_to(rounding, pre.shape)
    radius = math.inf
    for p, r, e, kept in zip(pre, rate, rounding, selected(pre, top_k, ties)):
        radius = min(radius, _first_zero(p[kept], r[kept], e[kept]))
        others = ~kept
        count = np.count_nonzero(kept)
        if count < top_k:
            radius = min(radius, _first_zero(p[others], r[others], e[others]))
            continue
        if count > top_k:  # keep_all: of those that tie at the last place, one may fall behind
            others = kept & (p == np.min(p[kept]))
        for j in np.flatnonzero(kept):
            distance, speed = p[j] - p[others], r[j] - r[others]
            radius = min(radius, _first_zero(distance, speed, e[j] + e[others]))
    return radius


def slack(pre: np.ndarray, top_k: int, ties: str) -> np.ndarray:
    """How far each of ``pre`` (B, D) may move if the others may as well: half of the gap, or all of
    the way to zero where nothing else is in the way.
    """
    kept = selected(pre, top_k, ties)
    lowest_kept = np.min(np.where(kept, pre, np.inf), axis=1)
    highest_other = np.max(np.where(kept, 0, pre), axis=1)  # or 0, where one is kept
    is_full = np.count_nonzero(kept, axis=1) >= top_k
    boundary = np.where(is_full, (lowest_kept + highest_other) / 2, 0)
    room: np.ndarray = np.abs(pre - boundary[:, None])
    return room


def selected(pre: np.ndarray, top_k: int, ties: str) -> np.ndarray:
    """Which features are kept (B, D)."""
    kept: np.ndarray = reference.topk_forward(reference.relu_forward(pre), top_k, ties) != 0
    return kept


def _first_zero(values: np.ndarray, rates: np.ndarray, rounding: np.ndarray) -> Any:
    """The smallest step, forwards or backwards, at which one of ``values`` could be zero."""
    moving = rates != 0
    distance = np.abs(values[moving]) - rounding[moving]
    with np.errstate(over="ignore"):
        steps = np.where(distance <= 0, 0, distance) / np.abs(rates[moving])
    return np.min(steps, initial=math.inf)
