"""What was never seen is said: features and columns are counted, and probes leave none out."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
import simulated_transcoder
from simulated_transcoder import ORDERS, Machine, random_case, simulate

import reftranscoder as rt
from reftranscoder import cli
from reftranscoder.auditor import AuditFailure
from reftranscoder.auditor.cross_checks.exercised import joined
from reftranscoder.auditor.judged_batch import judge_batch
from reftranscoder.auditor.judging.verdict import first_fault
from reftranscoder.auditor.many_cases import judge_cases
from reftranscoder.auditor.probes.every_feature import every_feature
from reftranscoder.auditor.probes.numbers import Sizes
from reftranscoder.auditor.probes.probe_set import every_feature_cases, probes
from reftranscoder.auditor.reporting.html import page
from reftranscoder.auditor.task.arithmetic import by_stage, representable
from reftranscoder.auditor.task.case import Answer
from reftranscoder.bounds import PRECISIONS
from reftranscoder.errors import OptionError

FEATURES, INPUTS, OUTPUTS = "features", "input columns", "output columns"
FLOAT32 = Machine("float32")
#: The axes that stages number by themselves.
OWN = {
    **dict.fromkeys(("pre", "pre_acts", "hidden", "d_hidden", "d_pre"), {FEATURES: 1}),
    **dict.fromkeys(("reconstruction", "d_reconstruction"), {OUTPUTS: 1}),
    "dW_dec": {FEATURES: 0, OUTPUTS: 1},
    "db_dec": {OUTPUTS: 0},
    "dW_skip": {OUTPUTS: 0, INPUTS: 1},
    "dW_enc": {FEATURES: 0, INPUTS: 1},
    "db_enc": {FEATURES: 0},
    "dx": {INPUTS: 1},
}


# The numbers.


def sparse_case(seed: int, **options):
    """A random case with zeros: in columns of x, of W_enc and of what is written, and in features
    that write nothing, read nothing, or are never active."""
    rng = np.random.default_rng(seed)
    case = random_case(seed, FLOAT32, **{"B": 7, "I": 9, "D": 30, "O": 8, "K": 3} | options)
    I = case.x.shape[1]
    arrays = {n: getattr(case, n).copy() for n in ("x", "target", *case.params())}
    for column in rng.integers(0, I, 3):
        arrays["x" if rng.integers(2) else "W_enc"][:, column] = 0
    gone = rng.integers(0, 8)  # an output column that nobody writes
    for name in ("W_dec", "b_dec", "target"):
        arrays[name][..., gone] = 0
    if "W_skip" in arrays:
        arrays["W_skip"][gone] = 0
        arrays["W_skip"][:, rng.integers(0, I)] = 0
    arrays["W_dec"][:, rng.integers(0, 8)] = 0
    arrays["W_dec"][rng.integers(0, 30, 9)] = 0
    arrays["W_enc"][rng.integers(0, 30, 3)] = 0
    arrays["b_enc"][rng.integers(0, 30, 9)] = -99
    arrays["b_enc"][rng.integers(0, 30, 3)] = 0
    return dataclasses.replace(case, **arrays)


def left_out(case, results) -> dict:
    """By stage and axis, whether the stage is another one without each feature or column: the
    formulas, dense, in float64, once for each of them."""
    p, r, x = case.params(), results, case.x
    W_skip = p.get("W_skip", np.zeros((case.W_dec.shape[1], x.shape[1])))
    error, G = r["reconstruction"] - case.target, r["d_reconstruction"]
    sums = {
        ("pre", INPUTS): (lambda keep: (x * keep) @ p["W_enc"].T, 9),
        ("reconstruction", FEATURES): (lambda keep: (r["hidden"] * keep) @ p["W_dec"], 30),
        ("reconstruction", INPUTS): (lambda keep: (x * keep) @ W_skip.T, 9),
        ("loss", OUTPUTS): (lambda keep: np.square(error * keep).sum(), 8),
        ("loss", FEATURES): (lambda keep: case.l1_coeff * (r["hidden"] * keep).sum(), 30),
        ("d_hidden", OUTPUTS): (lambda keep: (G * keep) @ p["W_dec"].T, 8),
        ("dx", FEATURES): (lambda keep: (r["d_pre"] * keep) @ p["W_enc"], 30),
        ("dx", OUTPUTS): (lambda keep: (G * keep) @ W_skip, 8),
    }
    if "W_skip" not in p:
        del sums["reconstruction", INPUTS], sums["dx", OUTPUTS]
    if not case.l1_coeff:
        del sums["loss", FEATURES]
    found = {}
    for key, (stage, size) in sums.items():
        each = 1 - np.eye(size)
        found[key] = [bool((stage(keep) != stage(np.ones(size))).any()) for keep in each]
    for stage, axes in OWN.items():
        for axis, place in axes.items():
            if stage in r:
                lines = np.moveaxis(np.asarray(r[stage]), place, 0)
                found[stage, axis] = [bool(line.any()) for line in lines]
    return found


def audited(case, results, **options):
    tc = rt.Transcoder.from_arrays(
        **case.params(), top_k=case.top_k, activation=case.activation, ties=case.ties
    )
    return rt.audit(results, tc, case.x, case.target, l1_coeff=case.l1_coeff, **options)


@pytest.mark.parametrize(
    "options",
    [{}, {"skip": False}, {"l1_coeff": 0.0}, {"activation": "relu"}, {"few": True}],
    ids=str,
)
def test_the_numbers_are_those_of_leaving_each_out_in_turn(options):
    some = 0
    for seed in range(6):
        case = sparse_case(seed, **options)
        results = simulate(case, FLOAT32)
        report = audited(case, results)
        assert report.passed, str(report)
        want = left_out(case, results)
        found = {(one.stage, one.what): one for one in report.exercised}
        assert found.keys() == {key for key in want if key[0] in report.judged}
        for key, one in found.items():
            without = tuple(np.flatnonzero(~np.array(want[key])).tolist())
            assert (one.exercised, one.total) == (sum(want[key]), len(want[key])), (seed, key)
            assert one.missing == without[:8], (seed, key)
            some += len(without) > 0
    assert some > 40


@pytest.mark.parametrize("options", [{}, {"l1_coeff": 0.0}, {"skip": False, "few": True}], ids=str)
def test_what_was_not_given_is_made_up_for(options):
    """What a stage sums over is known without the stages before it."""
    for seed in range(6):
        case = sparse_case(seed, **options)
        results = simulate(case, FLOAT32)
        want = left_out(case, results)
        for name in ("reconstruction", "loss", "dx"):
            report = audited(case, {name: results[name]})
            for one in report.exercised:
                assert one.exercised == sum(want[name, one.what]), (seed, one)


def test_the_definition_that_holds_says_what_is_selected():
    case = sparse_case(2, skip=False, I=8)
    how = {"x_minus_b_dec": 1}
    results = simulate(case, FLOAT32, **how)
    given = {"reconstruction": results["reconstruction"]}
    report = audited(case, given, conventions=("x - b_dec",))
    assert report.passed and report.convention == "x - b_dec"
    (found,) = [one for one in report.exercised if one.what == FEATURES]
    writes = case.W_dec.any(axis=1)
    assert found.exercised == ((results["hidden"] != 0).any(axis=0) & writes).sum()


def test_sparse_results_and_pairs_count_as_dense_ones():
    case = sparse_case(3)
    results = simulate(case, FLOAT32)
    sparse = dict(results)
    from scipy.sparse import csr_array

    for name in ("hidden", "d_pre"):
        sparse[name] = csr_array(results[name])
    assert audited(case, sparse).exercised == audited(case, results).exercised
    hidden = sparse.pop("hidden").toarray()
    indices = np.argsort(hidden == 0, axis=1, kind="stable")[:, :3]
    pairs = {"indices": indices, "values": np.take_along_axis(hidden, indices, axis=1)}
    assert audited(case, sparse | pairs).exercised == audited(case, results).exercised


# What is said.


def test_a_report_says_what_was_not_exercised_and_may_insist():
    case = random_case(5, FLOAT32, B=20, D=400, I=8, K=4, skip=False)
    case.x[:, 2] = 0
    report = audited(case, simulate(case, FLOAT32))
    active = int((simulate(case, FLOAT32)["hidden"] != 0).any(axis=0).sum())
    assert report.passed
    report.raise_if_failed()
    features, columns = report.not_exercised
    assert features.startswith(f"{400 - active} of 400 features (") and "reconstruction" in features
    assert "nothing is known about their rows of W_dec, dW_dec, dW_enc, db_enc." in features
    assert columns.startswith("1 of 8 input columns (2) was not exercised at pre, dW_enc")
    with pytest.raises(AuditFailure, match="of 400 features .*input columns") as caught:
        report.raise_if_failed(require_coverage=True)
    assert caught.value.report is report
    with pytest.raises(OptionError, match="require_coverage"):
        report.raise_if_failed(require_coverage="yes")
    for text in (features, columns):
        assert text in str(report) and text in page({"": report})
    told = json.loads(json.dumps(report.to_dict()))
    assert told["not_exercised"] == [features, columns]
    assert told["exercised"][1] == {
        "stage": "pre", "what": INPUTS, "exercised": 7, "total": 8, "missing": [2],
    }  # fmt: skip
    # Where pre was not given, nothing is known about the rows of W_enc of these features either.
    without = {n: a for n, a in simulate(case, FLOAT32).items() if n == "hidden"}
    assert "rows of W_enc, b_enc." in audited(case, without).not_exercised[0]


def test_cases_make_up_for_each_other_and_only_within_a_variant():
    cases = [c for c in probes() if c.name in ("topk-ordinary", "topk-integers", "topk-square")]

    def missing(*names, stages=None):
        chosen = [c for c in probes() if c.name in names]
        answers = []
        for case in chosen:
            results = case.transcoder.stages(case.x, case.target, case.l1_coeff)
            answers.append((case, Answer({n: results[n] for n in ("hidden", "dW_dec")})))
        return judge_cases(answers, by_stage("float32"), "float32", ())

    assert len(cases) == 3
    alone = missing("topk-integers")
    assert alone.exercised[0].total == 32 and alone.not_exercised
    together = missing("topk-integers", "topk-every-feature")
    assert together.exercised[0].total == 80 and not together.not_exercised
    both = missing("topk-integers", "topk-skip-every-feature")
    assert both.exercised[0].total == 32 + 80
    assert both.exercised[0].missing == alone.exercised[0].missing
    assert both.not_exercised[0] in page(both) and both.not_exercised[0] in str(both)


def test_strict_insists_on_the_command_line(tmp_path, monkeypatch, capsys):
    every = {case.name: case for case in probes()}
    chosen = [every["topk-integers"], every["topk-every-feature"]]
    monkeypatch.setattr("reftranscoder.auditor.probes.case_folder.probes", lambda: chosen)
    folder = str(tmp_path / "cases")
    assert cli.main(["cases", folder]) == 0
    for case in chosen:
        results = case.transcoder.stages(case.x, case.target, case.l1_coeff)
        results = {n: a.toarray() if hasattr(a, "tocsr") else a for n, a in results.items()}
        np.savez(f"{folder}/{case.name}/results.npz", **results)
    assert cli.main(["audit", folder, "--strict"]) == 0
    one = f"{folder}/topk-integers"
    assert cli.main(["audit", one]) == 0
    capsys.readouterr()
    assert cli.main(["audit", one, "--strict"]) == 1
    assert "features (17, 20, 21, 23, 29) were not exercised at" in capsys.readouterr().out
    assert cli.main(["audit", f"{folder}/topk-every-feature", "--strict"]) == 0


# Probes for every feature.


def batches_of(I, D, O, K):
    return list(every_feature(np.random.default_rng(0), Sizes(0, I, D, O, K)))


@pytest.mark.parametrize(
    "sizes",
    [(1, 1, 1, 1), (1, 3, 1, 2), (1, 40, 1, 1), (3, 40, 5, 1), (12, 40, 10, 6), (16, 900, 6, 5),
     (17, 200, 3, 200), (300, 900, 4, 3), (1000, 90, 4, 3), (2, 300, 2, 7), (16, 70_000, 2, 32)],
)  # fmt: skip
def test_every_feature_is_active_in_one_row_and_far_from_any_that_is_not(sizes, monkeypatch):
    monkeypatch.setattr("reftranscoder.auditor.probes.every_feature._ENTRIES", 1 << 22)
    I, D, O, K = sizes
    seen = np.zeros(D, int)
    batches = batches_of(*sizes)
    for numbers in batches:
        assert numbers.x.shape[0] * D <= max(1 << 22, D)
        pre = numbers.x @ numbers.W_enc.T + numbers.b_enc
        terms = np.abs(numbers.W_enc[:, 0]) * (I + 2)
        assert (np.abs(pre) * 36 >= terms).all()  # 2**-8 of these is what bfloat16 is off by
        active = pre > 0
        assert 1 <= active.sum(axis=1).max() <= min(K, 32)
        seen += active.sum(axis=0)
    for numbers in batches[:1] + batches[-1:]:
        for name in ("x", "target", "W_enc", "b_enc", "W_dec", "b_dec", "W_skip"):
            assert representable(getattr(numbers, name), PRECISIONS["bfloat16"]), name
            assert representable(getattr(numbers, name), PRECISIONS["float16"]), name
        assert numbers.x.all() and numbers.W_enc.all() and numbers.W_dec.all()
    assert (seen == 1).all()


def test_what_would_take_too_long_is_left_out_and_said():
    batches = batches_of(17, 131_072, 1, 1)
    assert sum(len(numbers.x) for numbers in batches) == (1 << 30) // 131_072
    assert len(batches_of(1, 3000, 1, 1)) == 256
    tc = rt.build(input_size=1, output_size=1, dict_size=520, top_k=1)
    cases = list(every_feature_cases(tc.config, 1e-3))
    answers = [(c, Answer(stages_of(tc, c.params, c.x, c.target))) for c in cases[250:]]
    report = judge_cases(answers, by_stage("float32"), "float32", ())
    assert report.passed and any("520 features" in text for text in report.not_exercised)


def test_batches_share_their_parameters(monkeypatch):
    monkeypatch.setattr("reftranscoder.auditor.probes.every_feature._ENTRIES", 1 << 12)
    tc = rt.build(input_size=12, output_size=10, dict_size=400, top_k=6, skip=True, dtype="float64")
    cases = list(every_feature_cases(tc.config, 0.5))
    assert len(cases) == 7 and len({id(case.params) for case in cases}) == 1
    assert cases[0].params.W_skip is not None and cases[0].params.dtype == np.float64
    assert [case.name for case in cases[:2]] == ["every-feature", "every-feature-2"]


def test_nothing_is_left_out_of_the_probe_set():
    answers = []
    for case in probes():
        results = case.transcoder.stages(case.x, case.target, case.l1_coeff, check_finite=False)
        answers.append((case, Answer(results)))
    report = judge_cases(answers, by_stage("float32"), "float32", ())
    assert report.passed and not report.not_exercised and len(report.exercised) > 20
    report.raise_if_failed(require_coverage=True)


def stages_of(tc, params, x, target):
    return dict(rt.Transcoder(tc.config, params).stages(x, target, 1e-3, check_finite=False))


def faulty(results, params, encode=lambda j: j, decode=(), gradients=()):
    """``results`` with the index of a feature stored as ``encode`` has it, those in ``decode`` not
    decoded, or (stage, feature) of ``gradients`` lost; the stages that do not read what is off."""
    results = {n: a.toarray() if hasattr(a, "tocsr") else a for n, a in results.items()}
    rows, columns = np.nonzero(results["hidden"])
    stored = encode(columns)
    if (stored != columns).any():
        hidden = np.zeros_like(results["hidden"])
        hidden[rows, stored] = results["hidden"][rows, columns]
        return {"pre": results["pre"], "hidden": hidden}
    if len(decode):
        hidden = results["hidden"].copy()
        hidden[:, decode] = 0
        wrong = hidden @ params.W_dec + params.b_dec
        return {n: results[n] for n in ("pre", "hidden")} | {"reconstruction": wrong}
    for stage, feature in gradients:
        array = results[stage] = results[stage].copy()
        array[feature if stage[:2] in ("dW", "db") else (slice(None), feature)] = 0
    return results


SIZES = {"input_size": 16, "output_size": 12}
FAULTS = {
    "hidden": lambda j: {"encode": lambda c: np.where(c == j, c ^ 1, c)},
    "reconstruction": lambda j: {"decode": [j]},
    **{n: lambda j, n=n: {"gradients": [(n, j)]} for n in ("d_pre", "dW_dec", "dW_enc", "db_enc")},
}


def blamed(case, results):
    """The first stage at fault, without a name for what is wrong."""
    return first_fault(judge_batch(results, case, by_stage("float32"), "float32", ()).results)


@pytest.mark.parametrize("stage", FAULTS)
def test_a_fault_in_one_feature_is_found_and_blamed(stage):
    tc = rt.build(**SIZES, dict_size=500, top_k=16)
    (case,) = every_feature_cases(tc.config, 1e-3)
    right = stages_of(tc, case.params, case.x, case.target)
    for feature in (0, 499, int(np.random.default_rng().integers(500))):
        wrong = faulty(right, case.params, **FAULTS[stage](feature))
        assert blamed(case, right) is None and blamed(case, wrong) == stage, feature


def test_a_function_that_loses_one_feature_is_found_by_the_probe_for_it():
    tc = rt.build(**SIZES, dict_size=2000, top_k=16)

    def candidate(params, x, target):
        results = stages_of(tc, params, x, target)
        return faulty(results, params, decode=[1999]) if np.isfinite(x).all() else {}

    report = rt.audit(candidate, tc)
    assert report.blame == "reconstruction" and "every-feature" in report.failed, str(report)


def test_a_function_that_is_right_is_seen_as_a_whole():
    tc = rt.build(**SIZES, dict_size=500, top_k=16)
    report = rt.audit(lambda *given: stages_of(tc, *given), tc)
    report.raise_if_failed(require_coverage=True)


@pytest.mark.parametrize(
    ("stage", "how", "features"),
    [
        ("hidden", {"encode": lambda c: c % 2**15}, (40_000, 69_999)),
        ("hidden", {"encode": lambda c: c % 2**16}, (65_536, 69_999)),
        ("reconstruction", {"decode": [0]}, (0,)),
        ("reconstruction", {"decode": [69_999]}, (69_999,)),
        ("reconstruction", {"decode": np.arange(2**15, 70_000)}, (2**15, 65_536)),
        ("dW_dec", {"gradients": [("dW_dec", 54_321)]}, (54_321,)),
    ],
)
def test_indices_that_wrap_and_padding_are_found_among_70000(stage, how, features, monkeypatch):
    monkeypatch.setattr("reftranscoder.auditor.probes.every_feature._ENTRIES", 1 << 18)
    tc = rt.build(**SIZES, dict_size=70_000, top_k=32)
    cases = list(every_feature_cases(tc.config, 1e-3))
    per_case = len(cases[0].x) * 32
    assert len(cases) == -(-70_000 // per_case)
    for feature in features:
        case = cases[feature // per_case]
        right = stages_of(tc, case.params, case.x, case.target)
        for results, blame in (right, None), (faulty(right, case.params, **how), stage):
            kept = ("pre", "hidden", "reconstruction", "d_reconstruction", "dW_dec")
            assert blamed(case, {n: results[n] for n in kept if n in results}) == blame


def test_clean_candidates_are_never_at_fault_on_them():
    rng = np.random.default_rng(11)
    judged = 0
    for number in range(205):
        sizes = {n: int(rng.integers(1, 40)) for n in ("input_size", "output_size", "dict_size")}
        if number % 7 == 0:
            sizes["input_size"] = int(rng.integers(200, 1200))
        options = {"skip": bool(number % 2), "activation": ("topk", "topk", "relu")[number % 3]}
        options |= {"ties": ("lowest_index", "keep_all")[number % 5 == 0]}
        top_k = int(rng.integers(1, sizes["dict_size"] + 1))
        tc = rt.build(**sizes, **options, top_k=top_k)
        arithmetic = ("float32", "bfloat16", "float16", "bfloat16-inputs")[number % 4]
        order = str(rng.choice(sorted(set(ORDERS) - {"truncated", "sorted"})))
        l1_coeff = float(rng.choice([0.0, 2.0**-10, 0.5]))
        how = {"unfused": bool(rng.integers(2))}
        cases = list(itertools.islice(every_feature_cases(tc.config, l1_coeff), 4))
        assert all(case.is_held_by(by_stage(arithmetic)) for case in cases)
        answers = [(c, Answer(simulated(c, Machine(arithmetic, order), **how))) for c in cases]
        report = judge_cases(answers, by_stage(arithmetic), arithmetic, ())
        assert report.passed, (number, sizes, options, top_k, arithmetic, order, str(report))
        selected = next(one for one in report.exercised if one.stage == "hidden")
        assert len(cases) == 4 or selected.exercised == sizes["dict_size"], (number, str(report))
        judged += len(cases)
    assert judged >= 200


def simulated(case, machine, **how):
    arrays = {n: a.astype(np.float64) for n, a in case.params.arrays().items()}
    given = simulated_transcoder.Case(
        **({"W_skip": None} | arrays),
        x=case.x.astype(np.float64),
        target=case.target.astype(np.float64),
        top_k=case.config.top_k,
        l1_coeff=case.l1_coeff,
        activation=case.config.activation,
        ties=case.config.ties,
    )
    return simulate(given, machine, **how)


def test_masks_of_several_sizes_are_joined_by_number():
    short, long = np.array([True, False, True]), np.array([False, False, True, False, True])
    key, other = ("hidden", FEATURES), ("pre", INPUTS)
    for one, two in ((short, long), (long, short)):
        found = joined({key: one, other: one}, {key: two})
        assert found[key].tolist() == [True, False, True, False, True]
        assert found[other] is one
    assert short.tolist() == [True, False, True] and not long[0]
