"""Weights and inputs packed for the screen, and the columns that both are measured in."""

from __future__ import annotations

import math

import numpy as np

from .door import as_kernel_array
from .quantised import quantise_features, quantise_inputs
from .shares import few_threads
from .target import TILE
from .tile import BIAS
from .vector import LANES

#: From fewer rows than this no mean is taken: that of one row is the row itself.
FEWEST_ROWS = 64
_MOST_ROWS = 1024

_ROWS_PER_THREAD = 64


class Columns:
    """Scales c (powers of two) and means m of the inputs' columns: a screen's choice.

    The narrower a bound, the fewer features are rescored; no result depends on them.
    """

    def __init__(self, I):
        self.scales, self.means = np.ones(I), np.zeros(I)

    @classmethod
    def of(cls, x):
        """Those of a sample of ``x`` (B, I), or none if it is too small or not finite."""
        self = cls(x.shape[1])
        sample = x[:_MOST_ROWS].astype(np.float64)
        with np.errstate(all="ignore"):
            means = sample.mean(axis=0) if len(x) >= FEWEST_ROWS else self.means
        if np.isfinite(means).all():
            self.means = means
        return self


class PackedWeights:
    """``panels`` and ``features`` of ``W`` (D, I) and ``b`` (D,), as ``quantised.py`` has them."""

    def __init__(self, W, b, columns):
        D, I = W.shape
        self.steps = (I + -I % LANES) // 4
        self.of_inputs = np.stack([1 / columns.scales, columns.means])
        # Rounded up, as any norm here.
        with np.errstate(over="ignore", under="ignore"):
            squares = np.sum((columns.means / columns.scales) ** 2)
        self.mean_norm = math.sqrt(squares) * (1 + 2**-20)
        padded = D + -D % TILE.features
        self.panels = aligned(padded * 4 * self.steps, np.uint8)
        self.panels[-TILE.features * 4 * self.steps :] = 0
        self.features = np.zeros((5, padded), np.float32)
        self.features[BIAS:, D:] = -np.inf  # what fills the last panel is never a candidate
        of_weights = np.stack([columns.scales, columns.means])
        W, b = as_kernel_array(W, W.dtype), as_kernel_array(b, W.dtype)
        quantise_features(W, b, of_weights, self.panels, self.features, TILE.features)

    def pack(self, x):
        """`PackedInputs` of ``x`` (B, I)."""
        return PackedInputs(x, self)


class PackedInputs:
    """``panels``, ``rows`` and ``starts`` of ``x`` (B, I), and ``states`` (B,) of its rows."""

    def __init__(self, x, weights):
        padded = len(x) + -len(x) % TILE.rows
        self.panels = aligned(padded * 4 * weights.steps, np.int8)
        self.rows = np.zeros((3, padded), np.float32)
        self.starts = np.zeros((2, padded), np.int32)
        self.states = np.zeros(len(x), np.int8)
        with few_threads(len(x) // _ROWS_PER_THREAD):
            quantise_inputs(
                as_kernel_array(x, x.dtype), weights.of_inputs, weights.mean_norm, self.panels,
                self.rows, self.starts, self.states, TILE.rows,
            )  # fmt: skip


def aligned(size, dtype):
    """Bytes that begin with a cache line: a vector that straddles two is slower."""
    memory = np.empty(size + 64, dtype)
    first = -memory.ctypes.data % 64
    return memory[first : first + size]
