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
from numba.core import cgutils
from numba.extending import lower_builtin, type_callable

from ..engine.vector import fma
from .cpu_target import TILE
from .layout import (
    BIAS,
    NORM,
    RESIDUAL,
    SCALE,
    TILE_BYTES,
    TILE_ROWS,
    Operands,
    features_a_panel,
    rows_a_panel,
)  # fmt: skip


def screen_tile(operands, w, i, r, j, thresholds, segment, bounds, masks):
    """Bound p of `TILE.rows` rows from ``r`` and `TILE.features` features from ``j``.

    ``W[w:]`` and ``x[i:]`` of the `Operands` are their panels.

    Writes the bounds to ``bounds`` (TILE.rows, TILE.features), and to ``masks`` (TILE.rows,) int64
    which of them are *not* below ``thresholds[segment, r:]``: one bit a feature, NaN included.
    Returns whether there are any.
    """
    W, features, x, rows, starts, steps = operands
    M, N = TILE.rows, TILE.features
    if W.dtype != np.float32:
        weights = W[w : w + 4 * N * steps].reshape(-1, steps, features_a_panel(W.dtype), 4)
        weights = weights.swapaxes(1, 2).reshape(N, -1).astype(np.int64)
        inputs = x[i : i + 4 * M * steps].reshape(-1, steps, rows_a_panel(W.dtype), 4)
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


def configure(W):
    """Make the tile registers ready, if ``W`` is for these; `release` them in the same thread."""


def release(W):
    """Undo `configure`."""


def lowest_bit(mask):
    """The place of the lowest bit that is set in ``mask``, an int64 that is not 0."""
    return (int(mask) & -int(mask)).bit_length() - 1


# What follows is how the compiler reads the functions above.

_I1, _I8, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
_F32 = ir.FloatType()


@type_callable(configure)
@type_callable(release)
def _configure_type(context):
    return lambda W: types.none


@lower_builtin(configure, types.Array)
def _emit_configure(context, builder, signature, arguments):
    if signature.args[0].dtype == types.int8:
        # Palette 1; from byte 16 on the bytes a row of each register, from 48 on its rows.
        rows = [TILE.rows] * TILE.vectors + [TILE_ROWS] * TILE.vectors + [TILE.rows]
        layout = np.zeros(64, np.uint8)
        layout[0] = 1
        layout[16 : 16 + 2 * len(rows) : 2] = TILE_BYTES
        layout[48 : 48 + len(rows)] = rows
        data = cgutils.global_constant(builder, "layout", cgutils.make_bytearray(layout.tobytes()))
        _of_tiles(builder, "ldtilecfg", builder.bitcast(data, _I8.as_pointer()))
    return context.get_dummy_value()


@lower_builtin(release, types.Array)
def _emit_release(context, builder, signature, arguments):
    if signature.args[0].dtype == types.int8:
        _of_tiles(builder, "tilerelease")
    return context.get_dummy_value()


def _of_tiles(builder, name, *arguments):
    """An instruction of AMX; plain numbers are those of its registers."""
    arguments = [ir.Constant(_I8, a) if isinstance(a, int) else a for a in arguments]
    kind = ir.FunctionType(ir.VoidType(), [a.type for a in arguments])
    name = f"llvm.x86.{name}"
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


@type_callable(lowest_bit)
def _lowest_bit_type(context):
    return lambda mask: types.int64


@lower_builtin(lowest_bit, types.int64)
def _emit_lowest_bit(context, builder, signature, arguments):
    return builder.cttz(arguments[0], ir.Constant(_I1, 1))


@type_callable(screen_tile)
def _screen_tile_type(context):
    return lambda operands, w, i, r, j, thresholds, segment, bounds, masks: types.boolean


@lower_builtin(screen_tile, *[types.Any] * 9)
def _emit_screen_tile(context, builder, signature, arguments):
    return _Emission(context, builder, signature, arguments).run()


class _Emission:
    """The instructions of one `screen_tile`."""

    def __init__(self, context, builder, signature, arguments):
        self.context, self.builder = context, builder
        names = [*Operands._fields, *"w i r j thresholds segment bounds masks".split()]
        operands, *rest = arguments
        self.value = dict(zip(names, [*cgutils.unpack_tuple(builder, operands), *rest]))
        self.type = dict(zip(names, [*signature.args[0].types, *signature.args[1:]]))
        self.floats = ir.VectorType(_F32, TILE.lanes)
        self.ints = ir.VectorType(_I32, TILE.lanes)
        self.dtype = self.type["W"].dtype
        self.eight_bit = self.dtype != types.float32

    def run(self):
        return self._bounds(self._tile_sums() if self.dtype == types.int8 else self._sums())

    def _tile_sums(self):
        # The first registers are for sums, the next for weights, and the last is for inputs.
        b, V = self.builder, TILE.vectors
        weights, inputs = self._pointer("W", "w"), self._pointer("x", "i")
        steps, at_once = self._int("steps"), ir.Constant(_I64, TILE_BYTES // 4)
        row, panel = (b.mul(steps, ir.Constant(_I64, n)) for n in (4, TILE_BYTES))
        line, group = (ir.Constant(_I64, n) for n in (TILE_BYTES, 4 * TILE.features))
        for v in range(V):
            _of_tiles(b, "tilezero", v)
        with cgutils.for_range_slice(b, ir.Constant(_I64, 0), steps, at_once) as (step, _):
            place = b.gep(inputs, [b.mul(step, ir.Constant(_I64, 4))])
            _of_tiles(b, "tileloadd64", 2 * V, place, row)
            place = b.gep(weights, [b.mul(step, line)])
            for v in range(V):
                _of_tiles(b, "tileloadd64", V + v, place, line)
                _of_tiles(b, "tdpbssd", v, 2 * V, V + v)
                place = b.gep(place, [panel])
        sums = cgutils.alloca_once(b, ir.ArrayType(self.ints, TILE.rows * V))
        sums.align = TILE_BYTES
        sums = b.bitcast(sums, _I8.as_pointer())
        for v in range(V):
            there = b.gep(sums, [ir.Constant(_I64, TILE_BYTES * v)])
            _of_tiles(b, "tilestored64", v, there, group)
        return [
            b.load(self._at(sums, TILE_BYTES * n, self.ints), align=TILE_BYTES)
            for n in range(TILE.rows * V)
        ]

    def _sums(self):
        b = self.builder
        weights, inputs = self._pointer("W", "w"), self._pointer("x", "i")
        kind = self.ints if self.eight_bit else self.floats
        starts = [self._start(m, kind) for m in range(TILE.rows) for _ in range(TILE.vectors)]
        before, loop, after = b.basic_block, b.append_basic_block(), b.append_basic_block()
        b.branch(loop)
        b.position_at_end(loop)
        step = b.phi(_I64)
        step.add_incoming(ir.Constant(_I64, 0), before)
        phis = [b.phi(kind) for _ in starts]
        for phi, start in zip(phis, starts):
            phi.add_incoming(start, before)
        sums = list(phis)
        for half in range(2):
            here = b.add(step, ir.Constant(_I64, half))
            lines = self._vectors(weights, b.mul(here, ir.Constant(_I64, 4 * TILE.features)), kind)
            offset = b.mul(here, ir.Constant(_I64, 4 * TILE.rows))
            for m in range(TILE.rows):
                place = b.add(offset, ir.Constant(_I64, 4 * m))
                number = self._splat(self._load(inputs, place, kind.element))
                for v, line in enumerate(lines):
                    n = m * TILE.vectors + v
                    sums[n] = self._multiply_add(line, number, sums[n])
        following = b.add(step, ir.Constant(_I64, 2))
        step.add_incoming(following, loop)
        for phi, total in zip(phis, sums):
            phi.add_incoming(total, loop)
        b.cbranch(b.icmp_signed("<", following, self._int("steps")), loop, after)
        b.position_at_end(after)
        return sums

    def _start(self, m, kind):
        if not self.eight_bit:
            return ir.Constant(kind, [0.0] * TILE.lanes)
        return self._splat(self._load(self._entry("starts", 0, "r"), 4 * m, _I32))

    def _multiply_add(self, line, number, total):
        if self.eight_bit:
            # Written as LLVM had it up to 20: newer ones read this and take it for theirs.
            return self._call("llvm.x86.avx512.vpdpbusd.512", [total, line, number])
        return self._fma(number, line, total)

    def _bounds(self, sums):
        b = self.builder
        features = [self._entry("features", n, "j") for n in range(4)]
        width = ir.Constant(_I64, 0)
        moved_by = b.mul(self._shape_of("features", 1), ir.Constant(_I64, 4))
        any_mask = ir.Constant(_I64, 0)
        for m in range(TILE.rows):
            scale, norm, residual = (
                self._splat(self._load(self._entry("rows", n, "r"), 4 * m, _F32)) for n in range(3)
            )
            moved = self._load(self._entry("starts", 1, "r"), 4 * m, _I32)
            shift = b.mul(b.sext(moved, _I64), moved_by)
            threshold = self._entry("thresholds", "segment", "r")
            threshold = self._splat(self._load(threshold, 4 * m, _F32))
            mask = width
            for v in range(TILE.vectors):
                total = sums[m * TILE.vectors + v]
                place = 4 * v * TILE.lanes
                if self.eight_bit:
                    total = b.sitofp(total, self.floats)
                total = b.fmul(total, self._load(features[SCALE], place, self.floats))
                bias = b.add(shift, ir.Constant(_I64, place))
                bound = self._fma(total, scale, self._load(features[BIAS], bias, self.floats))
                norms = self._load(features[NORM], place, self.floats)
                bound = self._fma(residual, norms, bound)
                residuals = self._load(features[RESIDUAL], place, self.floats)
                bound = self._fma(norm, residuals, bound)
                out = self._at(self._entry("bounds", m, 0), place, self.floats)
                b.store(bound, out, align=4)
                bits = b.fcmp_unordered(">=", bound, threshold)
                bits = b.zext(b.bitcast(bits, ir.IntType(TILE.lanes)), _I64)
                mask = b.or_(mask, b.shl(bits, ir.Constant(_I64, v * TILE.lanes)))
            b.store(mask, self._at(self._pointer("masks"), 8 * m, _I64), align=8)
            any_mask = b.or_(any_mask, mask)
        return b.icmp_unsigned("!=", any_mask, ir.Constant(_I64, 0))

    # Addresses are bytes from here on.

    def _array(self, name):
        return self.context.make_array(self.type[name])(
            self.context, self.builder, self.value[name]
        )

    def _shape_of(self, name, axis):
        array = self._array(name)
        return cgutils.unpack_tuple(self.builder, array.shape, self.type[name].ndim)[axis]

    def _int(self, name):
        return self.context.cast(self.builder, self.value[name], self.type[name], types.int64)

    def _pointer(self, name, index=None):
        pointer = self._array(name).data
        if index is not None:
            pointer = self.builder.gep(pointer, [self._int(index)])
        return self.builder.bitcast(pointer, _I8.as_pointer())

    def _entry(self, name, row, column):
        """The address of ``name[row, column]``; indices are numbers or names of arguments."""
        b = self.builder
        row, column = (
            self._int(n) if isinstance(n, str) else ir.Constant(_I64, n) for n in (row, column)
        )
        place = b.add(b.mul(row, self._shape_of(name, 1)), column)
        return b.bitcast(b.gep(self._array(name).data, [place]), _I8.as_pointer())

    def _at(self, pointer, place, kind):
        place = ir.Constant(_I64, place) if isinstance(place, int) else place
        return self.builder.bitcast(self.builder.gep(pointer, [place]), kind.as_pointer())

    def _load(self, pointer, place, kind):
        return self.builder.load(self._at(pointer, place, kind), align=4)

    def _vectors(self, pointer, place, kind):
        b = self.builder
        return [
            self._load(pointer, b.add(place, ir.Constant(_I64, 4 * v * TILE.lanes)), kind)
            for v in range(TILE.vectors)
        ]

    def _splat(self, number):
        vector = ir.VectorType(number.type, TILE.lanes)
        none = ir.Constant(vector, ir.Undefined)
        one = self.builder.insert_element(none, number, ir.Constant(_I32, 0))
        lanes = ir.Constant(ir.VectorType(_I32, TILE.lanes), [0] * TILE.lanes)
        return self.builder.shuffle_vector(one, none, lanes)

    def _fma(self, x, y, z):
        return self._call(f"llvm.fma.v{TILE.lanes}f32", [x, y, z])

    def _call(self, name, arguments):
        kind = ir.FunctionType(arguments[0].type, [a.type for a in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, arguments)
