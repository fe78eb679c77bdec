"""The bound of a stored sum, worked out again in exact fractions."""

from fractions import Fraction

import numpy as np
import pytest

from reftranscoder.auditor.intervals.interval import TIERS, Errors, Interval, growth, underflow
from reftranscoder.auditor.intervals.products import Operand, Sum, by_rows
from reftranscoder.auditor.task.arithmetic import ARITHMETICS
from reftranscoder.bounds import FLOAT64

SLACK = Fraction(1, 2**43)  # what rounding upwards may add: 2^-47, a few times


def fractions(a):
    return np.vectorize(Fraction, otypes=[object])(np.asarray(a, np.float64))


def exact_errors(a, spread, b, n, bias, times, arithmetic, tier):
    """(I1) and the stores after it, in fractions; b is exact, as parameters are."""
    A, E, B = fractions(np.abs(a)), fractions(spread), fractions(np.abs(b))
    S = (A + E) @ B.T + fractions(np.abs(bias))
    value = fractions(a @ b.T)
    factor = Fraction(float(growth(n + 1, value.size, arithmetic)[tier]))
    error = S * (factor + Fraction(n + 3) * Fraction(FLOAT64.unit)) + E @ B.T
    error = error + Fraction(float(underflow(n + 1, arithmetic)))
    unit = Fraction(arithmetic.store.unit)
    smallest = Fraction(arithmetic.store.spacing)
    lift = smallest / 2 + (smallest / (2 * unit) if arithmetic.flushing else 0)
    for store in range(times):
        stored = value if store == 0 else value + fractions(bias)
        error = error * (1 + unit) + unit * abs(stored) + lift
    return error


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("uncertain", [False, True])
def test_the_bound_of_a_stored_sum_is_the_formula(name, times, uncertain):
    rng, arithmetic = np.random.default_rng(0), ARITHMETICS[name]
    # Integers, so that float64 makes the product without rounding and casts change nothing.
    a = rng.integers(-8, 9, (3, 5)).astype(np.float64)
    b = rng.integers(-8, 9, (4, 5)).astype(np.float64)
    a[0] = 0.0
    bias = rng.integers(-8, 9, 4).astype(np.float64)
    spread = rng.integers(0, 3, a.shape) / 4.0 if uncertain else np.zeros(a.shape)
    total = Sum(arithmetic)
    total.add(by_rows, Interval(a, (spread,) * 3) if uncertain else Interval(a), Operand(b), 5)
    total.plus(bias)
    found = total.stored(times, bias)
    if uncertain and arithmetic.inputs.unit > FLOAT64.unit:
        # An uncertain operand is rounded to what products read: that too is uncertain.
        spread = spread + arithmetic.inputs.unit * (np.abs(a) + spread)
        spread += 0.5 * arithmetic.inputs.spacing
    np.testing.assert_array_equal(found.value, a @ b.T + bias)
    for tier in range(len(TIERS)):
        want = exact_errors(a, spread, b, 5, bias, times, arithmetic, tier)
        got = fractions(found.errors[tier])
        room = SLACK * want + 64 * Fraction(FLOAT64.spacing)
        assert np.all(got >= want * (1 - Fraction(1, 2**50))), TIERS[tier]
        assert np.all(got <= want + room), TIERS[tier]


def test_errors_are_the_same_wherever_they_are_looked_at():
    rng, arithmetic = np.random.default_rng(1), ARITHMETICS["float32"]
    total = Sum(arithmetic)
    a, b = rng.standard_normal((300, 7)), rng.standard_normal((400, 7))
    total.add(by_rows, Interval(a), Operand(b), 7)
    errors = total.stored().errors
    assert isinstance(errors, Errors)  # large enough not to be made at once
    rows, columns = rng.integers(0, 300, 50), rng.integers(0, 400, 50)
    entries, some = errors.at((rows, columns)), errors.at(slice(17, 40))
    for tier in range(len(TIERS)):
        whole = errors[tier]
        np.testing.assert_array_equal(entries[tier], whole[rows, columns])
        np.testing.assert_array_equal(some[tier], whole[17:40])
