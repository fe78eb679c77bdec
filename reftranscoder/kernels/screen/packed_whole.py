"""Weights and inputs packed in whole numbers, and the columns that both are measured in."""

from __future__ import annotations

import functools
import math

import numpy as np

from ...ownership import aligned
from ..engine.kernel_arrays import as_kernel_array
from .cpu_target import TILE
from .layout import BIAS, features_a_panel, kind_of, rows_a_panel
from .quantised import Quantised, largest_whole, quantise_features, quantise_inputs
from .sixteen_bits import padded_columns

#: From fewer rows than this no mean is taken: that of one row is the row itself.
FEWEST_ROWS = 64
_MOST_ROWS, _MOST_SCALE = 1024, 16
#: Features that are packed side by side: a step reads and writes rows of theirs that follow each
#: other in memory.
_TOGETHER = 4


class Columns:
    """Scales c (powers of two) and means m of the inputs' columns: a screen's choice.

    The narrower a bound, the fewer features are rescored; no result depends on them.
    """

    def __init__(self, I):
        self.scales, self.means = np.ones(I), np.zeros(I)

    @classmethod
    def of(cls, x, W):
        """Those of samples of ``x`` (B, I) and ``W`` (D, I), or none if there are too few rows.

        A scale is the geometric mean of what would make the columns of ``x``, less their means, and
        of ``W`` equally large: neither then has columns that its bits are spent on.
        """
        self = cls(x.shape[1])
        if len(x) < FEWEST_ROWS:
            return self
        sample, weights = (a[:: -(-len(a) // _MOST_ROWS)].astype(np.float64) for a in (x, W))
        with np.errstate(all="ignore"):
            means = sample.mean(axis=0)
            spread = ((sample - means) ** 2).mean(axis=0) / (weights**2).mean(axis=0)
            exponents = np.log2(spread) / 4
        known = np.isfinite(exponents)
        if np.isfinite(means).all() and known.any():
            self.means = means
            exponents = np.rint(exponents[known] - np.median(exponents[known]))
            self.scales[known] = 2.0 ** np.clip(exponents, -_MOST_SCALE, _MOST_SCALE)
        return self


class PackedWeights:
    """``panels`` and ``features`` of ``W`` (D, I) and ``b`` (D,), as ``quantised.py`` has them.

    ``order[n]`` is the feature at place n.  ``dtype`` is that of the panels, of whole numbers.
    """

    def __init__(self, W, b, columns, dtype):
        D, I = W.shape
        self.kind = kind_of(dtype)
        numbers, at_once = self.kind.numbers, self.kind.steps
        self.steps = -(-I // (numbers * at_once)) * at_once
        self.limit = largest_whole(self.kind.inputs, I)
        self.of_inputs = np.stack([1 / columns.scales, columns.means])
        # Rounded up, as any norm here.
        with np.errstate(over="ignore", under="ignore"):
            squares = np.sum((columns.means / columns.scales) ** 2)
        self.mean_norm = math.sqrt(squares) * (1 + 2**-20)
        self.order = random_order(D)
        padded = D + -D % TILE.features
        self.panels = aligned((padded * numbers * self.steps,), dtype)
        self.panels[-TILE.features * numbers * self.steps :] = 0
        # What 8 bits leave is looked at closer in 16, a row a feature.
        closer = D if self.kind.numbers == 4 else 0
        self.sixteen = np.zeros((closer, padded_columns(I)), np.int16)
        self.closer = np.zeros((3, closer), np.float32)
        self.features = np.zeros((5, padded), np.float32)
        self.features[BIAS:, D:] = -np.inf  # what fills the last panel is never a candidate
        self.of_weights = np.stack([columns.scales, columns.means])
        W, b = as_kernel_array(W, W.dtype), as_kernel_array(b, W.dtype)
        quantise_features(W, b, self.quantised, self.order)

    @property
    def quantised(self):
        """Where and how `quantise_feature` writes."""
        per_panel = features_a_panel(self.panels.dtype)
        where = self.panels, self.features, per_panel, self.sixteen, self.closer
        return Quantised(self.of_weights, self.steps, self.limit, *where)

    def pack(self, x):
        """`PackedInputs` of ``x`` (B, I)."""
        return PackedInputs(x, self)


class PackedInputs:
    """``panels``, ``rows`` and ``starts`` of ``x`` (B, I), and ``states`` (B,) of its rows."""

    def __init__(self, x, weights):
        padded = len(x) + -len(x) % TILE.rows
        kind, closer = weights.kind, len(weights.sixteen) > 0
        self.panels = aligned((padded * kind.numbers * weights.steps,), kind.inputs)
        self.sixteen = np.zeros((closer * len(x), weights.sixteen.shape[1]), np.int16)
        self.rows = np.zeros((6, padded), np.float32)
        self.starts = np.zeros((2, padded), np.int32)
        self.states = np.zeros(len(x), np.int8)
        quantise_inputs(
            as_kernel_array(x, x.dtype), weights.of_inputs, weights.mean_norm, weights.steps,
            weights.limit, self.panels, self.rows, self.starts, self.states,
            rows_a_panel(kind.weights), self.sixteen,
        )  # fmt: skip


@functools.lru_cache(maxsize=8)
def random_order(D):
    """The order in which features are packed (D,) int32, always the same.

    Any stretch of it is a fair sample of all features, whatever order these are in.
    """
    blocks = np.random.default_rng(0).permutation(-(-D // _TOGETHER)).astype(np.int32)
    order = (blocks[:, None] * _TOGETHER + np.arange(_TOGETHER, dtype=np.int32)).reshape(-1)
    order = order[order < D]
    order.flags.writeable = False
    return order
