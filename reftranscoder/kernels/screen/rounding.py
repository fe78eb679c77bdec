"""What `vector` lacks to round numbers to whole ones: products, magnitudes, and four bytes at a
time.

Each function is plain NumPy, its meaning, and compiles to the LLVM instructions given below it.

Byte i of row r of a panel of n rows (see ``layout.py``) is at ``(i // 4) * 4 n + 4 r + i % 4``.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, type_callable

from ..engine.vector import LANES, Vector, emit_pointer


def multiply(x, y):
    """``x * y``, lane by lane, of a vector and a vector or a number."""
    return x * y


def larger(x, peaks):
    """``|x|`` where it is above ``peaks``, lane by lane, and ``peaks`` elsewhere."""
    return np.where(np.abs(x) > peaks, np.abs(x), peaks)


def largest(peaks):
    """The largest lane; none may be NaN."""
    return np.max(peaks)


def store_rounded(v, panel, place, stride):
    """Round ``v`` to whole numbers that ``panel`` can hold, and store them there.

    Four bytes of them go to ``place``, the next to ``place + stride``, and so on.  Into uint8 they
    go with 128 added, which flips the highest bit.  Returns the rounded numbers.
    """
    rounded = np.rint(v)
    stored = (rounded + (128 if panel.dtype == np.uint8 else 0)).astype(panel.dtype)
    for numbers in stored.reshape(-1, 4 // panel.itemsize):
        panel[place : place + len(numbers)] = numbers
        place += stride
    return rounded


def store_row(v, rows, row, column):
    """Round ``v`` to whole numbers, and store them to ``rows[row, column:column + 8]`` of int16."""
    rows[row, column : column + LANES] = np.rint(v)


# What follows is how the compiler reads the functions above.

_VECTOR = Vector()
_I32 = ir.IntType(32)
_F64X8 = ir.VectorType(ir.DoubleType(), LANES)


@type_callable(multiply)
def _multiply_type(context):
    return lambda x, y: _VECTOR


@type_callable(larger)
def _larger_type(context):
    return lambda x, peaks: _VECTOR


@type_callable(largest)
def _largest_type(context):
    return lambda peaks: types.float64


@type_callable(store_row)
def _store_row_type(context):
    return lambda v, rows, row, column: types.none


@type_callable(store_rounded)
def _store_rounded_type(context):
    return lambda v, panel, place, stride: _VECTOR


@lower_builtin(multiply, Vector, Vector)
def _emit_multiply(context, builder, signature, arguments):
    return builder.fmul(*arguments)


@lower_builtin(multiply, Vector, types.float64)
def _emit_scale(context, builder, signature, arguments):
    x, number = arguments
    none = ir.Constant(_F64X8, ir.Undefined)
    one = builder.insert_element(none, number, ir.Constant(_I32, 0))
    lanes = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
    return builder.fmul(x, builder.shuffle_vector(one, none, lanes))


def _unary(builder, name, x):
    kind = ir.FunctionType(x.type, [x.type])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [x])


@lower_builtin(larger, Vector, Vector)
def _emit_larger(context, builder, signature, arguments):
    x, peaks = arguments
    x = _unary(builder, "llvm.fabs.v8f64", x)
    return builder.select(builder.fcmp_ordered(">", x, peaks), x, peaks)


@lower_builtin(largest, Vector)
def _emit_largest(context, builder, signature, arguments):
    (peaks,) = arguments
    lanes = [builder.extract_element(peaks, ir.Constant(_I32, lane)) for lane in range(LANES)]
    while len(lanes) > 1:
        x, y = lanes[:2]
        lanes = [*lanes[2:], builder.select(builder.fcmp_ordered(">", x, y), x, y)]
    return lanes[0]


def _emit_whole(builder, rounded, kind):
    """Whole numbers in ``kind``, a vector of fewer bits than 32 to a number."""
    return builder.trunc(builder.fptosi(rounded, ir.VectorType(_I32, LANES)), kind)


@lower_builtin(store_rounded, Vector, types.Array, types.Integer, types.Integer)
def _emit_store_rounded(context, builder, signature, arguments):
    v, panel, place, stride = arguments
    panel_type = signature.args[1]
    rounded = _unary(builder, "llvm.rint.v8f64", v)
    bits = panel_type.dtype.bitwidth
    kind = ir.VectorType(ir.IntType(bits), LANES)
    whole = _emit_whole(builder, rounded, kind)
    if panel_type.dtype == types.uint8:
        whole = builder.xor(whole, ir.Constant(kind, [-128] * LANES))
    steps = LANES * bits // 32
    words = builder.bitcast(whole, ir.VectorType(_I32, steps))
    data = context.make_array(panel_type)(context, builder, panel).data
    for step in range(steps):
        pointer = builder.bitcast(builder.gep(data, [place]), _I32.as_pointer())
        builder.store(builder.extract_element(words, ir.Constant(_I32, step)), pointer, align=1)
        place = builder.add(place, stride)
    return rounded


@lower_builtin(store_row, Vector, types.Array, types.Integer, types.Integer)
def _emit_store_row(context, builder, signature, arguments):
    v, *place = arguments
    pointer, _, _ = emit_pointer(context, builder, signature.args[1:], place)
    rounded = _unary(builder, "llvm.rint.v8f64", v)
    builder.store(_emit_whole(builder, rounded, pointer.type.pointee), pointer, align=2)
    return context.get_dummy_value()
