"""Rows that hold NaN or infinity: nothing finite may come of them, and the others are as ever."""

from __future__ import annotations

import numpy as np
import pytest

import reftranscoder as rt
from reftranscoder.auditor.judging.comparison import Comparison
from reftranscoder.auditor.probes.probe_set import probes
from reftranscoder.errors import OptionError

CASES = {case.name: case for case in probes()}
NON_FINITE = CASES["topk-skip-non-finite"]
BAD = NON_FINITE.non_finite


def results_of():
    case = NON_FINITE
    found = case.transcoder.stages(case.x, case.target, case.l1_coeff, check_finite=False)
    return {n: a.toarray() if hasattr(a, "tocsr") else a for n, a in found.items()}


def audited(**changes):
    case = NON_FINITE
    given = case.transcoder, case.x, case.target
    results = {n: np.array(a) for n, a in results_of().items()}
    for name, change in changes.items():
        results[name] = change(results[name]) if callable(change) else change
    results = {n: a for n, a in results.items() if a is not None}
    return rt.audit(results, *given, l1_coeff=case.l1_coeff)


def put(value, rows=BAD, columns=slice(None)):
    def change(array):
        array[rows, columns] = value
        return array

    return change


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pre": put(np.inf), "pre_acts": put(0.0, columns=slice(9))},
        {"hidden": put(0.0, columns=slice(1, None)), "dW_enc": 0.0 * NON_FINITE.params.W_enc},
        {"d_hidden": put(0.0), "d_pre": put(0.0), "dx": put(0.0)},
        {"refused": BAD, "pre": put(1.0), "loss": 1.0, "dx": put(3.0)},
    ],
)
def test_what_a_row_that_is_not_finite_may_give(changes):
    report = audited(**changes)
    assert report.passed, str(report)
    assert {"pre", "hidden", "reconstruction", "dx"} <= set(report.judged)


@pytest.mark.parametrize(
    ("stage", "change"),
    [
        ("pre", put(0.5, columns=3)),
        ("pre_acts", put(0.0)),
        ("pre_acts", put(1.0, columns=2)),
        ("hidden", put(0.0, rows=BAD[:1])),
        ("reconstruction", lambda a: np.nan_to_num(a)),
        ("d_reconstruction", put(0.0)),
        ("d_hidden", put(0.25, columns=1)),
        ("d_pre", put(1e-30, columns=0)),
        ("dx", put(7.0)),
        ("loss", np.float32(3.0)),
    ],
)
def test_a_finite_number_there_is_a_fault_where_it_first_appears(stage, change):
    report = audited(**{stage: change})
    assert report.blame == stage and report.faults == (stage,), str(report)
    assert "is not finite" in report.sentence() and f"row {BAD[0]}" in report.sentence()


def test_a_convention_does_not_excuse_it():
    error = results_of()["reconstruction"] - NON_FINITE.target
    half = {"d_reconstruction": error / np.float32(error.size)}
    kept = {"pre", "pre_acts", "hidden", "reconstruction", "d_reconstruction"}
    others = dict.fromkeys(set(results_of()) - kept)
    assert audited(**half, **others).convention == "half"
    report = audited(**half, **others, pre_acts=put(0.0))
    assert report.blame == "pre_acts" and report.convention is None and not report.passed


def test_no_such_row_is_ever_compared(monkeypatch):
    """In the search for a convention and a name, neither: whoever compares need not skip any."""
    compared = []
    made = Comparison.__init__

    def watched(self, problem, candidate, trusted):
        compared.append(np.isfinite(problem.x).all() and np.isfinite(problem.target).all())
        made(self, problem, candidate, trusted)

    monkeypatch.setattr(Comparison, "__init__", watched)
    report = audited(d_reconstruction=lambda a: a / 3, dW_enc=None, loss=None)
    assert report.blame == "d_reconstruction"
    assert len(compared) > 20 and all(compared)


def test_what_follows_a_lost_nan_is_not_blamed():
    lost = {name: put(0.0) for name in ("pre_acts", "hidden")}
    report = audited(**lost, reconstruction=put(1.0), d_reconstruction=put(1.0), loss=1.0)
    assert report.faults == ("pre_acts",)


def test_the_other_rows_are_judged_as_ever_under_their_own_numbers():
    row = int(BAD[1]) + 1
    report = audited(dx=put(5.0, rows=row, columns=2))
    assert report.blame == "dx" and report.stages["dx"].index == (row, 2)

    def one_more(hidden):
        free = np.flatnonzero((hidden[row] == 0) & (results_of()["pre"][row] > 0))
        hidden[row, free[0]] = results_of()["pre"][row, free[0]]
        return hidden

    report = audited(hidden=one_more)
    assert report.blame == "hidden" and f"row {row}:" in report.sentence()
    assert report.stages["hidden"].index[0] == row
    assert {b.row for b in report.stages["hidden"].extra["breaches"]} == {row}


def test_a_row_spoiled_by_its_target_is_finite_up_to_there():
    case = CASES["topk-ordinary"]
    target = case.target.copy()
    target[5, 1] = np.nan
    tc = case.transcoder
    results = tc.stages(case.x, target, case.l1_coeff, check_finite=False)
    results |= tc.stages(case.x)
    given = tc, case.x, target
    assert rt.audit(results, *given, l1_coeff=case.l1_coeff).passed
    results["d_reconstruction"] = np.array(results["d_reconstruction"])
    results["d_reconstruction"][5] = 1.0
    assert rt.audit(results, *given, l1_coeff=case.l1_coeff).blame == "d_reconstruction"


def test_relu_makes_zero_of_minus_infinity():
    """Where all pre-activations are minus infinity, a finite reconstruction is right."""
    W_enc, zeros = np.array([[1.0], [2.0], [0.5]]), np.zeros(3)
    tc = rt.Transcoder.from_arrays(
        W_enc=W_enc, b_enc=zeros, W_dec=np.ones((3, 2)), b_dec=np.ones(2), top_k=2
    )
    x = np.array([[1.0], [-np.inf]])
    results = {"pre": x @ W_enc.T, "pre_acts": np.maximum(x @ W_enc.T, 0)}
    results["hidden"] = results["pre_acts"] * [0, 1, 0] + results["pre_acts"] * [1, 0, 0]
    results["reconstruction"] = results["hidden"] @ np.ones((3, 2)) + 1
    assert rt.audit(results, tc, x, arithmetic="float64").passed
    results["pre"] = np.maximum(results["pre"], -9.0)
    assert rt.audit(results, tc, x, arithmetic="float64").blame == "pre"
    W_enc[1] = -1  # now there is a plus infinity, and it is lost
    other = rt.Transcoder.from_arrays(
        W_enc=W_enc, b_enc=zeros, W_dec=np.ones((3, 2)), b_dec=np.ones(2), top_k=2
    )
    x[0] = 0
    lost = {"pre_acts": np.zeros((2, 3)), "hidden": np.zeros((2, 3))}
    assert rt.audit(lost, other, x, arithmetic="float64").faults == ("pre_acts",)


def test_all_rows_may_be_refused():
    tc = rt.build(input_size=3, output_size=2, dict_size=8, top_k=2)
    x = np.full((2, 3), np.nan)
    assert not rt.audit({}, tc, x).passed
    assert rt.audit({"refused": [0, 1]}, tc, x).passed
    assert rt.audit({"hidden": np.zeros((2, 8))}, tc, x).blame == "hidden"


@pytest.mark.parametrize("refused", [["a"], [True], [1j], [2.5], [[0]], np.array([2.0**70]), [1]])
def test_what_is_refused_are_numbers_of_rows(refused):
    tc = rt.build(input_size=3, output_size=2, dict_size=8, top_k=2)
    x = np.array([[np.nan, 0, 0], [1, 2, 3]])
    with pytest.raises(OptionError, match="refused must be"):
        rt.audit({"refused": refused}, tc, x)
    assert rt.audit({"refused": [0.0]}, tc, x[:1]).passed
