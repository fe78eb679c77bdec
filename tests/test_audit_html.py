"""The page of a report is whole, holds everything that was found, and trusts no text."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from parsed_html import Parsed, assert_needs_nothing_else
from simulated_transcoder import Machine, random_case, simulate

import reftranscoder as rt
from reftranscoder.auditor import STAGES, Report, Reports, StageResult
from reftranscoder.auditor.judging.verdict import HIGHEST, LOWEST
from reftranscoder.auditor.reporting.html import page

_HOSTILE = "<b>K & 'D' \"</td>"


def audited(case, results, arithmetic):
    tc = rt.Transcoder.from_arrays(**case.params(), top_k=case.top_k)
    return rt.audit(results, tc, case.x, case.target, l1_coeff=case.l1_coeff, arithmetic=arithmetic)


def clean(machine=None):
    machine = machine or Machine("float32")
    case = random_case(5, machine)
    return audited(case, simulate(case, machine), "float32")


def faulty(**how):
    machine = Machine("float32")
    case = random_case(5, machine)
    return audited(case, simulate(case, machine, **how), "float32")


def ambiguous():
    """Selected before what it selects among was rounded to bfloat16."""
    machine = Machine("bfloat16")
    case = random_case(5, machine, B=64, D=256, K=12)
    wide = simulate(case, Machine("bfloat16-inputs"))
    stored = simulate(case, machine)
    hidden = np.where(wide["hidden"] != 0, stored["pre_acts"], 0.0)
    results = simulate(case, machine, {"hidden": hidden}) | {"hidden": hidden}
    return audited(case, results, "bfloat16")


def test_the_page_needs_nothing_else():
    text = page({"one": clean(), "another": faulty(dW_enc_pre_acts=1)})
    parsed = Parsed(text)
    assert_needs_nothing_else(parsed)
    anchors = {a["id"] for _, a in parsed.elements if "id" in a}
    assert {a["href"][1:] for a in parsed.named("a")} == anchors == {"case-1", "case-2"}
    assert parsed.named("meta")[0] == {"charset": "utf-8"}


def test_every_given_stage_has_a_line_and_a_picture_of_its_errors():
    report = clean()
    parsed = Parsed(page({"clean": report}))
    scopes = [a.get("scope") for a in parsed.named("th")]
    assert scopes.count("row") == len(STAGES)
    assert all(stage in parsed.words for stage in STAGES)
    assert report.sentence() in parsed.text and report.arithmetic in parsed.text
    assert len([a for a in parsed.named("svg") if a["role"] == "img"]) == len(STAGES)
    assert not parsed.named("rect", "beyond")
    subset = dataclasses.replace(
        report,
        stages=report.stages
        | {"dx": dataclasses.replace(report.stages["dx"], verdict="not given")},
    )
    assert "Not given: dx." in Parsed(page({"": subset})).text


def test_a_fault_shows_beyond_the_bound_and_says_where():
    report = faulty(times={"dW_skip": 1.01})
    parsed = Parsed(page({"fault": report}))
    assert parsed.named("rect", "beyond") and report.blame == "dW_skip"
    assert "failed" in parsed.words and f"{report.stages['dW_skip'].got:.9g}" in parsed.text


def test_the_histogram_counts_every_entry_where_it_is():
    stages = faulty(times={"dW_skip": 1.01}).stages
    for name, result in stages.items():
        histogram = result.histogram
        total = sum(histogram.counts) + histogram.equal
        assert total == (24 * 48 if name in ("pre", "pre_acts") else total) > 0
        top = np.log2(result.max_ratio) if result.max_ratio else -np.inf
        highest = max((i for i, n in enumerate(histogram.counts) if n), default=None)
        if highest is None:
            assert result.max_error == 0
        elif LOWEST < highest + LOWEST < HIGHEST:
            assert highest + LOWEST - 1 < top <= highest + LOWEST
        beyond = sum(histogram.counts[1 - LOWEST :])
        assert bool(beyond) == (result.max_ratio > 1)
        assert histogram.tiers["C"] <= histogram.tiers["P"] <= histogram.tiers["R"] == 1


def test_the_rows_of_an_ambiguous_selection_are_listed():
    report = ambiguous()
    hidden = report.stages["hidden"]
    assert hidden.verdict == "ambiguous" and report.passed, str(report)
    ties = hidden.extra["near_ties"]
    assert len(ties) == hidden.extra["rows"] > 0
    parsed = Parsed(page({"ambiguous": report}))
    for tie in ties:
        assert len(tie.selected) == len(tie.left_out) > 0 and 0 <= tie.gap <= tie.bound
        for value in (tie.row, *tie.selected, *tie.left_out):
            assert str(value) in parsed.words
    assert report.to_dict()["stages"]["hidden"]["extra"]["near_ties"][0]["row"] == ties[0].row


@pytest.mark.parametrize("field", ["coverage", "unseen", "explanations", "arithmetic"])
def test_every_warning_is_there_and_text_is_escaped(field):
    value = _HOSTILE if field == "arithmetic" else ("first", _HOSTILE)
    fields = {"coverage": (), "unseen": (), "explanations": ()} | {field: value}
    text = page({_HOSTILE: dataclasses.replace(clean(), **fields, declared=_HOSTILE)})
    parsed = Parsed(text)
    assert _HOSTILE not in text and parsed.text.count(_HOSTILE) >= 3  # name, sentence, field
    if field != "arithmetic":
        assert len(parsed.named("li")) == len(value) and "first" in parsed.words


def test_a_convention_is_not_called_a_fault():
    parsed = Parsed(page({"convention": faulty(x_minus_b_dec=True)}))
    assert parsed.named("span", "outcome")[0]["class"] == "outcome convention"
    assert "x - b_dec" in parsed.text


def test_several_cases_are_concluded_as_on_the_terminal():
    report = clean()
    nothing = {name: StageResult(name, "not given") for name in STAGES}
    undecided = Report(nothing | {"loss": StageResult("loss", "cannot tell")}, "float32")
    cases = {"right": report, "open": undecided}
    decisive = dict.fromkeys(cases, True)
    both = Reports.of(cases, {"left out": "no results"}, decisive, declared="float32")
    parsed = Parsed(page(both))
    assert "Audit: 1 of 2 cases passed" in parsed.text and both.sentence() in parsed.text
    assert "nothing judged" in parsed.text and "left out" in parsed.text
    for some in {}, {"open": undecided}:
        none = Reports.of(some, {"left out": "no results"}, decisive, declared="float32")
        assert "Audit: nothing was judged" in Parsed(page(none)).text and not none.passed
    wrong = Reports.of(cases | {"wrong": faulty(dW_enc_pre_acts=1)}, {}, decisive | {"wrong": True},
                       declared="float32")  # fmt: skip
    assert "1 of 3 cases failed" in Parsed(page(wrong)).text


def test_the_page_says_what_to_declare_until_it_is():
    case = faulty(x_minus_b_dec=True)
    for reports in {"one": case}, Reports.of({"a": case, "b": case}, {}, {}, declared="float32"):
        text = Parsed(page(reports)).text
        assert text.count('conventions=("x - b_dec",)') == 1
    declared = dataclasses.replace(case, accepted=("x - b_dec",))
    assert "conventions=" not in Parsed(page({"one": declared})).text


def test_no_table_is_wider_than_its_scrolling_frame():
    report = clean()
    both = Reports.of({"a": report, "b": report}, {}, dict.fromkeys("ab", True), declared="float32")
    for text in page(both), page({"a": ambiguous()}):
        assert text.count("<table") == text.count('<div class="wide"><table') > 0
