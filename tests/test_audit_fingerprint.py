"""The errors of pre say what arithmetic it was made in, and never accuse an order of summation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from simulated_transcoder import ORDERS, Machine, random_case

import reftranscoder as rt
from reftranscoder.auditor.audit import audit
from reftranscoder.auditor.cross_checks.fingerprint import fingerprint, typical
from reftranscoder.auditor.task.arithmetic import by_stage
from reftranscoder.auditor.task.candidate import Candidate
from reftranscoder.auditor.task.definition import Definition
from reftranscoder.auditor.task.problem import Problem


def cut(a, bits: int, rounding=np.rint):
    """``a`` with this many significant bits."""
    fraction, exponent = np.frexp(a)
    return np.ldexp(rounding(np.ldexp(fraction, bits)), exponent - bits)


def case_of(inputs: int, seed: int = 1):
    return random_case(seed, Machine("float32"), B=40, I=inputs, D=64, O=4, skip=False)


def found(case, pre, declared="float32"):
    problem = Problem(
        rt.Params(**case.params()),
        Definition(case.top_k),
        by_stage(declared),
        case.x,
        case.target,
        1.0,
    )
    D, I = case.W_enc.shape
    return fingerprint(problem, Candidate({"pre": pre}, (len(case.x), I, D, 4), False))


FLOAT32 = Machine("float32")


def product(case, machine=FLOAT32, rounded=lambda a: a):
    x, W = rounded(case.x), rounded(case.W_enc)
    return machine.store(machine.matmul(x, W.T) + case.b_enc)


COARSER = {
    "TF32 or float16 inputs": lambda a: cut(a, 11),
    "TF32 inputs, truncated": lambda a: cut(a, 11, np.trunc),
    "bfloat16 inputs": lambda a: cut(a, 8),
    "bfloat16 inputs, truncated": lambda a: cut(a, 8, np.trunc),
}


@pytest.mark.parametrize("inputs", [4, 32, 768])
@pytest.mark.parametrize("name", COARSER)
def test_coarser_inputs_are_proved_whatever_the_number_of_terms(name, inputs):
    case = case_of(inputs)
    mark = found(case, product(case, rounded=COARSER[name]))
    assert mark.looks_like == name and mark.contradicts
    assert mark.rms > 20 * typical(inputs + 1)[1]


@pytest.mark.parametrize("stored", ["bfloat16", "float16"])
def test_narrow_storage_is_proved(stored):
    case = case_of(64)
    mark = found(case, Machine(stored).store(product(case)))
    assert mark.looks_like == f"storage in {stored}" and mark.contradicts


@pytest.mark.parametrize("order", sorted(set(ORDERS) - {"truncated"}))
@pytest.mark.parametrize("inputs", [4, 64, 256])
def test_no_order_of_summation_is_accused(order, inputs):
    case = case_of(inputs)
    mark = found(case, product(case, Machine("float32", order)))
    assert mark.looks_like == "float32" and not mark.contradicts
    low, high = typical(inputs + 1)
    if order != "sorted":
        assert low / 2 < mark.rms < 2 * high


def test_a_truncating_accumulator_is_told_by_its_sign_and_not_accused():
    case = case_of(256)
    mark = found(case, product(case, Machine("float32", "truncated")))
    assert mark.looks_like == "a truncating float32 accumulator" and not mark.contradicts
    assert mark.signed_mean < -3


def test_a_wider_accumulator_is_recognized():
    case = case_of(256)
    exact = case.x @ case.W_enc.T + case.b_enc
    assert found(case, exact.astype(np.float32)).looks_like == "a wider accumulator, rounded once"


@pytest.mark.parametrize("declared", ["tf32", "bfloat16-inputs", "bfloat16", "float16"])
def test_better_than_declared_is_no_fault(declared):
    case = case_of(256)
    mark = found(case, product(case), declared)
    assert not mark.contradicts


@pytest.mark.parametrize("declared", ["tf32", "bfloat16-inputs", "bfloat16", "float16"])
def test_what_was_declared_is_no_fault(declared):
    case = case_of(256)
    pre = product(case, rounded=COARSER["TF32 or float16 inputs"])
    if declared != "tf32":
        pre = product(case, Machine(declared))
    assert not found(case, pre, declared).contradicts


def test_bfloat16_under_tf32_is_a_contradiction():
    case = case_of(256)
    assert found(case, product(case, rounded=COARSER["bfloat16 inputs"]), "tf32").contradicts


def test_numbers_that_any_format_holds_accuse_nobody():
    rng = np.random.default_rng(3)
    case = case_of(16)
    whole = {
        "x": rng.integers(-2, 3, case.x.shape) * 1.0,
        "W_enc": rng.integers(-2, 3, case.W_enc.shape) * 1.0,
        "b_enc": rng.integers(-2, 3, case.b_enc.shape) * 1.0,
    }
    case = dataclasses.replace(case, **whole)
    mark = found(case, product(case, Machine("bfloat16")))
    assert mark.looks_like == "exact arithmetic" and not mark.contradicts


def test_few_values_say_nothing():
    case = random_case(1, Machine("float32"), B=4, D=48, O=4, skip=False)
    assert found(case, product(case)) is None


def test_a_contradiction_is_a_fault_at_pre_that_the_bound_alone_would_miss():
    """With 4096 terms, the bound for any order is above what TF32 does to them."""
    case = random_case(2, Machine("float32"), B=8, I=4096, D=160, O=4, skip=False)
    pre = product(case, rounded=COARSER["TF32 or float16 inputs"])
    tc = rt.Transcoder.from_arrays(**case.params(), top_k=case.top_k)
    report = audit({"pre": pre}, tc, case.x)
    assert report.stages["pre"].max_ratio < 1
    assert report.blame == "pre" and not report.passed
    assert "declared float32, but pre looks like TF32" in report.sentence()
    assert audit({"pre": pre}, tc, case.x, arithmetic="tf32").passed


@pytest.mark.parametrize("inputs", [4, 64])
@pytest.mark.parametrize(
    "mistake", [np.zeros_like, np.rint, np.ceil, lambda a: np.float32(2) ** np.rint(a)]
)
def test_numbers_of_a_narrow_format_are_not_rounded_to_it_where_they_are_elsewhere(mistake, inputs):
    """Zeros and integers are numbers of any format; that they are here is another fault."""
    case = case_of(inputs)
    mark = found(case, mistake(product(case)))
    assert not mark.contradicts, mark


def test_operands_and_results_in_bfloat16_are_called_storage():
    case = case_of(64)
    mark = found(case, product(case, Machine("bfloat16")))
    assert mark.contradicts and mark.looks_like == "storage in bfloat16"


def test_errors_of_the_size_of_float32_prove_no_coarser_inputs():
    """Nearly exact sums: operands whose low bits are few."""
    case = case_of(64)
    x = cut(case.x, 8)
    W = cut(case.W_enc, 8) * (1 + 2.0**-23)
    W = W.astype(np.float32).astype(float)
    case = dataclasses.replace(case, x=x, W_enc=W, b_enc=0 * case.b_enc)
    pre = cut(case.x, 8) @ cut(case.W_enc, 8).T
    mark = found(case, pre)
    assert "inputs" in mark.looks_like and not mark.contradicts and mark.rms < 0.6
