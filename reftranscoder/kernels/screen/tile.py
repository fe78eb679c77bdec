"""The innermost loop of every screen: a tile of rows by features, with its sums in registers.

`screen_tile` multiplies, turns each sum into an upper bound of p (the theorem stands in
``quantised.py``), compares it with the row's threshold, and says which features may still matter.
As in ``vector.py``, the function is plain NumPy, its meaning; compiled code runs the LLVM
instructions below it instead, bit for bit the same.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import lower_builtin, type_callable

from ..engine.vector import fma
from .cpu_target import TILE
from .emission import F32, I1, I32, I64, Emission
from .layout import BIAS, NORM, RESIDUAL, SCALE, features_a_panel, kind_of, rows_a_panel
from .products import emit_products


def screen_tile(operands, w, i, r, j, thresholds, segment, bounds, masks):
    """Bound p of `TILE.rows` rows from ``r`` and `TILE.features` features from ``j``.

    ``W[w:]`` and ``x[i:]`` of the `Operands` are their panels.

    Writes the bounds to ``bounds`` (TILE.rows, TILE.features), and to ``masks`` (TILE.rows,) int64
    which of them are *not* below ``thresholds[segment, r:]``: one bit a feature, NaN included.
    Returns whether there are any.
    """
    W, features, x, rows, starts, steps, _ = operands
    M, N = TILE.rows, TILE.features
    if W.dtype != np.float32:
        numbers = kind_of(W.dtype).numbers
        weights = W[w : w + numbers * N * steps]
        weights = weights.reshape(-1, steps, features_a_panel(W.dtype), numbers)
        weights = weights.swapaxes(1, 2).reshape(N, -1).astype(np.int64)
        inputs = x[i : i + numbers * M * steps]
        inputs = inputs.reshape(-1, steps, rows_a_panel(W.dtype), numbers)
        inputs = inputs.swapaxes(1, 2).reshape(M, -1).astype(np.int64)
        sums = inputs @ weights.T
        if W.dtype == np.uint8:
            sums += starts[0, r : r + M, None]
        sums = sums.astype(np.int32).astype(np.float32)
    else:
        weights = W[w : w + N * steps].reshape(steps, N)
        inputs = x[i : i + M * steps].reshape(steps, M)
        sums = np.zeros((M, N), np.float32)
        for step in range(steps):
            for m in range(M):
                for n in range(N):
                    sums[m, n] = fma(inputs[step, m], weights[step, n], sums[m, n])
    some = False
    for m in range(M):
        scale, norm, residual = rows[:3, r + m]
        bias = BIAS + starts[1, r + m]
        masks[m] = 0
        for n in range(N):
            total = sums[m, n] * features[SCALE, j + n]
            bound = fma(total, scale, features[bias, j + n])
            bound = fma(residual, features[NORM, j + n], bound)
            bound = fma(norm, features[RESIDUAL, j + n], bound)
            bounds[m, n] = bound
            if not bound < thresholds[segment, r + m]:
                masks[m] |= 1 << n
                some = True
    return some


def lowest_bit(mask):
    """The place of the lowest bit that is set in ``mask``, an int64 that is not 0."""
    return (int(mask) & -int(mask)).bit_length() - 1


# What follows is how the compiler reads the functions above.


@type_callable(lowest_bit)
def _lowest_bit_type(context):
    return lambda mask: types.int64


@lower_builtin(lowest_bit, types.int64)
def _emit_lowest_bit(context, builder, signature, arguments):
    return builder.cttz(arguments[0], ir.Constant(I1, 1))


@type_callable(screen_tile)
def _screen_tile_type(context):
    return lambda operands, w, i, r, j, thresholds, segment, bounds, masks: types.boolean


@lower_builtin(screen_tile, *[types.Any] * 9)
def _emit_screen_tile(context, builder, signature, arguments):
    emission = Emission(context, builder, signature, arguments)
    return _emit_bounds(emission, emit_products(emission))


def _emit_bounds(e, sums):
    b = e.builder
    features = [e.entry("features", n, "j") for n in range(4)]
    moved_by = b.mul(e.shape_of("features", 1), ir.Constant(I64, 4))
    any_mask = ir.Constant(I64, 0)
    for m in range(TILE.rows):
        scale, norm, residual = (
            e.splat(e.load(e.entry("rows", n, "r"), 4 * m, F32)) for n in range(3)
        )
        moved = e.load(e.entry("starts", 1, "r"), 4 * m, I32)
        shift = b.mul(b.sext(moved, I64), moved_by)
        threshold = e.entry("thresholds", "segment", "r")
        threshold = e.splat(e.load(threshold, 4 * m, F32))
        mask = ir.Constant(I64, 0)
        for v in range(TILE.vectors):
            total = sums[m * TILE.vectors + v]
            place = 4 * v * TILE.lanes
            if e.whole:
                total = b.sitofp(total, e.floats)
            total = b.fmul(total, e.load(features[SCALE], place, e.floats))
            bias = b.add(shift, ir.Constant(I64, place))
            bound = e.fma(total, scale, e.load(features[BIAS], bias, e.floats))
            norms = e.load(features[NORM], place, e.floats)
            bound = e.fma(residual, norms, bound)
            residuals = e.load(features[RESIDUAL], place, e.floats)
            bound = e.fma(norm, residuals, bound)
            out = e.at(e.entry("bounds", m, 0), place, e.floats)
            b.store(bound, out, align=4)
            bits = b.fcmp_unordered(">=", bound, threshold)
            bits = b.zext(b.bitcast(bits, ir.IntType(TILE.lanes)), I64)
            mask = b.or_(mask, b.shl(bits, ir.Constant(I64, v * TILE.lanes)))
        b.store(mask, e.at(e.pointer("masks"), 8 * m, I64), align=8)
        any_mask = b.or_(any_mask, mask)
    return b.icmp_unsigned("!=", any_mask, ir.Constant(I64, 0))
