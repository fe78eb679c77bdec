"""How weights and inputs of a screen lie in memory, and what it finds.

Weights and inputs come in panels, 4 bytes at a time: four 8-bit numbers, two of 16 bits, or one
float32.  A panel of n rows holds the first 4 bytes of each of them, then the next 4 bytes of each.
The dtype of the weights says what multiplies them: see `TABLE` in ``cpu_target.py``.  A tile
register of AMX holds 64 bytes of a panel of 16 weights; inputs it takes row by row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .cpu_target import KINDS, TABLE, TILE

#: The rows of the array ``features`` (5, D): see ``quantised.py``.
SCALE, NORM, RESIDUAL, BIAS, MOVED_BIAS = range(5)

#: The array ``rows`` (6, B) has the first three of the inputs, and from here on in 16 bits.
CLOSER = 3

#: A tile register holds 16 rows of 64 bytes, aligned or four times as slow to load.
TILE_ROWS, TILE_BYTES = 16, 64


class Operands(NamedTuple):
    """What is multiplied: a screen's weights and inputs, as they are packed."""

    W: np.ndarray  # panels of weights, in a dtype of `TABLE`
    features: np.ndarray  # (5, D) float32: scale, norm, residual and biases of the weights
    x: np.ndarray  # panels of inputs
    rows: np.ndarray  # (6, B) float32: scale, norm and residual of the inputs, twice
    starts: np.ndarray  # (2, B) int32: what a sum of uint8 starts with; whether the mean was moved
    steps: int  # times 4 bytes a row of either, a multiple of those at once
    alone: int  # 1 if there is but one row: those that fill its tile may have any bounds, or 0


class Candidates(NamedTuple):
    """What a screen cannot rule out, in S segments of the features, with room for C in each."""

    thresholds: np.ndarray  # (S, B) float32: what a bound is compared with
    counts: np.ndarray  # (B, S) int64; above C if there were more
    ids: np.ndarray  # (B S C,) int32: places of features, ascending in a segment
    bounds: np.ndarray  # (B S C,) float32: upper bounds of p
    estimates: np.ndarray  # (B S C,) float32: p as the screen has it


def kind_of(dtype):
    """The `Kind` that weights of ``dtype`` are of here; if of none, as in a test of plain Python,
    of the first in the table."""
    dtype = np.dtype(dtype)
    return next(kind for kind in (*KINDS.values(), *TABLE) if kind.weights == dtype)


def by_tiles(kind):
    """Whether the tile registers of AMX multiply."""
    return kind.product == "tdpbssd"


def features_a_panel(dtype):
    """How many features a panel of weights of ``dtype`` holds."""
    return TILE_ROWS if by_tiles(kind_of(dtype)) else TILE.features


def rows_a_panel(dtype):
    """How many rows a panel of inputs holds where weights are of ``dtype``."""
    return 1 if by_tiles(kind_of(dtype)) else TILE.rows
