"""Inputs and weights in whole numbers, and the theorem by which a feature may be discarded.

For a step that rewrites weights, `quantise_feature` is a routine of its own::

    quantise_feature(W, j, b, quantised, n)

with ``W`` (D, I) and ``b`` (D,) in the dtype of the parameters, and `Quantised` for the results.
It writes what is stored of feature ``j`` to place ``n`` of these.

**What is stored.**  X = x / c, M = m / c and V = w c, columnwise.  Of an input X - M (or X, where
that is the shorter) and of weights V, the nearest multiples s q and t r of a scale, s or t, with
whole numbers q and r:

- to be screened, |q|, |r| <= L, and the largest are L: 127 in 8 bits, and in 16 as many that
  L^2 I < 2^31 (`largest_whole`);
- to be looked at closer, where that was 8 bits (``rescoring.py``), in 16, with the norms |X - M|
  and |V| over 32767, rounded up, as s and t.

With u = 2^-24 and norms in float64, each *rounded up* to float32::

    norm      xn  >=  |X - M|             of an input
    residual  ex  >=  e + 16 u (|X - M| + e) + (I + 2) 2^-50 (|X| + |M|),  e >= |X - M - s q|
    norm      wn  >=  |V| + F             of a feature,                    F >= |V - t r|
    residual  ew  >=  (1 + 16 u) F + 2^-48 wn
    bias      b'  >=  b + m.w + 16 u (|b| + |m.w|) + 2^-100,  without m.w for an input not moved

To be screened, e and F are these norms; for the closer look it is enough that no entry is off by
more than half of s or t, so that they are half of that times sqrt(I).

**Theorem.**  ``U = fma(xn, ew, fma(ex, wn, fma(fl(fl(q.r) t), s, b')))`` in float32 is at least p,
the float64 sum that decides (``kernels/affine.py``), if 2^-40 <= xn <= 2^40, wn is 0 or from 2^-60
to 2^61, |b'| <= 2^90, |X| + |M| <= 2^60, I <= 131072 and 127 <= L < 2^15; m.w in b' is the computed
one.

*Proof.*  With Y = X - M, R = |t r| and b2 = |b| + |m.w|: x.w = M.V + Y.V, and Y.V = s q.t r +
(Y - s q).t r + Y.(V - t r), so that without any rounding U is an upper bound by the Cauchy-Schwarz
inequality, as R <= |V| + F.  Also e <= |Y|: 0 is a multiple of s, and sqrt(I) / 65534 is below 1;
here and below but for a part of 2^-50, by which a quotient may be rounded to the wrong side of a
half.  The roundings:

- q.r is a whole number below 2^31: at most L^2 I or, by the same inequality,
  (32767 + sqrt(I) / 2)^2.  It is made by wrapping sums, which end right.  Its conversion, the
  product with t and the three fma each round what is at most (|Y| + e) R, |b'|, ex wn and xn ew:
  five times, three times, twice and once.  Nothing overflows, as all is below 2^120, and of what
  underflows there is less than 2^-140.
- p is within (I + 1) 2^-53 (|X||V| + |b|) of the exact sum, the computed m.w within
  (I + 2) 2^-53 |M||V| of its own, and Y within 2^-53 of itself, entry by entry.  |V| is at most wn.
  All of it is less than (I + 3) 2^-53 (|X| + |M|) wn and a rounding of b.
- Scales, norms and residuals are not subnormal in these ranges, so that a factor of 1 + 8 u before
  rounding to nearest does round up; and the float64 norms are within (I + 2) 2^-53 < u / 4 of
  themselves, relatively.

What was added covers it, with e R <= |Y| wn in ex wn: U - p is at least (16 - 6.1) u (|Y| + e) R +
14 u |Y| F + 12 u b2 + (8 (I + 2) - (I + 3)) 2^-53 (|X| + |M|) wn + 2^-101, which is above zero.
QED.  (The ranges of xn and wn are tested a factor of two further in, the latter on |V|: F is at
most t sqrt(I) / 2 and |V| at least L t, where the former is sqrt(I) / 2L < 2^14.5 / L^2 < 1.44
times the latter, so that wn is below 2.5 times |V|.)

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
from ..engine.vector import LANES, fma, lane_sum, load, load_tail, subtract, zeros
from .layout import BIAS, CLOSER, MOVED_BIAS, NORM, RESIDUAL, SCALE
from .rounding import larger, largest, multiply, store_rounded, store_row

#: What became of an input: it is screened, it is zero throughout, or it is outside the theorem.
SCREENED, ZERO, OUTSIDE = range(3)

#: The unit roundoff of float32, and what covers a rounding to it after that of a float64 norm.
U = 2.0**-24
UP = 1 + 8 * U

_ROWS_PER_TASK = 32  # fewer take less time than waking a thread

#: Of a norm in 16 bits, so that no entry and no product of two rows is beyond its integer.
LARGEST = 32767.0


class Quantised(NamedTuple):
    """Weights in whole numbers: how they are made, and where they stand."""

    columns: np.ndarray  # (2, I) float64: column scales c, powers of two, and means m
    steps: int  # times 4 bytes a feature
    limit: float  # L
    panels: np.ndarray  # of whole numbers, in a dtype of `TABLE`
    features: np.ndarray  # (5, >= D) float32
    per_panel: int  # features
    sixteen: np.ndarray  # (D, J) int16, or (0, J): for the closer look, a row a feature
    closer: np.ndarray  # (3, D) float32: scale, norm and residual of these


def largest_whole(dtype, I):
    """L where inputs are stored in ``dtype``, a float64: sums of I products are below 2^31."""
    return float(min(np.iinfo(dtype).max, math.isqrt((2**31 - 1) // max(I, 1))))


@routine
def half_a_step(I):
    """How long what rounding took from ``I`` numbers is at most, in steps; rounded up."""
    return 0.5 * math.sqrt(I) * (1 + 2.0**-30)


@routine
def _scale(length, most, inside):
    """What a step is where ``length`` is ``most`` of them, rounded up, and its inverse: 0 where
    nothing is to be rounded."""
    scale = np.float32(length / most * UP)
    return scale, 1 / np.float64(scale) if inside and length > 0 else 0.0


@routine
def _place(panels, per_panel, steps, n):
    """How many numbers there are in 4 bytes, from 4 bytes to the next of them, and where those of
    row ``n`` begin."""
    numbers = 4 // panels.itemsize
    stride = numbers * per_panel
    return numbers, stride, (n // per_panel) * stride * steps + n % per_panel * numbers


@routine
def quantise_feature(W, j, b, quantised, n):
    """Write weights ``j`` of ``W`` (D, I) and ``b`` (D,) to place ``n`` of the `Quantised`."""
    columns, steps, limit, panels, features, per_panel, sixteen, closer = quantised
    I = W.shape[1]
    peaks, squares, dots = zeros(), zeros(), zeros()
    for i in range(0, I, LANES):
        if i + LANES <= I:
            w, c, m = load(W, j, i), load(columns, 0, i), load(columns, 1, i)
        else:
            w, c, m = load_tail(W, j, i), load_tail(columns, 0, i), load_tail(columns, 1, i)
        v = multiply(w, c)
        peaks = larger(v, peaks)
        squares = fma(v, v, squares)
        dots = fma(w, m, dots)
    peak, norm, dot = largest(peaks), math.sqrt(lane_sum(squares)), lane_sum(dots)
    bias = np.float64(b[j])
    inside = 2.0**-59 <= norm <= 2.0**59 or (peak == 0 and norm == 0)
    inside = inside and abs(bias) + abs(dot) <= 2.0**89

    scale, inverse = _scale(peak, limit, inside)
    fine, fine_inverse = _scale(norm, LARGEST, inside)
    numbers, stride, place = _place(panels, per_panel, steps, n)
    residuals = zeros()
    for i in range(0, numbers * steps, LANES):
        v = zeros()
        if inside:
            if i + LANES <= I:
                v = multiply(load(W, j, i), load(columns, 0, i))
            else:
                v = multiply(load_tail(W, j, i), load_tail(columns, 0, i))
        r = store_rounded(multiply(v, inverse), panels, place, stride)
        place += LANES // numbers * stride
        rest = subtract(v, multiply(r, np.float64(scale)))
        residuals = fma(rest, rest, residuals)
        if len(sixteen):
            store_row(multiply(v, fine_inverse), sixteen, n, i)
    _note(features, n, scale, norm, math.sqrt(lane_sum(residuals)), inside)
    if len(sixteen):
        _note(closer, n, fine, norm, half_a_step(I) * np.float64(fine), inside)
    for kind, total in ((BIAS, bias), (MOVED_BIAS, bias + dot)):
        slack = 24 * U * (abs(bias) + abs(dot) * (kind - BIAS)) + 2.0**-99
        features[kind, n] = total + slack if inside else 0


@routine
def _note(features, n, scale, norm, residual, inside):
    """Write scale, norm and residual of feature ``n``."""
    norm = (norm + residual) * UP
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


class Inputs(NamedTuple):
    """Inputs in whole numbers: how they are made, and where they stand."""

    columns: np.ndarray  # (2, I) float64: 1 / c, and m
    mean_norm: float  # at least |m / c|
    steps: int  # times 4 bytes a row
    limit: float  # L
    panels: np.ndarray  # of whole numbers, in a dtype of `TABLE`
    rows: np.ndarray  # (6, >= B) float32, see ``layout.py``
    starts: np.ndarray  # (2, >= B) int32
    per_panel: int  # rows
    sixteen: np.ndarray  # (B, J) int16, or (0, J): for the closer look


@routine
def quantise_input(x, b, inputs):
    """Write row ``b`` of ``x`` (B, I) to the `Inputs`; return what became of it."""
    columns, mean_norm, steps, limit, panels, rows, starts, per_panel, sixteen = inputs
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
    inside = 2.0**-39 <= norm <= 2.0**39 and reach <= 2.0**60
    if not inside:
        return OUTSIDE

    scale, inverse = _scale(peak, limit, inside)
    fine, fine_inverse = _scale(norm, LARGEST, inside)
    numbers, stride, place = _place(panels, per_panel, steps, b)
    sums, residuals = zeros(), zeros()
    for i in range(0, numbers * steps, LANES):
        m = multiply(load_tail(columns, 1, i), move)
        v = multiply(subtract(load_tail(x, b, i), m), load_tail(columns, 0, i))
        q = store_rounded(multiply(v, inverse), panels, place, stride)
        place += LANES // numbers * stride
        sums = subtract(sums, q)
        rest = subtract(v, multiply(q, np.float64(scale)))
        residuals = fma(rest, rest, residuals)
        if len(sixteen):
            store_row(multiply(v, fine_inverse), sixteen, b, i)
    residual, fine_residual = math.sqrt(lane_sum(residuals)), half_a_step(I) * np.float64(fine)
    for first, size, rest in ((0, scale, residual), (CLOSER, fine, fine_residual)):
        slack = 16 * U * (norm + rest) + (I + 2) * 2.0**-50 * reach
        rows[first + SCALE, b] = size
        rows[first + NORM, b] = norm * UP
        rows[first + RESIDUAL, b] = (rest + slack) * UP
    starts[0, b] = 128 * int(lane_sum(sums))
    starts[1, b] = int(move)
    return SCREENED


# Flat: to hand over named tuples takes Numba several times as long.
@kernel
def quantise_inputs(
    x, columns, mean_norm, steps, limit, panels, rows, starts, states, per_panel, sixteen
):  # fmt: skip
    """`quantise_input` of every row of ``x`` (B, I); ``states`` (B,) receives what it returns."""
    B = len(x)
    inputs = Inputs(columns, mean_norm, steps, limit, panels, rows, starts, per_panel, sixteen)
    tasks = max(B // _ROWS_PER_TASK, 1)
    for task in prange(tasks):
        # Whole panels.
        first = B * task // tasks // per_panel * per_panel
        last = B * (task + 1) // tasks // per_panel * per_panel
        _quantise_rows(first, B if task == tasks - 1 else last, x, inputs, states)


@routine
def _quantise_rows(first, last, x, inputs, states):
    for b in range(first, last):
        states[b] = quantise_input(x, b, inputs)
