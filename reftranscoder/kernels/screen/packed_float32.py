"""Weights and inputs packed as float32, for a screen where there are no products of whole numbers,
or they leave too many candidates.

The theorem of ``quantised.py`` with s = t = 1, no mean moved, and float32 numbers in place of whole
ones: their products are summed with one fused multiply-add a term, which is off by at most
``(1 + u)^I - 1 <= 1.01 I u`` times ``|s q||t r| <= (xn + ex) wn``, and by I 2^-150 where a product
is subnormal.  The former is part of ex here, the latter is less than b' allows for.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from ...ownership import aligned
from ..engine.jit import kernel
from ..engine.kernel_arrays import as_kernel_array
from ..engine.vector import LANES, fma, lane_sum, load_tail, zeros
from .cpu_target import TILE
from .layout import BIAS, NORM, RESIDUAL, SCALE, kind_of
from .packed_whole import random_order
from .quantised import OUTSIDE, SCREENED, UP, ZERO, U
from .rounding import larger, largest


class FloatWeights:
    """``panels`` and ``features`` of ``W`` (D, I) and ``b`` (D,); ``order[n]`` is at place n."""

    def __init__(self, W, b):
        D, I = W.shape
        self.steps = I + I % kind_of(np.float32).steps
        self.order = random_order(D)
        self.panels, norms, residuals = _packed(W, self.order, self.steps, TILE.features)
        inside = _within(norms, 2.0**-59, 2.0**59) | (norms == 0)
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            bias = np.zeros(len(norms))
            bias[:D] = b[self.order]
            inside &= np.abs(bias) <= 2.0**89
            self.features = np.zeros((5, len(norms)), np.float32)
            self.features[SCALE] = 1
            self.features[NORM] = (norms + residuals) * UP
            slack = (1 + 16 * U) * residuals + 2.0**-47 * norms
            self.features[RESIDUAL] = np.where(inside, slack * UP, np.inf)
            self.features[BIAS:] = np.where(inside, bias + 24 * U * np.abs(bias) + 2.0**-99, 0)
        # Not looked at closer than in float32.
        self.sixteen, self.closer = np.zeros((0, 0), np.int16), np.zeros((3, 0), np.float32)
        self.features[NORM, ~inside] = 0
        self.features[BIAS:, D:] = -np.inf
        _clear(self.panels, ~inside, self.steps, TILE.features)

    def pack(self, x):
        """`FloatInputs` of ``x`` (B, I)."""
        return FloatInputs(x, self)


class FloatInputs:
    """``panels``, ``rows`` and ``starts`` of ``x`` (B, I), and ``states`` (B,) of its rows."""

    def __init__(self, x, weights):
        B, I = x.shape
        self.panels, norms, residuals = _packed(x, np.arange(B), weights.steps, TILE.rows)
        inside = _within(norms, 2.0**-39, 2.0**39)
        self.states = np.where(inside, SCREENED, np.where(norms == 0, ZERO, OUTSIDE))[:B]
        self.sixteen = weights.sixteen
        self.rows = np.zeros((3, len(norms)), np.float32)
        self.starts = np.zeros((2, len(norms)), np.int32)
        norms, residuals = np.where(inside, norms, 0), np.where(inside, residuals, 0)
        self.rows[0] = 1
        self.rows[1] = norms * UP
        self.rows[2] = (residuals + (32 + 1.01 * I) * U * (norms + residuals)) * UP
        _clear(self.panels, ~inside, weights.steps, TILE.rows)


def _within(norms, least, most):
    with np.errstate(invalid="ignore"):
        return (norms >= least) & (norms <= most)


def _clear(panels, rows, steps, per_panel):
    """Zero some rows, for what they hold has no bound."""
    which = np.flatnonzero(rows)
    panels.reshape(-1, steps, per_panel)[which // per_panel, :, which % per_panel] = 0


def _packed(rows, order, steps, per_panel):
    """Panels of ``rows[order]`` rounded to float32; in float64 the rows' norms, and those of what
    rounding took away.  A norm is 0 only if the row is."""
    padded = len(order) + -len(order) % per_panel
    panels = aligned((padded * steps,), np.float32)
    panels.reshape(-1, steps, per_panel)[:, rows.shape[1] :] = 0
    panels[-per_panel * steps :] = 0
    norms, residuals = np.zeros(padded), np.zeros(padded)
    rows, order = as_kernel_array(rows, rows.dtype), as_kernel_array(order, np.int32)
    _pack(rows, order, steps, panels, norms, residuals, per_panel)
    return panels, norms, residuals


@kernel
def _pack(rows, order, steps, panels, norms, residuals, per_panel):
    N, I = len(order), rows.shape[1]
    for panel in prange((N + per_panel - 1) // per_panel):
        for n in range(panel * per_panel, min((panel + 1) * per_panel, N)):
            r, place = order[n], panel * per_panel * steps + n % per_panel
            squares, peaks, rests = zeros(), zeros(), 0.0
            for i in range(0, I, LANES):
                v = load_tail(rows, r, i)
                squares, peaks = fma(v, v, squares), larger(v, peaks)
            for i in range(I):
                exact = np.float64(rows[r, i])
                rounded = np.float32(exact)
                panels[place + i * per_panel] = rounded
                rests += (exact - np.float64(rounded)) ** 2
            norms[n] = math.sqrt(lane_sum(squares))
            if norms[n] == 0 and largest(peaks) > 0:
                norms[n] = np.nan
            residuals[n] = math.sqrt(rests)
