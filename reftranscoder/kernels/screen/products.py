"""The products of a tile: a sum for every row and vector of features, left in registers.

How the numbers of a step are multiplied is all that differs between the kinds of panels; see
`TABLE` in ``cpu_target.py``.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, type_callable
from numba.np.numpy_support import as_dtype

from .cpu_target import TILE
from .emission import I8, I16, I32, I64
from .layout import TILE_BYTES, TILE_ROWS, by_tiles, kind_of


def configure(W):
    """Make the tile registers ready, if ``W`` is for these; `release` them in the same thread."""


def release(W):
    """Undo `configure`."""


def emit_products(emission):
    """The sums of `screen_tile`: `TILE.vectors` vectors a row, int32, or float32 as the inputs."""
    return (_emit_tile_products if by_tiles(emission.kind) else _emit_vector_products)(emission)


def _emit_vector_products(e):
    """Of all rows; or, where one is ``alone``, of the first, which takes an eighth of the time."""
    b = e.builder
    kind = e.ints if e.whole else e.floats
    whole, first, after = (b.append_basic_block() for _ in range(3))
    b.cbranch(b.icmp_signed("!=", e.index("alone"), ir.Constant(I64, 0)), first, whole)
    found = []
    for block, rows in ((whole, TILE.rows), (first, 1)):
        b.position_at_end(block)
        sums = _emit_loop(e, rows, kind)
        sums += [_emit_zeros(e, kind)] * ((TILE.rows - rows) * TILE.vectors)
        found.append((sums, b.basic_block))
        b.branch(after)
    b.position_at_end(after)
    joined = [b.phi(kind) for _ in range(TILE.rows * TILE.vectors)]
    for sums, block in found:
        for phi, total in zip(joined, sums):
            phi.add_incoming(total, block)
    return joined


def _emit_loop(e, rows, kind):
    b = e.builder
    weights, inputs = e.pointer("W", "w"), e.pointer("x", "i")
    starts = [_emit_start(e, m, kind) for m in range(rows) for _ in range(TILE.vectors)]
    before, loop, after = b.basic_block, b.append_basic_block(), b.append_basic_block()
    b.branch(loop)
    b.position_at_end(loop)
    step = b.phi(I64)
    step.add_incoming(ir.Constant(I64, 0), before)
    phis = [b.phi(kind) for _ in starts]
    for phi, start in zip(phis, starts):
        phi.add_incoming(start, before)
    sums = list(phis)
    for half in range(2):
        here = b.add(step, ir.Constant(I64, half))
        lines = e.vectors(weights, b.mul(here, ir.Constant(I64, 4 * TILE.features)), kind)
        offset = b.mul(here, ir.Constant(I64, 4 * TILE.rows))
        for m in range(rows):
            place = b.add(offset, ir.Constant(I64, 4 * m))
            number = e.splat(e.load(inputs, place, kind.element))
            for v, line in enumerate(lines):
                n = m * TILE.vectors + v
                sums[n] = emit_multiply_add(e, line, number, sums[n])
    following = b.add(step, ir.Constant(I64, 2))
    step.add_incoming(following, loop)
    for phi, total in zip(phis, sums):
        phi.add_incoming(total, loop)
    b.cbranch(b.icmp_signed("<", following, e.index("steps")), loop, after)
    b.position_at_end(after)
    return sums


def _emit_zeros(e, kind):
    return ir.Constant(kind, [0 if e.whole else 0.0] * TILE.lanes)


def _emit_start(e, m, kind):
    if e.kind.weights == np.uint8:
        return e.splat(e.load(e.entry("starts", 0, "r"), 4 * m, I32))
    return _emit_zeros(e, kind)


def emit_multiply_add(e, line, number, total):
    """``total`` and the products of a step's numbers, of a vector of features and of one row."""
    if not e.whole:
        return e.fma(number, line, total)
    if e.kind.weights == np.uint8:
        # Written as LLVM had it up to 20: newer ones read this and take it for theirs.
        return e.call(e.kind.product, e.ints, total, line, number)
    each = ir.VectorType(I16 if e.kind.numbers == 2 else I8, e.kind.numbers * TILE.lanes)
    line, number = (e.builder.bitcast(vector, each) for vector in (line, number))
    if e.kind.weights == np.int16:
        return e.builder.add(e.call(e.kind.product, e.ints, line, number), total)
    return e.call(e.kind.product, e.ints, total, line, number)


def _emit_tile_products(e):
    # The first registers are for sums, the next for weights, and the last is for inputs.
    b, V = e.builder, TILE.vectors
    weights, inputs = e.pointer("W", "w"), e.pointer("x", "i")
    steps, at_once = e.index("steps"), ir.Constant(I64, TILE_BYTES // 4)
    row, panel = (b.mul(steps, ir.Constant(I64, n)) for n in (4, TILE_BYTES))
    line, group = (ir.Constant(I64, n) for n in (TILE_BYTES, 4 * TILE.features))
    for v in range(V):
        _of_tiles(b, "tilezero", v)
    with cgutils.for_range_slice(b, ir.Constant(I64, 0), steps, at_once) as (step, _):
        place = b.gep(inputs, [b.mul(step, ir.Constant(I64, 4))])
        _of_tiles(b, "tileloadd64", 2 * V, place, row)
        place = b.gep(weights, [b.mul(step, line)])
        for v in range(V):
            _of_tiles(b, "tileloadd64", V + v, place, line)
            _of_tiles(b, "tdpbssd", v, 2 * V, V + v)
            place = b.gep(place, [panel])
    sums = cgutils.alloca_once(b, ir.ArrayType(e.ints, TILE.rows * V))
    sums.align = TILE_BYTES
    sums = b.bitcast(sums, I8.as_pointer())
    for v in range(V):
        there = b.gep(sums, [ir.Constant(I64, TILE_BYTES * v)])
        _of_tiles(b, "tilestored64", v, there, group)
    return [
        b.load(e.at(sums, TILE_BYTES * n, e.ints), align=TILE_BYTES) for n in range(TILE.rows * V)
    ]


@type_callable(configure)
@type_callable(release)
def _configure_type(context):
    return lambda W: types.none


@lower_builtin(configure, types.Array)
def _emit_configure(context, builder, signature, arguments):
    if by_tiles(kind_of(as_dtype(signature.args[0].dtype))):
        # Palette 1; from byte 16 on the bytes a row of each register, from 48 on its rows.
        rows = [TILE.rows] * TILE.vectors + [TILE_ROWS] * TILE.vectors + [TILE.rows]
        layout = np.zeros(64, np.uint8)
        layout[0] = 1
        layout[16 : 16 + 2 * len(rows) : 2] = TILE_BYTES
        layout[48 : 48 + len(rows)] = rows
        data = cgutils.global_constant(builder, "layout", cgutils.make_bytearray(layout.tobytes()))
        _of_tiles(builder, "ldtilecfg", builder.bitcast(data, I8.as_pointer()))
    return context.get_dummy_value()


@lower_builtin(release, types.Array)
def _emit_release(context, builder, signature, arguments):
    if by_tiles(kind_of(as_dtype(signature.args[0].dtype))):
        _of_tiles(builder, "tilerelease")
    return context.get_dummy_value()


def _of_tiles(builder, name, *arguments):
    """An instruction of AMX; plain numbers are those of its registers."""
    arguments = [ir.Constant(I8, a) if isinstance(a, int) else a for a in arguments]
    kind = ir.FunctionType(ir.VoidType(), [a.type for a in arguments])
    name = f"llvm.x86.{name}"
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)
