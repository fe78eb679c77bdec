"""Inputs and weights in whole numbers, and the theorem by which a screen may discard a feature.

For a step that rewrites weights, `quantise_feature` is a routine of its own::

    quantise_feature(W, j, b, quantised, n)

with ``W`` (D, I) and ``b`` (D,) in the dtype of the parameters, and `Quantised` for the results.
It writes what is stored of feature ``j`` to place ``n`` of these.

**What is stored.**  X = x / c, M = m / c and V = w c, columnwise.  Of an input X - M (or X, where
that is the shorter) and of weights V, the nearest multiples s q and t r of a scale, s or t, with
whole numbers |q|, |r| <= L: 127 in 8 bits, and in 16 as many that L^2 I < 2^31 (`largest_whole`).
With u = 2^-24 and norms in float64, each *rounded up* to float32::

    norm      xn  >=  |X - M|             of an input
    residual  ex  >=  e + 16 u (|X - M| + e) + (I + 2) 2^-50 (|X| + |M|),  e = |X - M - s q|
    norm      wn  >=  |t r|               of a feature
    residual  ew  >=  (1 + 16 u) |V - t r| + 2^-48 wn
    bias      b'  >=  b + m.w + 16 u (|b| + |m.w|) + 2^-100,  without m.w for an input not moved

**Theorem.**  ``U = fma(xn, ew, fma(ex, wn, fma(fl(fl(q.r) t), s, b')))`` in float32 is at least p,
the float64 sum that decides (``kernels/affine.py``), if 2^-40 <= xn <= 2^40, wn is 0 or from 2^-60
to 2^60, |b'| <= 2^90, |X| + |M| <= 2^60, I <= 131072, 127 <= L < 2^15, L^2 I < 2^31, and s and t
are such that the largest |q| and |r| are L; m.w in b' is the computed one.

*Proof.*  With Y = X - M, e = |Y - s q|, R = |t r|, F = |V - t r| and b2 = |b| + |m.w|: x.w = M.V +
Y.V, and Y.V = s q.t r + (Y - s q).t r + Y.(V - t r), so that without any rounding U is an upper
bound by the Cauchy-Schwarz inequality.  Also e <= |Y|, as 0 is a multiple of s; here and below but
for a part of 2^-50, by which a quotient may be rounded to the wrong side of a half.  The roundings:

- q.r is a whole number, at most L^2 I, made by wrapping sums, which end right.  Its conversion, the
  product with t and the three fma each round what is at most (|Y| + e) R, |b'|, ex wn and xn ew:
  five times, three times, twice and once.  Nothing overflows, as all is below 2^120, and of what
  underflows there is less than 2^-140.
- p is within (I + 1) 2^-53 (|X||V| + |b|) of the exact sum, the computed m.w within
  (I + 2) 2^-53 |M||V| of its own, and Y within 2^-53 of itself, entry by entry.  |V| is at most
  R + F < 2.5 R: rounding to nearest makes F at most t sqrt(I) / 2, and R is at least L t, of which
  the former is sqrt(I) / 2L < 2^14.5 / L^2 < 1.44 times.  All of it is less than
  2.5 (I + 3) 2^-53 (|X| + |M|) R and a rounding of b.
- Scales, norms and residuals are not subnormal in these ranges, so that a factor of 1 + 8 u before
  rounding to nearest does round up; and the float64 norms are within (I + 2) 2^-53 < u / 4 of
  themselves, relatively.

What was added covers it, with e R <= |Y| R in ex wn: U - p is at least (16 - 6.1) u (|Y| + e) R +
14 u |Y| F + 12 u b2 + (8 (I + 2) - 2.5 (I + 3)) 2^-53 (|X| + |M|) R + 2^-101, which is above zero.
QED.  (The ranges of xn and wn are tested a factor of two further in, the latter on |V|: that is
below 1.75 times wn, and above it divided by as much.)

Hence a feature with ``U < T`` has p < T.  A screen discards it if that comparison is *true*, so
that NaN survives.  An input that the theorem leaves out is not screened; a feature that it leaves
out has ew = inf, so that U is infinite and never discarded.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import prange

from ..engine.jit import kernel, routine
from ..engine.vector import LANES, fma, lane_sum, load_tail, subtract, zeros
from .layout import BIAS, MOVED_BIAS, NORM, RESIDUAL, SCALE
from .rounding import larger, largest, multiply, store_rounded

#: What became of an input: it is screened, it is zero throughout, or it is outside the theorem.
SCREENED, ZERO, OUTSIDE = range(3)

#: The unit roundoff of float32, and what covers a rounding to it after that of a float64 norm.
U = 2.0**-24
UP = 1 + 8 * U


class Quantised(NamedTuple):
    """Weights in whole numbers: how they are made, and where they stand."""

    columns: np.ndarray  # (2, I) float64: column scales c, powers of two, and means m
    steps: int  # times 4 bytes a feature
    limit: float  # L
    panels: np.ndarray  # of whole numbers, in a dtype of `TABLE`
    features: np.ndarray  # (5, >= D) float32
    per_panel: int  # features


def largest_whole(dtype, I):
    """L where inputs are stored in ``dtype``, a float64: sums of I products are below 2^31."""
    return float(min(np.iinfo(dtype).max, math.isqrt((2**31 - 1) // max(I, 1))))


@routine
def quantise_feature(W, j, b, quantised, n):
    """Write weights ``j`` of ``W`` (D, I) and ``b`` (D,) to place ``n`` of the `Quantised`."""
    columns, steps, limit, panels, features, per_panel = quantised
    I = W.shape[1]
    peaks, squares, dots = zeros(), zeros(), zeros()
    for i in range(0, I, LANES):
        w = load_tail(W, j, i)
        v = multiply(w, load_tail(columns, 0, i))
        peaks = larger(v, peaks)
        squares = fma(v, v, squares)
        dots = fma(w, load_tail(columns, 1, i), dots)
    peak, norm, dot = largest(peaks), math.sqrt(lane_sum(squares)), lane_sum(dots)
    bias = np.float64(b[j])
    inside = 2.0**-59 <= norm <= 2.0**59 or (peak == 0 and norm == 0)
    inside = inside and abs(bias) + abs(dot) <= 2.0**89

    scale = np.float32(peak / limit * UP)
    inverse = 0.0
    if inside and peak > 0:
        inverse = 1 / np.float64(scale)
    numbers = 4 // panels.itemsize
    stride = numbers * per_panel
    place = (n // per_panel) * stride * steps + n % per_panel * numbers
    squares, residuals = zeros(), zeros()
    for i in range(0, numbers * steps, LANES):
        v = zeros()
        if inside:
            v = multiply(load_tail(W, j, i), load_tail(columns, 0, i))
        r = store_rounded(multiply(v, inverse), panels, place, stride)
        place += LANES // numbers * stride
        squares = fma(r, r, squares)
        rest = subtract(v, multiply(r, np.float64(scale)))
        residuals = fma(rest, rest, residuals)
    norm = np.float64(scale) * math.sqrt(lane_sum(squares)) * UP
    residual = math.sqrt(lane_sum(residuals))
    if inside:
        features[SCALE, n] = scale
        features[NORM, n] = norm
        features[RESIDUAL, n] = (residual * (1 + 16 * U) + norm * 2.0**-48) * UP
        for kind, total in ((BIAS, bias), (MOVED_BIAS, bias + dot)):
            slack = 24 * U * (abs(bias) + abs(dot) * (kind - BIAS)) + 2.0**-99
            features[kind, n] = total + slack
    else:
        features[SCALE, n] = 0
        features[NORM, n] = 0
        features[RESIDUAL, n] = np.inf
        features[BIAS, n] = 0
        features[MOVED_BIAS, n] = 0


@kernel
def quantise_features(W, b, quantised, order):
    """`quantise_feature` of every row of ``W`` (D, I), ``order[n]`` at place n."""
    D, per_panel = len(W), quantised.per_panel
    for panel in prange((D + per_panel - 1) // per_panel):
        for n in range(panel * per_panel, min((panel + 1) * per_panel, D)):
            quantise_feature(W, order[n], b, quantised, n)


@routine
def quantise_input(x, b, columns, mean_norm, steps, limit, panels, rows, starts, per_panel):
    """Write row ``b`` of ``x`` to ``panels``, ``rows`` and ``starts``; return what became of it.

    ``x`` (B, I), ``columns`` (2, I) float64 (1 / c and m), ``mean_norm`` at least |m / c|,
    ``limit`` is L, ``panels`` has ``per_panel`` rows a panel and 4 ``steps`` bytes a row, ``rows``
    (3, >= B) is float32 and ``starts`` (2, >= B) int32: see ``tile.py``.
    """
    I = x.shape[1]
    squares, moved_squares = zeros(), zeros()
    peaks, moved_peaks = zeros(), zeros()
    for i in range(0, I, LANES):
        v, c = load_tail(x, b, i), load_tail(columns, 0, i)
        moved = multiply(subtract(v, load_tail(columns, 1, i)), c)
        v = multiply(v, c)
        peaks, moved_peaks = larger(v, peaks), larger(moved, moved_peaks)
        squares, moved_squares = fma(v, v, squares), fma(moved, moved, moved_squares)
    norm, moved_norm = math.sqrt(lane_sum(squares)), math.sqrt(lane_sum(moved_squares))
    if largest(peaks) == 0 and norm == 0:
        return ZERO
    reach, peak, move = norm, largest(peaks), 0.0
    if 2.0**-39 <= moved_norm < norm:
        reach, norm, peak, move = norm + mean_norm, moved_norm, largest(moved_peaks), 1.0
    if not (2.0**-39 <= norm <= 2.0**39 and reach <= 2.0**60):
        return OUTSIDE

    scale = np.float32(peak / limit * UP)
    inverse = 1 / np.float64(scale)
    numbers = 4 // panels.itemsize
    stride = numbers * per_panel
    place = (b // per_panel) * stride * steps + b % per_panel * numbers
    sums, residuals = zeros(), zeros()
    for i in range(0, numbers * steps, LANES):
        m = multiply(load_tail(columns, 1, i), move)
        v = multiply(subtract(load_tail(x, b, i), m), load_tail(columns, 0, i))
        q = store_rounded(multiply(v, inverse), panels, place, stride)
        place += LANES // numbers * stride
        sums = subtract(sums, q)
        rest = subtract(v, multiply(q, np.float64(scale)))
        residuals = fma(rest, rest, residuals)
    residual = math.sqrt(lane_sum(residuals))
    rows[0, b] = scale
    rows[1, b] = norm * UP
    slack = 16 * U * (norm + residual) + (I + 2) * 2.0**-50 * reach
    rows[2, b] = (residual + slack) * UP
    starts[0, b] = 128 * int(lane_sum(sums))
    starts[1, b] = int(move)
    return SCREENED


@kernel
def quantise_inputs(x, columns, mean_norm, steps, limit, panels, rows, starts, states, per_panel):
    """`quantise_input` of every row of ``x`` (B, I); ``states`` (B,) receives what it returns."""
    B = len(x)
    for panel in prange((B + per_panel - 1) // per_panel):
        for b in range(panel * per_panel, min((panel + 1) * per_panel, B)):
            states[b] = quantise_input(
                x, b, columns, mean_norm, steps, limit, panels, rows, starts, per_panel
            )
