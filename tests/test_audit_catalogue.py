"""Every row of the catalogue of published faults is true: the audit says what the row says."""

from __future__ import annotations

import ast
import dataclasses
import json
import textwrap

import pytest
from test_audit_html import Parsed

from reftranscoder import cli
from reftranscoder.auditor import STAGES
from reftranscoder.auditor.faults import FAULTS, address_of, blamed
from reftranscoder.auditor.faults.fault import KINDS
from reftranscoder.auditor.faults.page import page
from reftranscoder.auditor.faults.stages import small_case, stages
from reftranscoder.auditor.one_case import judge_case
from reftranscoder.auditor.task.arithmetic import by_stage
from reftranscoder.auditor.task.case import Answer

BY_NAME = {fault.name: fault for fault in FAULTS}
QUICK = ("products_in_tf32", "threshold_keeps_ties", "ties_in_another_order")


def breaches(fault) -> list[str]:
    """What the audit says of a row, where that is not what the row says."""
    report = fault.judged()
    found = []
    stage = blamed(report)
    if stage != fault.stage:
        found.append(f"blames {stage}: {report.sentence()}")
    elif report.stages[stage].verdict != fault.kind:
        found.append(f"is {report.stages[stage].verdict}: {report.sentence()}")
    if fault.says not in report.sentence():
        found.append(f"says {report.sentence()!r}")
    if (report.convention is not None) != (fault.kind == "convention"):
        found.append(f"names the convention {report.convention}")
    return found


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_audit_says_what_the_row_says(fault):
    assert breaches(fault) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"stage": "pre_acts"},
        {"kind": "convention"},
        {"says": "Fault at hidden"},
        {"reproduce": lambda case: stages(case)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_row_that_is_not_true_is_found(wrong):
    assert breaches(dataclasses.replace(BY_NAME["products_in_tf32"], **wrong))


def test_without_the_fault_nothing_is_found():
    """On every case that a row is reproduced on."""
    cases = {repr(fault.case): fault.case for fault in FAULTS}
    assert len(cases) > 10
    for make in cases.values():
        case = make()
        report = judge_case(case, Answer(stages(case)), by_stage("float32"), "float32", ())
        assert blamed(report) is None, report.sentence()


def test_a_replaced_stage_is_what_the_next_ones_read():
    case = small_case(skip=True)
    right, doubled = stages(case), stages(case, hidden=2 * stages(case)["hidden"])
    assert (doubled["pre_acts"] == right["pre_acts"]).all()
    assert (doubled["reconstruction"] != right["reconstruction"]).any()
    assert list(stages(case)) == list(STAGES)
    assert list(stages(case, "loss", "hidden")) == ["loss", "hidden"]


def test_there_are_enough_of_them_and_every_stage_has_some():
    assert len(BY_NAME) == len(FAULTS) >= 60
    assert {fault.stage for fault in FAULTS} == set(STAGES)
    assert {fault.kind for fault in FAULTS} == set(KINDS)
    order = [STAGES.index(fault.stage) for fault in FAULTS]
    assert order == sorted(order)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_row_says_all_and_its_code_is_short(fault):
    assert fault.what.endswith(".") and fault.equation and fault.says and fault.reported
    assert all(address_of(place).startswith("https://github.com/") for place in fault.reported)
    (function,) = ast.parse(textwrap.dedent(fault.source)).body
    assert function.name == fault.name
    code = fault.source.rstrip().splitlines()[function.body[1].lineno - 1 :]
    assert 1 < len(code) <= 15


@pytest.mark.parametrize("place", ["", "SAELens#355", "a/b", "a/b#x", "a/b@xyz", "a/b#1 "])
def test_a_place_without_an_address_is_refused(place):
    with pytest.raises(ValueError):
        address_of(place)


def test_the_page_holds_every_row_and_trusts_no_text():
    hostile = dataclasses.replace(BY_NAME[QUICK[0]], what="<b>K & 'D' \"</td>", fixed="<i>")
    faults = [hostile, *(BY_NAME[name] for name in QUICK[1:])]
    reports = {fault: fault.judged() for fault in faults}
    text = page(reports)
    parsed = Parsed(text)
    assert len(parsed.named("section")) == len(faults)
    for fault, report in reports.items():
        for words in (fault.name, fault.what, fault.equation, fault.source, report.sentence()):
            assert words in parsed.text
        assert {"href": address_of(fault.reported[0])} in parsed.named("a")
        assert {"href": f"#{fault.name}"} in parsed.named("a")
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in parsed.elements}


def test_the_list(capsys):
    assert cli.main(["faults"]) == 0
    printed = capsys.readouterr().out
    for fault in FAULTS:
        assert f"  {fault.name}" in printed and fault.reported[0] in printed
    assert f"{len(FAULTS)} rows" in printed
    assert cli.main(["faults", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["faults"]
    assert [row["name"] for row in listed] == [fault.name for fault in FAULTS]


def test_one_of_them_and_its_page(capsys, tmp_path):
    fault = BY_NAME[QUICK[0]]
    path = tmp_path / "page.html"
    assert cli.main(["faults", fault.name, "--html", str(path)]) == 0
    printed = capsys.readouterr().out
    for words in (*fault.reported, fault.equation, fault.source.rstrip(), fault.says):
        assert words in printed
    assert f'<section id="{fault.name}">' in path.read_text(encoding="utf-8")
    assert cli.main(["faults", fault.name, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["source"] == fault.source and answer["report"]["blame"] == fault.stage


@pytest.mark.parametrize(("argv", "words"), [(["no such"], "NAME"), (["a", "b"], "b")])
def test_what_cannot_be_meant_is_refused(capsys, argv, words):
    assert cli.main(["faults", *argv]) == 2
    streams = capsys.readouterr()
    assert streams.err.count("\n") == 1 and words in streams.err and not streams.out
