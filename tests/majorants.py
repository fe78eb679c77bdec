"""Numbers that know how far rounding may take them, whatever order an implementation adds up in.

A `Majorant` is a value, computed in float64; ``size``, what the same formula gives of the sizes of
its terms, none of which cancels; and ``depth``, how many roundings a term goes through at most.  A
formula of sums and products, evaluated with unit roundoff u in any order, is within ((1 + u)^depth
- 1) size of the value (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1).
What divides, and the argument of a root, an exponential or a tangent, adds its own error, to first
order.

The reference takes any numbers, these too, so that a bound on each of its results is had without a
word on what it computes.  Of a sum of N terms the depth is N, as for the worst of orders.
"""

from __future__ import annotations

import math

import numpy as np

SLACK = 32  # roundings: another form of the same formula, and functions that are a few ulp off


class Majorant:
    """``value``, give or take ``depth`` roundings of ``size``."""

    __slots__ = ("value", "size", "depth")

    def __init__(self, value, size=None, depth=0):
        self.value = float(value)
        self.size = abs(self.value) if size is None else float(size)
        self.depth = depth

    def __add__(self, other):
        if isinstance(other, np.ndarray):  # it does it entry by entry
            return NotImplemented
        other = majorant(other)
        depth = max(self.depth, other.depth) + 1
        return Majorant(self.value + other.value, self.size + other.size, depth)

    def __mul__(self, other):
        if isinstance(other, np.ndarray):  # it does it entry by entry
            return NotImplemented
        other = majorant(other)
        depth = self.depth + other.depth + 1
        return Majorant(self.value * other.value, self.size * other.size, depth)

    def __truediv__(self, other):
        if isinstance(other, np.ndarray):  # it does it entry by entry
            return NotImplemented
        other = majorant(other)
        size = other.size / other.value**2  # at least 1 / |value|: of 1 / other
        depth = self.depth + other.depth + 1
        return Majorant(self.value / other.value, self.size * size, depth)

    def __neg__(self):
        return Majorant(-self.value, self.size, self.depth)

    def __sub__(self, other):
        if isinstance(other, np.ndarray):  # it does it entry by entry
            return NotImplemented
        return self + -majorant(other)

    def __rsub__(self, other):
        return majorant(other) - self

    def __rtruediv__(self, other):
        return majorant(other) / self

    def __pow__(self, power):
        assert power == 2
        return self * self

    def __abs__(self):
        return Majorant(abs(self.value), self.size, self.depth)

    __radd__, __rmul__ = __add__, __mul__

    def _through(self, value, slope):
        """A function with this value and slope."""
        return Majorant(value, abs(value) + abs(slope) * self.size, self.depth + 1)

    def sqrt(self):
        root = math.sqrt(self.value)
        return self._through(root, 0.5 / root if root else 0.0)

    def exp(self):
        return self._through(math.exp(self.value), math.exp(self.value))

    def tanh(self):
        bent = math.tanh(self.value)
        return self._through(bent, 1 - bent * bent)

    # Selections and signs compare values.

    def __lt__(self, other):
        return self.value < majorant(other).value

    def __le__(self, other):
        return self.value <= majorant(other).value

    def __gt__(self, other):
        return self.value > majorant(other).value

    def __ge__(self, other):
        return self.value >= majorant(other).value

    def __eq__(self, other):
        return self.value == majorant(other).value

    __hash__ = None


def majorant(number) -> Majorant:
    return number if isinstance(number, Majorant) else Majorant(number)


def majorants(array):
    """An object array of the exact numbers in ``array``."""
    array = np.asarray(array)
    made = np.empty(array.shape, dtype=object)
    for place, number in np.ndenumerate(array):
        made[place] = majorant(number)
    return made


def values_of(array):
    """The values, in float64."""
    return np.vectorize(lambda a: majorant(a).value, otypes=[float])(np.asarray(array, object))


def bounds_of(array, u):
    """How far each may be off where it is computed with unit roundoff ``u``."""

    def bound(a):
        a = majorant(a)
        return a.size * math.expm1((a.depth + SLACK) * math.log1p(u))

    return np.vectorize(bound, otypes=[float])(np.asarray(array, object))
