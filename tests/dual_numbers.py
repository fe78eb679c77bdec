"""Dual numbers a + b e, with e^2 = 0, over fractions: b is the derivative of a, without rounding.

Whatever a function computes of them carries its derivative along, by the rules of differentiation
of +, -, *, /, the root and the hyperbolic tangent.  So a gradient worked out by hand can be
compared with one that nobody worked out, and must equal it.  A root is taken of squares of rational
numbers alone.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np


class Dual:
    """``value + slope e``."""

    def __init__(self, value, slope=0):
        self.value, self.slope = _exact(value), _exact(slope)

    def __add__(self, other):
        other = dual(other)
        return Dual(self.value + other.value, self.slope + other.slope)

    def __mul__(self, other):
        other = dual(other)
        slope = self.slope * other.value + self.value * other.slope
        return Dual(self.value * other.value, slope)

    def __truediv__(self, other):
        other = dual(other)
        value = self.value / other.value
        return Dual(value, (self.slope - value * other.slope) / other.value)

    def __neg__(self):
        return Dual(-self.value, -self.slope)

    def __sub__(self, other):
        return self + -dual(other)

    def __rsub__(self, other):
        return dual(other) - self

    def __rtruediv__(self, other):
        return dual(other) / self

    def __pow__(self, power):
        assert power == 2
        return self * self

    def __abs__(self):
        return -self if self.value < 0 else self

    __radd__, __rmul__ = __add__, __mul__

    def sqrt(self):
        """The root, of a square."""
        root = Fraction(math.isqrt(self.value.numerator), math.isqrt(self.value.denominator))
        assert root * root == self.value, f"{self.value} is no square"
        return Dual(root, self.slope / (2 * root))

    def tanh(self):
        """A number near the tangent, which moves as it does.  Of the value nothing is asked but
        that it be the same wherever the same number comes in."""
        bent = Fraction(math.tanh(self.value)).limit_denominator(10**6)
        return Dual(bent, (1 - bent * bent) * self.slope)

    # Selections and signs compare values.

    def __lt__(self, other):
        return self.value < dual(other).value

    def __le__(self, other):
        return self.value <= dual(other).value

    def __gt__(self, other):
        return self.value > dual(other).value

    def __ge__(self, other):
        return self.value >= dual(other).value

    def __eq__(self, other):
        return self.value == dual(other).value

    __hash__ = None


def _exact(number):
    # A Fraction of NumPy's integers would overflow as they do.
    return Fraction(int(number) if isinstance(number, np.integer) else number)


def dual(number) -> Dual:
    return number if isinstance(number, Dual) else Dual(number)


def duals(values, slopes):
    """An array of ``values``, each with its slope, or with one for all."""
    pairs = zip(values.flat, np.broadcast_to(slopes, values.shape).flat)
    return np.array([Dual(v, s) for v, s in pairs], dtype=object).reshape(values.shape)


def values_of(array):
    """The values of what holds dual numbers, as an array."""
    array = np.asarray(array, dtype=object)
    return np.array([dual(a).value for a in array.flat], dtype=object).reshape(array.shape)


def slope_of(number):
    """The derivative that a number carries."""
    return dual(number).slope


class Log:
    """The natural logarithm of a number above zero, of which nothing is asked but the number."""

    def __init__(self, number):
        self.number = number

    def exp(self):
        return self.number
