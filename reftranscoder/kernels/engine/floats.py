"""Weights and inputs packed as float32, for a screen where sums of 8-bit products are not to be had
or leave too many candidates.

The theorem of ``quantised.py`` with s = t = 1, no mean moved, and float32 numbers in place of whole
ones: their products are summed with one fused multiply-add a term, which is off by at most
``(1 + u)^I - 1 <= 1.01 I u`` times ``|s q||t r| <= (xn + ex) wn``, and by I 2^-150 where a product
is subnormal.  The former is part of ex here, the latter is less than b' allows for.
"""

from __future__ import annotations

import numpy as np

from .panels import random_order
from .quantised import OUTSIDE, SCREENED, ZERO
from .target import TILE
from .tile import BIAS, NORM, RESIDUAL, SCALE, steps_at_once
from .workspace import aligned

_U = 2.0**-24
_UP = 1 + 8 * _U
_ROWS_AT_ONCE = 64 * TILE.rows * TILE.features  # whole panels of either, and a few MB


class FloatWeights:
    """``panels`` and ``features`` of ``W`` (D, I) and ``b`` (D,); ``order[n]`` is at place n."""

    def __init__(self, W, b):
        D, I = W.shape
        self.steps = I + I % steps_at_once(np.float32)
        self.order = random_order(D)
        self.panels, norms, residuals = _packed(W, self.order, self.steps, TILE.features)
        inside = _within(norms, 2.0**-59, 2.0**59) | (norms == 0)
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            bias = np.zeros(len(norms))
            bias[:D] = b[self.order]
            inside &= np.abs(bias) <= 2.0**89
            self.features = np.zeros((5, len(norms)), np.float32)
            self.features[SCALE] = 1
            self.features[NORM] = (norms + residuals) * _UP
            slack = (1 + 16 * _U) * residuals + 2.0**-47 * norms
            self.features[RESIDUAL] = np.where(inside, slack * _UP, np.inf)
            self.features[BIAS:] = np.where(inside, bias + 24 * _U * np.abs(bias) + 2.0**-99, 0)
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
        self.rows = np.zeros((3, len(norms)), np.float32)
        self.starts = np.zeros((2, len(norms)), np.int32)
        norms, residuals = np.where(inside, norms, 0), np.where(inside, residuals, 0)
        self.rows[0] = 1
        self.rows[1] = norms * _UP
        self.rows[2] = (residuals + (32 + 1.01 * I) * _U * (norms + residuals)) * _UP
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
    N, I = rows.shape
    padded = N + -N % per_panel
    panels = aligned(padded * steps, np.float32)
    norms, residuals = np.zeros(padded), np.zeros(padded)
    by_panel = panels.reshape(-1, steps, per_panel)
    by_panel[:, I:] = 0
    for first in range(0, N, _ROWS_AT_ONCE // per_panel * per_panel):
        some = order[first : first + _ROWS_AT_ONCE // per_panel * per_panel]
        exact = rows[some].astype(np.float64)
        last = first + len(exact)
        with np.errstate(all="ignore"):
            rounded = exact.astype(np.float32)
            norms[first:last] = np.sqrt(np.sum(exact * exact, axis=1))
            residuals[first:last] = np.sqrt(np.sum((exact - rounded) ** 2, axis=1))
        norms[first:last][(norms[first:last] == 0) & exact.any(axis=1)] = np.nan
        full = np.zeros((len(exact) + -len(exact) % per_panel, I), np.float32)
        full[: len(exact)] = rounded
        place = slice(first // per_panel, (first + len(full)) // per_panel)
        by_panel[place, :I] = full.reshape(-1, per_panel, I).transpose(0, 2, 1)
    return panels, norms, residuals
