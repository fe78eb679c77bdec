"""Exact products of rows of 16-bit numbers, for a closer look.

As in ``vector.py`` the function is plain NumPy, its meaning, and compiles to the LLVM instructions
given below it.  Rows are padded with zeros to whole `COLUMNS`.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, type_callable

from .cpu_target import PAIRS

#: A row in 16 bits is so many numbers long, or a multiple of it: two cache lines.
COLUMNS = 64


def padded_columns(I):
    """How long a row of ``I`` numbers is in 16 bits."""
    return -(-I // COLUMNS) * COLUMNS


def four_products(one, row, many, r0, r1, r2, r3):
    """Row ``row`` of ``one`` times four rows of ``many``, both int16 and padded: exactly, as int32,
    if each product is below 2^31."""
    left = one[row].astype(np.int64)
    return tuple(np.int32(left @ many[r].astype(np.int64)) for r in (r0, r1, r2, r3))


# What follows is how the compiler reads the functions above.

_I16, _I32, _I64 = (ir.IntType(bits) for bits in (16, 32, 64))


@type_callable(four_products)
def _four_products_type(context):
    return lambda one, row, many, r0, r1, r2, r3: types.UniTuple(types.int32, 4)


@lower_builtin(four_products, types.Array, types.Integer, types.Array, *[types.Integer] * 4)
def _emit_four_products(context, builder, signature, arguments):
    b, sums = builder, ir.VectorType(_I32, PAIRS.lanes)
    one, *many = (
        _emit_row(context, b, signature, arguments, array, row)
        for array, row in ((0, 1), (2, 3), (2, 4), (2, 5), (2, 6))
    )
    start, loop, done = b.basic_block, b.append_basic_block(), b.append_basic_block()
    b.branch(loop)
    b.position_at_end(loop)
    column = b.phi(_I64)
    column.add_incoming(ir.Constant(_I64, 0), start)
    before = [b.phi(sums) for _ in many]
    for phi in before:
        phi.add_incoming(ir.Constant(sums, [0] * PAIRS.lanes), start)
    left = _emit_numbers(b, one[0], column)
    after = [
        b.add(phi, _emit_pair_sums(b, left, _emit_numbers(b, row, column)))
        for phi, (row, _) in zip(before, many)
    ]
    following = b.add(column, ir.Constant(_I64, 2 * PAIRS.lanes))
    column.add_incoming(following, loop)
    for phi, total in zip(before, after):
        phi.add_incoming(total, loop)
    b.cbranch(b.icmp_signed("<", following, one[1]), loop, done)
    b.position_at_end(done)
    return context.make_tuple(b, signature.return_type, [_emit_total(b, v) for v in after])


def _emit_row(context, builder, signature, arguments, array, row):
    """The address of a row, and how many numbers it has."""
    made = context.make_array(signature.args[array])(context, builder, arguments[array])
    length = cgutils.unpack_tuple(builder, made.shape, 2)[1]
    place = context.cast(builder, arguments[row], signature.args[row], types.intp)
    return builder.gep(made.data, [builder.mul(place, length)]), length


def _emit_numbers(builder, row, column):
    kind = ir.VectorType(_I16, 2 * PAIRS.lanes)
    place = builder.bitcast(builder.gep(row, [column]), kind.as_pointer())
    return builder.load(place, align=2)


def _emit_pair_sums(builder, x, y):
    """The products of two vectors, neighbours added."""
    lanes = PAIRS.lanes
    sums = ir.VectorType(_I32, lanes)
    if PAIRS.instruction:
        kind = ir.FunctionType(sums, [x.type, y.type])
        name = PAIRS.instruction
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [x, y])
    products = []
    for first in range(2):
        which = ir.Constant(sums, list(range(first, 2 * lanes, 2)))
        halves = [builder.sext(builder.shuffle_vector(v, v, which), sums) for v in (x, y)]
        products.append(builder.mul(*halves))
    return builder.add(*products)


def _emit_total(builder, v):
    """The sum of the lanes of ``v``."""
    while v.type.count > 1:
        half = v.type.count // 2
        kind = ir.VectorType(_I32, half)
        low, high = (
            builder.shuffle_vector(v, v, ir.Constant(kind, list(range(first, first + half))))
            for first in (0, half)
        )
        v = builder.add(low, high)
    return builder.extract_element(v, ir.Constant(_I32, 0))
