"""The probe set: every case is what its name says, clean results pass it and mistakes do not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import simulated_transcoder
from simulated_transcoder import ORDERS, Machine, simulate

import reftranscoder as rt
from reftranscoder.auditor import STAGES, Reports
from reftranscoder.auditor.cross_checks.exact_sums import exact_stages, quantum
from reftranscoder.auditor.many_cases import judge_cases
from reftranscoder.auditor.probes.probe_kinds import PROBE_KINDS
from reftranscoder.auditor.probes.probe_set import VARIANTS, probes, probes_of
from reftranscoder.auditor.task.arithmetic import by_stage, representable
from reftranscoder.auditor.task.case import Answer
from reftranscoder.bounds import PRECISIONS
from reftranscoder.errors import OptionError

CASES = {case.name: case for case in probes()}
TOPK = [name for name in VARIANTS if name.startswith("topk")]
FINITE = [case for case in CASES.values() if not len(case.non_finite)]


def pre_of(case):
    """Pre-activations of the finite rows, in longdouble: exact for these numbers."""
    x = case.x[np.isfinite(case.x).all(axis=1)].astype(np.longdouble)
    return x @ case.params.W_enc.T.astype(np.longdouble) + case.params.b_enc


def gaps(case):
    """How far apart the K-th and the next pre-activation are, in rows with more than K positive."""
    pre, K = pre_of(case), case.config.top_k
    pre = -np.sort(-pre[(pre > 0).sum(axis=1) > K], axis=1)
    return pre[:, K - 1] - pre[:, K]


def simulated(case, machine, **how):
    """What the simulated transcoder makes of a case."""
    arrays = {n: a.astype(np.float64) for n, a in case.params.arrays().items()}
    config = case.config
    return simulate(
        simulated_transcoder.Case(
            **({"W_skip": None} | arrays),
            x=case.x.astype(np.float64),
            target=case.target.astype(np.float64),
            top_k=config.top_k,
            l1_coeff=case.l1_coeff,
            activation=config.activation,
            ties=config.ties,
        ),
        machine,
        **how,
    )


def ours(case, backend="reference", dtype="float32"):
    """What this package makes of a case."""
    tc = case.transcoder.astype(dtype)
    return tc.stages(case.x, case.target, case.l1_coeff, backend=backend, check_finite=False)


def judged(answers, arithmetic="float32", accepted=()):
    answers = [(case, Answer(results)) for case, results in answers]
    return judge_cases(answers, by_stage(arithmetic), arithmetic, accepted)


# What is in it.


def test_the_set_is_small_and_the_same_every_time():
    assert len(CASES) == len(probes()) == 6 * len(PROBE_KINDS) - 2
    for case, again in zip(CASES.values(), probes()):
        assert len(case.x) <= 64 and case.config.dict_size <= 256
        assert np.array_equal(case.x, again.x, equal_nan=True)
        for name, array in case.params.arrays().items():
            assert np.array_equal(array, again.params.arrays()[name])


def test_it_has_every_variant():
    have = {(c.config.activation, c.config.ties, c.config.skip) for c in CASES.values()}
    assert have == {(v["activation"], v.get("ties", "lowest_index"), v["skip"])
                    for v in VARIANTS.values()}  # fmt: skip


@pytest.mark.parametrize("variant", TOPK)
@pytest.mark.parametrize("kind", ["ordinary", "integers", "uneven", "degenerate", "square", "tiny"])
def test_rows_have_more_and_fewer_than_K_positive_activations(variant, kind):
    case = CASES[f"{variant}-{kind}"]
    positive = (pre_of(case) > 0).sum(axis=1)
    assert (positive > case.config.top_k).sum() >= 3
    assert (positive < case.config.top_k).sum() >= 3


@pytest.mark.parametrize("variant", TOPK)
def test_ties_at_the_kth_place_are_exact_and_near_ties_nearly(variant):
    assert (gaps(CASES[f"{variant}-integers"]) == 0).sum() >= 3
    near = CASES[f"{variant}-near-ties"]
    found = gaps(near)
    assert len(found) >= 3 and (found > 0).all() and (found < 2.0**-24).all()
    # A float32 near the K-th place cannot tell them apart; a float64 sum is right to 2**-45.
    pre = -np.sort(-pre_of(near), axis=1)[:, near.config.top_k - 1]
    assert (pre[pre > 0] > 2.0**-5).sum() >= 3
    assert found.min() > 2.0**-40


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_is_what_its_name_says(variant):
    def has(kind):
        return CASES[f"{variant}-{kind}"]

    near_zero = np.abs(pre_of(has("near-zero")))
    assert ((near_zero > 0) & (near_zero < 2.0**-24)).sum() > 9 and (near_zero == 0).sum() > 0
    degenerate = has("degenerate")
    assert not degenerate.x[0].any() and not degenerate.params.W_enc[-1].any()
    assert (degenerate.params.W_enc[0] == degenerate.params.W_enc[36]).all()
    assert not degenerate.params.W_dec.any(axis=1).all()
    square = has("square").params.W_enc.shape
    assert square[0] == square[1] == has("square").config.output_size
    assert np.abs(has("large").expected["reconstruction"]).max() > 2.0**36
    assert np.abs(has("tiny").expected["reconstruction"]).max() < 2.0**-34
    smallest = np.finfo(np.float32).tiny
    assert 0 < np.abs(has("subnormal").x[has("subnormal").x != 0]).min() < smallest
    assert np.mean(np.abs(pre_of(has("subnormal"))) < smallest) > 0.5
    x = has("non-finite").x
    assert np.isnan(x).any() and np.isposinf(x).any() and np.isneginf(x).any()
    assert len(has("non-finite").non_finite) < len(x) / 2
    if variant in TOPK:
        assert has("all-kept").config.top_k == has("all-kept").config.dict_size


def test_bfloat16_holds_every_number_and_float16_most():
    for case in CASES.values():
        arrays = [*case.params.arrays().values(), case.x, case.target]
        for array in arrays:
            finite = array[np.isfinite(array)]
            assert representable(finite, PRECISIONS["bfloat16"])
        wide = case.name.endswith(("-large", "-tiny", "-subnormal"))
        assert case.is_held_by(by_stage("float16")) != wide
        assert case.is_held_by(by_stage("bfloat16")) and case.is_held_by(by_stage("float32"))


# Exact cases.


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("order", sorted(ORDERS))
def test_small_integers_are_exact_in_any_order(variant, order):
    case = CASES[f"{variant}-integers"]
    exact = exact_stages(case, by_stage("float32"))
    assert set(STAGES) - exact <= {"dW_skip"} - set(case.expected)
    got = simulated(case, Machine("float32", order))
    for name, stage in got.items():
        want = case.expected[name]
        if name == "d_hidden":  # either keeps what it likes outside the selection
            want, stage = (a * (case.expected["hidden"] != 0) for a in (want, stage))
        assert np.array_equal(stage, want), name


def test_other_cases_are_not_exact():
    def stages(name, arithmetic="float32"):
        return exact_stages(CASES[name], by_stage(arithmetic))

    assert stages("topk-ordinary") == frozenset()
    assert stages("topk-integers", "bfloat16") == frozenset()
    case = CASES["topk-integers"]
    other = dataclasses.replace(case, l1_coeff=0.1)
    exact = exact_stages(other, by_stage("float32"))
    assert {"pre", "reconstruction", "dW_dec"} <= exact
    assert not {"loss", "d_hidden", "d_pre", "dW_enc", "dx"} & exact


def test_quantum():
    assert quantum(np.array([3.0, 0.5, 0.0])) == 0.5
    assert quantum(np.array([12.0, -8.0])) == 4.0
    assert quantum(np.zeros(3)) == np.inf
    assert quantum(np.float64(0.1)) == 2.0**-55


@pytest.mark.parametrize("stage", ["pre", "reconstruction", "loss", "dW_dec", "db_enc", "dx"])
def test_one_rounding_error_is_a_fault_where_every_sum_is_exact(stage):
    exact, ordinary = CASES["topk-skip-integers"], CASES["topk-skip-ordinary"]
    answers = []
    for case in (exact, ordinary):
        results = dict(ours(case))
        array = np.array(results[stage], np.float32)
        at = np.unravel_index(np.abs(array).argmax(), array.shape)
        array[at] = np.nextafter(array[at], np.float32(np.inf))
        answers.append((case, results | {stage: array}))
    report = judged(answers)
    assert report.failed == (exact.name,) and report.cases[exact.name].blame == stage
    assert "no rounding explains a difference" in report.sentence()


# Clean results pass, and mistakes do not.


@pytest.mark.parametrize(
    ("backend", "dtype"),
    [("reference", "float32"), ("reference", "float64"), ("kernels", "float32")],
)
def test_our_own_results_pass_every_case(backend, dtype):
    report = judged([(case, ours(case, backend, dtype)) for case in CASES.values()], dtype)
    assert report.passed and report.conclusive and not report.skipped, str(report)
    assert set(report.cases) == set(CASES) and report.blame is None
    assert set(report.judged) == set(STAGES)  # what one case cannot decide, the others do


@pytest.mark.parametrize(
    ("arithmetic", "how"),
    [
        ("float32", {}),
        ("float32", {"prefers_last": True, "unfused": True}),
        ("float64", {}),
        ("bfloat16", {"unfused": True}),
        ("float16", {"prefers_last": True}),
    ],
)
def test_clean_results_pass_every_finite_case(arithmetic, how):
    cases = [case for case in FINITE if case.is_held_by(by_stage(arithmetic))]
    if "prefers_last" in how:
        cases = [case for case in cases if case.config.ties == "lowest_index"]
    answers = [(case, simulated(case, Machine(arithmetic, "blocked"), **how)) for case in cases]
    if arithmetic == "float64":  # the simulated loss is a float32
        answers = [(case, {n: a for n, a in r.items() if n != "loss"}) for case, r in answers]
    report = judged(answers, arithmetic)
    assert report.passed and not report.skipped, str(report)


FAULTS = {
    "no b_enc": ({"no_b_enc": 1}, "pre", "topk-skip-ordinary", "b_enc is not added"),
    "no ReLU": ({"unrectified": 1}, "pre_acts", "topk-skip-ordinary", "not rectified"),
    "K + 1": ({"more": 1}, "hidden", "topk-skip-ordinary", "are kept, not"),
    "no top-k": ({"no_topk": 1}, "hidden", "topk-skip-ordinary", "nothing is selected"),
    "by magnitude": ({"by_magnitude": 1}, "hidden", "topk-skip-uneven", ""),
    "no b_dec": ({"no_b_dec": 1}, "reconstruction", "topk-skip-ordinary", "b_dec is not added"),
    "W_skip^T": ({"transposed_W_skip": 1}, "reconstruction", "topk-skip-square", "transposed"),
    "no L1 loss": ({"l1_loss": 0}, "loss", "topk-skip-ordinary", "L1 loss is left out"),
    "G / 2": ({"G_times": 0.5}, "d_reconstruction", "topk-skip-integers", "factor 2"),
    "no L1 gradient": ({"l1_grad": 0}, "d_hidden", "topk-skip-ordinary", "no gradient"),
    "top-k's mask": ({"mask": "active"}, "d_pre", "topk-skip-ordinary", "not selected"),
    "0.1 % in dW_enc": ({"times": {"dW_enc": 1.001}}, "dW_enc", "topk-skip-tiny", ""),
    "no skip in dx": ({"dx_no_skip": 1}, "dx", "topk-skip-large", "lacks the skip"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_blamed_on_its_stage(name):
    how, stage, shown_by, says = FAULTS[name]
    square = "transposed_W_skip" in how
    cases = [c for c in FINITE if c.name.startswith("topk-skip-")]
    cases = [c for c in cases if c.config.input_size == c.config.output_size or not square]
    machine = Machine("float32")
    report = judged([(case, simulated(case, machine, **how)) for case in cases])
    assert report.blame == stage and not report.passed, str(report)
    assert shown_by in report.failed and says in report.sentence()
    assert {r.blame for r in report.cases.values()} <= {stage, None}, str(report)


def test_a_convention_is_named_once_for_all_cases():
    cases = [c for c in FINITE if c.config.ties == "lowest_index" and c.name.startswith("topk-")]
    machine = Machine("float32")
    answers = [(case, simulated(case, machine, ties="keep_all")) for case in cases]
    report = judged(answers)
    assert report.convention == "keep_all" and report.blame is None and not report.passed
    assert "keep_all" in report.sentence() and "topk-integers" in report.failed
    assert "topk-ordinary" not in report.failed
    assert judged(answers, accepted=("keep_all",)).passed


@pytest.mark.parametrize(
    "given",
    [["reconstruction"], ["loss"], ["dW_enc", "db_enc"], ["pre", "dW_dec"], ["dx", "dW_skip"]],
    ids=str,
)
def test_any_subset_of_right_results_passes(given):
    # Which of equal features were selected is then not known, in cases where all sums are exact.
    tie_breakers = {"prefers_last": True}, {}
    cases = [c for c in FINITE if c.name.startswith("topk-skip-")]
    for how in tie_breakers:
        answers = [(case, simulated(case, Machine("float32"), **how)) for case in cases]
        report = judged([(case, {n: r[n] for n in given}) for case, r in answers])
        assert report.passed and not report.failed, str(report)
    wrong = [(case, {n: 2 * r[n] for n in given}) for case, r in answers]
    report = judged(wrong)
    assert not report.passed and "topk-skip-ordinary" in report.failed


def test_cases_that_decide_nothing_neither_fail_nor_pass():
    name = "topk-skip-subnormal"
    report = judged([(CASES[name], {"loss": ours(CASES[name])["loss"]})])
    assert report.undecided == (name,) and not report.failed and not report.passed
    assert report.sentence().startswith("Nothing was judged") and "undecided" in report.table()
    other = CASES["topk-skip-ordinary"]
    both = [(case, {"loss": ours(case)["loss"]}) for case in (CASES[name], other)]
    # Where no case could decide on a stage, nothing is said of it; where some did, so much.
    cases = [dataclasses.replace(case, decisive=True) for case, _ in both]
    report = judged([(case, results) for case, (_, results) in zip(cases, both)])
    assert report.passed and not report.conclusive
    assert "every difference in loss is rounding" in report.sentence()
    assert report.sentence().endswith("; on loss not all of them decide.")
    answer = Answer(None, "refused", refused=True)
    answers = [(CASES["topk-non-finite"], answer)]
    refused = judge_cases(answers, by_stage("float32"), "float32", ())
    assert refused.passed and "nothing else was judged" in refused.sentence()


def test_keep_all_keeps_what_is_exactly_equal():
    cases = [c for c in FINITE if c.name.startswith("topk-keep-all-")]
    how = {"ties": "lowest_index"}
    answers = [(case, simulated(case, Machine("float32"), **how)) for case in cases]
    report = judged(answers)
    assert set(report.failed) == {"topk-keep-all-integers", "topk-keep-all-skip-integers"}
    assert report.blame == "hidden"
    assert "equal the K-th largest exactly" in report.sentence()
    assert judged(answers, accepted=("lowest_index",)).passed
    # Where the selection is not given, it shows in what follows, and may be any of K there.
    for stage in "reconstruction", "loss", "d_pre", "dW_enc":
        part = [(case, {stage: results[stage]}) for case, results in answers]
        report = judged(part)
        assert report.blame == stage and "hidden" in report.suspects, str(report)
        assert judged(part, accepted=("lowest_index",)).passed


def test_arrays_of_an_exact_case_are_held_to_the_same():
    case = CASES["topk-keep-all-integers"]
    given = case.transcoder, case.x, case.target
    right = simulated(case, Machine("float32"))
    assert rt.audit(right, *given, l1_coeff=case.l1_coeff).passed
    fewer = simulated(case, Machine("float32"), ties="lowest_index")
    report = rt.audit(fewer, *given, l1_coeff=case.l1_coeff)
    assert report.blame == "hidden" and "equal the K-th largest exactly" in report.sentence()
    known = {"l1_coeff": case.l1_coeff, "conventions": "lowest_index"}
    assert rt.audit(fewer, *given, **known).passed
    off = right | {"dW_dec": right["dW_dec"] * (1 + 2.0**-23)}
    report = rt.audit(off, *given, l1_coeff=case.l1_coeff)
    assert report.faults == ("dW_dec",) and "no rounding" in report.sentence()


def test_a_convention_is_not_forgotten_where_there_is_a_fault_too():
    cases = [c for c in FINITE if c.name.startswith("topk-skip-") and "subnormal" not in c.name]
    how = {"mse": "row_sum", "times": {"dW_enc": 2}}
    answers = [(case, simulated(case, Machine("float32"), **how)) for case in cases]
    for accepted in (), ("mse_sum",):
        report = judged(answers, accepted=accepted)
        blamed = {r.blame for r in report.cases.values()} - {None}
        assert report.blame == "dW_enc" and blamed == {"dW_enc"}, str(report)
        assert "mse_sum" in report.sentence()


def test_a_convention_may_divide_by_zero_in_some_cases():
    cases = [c for c in FINITE if c.name.startswith("topk-skip-")]
    answers = []
    for case in cases:
        results = ours(case, dtype="float64")
        target, error = case.target, results["reconstruction"] - case.target
        with np.errstate(all="ignore"):
            loss = np.mean((error**2).sum(axis=1) / (target.astype(float) ** 2).sum(axis=1))
            loss += case.l1_coeff * results["hidden"].mean()
        forward = {n: results[n] for n in ("pre", "hidden", "reconstruction")}
        answers.append((case, forward | {"loss": np.float32(loss)}))
    report = judged(answers, accepted=("nmse_uncentred",))
    assert report.passed and report.convention == "nmse_uncentred", str(report)
    zero = report.cases["topk-skip-degenerate"].stages["loss"]
    assert zero.verdict == "not judged" and "divides by zero" in zero.explanation
    assert not judged(answers).passed


def test_subnormals_may_count_as_zero():
    case = CASES["topk-skip-subnormal"]
    results = simulated(case, Machine("float32"))
    smallest = np.finfo(np.float32).tiny
    flushed = {n: np.where(np.abs(a) < smallest, 0.0, a) for n, a in results.items()}
    report = judged([(case, flushed)])
    assert report.passed and "count as zero" in str(report)
    wrong = flushed | {"reconstruction": flushed["reconstruction"] + 64 * smallest}
    assert judged([(case, wrong)]).blame == "reconstruction"


# A function is run on probes.


def function_of(tc, l1_coeff=1e-3, refuses=False, swallows=False, more=0):
    def candidate(params, x, target):
        if refuses and not np.isfinite(x).all():
            raise ValueError("NaN")
        config = dataclasses.replace(
            tc.config, top_k=min(tc.config.top_k + more, len(params.b_enc))
        )
        own = rt.Transcoder(config, params)
        results = own.stages(x, target, l1_coeff, check_finite=False)
        if swallows:
            results["pre_acts"] = np.where(results["pre"] > 0, results["pre"], 0)
        return results

    return candidate


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"skip": True, "dtype": "float64"},
        {"activation": "relu"},
        {"ties": "keep_all", "top_k": 1},
        {"dict_size": 3, "top_k": 2, "input_size": 1, "output_size": 1},
    ],
    ids=str,
)
def test_a_function_that_is_right_passes_the_probes(options):
    sizes = {"input_size": 12, "output_size": 10, "dict_size": 40, "top_k": 6}
    tc = rt.build(**sizes | options)
    report = rt.audit(function_of(tc), tc, arithmetic=tc.config.dtype)
    assert isinstance(report, Reports) and report.passed, str(report)
    assert {"own-random", "integers", "near-ties", "non-finite"} <= set(report.cases)
    assert not report.coverage or "top_k" in options
    report.raise_if_failed()


def test_a_function_may_refuse_what_is_not_finite_but_not_lose_it():
    tc = rt.build(input_size=12, output_size=10, dict_size=40, top_k=6)
    report = rt.audit(function_of(tc, refuses=True), tc)
    assert report.passed and report.cases["non-finite"].refused
    assert "Refused" in report.table()
    report = rt.audit(function_of(tc, swallows=True), tc)
    assert report.failed == ("non-finite",) and report.blame == "pre_acts"
    assert "lost here" in report.sentence()


def test_a_function_that_is_wrong_fails_with_its_stage_and_its_case():
    tc = rt.build(input_size=12, output_size=10, dict_size=40, top_k=6)
    report = rt.audit(function_of(tc, more=1), tc)
    assert report.blame == "hidden" and "7 features are kept, not 6" in report.sentence()
    assert "in the case own-random" in report.sentence()
    with pytest.raises(AssertionError, match="Fault at hidden"):
        report.raise_if_failed()
    assert report.to_dict()["cases"]["integers"]["blame"] == "hidden"


def test_a_function_has_to_return_something():
    tc = rt.build(input_size=12, output_size=10, dict_size=40, top_k=6)
    with pytest.raises(OptionError, match="the results of own-random.*mapping.*got 'NoneType'"):
        rt.audit(lambda params, x, target: None, tc)


@pytest.mark.parametrize("top_k", [1, 2, 6, 12])
def test_whatever_K_is_some_rows_tie_at_that_place(top_k):
    tc = rt.build(input_size=12, output_size=10, dict_size=40, top_k=top_k)
    cases = {case.name: case for case in probes_of(tc, by_stage("float32"), 0.0)}
    assert (gaps(cases["integers"]) == 0).any()
    near = gaps(cases["near-ties"])
    assert ((near > 0) & (near < 2.0**-24)).any()


def test_an_exception_on_finite_rows_is_the_functions_own():
    tc = rt.build(input_size=12, output_size=10, dict_size=40, top_k=6)
    with pytest.raises(ZeroDivisionError):
        rt.audit(lambda params, x, target: 1 / 0, tc)
    with pytest.raises(rt.errors.ShapeError, match="^own-random: pre must have shape"):
        rt.audit(lambda params, x, target: {"pre": x}, tc)
    with pytest.raises(rt.errors.OptionError, match="^x must be"):
        rt.audit({}, tc)


def test_functions_in_any_arithmetic_and_order_are_never_at_fault():
    rng = np.random.default_rng(8)
    for number in range(16):
        sizes = {n: int(rng.integers(1, 30)) for n in ("input_size", "output_size", "dict_size")}
        options = {"skip": bool(number % 2), "activation": ("topk", "topk", "relu")[number % 3]}
        top_k = int(rng.integers(1, sizes["dict_size"] + 1))
        tc = rt.build(**sizes, **options, top_k=top_k, seed=number)
        arithmetic = ("float32", "bfloat16", "float16", "bfloat16-inputs")[number % 4]
        machine = Machine(arithmetic, str(rng.choice(sorted(set(ORDERS) - {"truncated"}))))
        how = {"unfused": bool(rng.integers(2)), "prefers_last": bool(rng.integers(2))}

        def candidate(params, x, target, tc=tc, machine=machine, how=how):
            arrays = {n: a.astype(np.float64) for n, a in params.arrays().items()}
            arrays |= {"x": x.astype(np.float64), "target": target.astype(np.float64)}
            case = simulated_transcoder.Case(
                **({"W_skip": None} | arrays),
                top_k=tc.config.top_k,
                l1_coeff=0.5,
                activation=tc.config.activation,
            )
            with np.errstate(invalid="ignore"):
                return simulate(case, machine, **how)

        report = rt.audit(candidate, tc, l1_coeff=0.5, arithmetic=arithmetic)
        assert report.passed, (number, sizes, options, arithmetic, machine.order, str(report))


def test_a_large_transcoder_is_probed_with_its_own_parameters():
    tc = rt.build(input_size=64, output_size=64, dict_size=8400, top_k=8)
    cases = probes_of(tc, by_stage("bfloat16"), 0.5)
    assert {case.name for case in cases} == {
        "own-random",
        "own-aimed",
        "own-ties",
        "own-non-finite",
        "every-feature",
    }
    for case in cases:
        most = -(-8400 // 8) if case.name == "every-feature" else 16
        assert len(case.x) <= most and case.l1_coeff == 0.5
        finite = case.x[np.isfinite(case.x)]
        assert representable(finite, PRECISIONS["bfloat16"])
        assert representable(case.params.W_enc, PRECISIONS["bfloat16"])
    (tied,) = [case for case in cases if case.name == "own-ties"]
    assert (gaps(tied) < 1e-12).any()
