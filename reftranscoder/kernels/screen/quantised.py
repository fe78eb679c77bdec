"""Inputs and weights in 8 and in 16 bits, and the theorem by which a feature may be discarded.

All are screened in 8 bits; what that leaves is looked at again in 16 (``rescoring.py``), by the
same theorem.

For a step that rewrites weights, `quantise_feature` is a routine of its own::

    quantise_feature(W, j, b, quantised, n)

with ``W`` (D, I) and ``b`` (D,) in the dtype of the parameters, and `Quantised` for the results.
It writes what is stored of feature ``j`` to place ``n`` of these.

**What is stored.**  X = x / c, M = m / c and V = w c, columnwise.  Of an input X - M (or X, where
that is the shorter) and of weights V, the nearest multiples s q and t r of a scale, s or t, with
whole numbers q and r.  In 8 bits the largest of these are 127; in 16 bits s and t are the norms
|X - M| and |V| over 32767, rounded up.  With u = 2^-24 and norms in float64, each *rounded up* to
float32::

    norm      xn  >=  |X - M|             of an input
    residual  ex  >=  e + 16 u (|X - M| + e) + (I + 2) 2^-50 (|X| + |M|),  e = |X - M - s q|
    norm      wn  >=  |t r|               of a feature
    residual  ew  >=  (1 + 16 u) |V - t r| + 2^-48 wn
    bias      b'  >=  b + m.w + 16 u (|b| + |m.w|) + 2^-100,  without m.w for an input not moved

**Theorem.**  ``U = fma(xn, ew, fma(ex, wn, fma(fl(fl(q.r) t), s, b')))`` in float32 is at least p,
the float64 sum that decides (``kernels/affine.py``), if 2^-40 <= xn <= 2^40, wn is 0 or from 2^-60
to 2^60, |b'| <= 2^90, |X| + |M| <= 2^60 and I <= 131072; m.w in b' is the computed one.

*Proof.*  With Y = X - M, e = |Y - s q|, R = |t r|, F = |V - t r| and b2 = |b| + |m.w|: x.w = M.V +
Y.V, and Y.V = s q.t r + (Y - s q).t r + Y.(V - t r), so that without any rounding U is an upper
bound by the Cauchy-Schwarz inequality.  Also e <= |Y|, as 0 is a multiple of s; here and below but
for a part of 2^-50, by which a quotient may be rounded to the wrong side of a half.  The roundings:

- q.r is a whole number below 2^31: 127^2 I, or in 16 bits at most (32767 + sqrt(I) / 2)^2.  It is
  made by wrapping sums, which end right.  Its conversion, the product with t and the three fma each
  round what is at most (|Y| + e) R, |b'|, ex wn and xn ew: five times, three times, twice and once.
  Nothing overflows, as all is below 2^120, and of what underflows there is less than 2^-140.
- p is within (I + 1) 2^-53 (|X||V| + |b|) of the exact sum, the computed m.w within
  (I + 2) 2^-53 |M||V| of its own, and Y within 2^-53 of itself, entry by entry.  |V| is at most
  R + F < 2.5 R: rounding to nearest makes F at most t sqrt(I) / 2, and R is at least 127 t, or in
  16 bits |V| - F with |V| = 32767 t.  All of it is less than 2.5 (I + 3) 2^-53 (|X| + |M|) R and
  a rounding of b.
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
from .layout import BIAS, CLOSER, MOVED_BIAS, NORM, RESIDUAL, SCALE
from .rounding import larger, largest, multiply, store_rounded
from .sixteen_bits import store_sixteen

#: What became of an input: it is screened, it is zero throughout, or it is outside the theorem.
SCREENED, ZERO, OUTSIDE = range(3)

#: The unit roundoff of float32, and what covers a rounding to it after that of a float64 norm.
U = 2.0**-24
UP = 1 + 8 * U

_ROWS_PER_TASK = 32  # fewer take less time than waking a thread

#: Of a norm in 16 bits, so that no entry and no product of two rows is beyond its integer.
LARGEST = 32767


class Quantised(NamedTuple):
    """Weights in 8 bits: how they are made, and where they stand."""

    columns: np.ndarray  # (2, I) float64: column scales c, powers of two, and means m
    steps: int  # times 4 bytes a feature
    panels: np.ndarray  # uint8 or int8
    features: np.ndarray  # (5, >= D) float32
    per_panel: int  # features
    numbers: np.ndarray  # (D, J) int16, or (0, J): the same in 16 bits, a row a feature
    closer: np.ndarray  # (3, D) float32: scale, norm and residual of these


@routine
def quantise_feature(W, j, b, quantised, n):
    """Write weights ``j`` of ``W`` (D, I) and ``b`` (D,) to place ``n`` of the `Quantised`."""
    columns, steps, panels, features, per_panel, numbers, closer = quantised
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

    scale, close = np.float32(peak / 127 * UP), np.float32(norm / LARGEST * UP)
    inverse, close_inverse = 0.0, 0.0
    if inside and peak > 0:
        inverse, close_inverse = 1 / np.float64(scale), 1 / np.float64(close)
    stride = 4 * per_panel
    place = (n // per_panel) * stride * steps + n % per_panel * 4
    squares, residuals = zeros(), zeros()
    close_squares, close_residuals = zeros(), zeros()
    for i in range(0, 4 * steps, LANES):
        v = zeros()
        if inside:
            v = multiply(load_tail(W, j, i), load_tail(columns, 0, i))
        r = store_rounded(multiply(v, inverse), panels, place, stride)
        place += 2 * stride
        squares = fma(r, r, squares)
        rest = subtract(v, multiply(r, np.float64(scale)))
        residuals = fma(rest, rest, residuals)
        if len(numbers):
            r = store_sixteen(multiply(v, close_inverse), numbers, n, i)
            close_squares = fma(r, r, close_squares)
            rest = subtract(v, multiply(r, np.float64(close)))
            close_residuals = fma(rest, rest, close_residuals)
    _note(features, n, scale, squares, residuals, inside)
    if len(numbers):
        _note(closer, n, close, close_squares, close_residuals, inside)
    if inside:
        for kind, total in ((BIAS, bias), (MOVED_BIAS, bias + dot)):
            slack = 24 * U * (abs(bias) + abs(dot) * (kind - BIAS)) + 2.0**-99
            features[kind, n] = total + slack
    else:
        features[BIAS, n] = 0
        features[MOVED_BIAS, n] = 0


@routine
def _note(features, n, scale, squares, residuals, inside):
    """Write scale, norm and residual of feature ``n``."""
    norm = np.float64(scale) * math.sqrt(lane_sum(squares)) * UP
    residual = math.sqrt(lane_sum(residuals))
    features[SCALE, n] = scale if inside else 0
    features[NORM, n] = norm if inside else 0
    features[RESIDUAL, n] = (residual * (1 + 16 * U) + norm * 2.0**-48) * UP if inside else np.inf


@kernel
def quantise_features(W, b, quantised, order):
    """`quantise_feature` of every row of ``W`` (D, I), ``order[n]`` at place n."""
    D, per_panel = len(W), quantised.per_panel
    for panel in prange((D + per_panel - 1) // per_panel):
        for n in range(panel * per_panel, min((panel + 1) * per_panel, D)):
            quantise_feature(W, order[n], b, quantised, n)


@routine
def quantise_input(x, b, columns, mean_norm, steps, panels, rows, starts, per_panel, numbers):
    """Write row ``b`` of ``x`` to ``panels``, ``rows`` and ``starts``; return what became of it.

    ``x`` (B, I), ``columns`` (2, I) float64 (1 / c and m), ``mean_norm`` at least |m / c|,
    ``panels`` int8 with ``per_panel`` rows a panel and 4 ``steps`` bytes a row, ``rows`` (6, >= B)
    float32 and ``starts`` (2, >= B) int32: see ``tile.py``.  ``numbers`` (B, J) int16 receives the
    row in 16 bits.
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

    scale, close = np.float32(peak / 127 * UP), np.float32(norm / LARGEST * UP)
    inverse, close_inverse = 1 / np.float64(scale), 1 / np.float64(close)
    stride = 4 * per_panel
    place = (b // per_panel) * stride * steps + b % per_panel * 4
    sums, residuals, close_residuals = zeros(), zeros(), zeros()
    for i in range(0, 4 * steps, LANES):
        m = multiply(load_tail(columns, 1, i), move)
        v = multiply(subtract(load_tail(x, b, i), m), load_tail(columns, 0, i))
        q = store_rounded(multiply(v, inverse), panels, place, stride)
        place += 2 * stride
        sums = subtract(sums, q)
        rest = subtract(v, multiply(q, np.float64(scale)))
        residuals = fma(rest, rest, residuals)
        q = store_sixteen(multiply(v, close_inverse), numbers, b, i)
        rest = subtract(v, multiply(q, np.float64(close)))
        close_residuals = fma(rest, rest, close_residuals)
    for kind, size, rests in ((0, scale, residuals), (CLOSER, close, close_residuals)):
        residual = math.sqrt(lane_sum(rests))
        slack = 16 * U * (norm + residual) + (I + 2) * 2.0**-50 * reach
        rows[SCALE + kind, b] = size
        rows[NORM + kind, b] = norm * UP
        rows[RESIDUAL + kind, b] = (residual + slack) * UP
    starts[0, b] = 128 * int(lane_sum(sums))
    starts[1, b] = int(move)
    return SCREENED


@kernel
def quantise_inputs(
    x, columns, mean_norm, steps, panels, rows, starts, states, per_panel, numbers
):  # fmt: skip
    """`quantise_input` of every row of ``x`` (B, I); ``states`` (B,) receives what it returns."""
    B = len(x)
    tasks = max(B // _ROWS_PER_TASK, 1)
    if tasks == 1:
        _quantise_rows(
            0, B, x, columns, mean_norm, steps, panels, rows, starts, states, per_panel, numbers
        )
    else:
        for task in prange(tasks):
            # Whole panels.
            first = B * task // tasks // per_panel * per_panel
            last = B * (task + 1) // tasks // per_panel * per_panel
            _quantise_rows(
                first, B if task == tasks - 1 else last, x, columns, mean_norm, steps, panels, rows,
                starts, states, per_panel, numbers,
            )  # fmt: skip


@routine
def _quantise_rows(
    first, last, x, columns, mean_norm, steps, panels, rows, starts, states, per_panel, numbers
):
    for b in range(first, last):
        states[b] = quantise_input(
            x, b, columns, mean_norm, steps, panels, rows, starts, per_panel, numbers
        )
