"""The bounds against exact arithmetic: never exceeded, nearly attained, and rounded upwards.

Rounding is emulated over fractions, so that any format will do.  Formats of a few bits matter most:
there, random sums come close to the worst case.
"""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reftranscoder.bounds import (
    PRECISIONS,
    Precision,
    add_up,
    chain_bound,
    dot_bound,
    matmul_up,
    multiply_up,
    precision,
    product_bound,
    store_bound,
    sum_bound,
)


def rounded(value: Fraction, arithmetic: Precision) -> Fraction:
    """``value`` rounded to nearest, ties to even, with gradual underflow and without overflow."""
    if value == 0:
        return value
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    exponent -= magnitude < Fraction(2) ** exponent
    step = max(2 * Fraction(arithmetic.unit) * Fraction(2) ** exponent, arithmetic.spacing)
    return round(value / Fraction(step)) * Fraction(step)


def fold(terms, arithmetic, random, fma):
    """The rounded sum of ``terms`` in a random order: pairs of factors are products.

    With ``fma`` a product is, half of the time, added to a partial sum without being rounded first.
    """
    partial = []
    for term in terms:
        if isinstance(term, Fraction):
            partial.append(term)
        elif fma and partial and random.random() < 0.5:
            i = random.randrange(len(partial))
            partial[i] = rounded(partial[i] + term[0] * term[1], arithmetic)
        else:
            partial.append(rounded(term[0] * term[1], arithmetic))
        while len(partial) > 1 and random.random() < 0.5:
            a = partial.pop(random.randrange(len(partial)))
            b = partial.pop(random.randrange(len(partial)))
            partial.append(rounded(a + b, arithmetic))
    while len(partial) > 1:
        a = partial.pop(random.randrange(len(partial)))
        b = partial.pop(random.randrange(len(partial)))
        partial.append(rounded(a + b, arithmetic))
    return partial[0]


@st.composite
def formats(draw):
    """Two to eleven bits with subnormals in reach, or float32."""
    bits = draw(st.sampled_from([2, 3, 4, 5, 8, 11, 24]))
    lowest = draw(st.integers(-12, -2)) - bits if bits < 24 else -149
    return Precision(f"{bits} bits", 2.0**-bits, 2.0**lowest)


@st.composite
def numbers(draw, arithmetic):
    """A number of the format, of either sign, within a few powers of two of 1 or subnormal."""
    bits = -int(math.log2(arithmetic.unit))
    significand = draw(st.integers(-(2**bits) + 1, 2**bits - 1))
    scale = Fraction(2) ** draw(st.integers(-bits - 7, 3))
    return rounded(significand * scale, arithmetic)


@given(st.data(), formats(), st.integers(1, 24), st.booleans(), st.randoms(use_true_random=False))
def test_dot_products_in_any_order_stay_within_the_bound(data, arithmetic, n, fma, random):
    number = numbers(arithmetic)
    terms = data.draw(st.lists(number | st.tuples(number, number), min_size=n, max_size=n))
    values = [t if isinstance(t, Fraction) else t[0] * t[1] for t in terms]
    error = abs(fold(terms, arithmetic, random, fma) - sum(values))
    S = sum(map(abs, values))
    nonzero = sum(v != 0 for v in values)
    formula = (
        nonzero * Fraction(arithmetic.unit) * S
        + nonzero * (1 + nonzero * Fraction(arithmetic.unit)) * Fraction(arithmetic.spacing) / 2
    )
    assert error <= formula
    assert formula <= Fraction(float(dot_bound(above(S), nonzero, arithmetic)))


@given(st.data(), formats(), st.integers(1, 24), st.randoms(use_true_random=False))
def test_sums_in_any_order_stay_within_the_bound(data, arithmetic, n, random):
    terms = data.draw(st.lists(numbers(arithmetic), min_size=n, max_size=n))
    error = abs(fold(terms, arithmetic, random, fma=False) - sum(terms))
    S = sum(map(abs, terms))
    nonzero = sum(t != 0 for t in terms)
    formula = max(nonzero - 1, 0) * Fraction(arithmetic.unit) * S
    assert error <= formula
    assert formula <= Fraction(float(sum_bound(above(S), nonzero, arithmetic)))


@given(st.data(), formats())
def test_a_store_and_a_chain_stay_within_the_bound(data, arithmetic):
    v, w, x = (data.draw(numbers(arithmetic)) for _ in range(3))
    off = Fraction(data.draw(st.integers(-8, 8)), 64) * v
    stored = rounded(v * w + off, arithmetic)
    bound = store_bound(nearest(v * w), above(abs(off)) + 2.0**-53 * abs(float(v * w)), arithmetic)
    assert abs(stored - v * w) <= Fraction(float(bound))

    wide = arithmetic._replace(spacing=2.0**-1074)  # no underflow: (E7) excludes it
    chain = rounded(rounded(v * w, wide) * x, wide)
    assert abs(chain - v * w * x) <= Fraction(float(chain_bound(above(abs(v * w * x)), 2, wide)))


@pytest.mark.parametrize("name", ["float16", "float32"])
@pytest.mark.parametrize("n", [2, 16, 64])
def test_the_constants_are_nearly_attained(name, n):
    """Each addition here is rounded up by almost u.  Half of any constant would be exceeded."""
    arithmetic = PRECISIONS[name]
    u = Fraction(arithmetic.unit)
    addend = u * (1 + 2 * u)  # a little more than half of the distance from 1 to the next number
    bits = -int(math.log2(arithmetic.unit))
    one = (1 + u * (2 ** (bits // 2) + 2)) * (1 + u * 2 ** (bits - bits // 2))  # so is this product

    for first, bound_of in ((Fraction(1), sum_bound), (one, dot_bound)):
        total = rounded(first, arithmetic)
        for _ in range(n - 1):
            total = rounded(total + addend, arithmetic)
        exact = first + (n - 1) * addend
        ratio = abs(total - exact) / Fraction(float(bound_of(above(exact), n, arithmetic)))
        assert 0.85 < ratio <= 1, bound_of.__name__


def test_the_store_and_underflow_terms_are_attained():
    half_way = Precision("half", 2.0**-11, 2.0**-24)
    just_above = 1 + Fraction(2) ** -11  # half-way between two numbers
    error = abs(rounded(just_above, half_way) - just_above)
    assert error >= Fraction(99, 100) * Fraction(float(store_bound(1.0, 0.0, half_way)))
    tiny = Fraction(2) ** -25  # rounds to zero
    assert abs(rounded(tiny, half_way) - tiny) == tiny
    assert tiny <= Fraction(float(store_bound(2.0**-25, 0.0, half_way))) < tiny * Fraction(101, 100)
    assert tiny <= Fraction(float(dot_bound(2.0**-25, 1, half_way))) < tiny * Fraction(101, 100)


@given(st.data(), st.integers(1, 6))
def test_products_of_uncertain_factors(data, n):
    number = st.integers(-20, 20).map(lambda i: Fraction(i, 8))
    rows = st.lists(number, min_size=n, max_size=n)
    a, b, off_a, off_b = (data.draw(rows) for _ in range(4))
    moved = sum((x + dx) * (y + dy) for x, dx, y, dy in zip(a, off_a, b, off_b))
    value = sum(x * y for x, y in zip(a, b))
    a, b, off_a, off_b = (np.array([float(x) for x in v]) for v in (a, b, off_a, off_b))
    bound = product_bound(a, abs(off_a), b[:, None], abs(off_b)[:, None], product=matmul_up)
    assert abs(moved - value) <= Fraction(float(bound[0]))
    entries = product_bound(a, abs(off_a), b, abs(off_b))
    assert np.all(abs((a + off_a) * (b + off_b) - a * b) <= entries)


floats = st.floats(0, 1e200, allow_subnormal=True) | st.floats(0, 1e-300)


@given(st.lists(floats, min_size=1, max_size=12))
@example([1.6472674428596128e-16, 2.758669894961888e-301, 1.00390625])  # 2.5 * 2^-1074 too high
def test_bounds_are_rounded_upwards_and_hardly(terms):
    exact = sum(map(Fraction, terms))
    least = len(terms) * Fraction(2) ** -1074
    assert exact <= Fraction(float(add_up(*terms))) <= exact * (1 + Fraction(1, 10**14)) + least
    product = math.prod(map(Fraction, terms[:3]))
    up = float(multiply_up(*terms[:3]))
    # What is subnormal on the way is rounded twice, by half of 2^-1074, and raised by it once: for
    # each of three factors 2 of these, which may then grow by the factors left.
    least = 6 * Fraction(2) ** -1074 * max(1, *map(Fraction, terms[:3])) ** 2
    assert up == math.inf or product <= Fraction(up) <= product * (1 + Fraction(1, 10**14)) + least


@given(st.lists(st.tuples(floats, st.floats(0, 1e100)), min_size=1, max_size=12))
@example([(5e-324, 0.25)] * 9)  # every product underflows
def test_matrix_products_are_rounded_upwards_and_hardly(pairs):
    A, B = np.array(pairs).T
    exact = sum(Fraction(a) * Fraction(b) for a, b in pairs)
    up = Fraction(float(matmul_up(A[None, :], B[:, None])[0, 0]))
    least = Fraction(2) ** -1074 * (len(pairs) + 3)
    assert exact <= up <= exact * (1 + Fraction(1, 10**14)) + least
    assert matmul_up(-A[None, :], B[:, None]) == up, "S is a sum of absolute values"


def test_zero_stays_zero():
    assert multiply_up(0, np.inf) == 0 and add_up(0, 0.0) == 0 and sum_bound(0.0, 9, FLOAT32) == 0
    assert sum_bound(5.0, 1, FLOAT32) == 0 and sum_bound(0.0, 0, FLOAT32) == 0
    assert dot_bound(0.0, 0, FLOAT32) == 0 and chain_bound(0.0, 3, FLOAT32) == 0


def test_bounds_are_elementwise():
    S, n = np.array([[1.0, 2.0], [0.0, 4.0]]), np.array([[3], [0]])
    bound = dot_bound(S, n, FLOAT32)
    assert bound.shape == (2, 2)
    assert bound[0, 1] == dot_bound(2.0, 3, FLOAT32) and not bound[1].any()
    assert store_bound(S, S, FLOAT32).shape == product_bound(S, S, S, S).shape == (2, 2)


def test_a_chain_longer_than_the_precision_has_no_bound():
    assert chain_bound(1.0, 2**11, PRECISIONS["float16"]) == math.inf
    assert chain_bound(0.0, 2**11, PRECISIONS["float16"]) == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_precisions_are_those_of_numpy(dtype):
    info, found = np.finfo(dtype), precision(dtype)
    assert found.unit == info.eps / 2
    assert found.spacing >= info.smallest_subnormal
    assert dtype is np.longdouble or found.spacing == info.smallest_subnormal
    assert precision(np.dtype(dtype).name) == found


@pytest.mark.parametrize("name, bits, lowest", [("bfloat16", 8, -133), ("tf32", 11, -136)])
def test_precisions_that_numpy_does_not_know(name, bits, lowest):
    """Both have the exponents of float32, whose smallest normal number is 2^-126."""
    assert precision(name) == (name, 2.0**-bits, 2.0**lowest)
    assert lowest == -126 - (bits - 1)


def test_the_emulation_rounds_as_numpy_does():
    """float16 sums and products are exact in float64, so that one cast rounds them once."""
    rng = np.random.default_rng(0)
    numbers = rng.integers(-2047, 2048, 400) * 2.0 ** rng.integers(-24, -4, 400)
    for a, b in pairwise(numbers.astype(np.float16)):
        for value in (float(a) + float(b), float(a) * float(b)):
            want = Fraction(float(np.float16(value)))
            assert rounded(Fraction(value), PRECISIONS["float16"]) == want


FLOAT32 = PRECISIONS["float32"]


def nearest(value: Fraction) -> float:
    return value.numerator / value.denominator  # correctly rounded by Python


def above(value: Fraction) -> float:
    """The smallest float64 that is not below ``value``."""
    near = nearest(value)
    return near if Fraction(near) >= value else math.nextafter(near, math.inf)
