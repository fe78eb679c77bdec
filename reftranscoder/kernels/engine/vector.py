"""Eight float64 lanes as one value, and the fused multiply-add: the arithmetic of every long sum.

A vector is a value of Numba's like any number: held in registers, passed to and returned from these
functions inside a kernel.  Each function is plain NumPy, its meaning; compiled code runs the LLVM
instructions given below it instead, bit for bit the same.  Sums written with them have one order on
every machine; a wider one is only faster.

A dot product of n terms is: lane l takes the terms l, l + 8, ... in ascending order, one fused
multiply-add a term, starting at +0, where terms beyond the n-th count as +0 times +0; then
`lane_sum`.  No term passes more than min(n, ceil(n / 8) + 3) roundings, so that the result is
within gamma of that number, at most n 2^-53 or so, times the sum of the absolute products.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, models, register_model, type_callable

LANES = 8


def zeros():
    """Eight lanes of +0."""
    return np.zeros(LANES)


def load(array, row, column):
    """``array[row, column:column + 8]`` of float32 or float64, which must all exist."""
    return array[row, column : column + LANES].astype(np.float64)


def load_tail(array, row, column):
    """The 0 to 8 entries of a row from ``column``; no more is read, the rest is +0."""
    tail = np.zeros(LANES)
    entries = array[row, column : column + LANES]
    tail[: len(entries)] = entries
    return tail


def subtract(x, y):
    """``x - y``, lane by lane."""
    return x - y


def fma(x, y, z):
    """``x * y + z`` rounded once: of vectors lane by lane, or of three numbers of one type."""
    if isinstance(z, np.ndarray):
        return np.array([_fma(*lane, np.float64) for lane in zip(x, y, z)])
    return _fma(x, y, z, type(z))


def lane_sum(v):
    """``((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7))`` of the lanes of ``v``: halves onto halves."""
    four = v[:4] + v[4:]
    two = four[:2] + four[2:]
    return two[0] + two[1]


def _fma(x, y, z, kind):
    if np.isfinite(x) and np.isfinite(y):
        if not np.isfinite(z):
            return z
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        if exact:
            return _rounded(exact, kind)
    return kind(x * y + z)  # The sign of a zero, or what inf and NaN give: no rounding is involved.


def _rounded(exact, kind):
    """A nonzero Fraction rounded once, to nearest, ties to even."""
    try:
        near = float(exact)
    except OverflowError:
        near = np.inf if exact > 0 else -np.inf
    if kind is np.float32 and np.isfinite(near) and Fraction(near) != exact:
        # To odd first (Boldo & Melquiond 2008): what is inexact in float64 then never looks like
        # a tie in float32, so that the second rounding is that of the exact value.
        if np.float64(near).view(np.int64) % 2 == 0:
            near = np.nextafter(near, np.inf if exact > near else -np.inf)
    return kind(near)


# What follows is how the compiler reads the functions above.


class Vector(types.Type):
    """The type of eight lanes, for the compiler."""

    def __init__(self):
        super().__init__("Vector(float64 x 8)")


_VECTOR = Vector()
_F64X8 = ir.VectorType(ir.DoubleType(), LANES)
_ZEROS = ir.Constant(_F64X8, [0.0] * LANES)
_INT32 = ir.IntType(32)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, _F64X8)


@type_callable(zeros)
def _zeros_type(context):
    return lambda: _VECTOR


@type_callable(load)
@type_callable(load_tail)
def _load_type(context):
    def typer(array, row, column):
        if array.dtype in (types.float32, types.float64) and (array.ndim, array.layout) == (2, "C"):
            return _VECTOR

    return typer


@type_callable(subtract)
def _subtract_type(context):
    return lambda x, y: _VECTOR


@type_callable(fma)
def _fma_type(context):
    return lambda x, y, z: x if x == y == z else None


@type_callable(lane_sum)
def _lane_sum_type(context):
    return lambda v: types.float64


@lower_builtin(zeros)
def _emit_zeros(context, builder, signature, arguments):
    return _ZEROS


def emit_pointer(context, builder, kinds, arguments):
    """To an entry and the seven after it; with it, the array and the column.  ``arguments`` are
    array, row and column, of the types ``kinds``."""
    array_type = kinds[0]
    array = context.make_array(array_type)(context, builder, arguments[0])
    indices = [
        context.cast(builder, index, index_type, types.intp)
        for index, index_type in zip(arguments[1:], kinds[1:])
    ]
    entry = cgutils.get_item_pointer(context, builder, array_type, array, indices)
    element = context.get_value_type(array_type.dtype)
    return builder.bitcast(entry, ir.VectorType(element, LANES).as_pointer()), array, indices[1]


def _widened(builder, array_type, lanes):
    return lanes if array_type.dtype == types.float64 else builder.fpext(lanes, _F64X8)


@lower_builtin(load, types.Array, types.Integer, types.Integer)
def _emit_load(context, builder, signature, arguments):
    array_type = signature.args[0]
    pointer, _, _ = emit_pointer(context, builder, signature.args, arguments)
    lanes = builder.load(pointer)
    lanes.align = array_type.dtype.bitwidth // 8
    return _widened(builder, array_type, lanes)


@lower_builtin(load_tail, types.Array, types.Integer, types.Integer)
def _emit_load_tail(context, builder, signature, arguments):
    array_type = signature.args[0]
    pointer, array, column = emit_pointer(context, builder, signature.args, arguments)
    length = cgutils.unpack_tuple(builder, array.shape, 2)[1]
    left = builder.trunc(builder.sub(length, column), _INT32)
    lane_type = ir.VectorType(_INT32, LANES)
    spread = builder.shuffle_vector(
        builder.insert_element(ir.Constant(lane_type, ir.Undefined), left, ir.Constant(_INT32, 0)),
        ir.Constant(lane_type, ir.Undefined),
        ir.Constant(lane_type, [0] * LANES),
    )
    mask = builder.icmp_signed("<", ir.Constant(lane_type, list(range(LANES))), spread)
    vector = ir.VectorType(context.get_value_type(array_type.dtype), LANES)
    name = "llvm.masked.load.v8" + ("f64" if array_type.dtype == types.float64 else "f32") + ".p0"
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(vector, [vector.as_pointer(), _INT32, mask.type, vector]),
        name,
    )
    align = ir.Constant(_INT32, array_type.dtype.bitwidth // 8)
    zero = ir.Constant(vector, [0.0] * LANES)
    return _widened(builder, array_type, builder.call(function, [pointer, align, mask, zero]))


@lower_builtin(subtract, Vector, Vector)
def _emit_subtract(context, builder, signature, arguments):
    return builder.fsub(*arguments)


@lower_builtin(fma, Vector, Vector, Vector)
@lower_builtin(fma, types.Float, types.Float, types.Float)
def _emit_fma(context, builder, signature, arguments):
    kind = arguments[0].type
    suffix = {_F64X8: "v8f64", ir.DoubleType(): "f64", ir.FloatType(): "f32"}[kind]
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * 3), f"llvm.fma.{suffix}"
    )
    return builder.call(function, arguments)


@lower_builtin(lane_sum, Vector)
def _emit_lane_sum(context, builder, signature, arguments):
    (lanes,) = arguments
    for width in (4, 2):
        low, high = (
            builder.shuffle_vector(
                lanes,
                lanes,
                ir.Constant(ir.VectorType(_INT32, width), list(range(first, first + width))),
            )
            for first in (0, width)
        )
        lanes = builder.fadd(low, high)
    low, high = (builder.extract_element(lanes, ir.Constant(_INT32, k)) for k in (0, 1))
    return builder.fadd(low, high)
