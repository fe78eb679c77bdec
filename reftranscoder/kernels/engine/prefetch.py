"""Rows asked for before they are needed, so that memory is waited for meanwhile.

As in ``vector.py`` the function is plain Python, its meaning, and compiles to the LLVM instruction
given below it.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, type_callable


def fetch_row(array, row):
    """Ask for ``array[row]``, which must exist, to be brought to the second-level cache.

    A hint: no result depends on it.
    """


# What follows is how the compiler reads the function above.

_I8, _I32, _I64 = (ir.IntType(bits) for bits in (8, 32, 64))
_LINE = 64  # bytes
#: To read, to the second level, data.  To the first, a few requests would fill all the room that
#: there is for what has not yet come, and everything else would wait.
_HOW = [ir.Constant(_I32, n) for n in (0, 2, 1)]


@type_callable(fetch_row)
def _fetch_row_type(context):
    return lambda array, row: types.none


@lower_builtin(fetch_row, types.Array, types.Integer)
def _emit_fetch_row(context, builder, signature, arguments):
    array_type, row_type = signature.args
    array = context.make_array(array_type)(context, builder, arguments[0])
    row = context.cast(builder, arguments[1], row_type, types.intp)
    size = cgutils.unpack_tuple(builder, array.strides, 2)[0]
    data = builder.bitcast(array.data, _I8.as_pointer())
    first = builder.gep(data, [builder.mul(row, size)])
    kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
    fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    with cgutils.for_range_slice(
        builder, ir.Constant(_I64, 0), size, ir.Constant(_I64, _LINE), intp=_I64
    ) as (place, _):
        builder.call(fetch, [builder.gep(first, [place]), *_HOW])
    return context.get_dummy_value()
