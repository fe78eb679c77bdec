"""What the instructions of a tile are written with: addresses, loads and vectors, in LLVM's terms.

Addresses are bytes.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.numpy_support import as_dtype

from .cpu_target import TILE
from .layout import Operands, kind_of

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F32 = ir.FloatType()


class Emission:
    """The instructions of one `screen_tile`, with its arguments by name."""

    def __init__(self, context, builder, signature, arguments):
        self.context, self.builder = context, builder
        names = [*Operands._fields, *"w i r j thresholds segment bounds masks".split()]
        operands, *rest = arguments
        self.value = dict(zip(names, [*cgutils.unpack_tuple(builder, operands), *rest]))
        self.type = dict(zip(names, [*signature.args[0].types, *signature.args[1:]]))
        self.floats = ir.VectorType(F32, TILE.lanes)
        self.ints = ir.VectorType(I32, TILE.lanes)
        self.kind = kind_of(as_dtype(self.type["W"].dtype))
        self.whole = self.type["W"].dtype != types.float32

    def array(self, name):
        return self.context.make_array(self.type[name])(
            self.context, self.builder, self.value[name]
        )

    def shape_of(self, name, axis):
        array = self.array(name)
        return cgutils.unpack_tuple(self.builder, array.shape, self.type[name].ndim)[axis]

    def index(self, name):
        return self.context.cast(self.builder, self.value[name], self.type[name], types.int64)

    def pointer(self, name, index=None):
        pointer = self.array(name).data
        if index is not None:
            pointer = self.builder.gep(pointer, [self.index(index)])
        return self.builder.bitcast(pointer, I8.as_pointer())

    def entry(self, name, row, column):
        """The address of ``name[row, column]``; indices are numbers or names of arguments."""
        b = self.builder
        row, column = (
            self.index(n) if isinstance(n, str) else ir.Constant(I64, n) for n in (row, column)
        )
        place = b.add(b.mul(row, self.shape_of(name, 1)), column)
        return b.bitcast(b.gep(self.array(name).data, [place]), I8.as_pointer())

    def at(self, pointer, place, kind):
        place = ir.Constant(I64, place) if isinstance(place, int) else place
        return self.builder.bitcast(self.builder.gep(pointer, [place]), kind.as_pointer())

    def load(self, pointer, place, kind):
        return self.builder.load(self.at(pointer, place, kind), align=4)

    def vectors(self, pointer, place, kind):
        b = self.builder
        return [
            self.load(pointer, b.add(place, ir.Constant(I64, 4 * v * TILE.lanes)), kind)
            for v in range(TILE.vectors)
        ]

    def splat(self, number):
        vector = ir.VectorType(number.type, TILE.lanes)
        none = ir.Constant(vector, ir.Undefined)
        one = self.builder.insert_element(none, number, ir.Constant(I32, 0))
        lanes = ir.Constant(ir.VectorType(I32, TILE.lanes), [0] * TILE.lanes)
        return self.builder.shuffle_vector(one, none, lanes)

    def fma(self, x, y, z):
        return self.call(f"llvm.fma.v{TILE.lanes}f32", self.floats, x, y, z)

    def call(self, name, result, *arguments):
        kind = ir.FunctionType(result, [a.type for a in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, arguments)
