"""What an audit's data do not exercise is said, and no longer once they do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from simulated_transcoder import Machine, random_case, simulate

import reftranscoder as rt
from reftranscoder.auditor.cross_checks.data_coverage import TERMS, WARNINGS

FLOAT32 = Machine("float32")


def audited(case, keep=None, arithmetic="float32"):
    tc = rt.Transcoder.from_arrays(
        **case.params(), top_k=case.top_k, activation=case.activation, ties=case.ties
    )
    results = simulate(case, Machine(arithmetic))
    results = {n: a for n, a in results.items() if keep is None or n in keep}
    return rt.audit(results, tc, case.x, case.target, l1_coeff=case.l1_coeff, arithmetic=arithmetic)


def covered(**changes):
    """A case with rows of both kinds, and a tie: the last two features are the first two."""
    case = random_case(7, FLOAT32, K=5)
    x, W_enc, b_enc = case.x.copy(), case.W_enc.copy(), case.b_enc.copy()
    W_enc[24:], b_enc[24:] = W_enc[:24], b_enc[:24]
    x[0], b_enc[:] = 0, 0.1 * b_enc - 0.25
    return dataclasses.replace(case, x=x, W_enc=W_enc, b_enc=b_enc, **changes)


def positive(case):
    return (case.x @ case.W_enc.T + case.b_enc > 0).sum(axis=1)


def test_nothing_is_missing_where_nothing_is():
    case = covered()
    assert (positive(case) > 5).any() and (positive(case) < 5).any()
    report = audited(case)
    assert report.coverage == () and report.unseen == ()
    assert report.passed and report.conclusive


def rows_with(case, kept):
    return dataclasses.replace(case, x=case.x[kept], target=case.target[kept])


@pytest.mark.parametrize(
    ("missing", "change"),
    [
        ("no cut", lambda c: dataclasses.replace(c, top_k=30)),
        ("no shortage", lambda c: rows_with(c, positive(c) >= 5)),
        ("no ties", lambda c: dataclasses.replace(c, b_enc=c.b_enc + np.arange(48) * 2.0**-6)),
        ("all kept", lambda c: dataclasses.replace(c, top_k=48)),
        ("no activity", lambda c: dataclasses.replace(c, b_enc=c.b_enc - 99)),
        ("no ReLU", lambda c: dataclasses.replace(c, b_enc=c.b_enc + 99, activation="relu")),
    ],
)
def test_what_is_missing_is_said(missing, change):
    report = audited(change(covered()), keep=("hidden", "reconstruction"))
    assert WARNINGS[missing] in report.coverage
    assert WARNINGS[missing] in str(report) and report.to_dict()["coverage"]
    assert report.passed  # advice never changes a verdict


def test_relu_needs_no_ties():
    case = dataclasses.replace(covered(), activation="relu")
    assert audited(case).coverage == ()


def small(name):
    return lambda case: dataclasses.replace(case, **{name: getattr(case, name) * 2.0**-40})


@pytest.mark.parametrize(
    ("term", "change"),
    [
        # In a row of zeros, even the smallest bias is all there is.
        ("b_enc", lambda c: small("b_enc")(rows_with(c, np.arange(24) > 0))),
        ("b_dec", lambda c: small("b_dec")(rows_with(c, np.arange(24) > 0))),
        ("W_skip", small("W_skip")),
        ("l1", lambda c: dataclasses.replace(c, l1_coeff=1e-9)),
        ("d_l1", lambda c: dataclasses.replace(c, l1_coeff=1e-9)),
    ],
)
def test_a_term_too_small_to_show_is_named(term, change):
    seen, unseen = covered(), change(covered())
    what = f"{TERMS[term].what} is too small to show in {TERMS[term].stages[0]}"
    assert not any(text.startswith(what) for text in audited(seen).unseen)
    report = audited(unseen)
    assert any(text.startswith(what) for text in report.unseen), report.unseen
    assert report.passed and what in str(report)
    # It takes the stage that would show it.
    others = set(simulate(seen, FLOAT32)) - set(TERMS[term].stages)
    assert not any(text.startswith(what) for text in audited(unseen, keep=others).unseen)


def test_what_shows_in_float32_may_not_show_in_bfloat16():
    case = dataclasses.replace(random_case(7, Machine("bfloat16")), l1_coeff=2.0**-12)
    assert not any("gradient of the L1" in text for text in audited(case).unseen)
    assert any("gradient of the L1" in t for t in audited(case, arithmetic="bfloat16").unseen)


@pytest.mark.parametrize("name", ["b_dec", "W_skip"])
def test_a_parameter_of_zeros_is_named(name):
    case = covered()
    case = dataclasses.replace(case, **{name: np.zeros_like(getattr(case, name))})
    assert f"{name} is zero: whether it is added does not show" in audited(case).unseen


def test_without_a_penalty_none_shows():
    report = audited(dataclasses.replace(covered(), l1_coeff=0.0))
    assert sum("l1_coeff is zero" in text for text in report.unseen) == 2


def test_large_data_are_looked_at_in_part(monkeypatch):
    monkeypatch.setattr("reftranscoder.auditor.cross_checks.data_coverage._EVERY_ROW", 1)
    monkeypatch.setattr("reftranscoder.auditor.cross_checks.data_coverage._ROWS", 40)
    report = audited(covered())
    assert report.coverage == () and report.unseen == () and report.passed
    case = dataclasses.replace(covered(), l1_coeff=1e-9)
    assert sum("too small" in text for text in audited(case).unseen) == 2
    assert not any("loss" in t and "gradient" not in t
                   for t in audited(case, keep=("loss",)).unseen)  # fmt: skip
