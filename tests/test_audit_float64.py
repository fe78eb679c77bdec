"""Candidates in float64, which the float64 reference cannot be better than.

The reference's own error is in the bound: with e = |got - reference|, R the bound of a correct
candidate and r that of the reference, e > R + r implies |got - exact| > R.  A fault is proved all
the same, and no recomputation in more digits could take it back.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from simulated_transcoder import ORDERS, Machine, random_case, simulate

import reftranscoder as rt
from reftranscoder.auditor.intervals.interval import Interval
from reftranscoder.auditor.intervals.products import Sum, dense_product
from reftranscoder.auditor.task.arithmetic import ARITHMETICS

UNIT = 2.0**-53


def audited(case, results):
    tc = rt.Transcoder.from_arrays(**case.params(), top_k=case.top_k)
    return rt.audit(results, tc, case.x, case.target, l1_coeff=case.l1_coeff, arithmetic="float64")


def exactly(a, b):
    """The dot product of two vectors as a fraction."""
    return sum(Fraction(float(s)) * Fraction(float(t)) for s, t in zip(a, b))


@pytest.mark.parametrize("order", sorted(set(ORDERS) - {"truncated"}))
@pytest.mark.parametrize("few", [False, True])
def test_any_order_of_summation_is_rounding(order, few):
    machine = Machine("float64", order)
    case = random_case(3, machine, few=few)
    report = audited(case, simulate(case, machine, unfused=few))
    assert report.passed and report.conclusive, str(report)


@pytest.mark.parametrize("stage", ["pre", "reconstruction", "dW_dec", "dW_skip", "dW_enc", "dx"])
def test_an_error_of_one_part_in_a_million_millions_is_a_fault(stage):
    machine = Machine("float64")
    case = random_case(4, machine)
    results = simulate(case, machine)
    at = np.unravel_index(np.argmax(np.abs(results[stage])), results[stage].shape)
    results[stage] = results[stage].copy()
    results[stage][at] *= 1 + 1e-12
    report = audited(case, {name: results[name] for name in (stage, "hidden", "d_reconstruction")})
    assert report.blame == stage and report.stages[stage].index == at, str(report)


def cancelling(rng, n):
    """Vectors whose products nearly cancel: the sum is some 1e16 times smaller than its terms."""
    a, b = rng.standard_normal((2, n)) * 2.0 ** rng.integers(-30, 31, (2, n))
    a[-1], b[-1] = -float(exactly(a[:-1], b[:-1])), 1.0
    order = rng.permutation(n)
    return a[order], b[order]


def test_what_the_reference_itself_is_off_by_is_in_the_bound():
    rng = np.random.default_rng(5)
    used = []
    for n in (2, 3, 17, 100):
        for _ in range(40):
            a, b = cancelling(rng, n)
            total = Sum(ARITHMETICS["float64"])
            total.add(dense_product, Interval(a[None]), Interval(b[:, None]), n)
            found = total.stored()
            exact, S = exactly(a, b), exactly(np.abs(a), np.abs(b))
            correct = n * UNIT * float(S)  # what a correct candidate may be off by
            # Less what storing the sum adds: (1 + u) e + u |v|.
            error = float(found.errors[0][0, 0]) - UNIT * abs(float(found.value[0, 0]))
            own = error / (1 + UNIT) - correct
            off = abs(float(Fraction(float(found.value[0, 0])) - exact))
            assert off <= own
            used.append(off / own)
    assert max(used) > 0.05  # the reference is not exact here: the bound is needed


def test_the_correctly_rounded_result_passes_where_the_reference_is_wrong():
    """Here the reference has not one digit right, and a candidate has all of them."""
    rng = np.random.default_rng(6)
    a, b = cancelling(rng, 64)
    exact = float(exactly(a, b))
    reference = float(np.dot(a, b))
    assert abs(reference - exact) > abs(exact)
    products = [float(s) * float(t) for s, t in zip(a, b)]
    assert math.isfinite(sum(products))
    tc = rt.Transcoder.from_arrays(
        W_enc=b[None], b_enc=[0.0], W_dec=np.ones((1, 1)), b_dec=[0.0], top_k=1
    )
    report = rt.audit({"pre": np.array([[exact]])}, tc, a[None], arithmetic="float64")
    assert report.stages["pre"].verdict != "fault", str(report)
    S = float(exactly(np.abs(a), np.abs(b)))
    wrong = np.array([[exact + 3 * 64 * UNIT * S]])
    report = rt.audit({"pre": wrong}, tc, a[None], arithmetic="float64")
    assert report.stages["pre"].verdict == "fault", str(report)
