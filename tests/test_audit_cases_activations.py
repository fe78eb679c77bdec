"""Cases for one activation: they show what it is about, in a folder as in memory."""

from __future__ import annotations

import functools
import json

import ml_dtypes
import numpy as np
import pytest

import reftranscoder as rt
from reftranscoder import cli
from reftranscoder.auditor.many_cases import judge_cases
from reftranscoder.auditor.probes.case_folder import inputs_of, write_cases
from reftranscoder.auditor.probes.probe_set import probes, variants_of
from reftranscoder.auditor.task.arithmetic import by_stage
from reftranscoder.auditor.task.case import Answer
from reftranscoder.auditor.task.definition import JUDGED
from reftranscoder.errors import FileError, OptionError

ACTIVATIONS = tuple(name for name in JUDGED if name not in ("topk", "relu"))
GIVEN = ("pre", "pre_acts", "hidden", "reconstruction", "loss", "dW_dec", "dW_enc", "dx")


@functools.cache
def cases_of(activation):
    return {case.name: case for case in probes(activation)}


def results_of(case, **changes):
    found = case.transcoder.stages(
        case.x, case.target, case.l1_coeff, backend="reference", check_finite=False
    )
    return {n: a.toarray() if hasattr(a, "tocsr") else a for n, a in found.items()} | changes


def judged(cases, change=lambda case, results: results, arithmetic="float32"):
    answers = [(case, Answer(change(case, results_of(case)))) for case in cases]
    return judge_cases(answers, by_stage(arithmetic), arithmetic, ())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_right_results_pass_every_case_and_exercise_every_feature(activation):
    cases = [case for name, case in cases_of(activation).items() if "-skip-" not in name]
    report = judged(cases)
    assert report.passed and report.conclusive and not report.skipped, str(report)
    assert not report.not_exercised
    assert {case.config.activation for case in cases} == {activation}


@pytest.mark.parametrize("activation", JUDGED)
def test_cases_of_all_activations_are_other_ones_and_the_same_at_every_call(activation):
    cases = probes(activation)
    assert {name.rsplit("-", 1)[0] for name in cases_of(activation)} >= {*variants_of(activation)}
    for case, again in zip(cases, cases_of(activation).values(), strict=True):
        for name, array in inputs_of(case).items():
            assert np.array_equal(array, inputs_of(again)[name], equal_nan=True)
    if activation in ("topk", "relu"):
        usual = {case.name: case for case in probes()}
        for case in cases:
            assert np.array_equal(case.x, usual[case.name].x, equal_nan=True)
    else:
        xs = [case.x for name, case in cases_of(activation).items() if name.endswith("-ordinary")]
        others = [case.x for case in probes() if case.name.endswith("-ordinary")]
        assert not any(np.array_equal(x, other) for x in xs for other in others)


# What the numbers are there to show.


def test_thresholds_lie_at_activations_and_one_number_to_either_side():
    for name, spacing in (("integers", 2.0**-7), ("thresholds", 2.0**-23)):
        case = cases_of("jumprelu")[f"jumprelu-{name}"]
        pre, theta = case.expected["pre"], case.params.own.theta.astype(np.float64)
        row = np.arange(len(theta)) % len(pre)
        beside = (theta - pre[row, np.arange(len(theta))])[:, None]
        size = np.abs(pre[row, np.arange(len(theta))])[:, None] * spacing
        step = beside[(beside != 0) & (np.abs(beside) <= size)]
        assert (beside == 0).sum() > 5 and (step < 0).sum() > 2 and (step > 0).sum() > 2
        assert (theta < 0).any() and (theta == 0).any()
    # The smallest number that the format of the case has.
    assert np.float32(2.0**-149) in case.params.own.theta
    for case in cases_of("jumprelu").values():
        if not case.name.endswith("-thresholds"):
            theta = case.params.own.theta
            assert np.array_equal(theta.astype(ml_dtypes.bfloat16).astype(np.float32), theta)


def selected(case, mask):
    """Every stage, with this selection."""
    pre_acts = np.maximum(case.expected["pre"], 0)
    hidden = np.where(mask, pre_acts, 0)
    reconstruction = hidden @ case.params.W_dec.astype(float) + case.params.b_dec
    return {"pre": case.expected["pre"], "hidden": hidden, "reconstruction": reconstruction}


def blamed(activation, name, mask):
    case = cases_of(activation)[name]
    right = case.expected["hidden"] != 0
    assert judged([case], lambda c, r: selected(c, right)).passed
    wrong = mask(case, np.maximum(case.expected["pre"], 0), right)
    assert (wrong != right).any()
    report = judged([case], lambda c, r: selected(c, wrong))
    return report.blame, report.sentence()


@pytest.mark.parametrize("name", ["integers", "thresholds"])
def test_reaching_the_threshold_is_not_being_above_it(name):
    def reaching(case, pre_acts, right):
        return (pre_acts >= case.params.own.theta) & (pre_acts > 0)

    assert blamed("jumprelu", f"jumprelu-{name}", reaching)[0] == "hidden"


def test_thresholds_that_were_rounded_show():
    def rounded(case, pre_acts, right):
        theta = case.params.own.theta.astype(ml_dtypes.bfloat16).astype(np.float32)
        return (pre_acts > theta) & (pre_acts > 0)

    stage, sentence = blamed("jumprelu", "jumprelu-thresholds", rounded)
    assert stage == "hidden" and "is just above its threshold and left out" in sentence


def test_ties_across_rows_are_ties_and_one_too_few_is_a_fault():
    case = cases_of("batchtopk")["batchtopk-integers"]
    pre_acts, right = np.maximum(case.expected["pre"], 0), case.expected["hidden"] != 0
    least = pre_acts[right].min()
    rows, columns = np.nonzero(pre_acts == least)
    left = right.sum() - (pre_acts > least).sum()
    assert len(set(rows)) > 1 and 0 < left < len(rows)

    def keeping(places):
        mask = pre_acts > least
        mask[rows[places], columns[places]] = True
        return mask

    def sentence(case, mask):
        report = judged([case], lambda c, r: selected(c, mask))
        return report.blame, report.cases[case.name].stages["hidden"]

    assert sentence(case, keeping(slice(None, left)))[1].verdict == "exact"
    for later in (slice(-left, None), np.argsort(columns, kind="stable")[:left]):
        blame, result = sentence(case, keeping(later))
        assert blame is None and result.verdict == "ambiguous"
        ties = result.extra["near_ties"]
        assert result.extra["rows"] == len(ties) and all(tie.gap == 0 for tie in ties)
        mask = right.copy()
        for tie in ties:  # what was selected in place of what
            mask[tie.row, list(tie.selected)] = True
            mask[tie.row, list(tie.left_out)] = False
        assert np.array_equal(mask, keeping(later))
    for wrong in (keeping(slice(None, left - 1)), keeping(slice(None)), keeping(slice(left + 1))):
        assert sentence(case, wrong)[0] == "hidden"
    # And where everything equal is kept, nothing else is right.
    case = cases_of("batchtopk")["batchtopk-keep-all-integers"]
    pre_acts, right = np.maximum(case.expected["pre"], 0), case.expected["hidden"] != 0
    assert sentence(case, right)[0] is None
    row, column = np.argwhere(pre_acts == pre_acts[right].min())[-1]
    right[row, column] = False
    blame, result = sentence(case, right)
    assert blame == "hidden" and "are left out that equal" in result.explanation


@pytest.mark.parametrize("activation", ["groupmax", "abstopk"])
def test_ties_of_other_rules_are_told_from_faults(activation):
    case = cases_of(activation)[f"{activation}-integers"]
    pre, K = case.expected["pre"], case.config.top_k
    # Of equal ones the last in place of the first: the same rule on reversed features.
    turned = dict(case.params.arrays())
    for name in ("W_enc", "b_enc", "W_dec"):
        turned[name] = turned[name][::-1]
    tc = rt.Transcoder.from_arrays(**turned, activation=activation, top_k=K)
    hidden = tc.encode(case.x, backend="reference").toarray()[:, ::-1]
    assert (hidden != case.expected["hidden"]).any()
    report = judged([case], lambda c, r: {"pre": pre, "hidden": hidden})
    result = report.cases[case.name].stages["hidden"]
    assert report.passed and result.verdict == "ambiguous"
    mask = case.expected["hidden"] != 0
    for tie in result.extra["near_ties"]:
        assert tie.gap == 0
        mask[tie.row, list(tie.selected)] = True
        mask[tie.row, list(tie.left_out)] = False
    assert np.array_equal(mask, hidden != 0)


def test_a_batch_is_not_its_rows():
    def rows(case, pre_acts, right):
        order = np.argsort(-pre_acts, axis=1, kind="stable")[:, : case.config.top_k]
        mask = np.zeros_like(right)
        np.put_along_axis(mask, order, True, axis=1)
        return mask & (pre_acts > 0)

    assert blamed("batchtopk", "batchtopk-ordinary", rows)[0] == "hidden"


def test_empty_groups_stay_empty():
    case = cases_of("groupmax")["groupmax-ordinary"]
    K = case.config.top_k
    groups = case.expected["hidden"].reshape(len(case.x), K, -1)
    full = (groups != 0).any(axis=2)
    assert (full.any(axis=1) & ~full.all(axis=1)).sum() > 3 and (~full.any(axis=1)).any()

    def strided(case, pre_acts, right):  # groups of every K-th feature
        apart = pre_acts.reshape(len(pre_acts), -1, K)
        return (apart == apart.max(axis=1, keepdims=True)).reshape(right.shape) & (pre_acts > 0)

    def filled(case, pre_acts, right):  # an empty group's place goes to another's second
        mask = right.copy()
        for row in np.flatnonzero(full.any(axis=1) & ~full.all(axis=1)):
            mask[row, np.where(right[row], 0, pre_acts[row]).argmax()] = True
        return mask

    for wrong in strided, filled:
        assert blamed("groupmax", "groupmax-ordinary", wrong)[0] == "hidden"


def test_negative_activations_far_from_zero_are_selected_and_others_not():
    case = cases_of("abstopk")["abstopk-integers"]
    hidden, pre = case.expected["hidden"], case.expected["pre"]
    assert (hidden < 0).any() and (hidden > 0).any()
    wrong = results_of(case, hidden=np.maximum(hidden, 0))
    report = judge_cases([(case, Answer(wrong))], by_stage("float32"), "float32", ())
    assert report.blame == "hidden"
    # Where both signs are equally far from zero, the lower index is kept.
    K = case.config.top_k
    order = np.argsort(-np.abs(pre), axis=1, kind="stable")[:, :K]
    mask = np.zeros(pre.shape, bool)
    np.put_along_axis(mask, order, True, axis=1)
    assert np.array_equal(np.where(mask, pre, 0), hidden)


# Files.


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_folder_is_written_judged_and_written_again(activation, tmp_path, monkeypatch, capsys):
    chosen = [
        cases_of(activation)[f"{activation}-{kind}"]
        for kind in ("integers", "skip-every-feature", "smallest")
    ]
    monkeypatch.setattr(
        "reftranscoder.auditor.probes.case_folder.probes", lambda *names: chosen[: 3 * len(names)]
    )
    folder = tmp_path / "cases"
    assert cli.main(["cases", str(folder), "--activation", activation]) == 0
    index = json.loads((folder / "cases.json").read_text())
    assert index["activation"] == activation
    assert index["version"] == (2 if chosen[0].params.own is not None else 1)
    text = (folder / "README.txt").read_text()
    assert f'"{activation}": keep' in text and max(map(len, text.splitlines())) <= 100
    for case in chosen:
        about = json.loads((folder / case.name / "case.json").read_text())
        assert about["input"].keys() == inputs_of(case).keys()
        for name in about["input"] | about["expected"]:
            assert f"\n    {name} " in text
        np.savez(folder / case.name / "results.npz", **results_of(case))
    write_cases(folder)  # for the same activation
    report = rt.audit(folder)
    assert report.passed and list(report.cases) == [case.name for case in chosen]
    wrong = results_of(chosen[0])
    np.savez(folder / chosen[0].name / "results.npz", **wrong | {"hidden": 2 * wrong["hidden"]})
    capsys.readouterr()
    assert cli.main(["audit", str(folder)]) == 1
    assert "Fault at hidden" in capsys.readouterr().out
    with pytest.raises(FileError, match=f"holds cases for {activation}, and not for topk"):
        write_cases(folder, "topk")
    (folder / "cases.json").write_text(json.dumps(index | {"activation": "softplus"}))
    with pytest.raises(FileError, match="no activation is called softplus"):
        write_cases(folder)


def test_another_activation_is_refused(tmp_path):
    with pytest.raises(OptionError, match="activation must be one of"):
        write_cases(tmp_path / "new", "softplus")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"theta": None}, "theta must be an array"),
        ({"theta": np.ones(3)}, "theta must have shape"),
        ({"activation": np.array("relu")}, "theta must be left out, for relu"),
        ({"bandwidth": np.array(0.0)}, "bandwidth must be above 0, or None"),
        ({"through": np.array("x")}, "through must be one of"),
        ({"gate_l1_coeff": np.array(1.0)}, "gate_l1_coeff must be left out, for jumprelu"),
    ],
)
def test_a_whole_file_says_what_its_activation_takes(changes, words, tmp_path):
    case = cases_of("jumprelu")["jumprelu-ordinary"]
    results = {f"result.{n}": a for n, a in results_of(case).items() if n in GIVEN}
    held = inputs_of(case) | results
    held |= {"activation": np.array("jumprelu"), "l1_coeff": np.array(case.l1_coeff)}
    path = tmp_path / "case.npz"
    np.savez(path, **held)
    assert rt.audit(path).passed
    np.savez(path, **{n: a for n, a in (held | changes).items() if a is not None})
    with pytest.raises(FileError, match=words) as caught:
        rt.audit(path)
    assert len(str(caught.value)) <= 300
