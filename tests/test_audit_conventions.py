"""A candidate that is right under a documented convention is told which, and nothing else is."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from simulated_transcoder import Machine, random_case, simulate

import reftranscoder as rt
from reftranscoder.auditor.audit import audit
from reftranscoder.auditor.explaining import subsets
from reftranscoder.auditor.explaining.conventions import NAMES, documented
from reftranscoder.auditor.explaining.explain import explain
from reftranscoder.auditor.explaining.known_faults import name_fault
from reftranscoder.auditor.judging.judge import Judge
from reftranscoder.auditor.task.arithmetic import by_stage
from reftranscoder.auditor.task.candidate import Candidate
from reftranscoder.auditor.task.definition import Definition
from reftranscoder.auditor.task.problem import Problem
from reftranscoder.auditor.task.stage_graph import STAGES

CONVENTIONS = {
    "x - b_dec": {"x_minus_b_dec": True},
    "skip of x - b_dec": {"skip_x_minus_b_dec": True},
    "rank_by_decoder_norm": {"norms": "ranks"},
    "rescale_acts_by_decoder_norm": {"norms": "pre"},
    "rescale_acts_by_decoder_norm, hidden alone": {"norms": "hidden"},
    "rescale_acts_by_decoder_norm, detached": {"norms": "hidden", "detached": True},
    "mse_sum": {"mse": "row_sum"},
    "mse_total": {"mse": "sum"},
    "mse_over_norm": {"mse": "over_norm"},
    "nmse_uncentred": {"mse": "over_square"},
    "fvu_batch": {"mse": "fvu"},
    "half": {"half": True},
    "l1_sum": {"l1": "row_sum"},
    "l1_total": {"l1": "sum"},
    "l1_over_k": {"l1": "kept"},
    "l1_over_input_norm": {"l1": "over_input_norm"},
    "l1_decoder_weighted": {"l1": "row_sum", "l1_weighted": True},
    "l1_decoder_weighted, detached": {"l1": "row_sum", "l1_weighted": True, "detached": True},
    "l1_weighted_mean": {"l1_weighted": True},
}
PAIRS = {
    "x - b_dec and skip of x - b_dec": {"x_minus_b_dec": True, "skip_x_minus_b_dec": True},
    "x - b_dec and mse_sum": {"x_minus_b_dec": True, "mse": "row_sum"},
    "l1_sum and mse_sum": {"mse": "row_sum", "l1": "row_sum"},
    "half and mse_sum": {"half": True, "mse": "row_sum"},
}


# Every fifth of all that change different things; together two of these are a third.
ANY_TWO = [
    (a, b)
    for a, b in itertools.combinations(CONVENTIONS, 2)
    if not set(CONVENTIONS[a]) & set(CONVENTIONS[b]) and (a, b) != ("l1_sum", "l1_weighted_mean")
][::5]


def transcoder(case):
    return rt.Transcoder.from_arrays(
        **case.params(), top_k=case.top_k, activation=case.activation, ties=case.ties
    )


def audited(case, results, **options):
    tc = transcoder(case)
    return audit(results, tc, case.x, case.target, l1_coeff=case.l1_coeff, **options)


def tied(case):
    """Features in equal pairs, so that K odd cuts through one."""
    return dataclasses.replace(
        case,
        W_enc=np.repeat(case.W_enc[::2], 2, axis=0),
        b_enc=np.repeat(case.b_enc[::2], 2),
        top_k=5,
    )


@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_convention_is_named(name, arithmetic):
    machine = Machine(arithmetic)
    case = random_case(5, machine)
    report = audited(case, simulate(case, machine, **CONVENTIONS[name]), arithmetic=arithmetic)
    assert report.convention == name.split(",")[0], str(report)
    assert report.blame is None and not report.passed
    first = next(s for s in STAGES if report.stages[s].verdict == "convention")
    assert [s for s in STAGES if report.stages[s].verdict == "convention"] == [first]


@pytest.mark.parametrize("name", PAIRS)
def test_two_conventions_at_once_are_named(name):
    machine = Machine("float32")
    case = random_case(6, machine)
    report = audited(case, simulate(case, machine, **PAIRS[name]))
    assert report.convention == name, str(report)


@pytest.mark.parametrize("names", ANY_TWO, ids=" and ".join)
def test_any_two_conventions_are_named(names):
    machine = Machine("float32")
    case = random_case(6, machine)
    how = CONVENTIONS[names[0]] | CONVENTIONS[names[1]]
    report = audited(case, simulate(case, machine, **how))
    assert report.convention is not None, str(report)
    assert set(report.convention.split(" and ")) == {name.split(",")[0] for name in names}


MORE = {
    "x - b_dec and l1_sum and mse_sum": {"x_minus_b_dec": 1, "mse": "row_sum", "l1": "row_sum"},
    "rescale_acts_by_decoder_norm and x - b_dec and mse_sum": {
        "x_minus_b_dec": 1,
        "norms": "pre",
        "mse": "row_sum",
    },
    "x - b_dec and l1_over_input_norm and nmse_uncentred": {
        "x_minus_b_dec": 1,
        "mse": "over_square",
        "l1": "over_input_norm",
    },
    "half and l1_sum and mse_sum": {"half": 1, "mse": "row_sum", "l1": "row_sum"},
    "x - b_dec and skip of x - b_dec and half and l1_over_k and mse_sum": {
        "x_minus_b_dec": 1,
        "skip_x_minus_b_dec": 1,
        "half": 1,
        "mse": "row_sum",
        "l1": "kept",
    },
}


@pytest.mark.parametrize("given", [STAGES, ("hidden", "reconstruction", "loss", *STAGES[8:])])
@pytest.mark.parametrize("name", MORE)
def test_many_conventions_at_once_are_named_and_pass_if_declared(name, given):
    machine = Machine("float32")
    case = random_case(6, machine)
    results = simulate(case, machine, **MORE[name])
    results = {stage: results[stage] for stage in given}
    report = audited(case, results)
    assert report.convention == name and not report.passed, str(report)
    # Beside what is not at work, too.
    for more in ((), ("keep_all", "mse_total")):
        assert audited(case, results, conventions=(*name.split(" and "), *more)).passed
    results["dW_enc"] = 2 * results["dW_enc"]
    report = audited(case, results, conventions=name.split(" and "))
    assert report.blame == "dW_enc" and report.partly == name, str(report)


def test_many_conventions_are_found_on_parts(monkeypatch):
    machine = Machine("float32")
    case = random_case(13, machine, B=40, D=64)
    monkeypatch.setattr(subsets, "_SMALL", 0)
    monkeypatch.setattr(subsets, "_ROWS", 8)
    monkeypatch.setattr(subsets, "_FEATURES", 16)
    for name in list(MORE)[:3]:
        results = simulate(case, machine, **MORE[name])
        assert audited(case, results).convention == name
        assert audited(case, results, conventions=name.split(" and ")).passed


@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
@pytest.mark.parametrize("given", [("loss",), ("hidden", "reconstruction", "loss", *STAGES[8:])])
def test_a_loss_that_is_wrong_is_not_explained_by_coincidence(arithmetic, given):
    machine = Machine(arithmetic)
    case = random_case(6, machine)
    results = simulate(case, machine)
    for factor in np.exp(1.5 * np.random.default_rng(3).standard_normal(6)):
        wrong = {stage: results[stage] for stage in given} | {"loss": results["loss"] * factor}
        report = audited(case, wrong, arithmetic=arithmetic)
        assert report.convention is None and report.partly is None, (factor, str(report))
        assert report.passed or report.blame == "loss"


def test_a_loss_alone_speaks_for_one_convention_and_of_more_only_if_declared():
    machine = Machine("float32")
    case = random_case(6, machine)

    def report(how, arithmetic="float32", **options):
        results = simulate(case, Machine(arithmetic), **how)
        results = {stage: results[stage] for stage in ("hidden", "reconstruction", "loss")}
        return audited(case, results, arithmetic=arithmetic, **options)

    alone = report({"mse": "row_sum"})
    assert alone.convention == "mse_sum"
    assert "the loss alone speaks for it" in alone.stages["loss"].explanation
    assert report({"mse": "row_sum"}, "bfloat16").blame == "loss"
    assert report({"mse": "row_sum"}, "bfloat16", conventions="mse_sum").passed
    assert report(PAIRS["l1_sum and mse_sum"]).blame == "loss"
    assert report(PAIRS["l1_sum and mse_sum"], conventions=["l1_sum", "mse_sum"]).passed


def test_a_convention_that_hides_everything_explains_nothing():
    """Where its bound is above the loss itself, zero would do as well."""
    machine = Machine("bfloat16")
    case = random_case(6, machine, O=400, I=16, l1_coeff=64.0, skip=False)
    case = dataclasses.replace(case, target=simulate(case, machine)["reconstruction"])
    results = simulate(case, machine)
    results = {n: results[n] for n in ("hidden", "reconstruction")} | {"loss": np.array(1e-30)}
    assert audited(case, results, arithmetic="bfloat16").blame == "loss"
    weighted = audited(case, results, arithmetic="bfloat16", conventions="l1_decoder_weighted")
    assert weighted.blame == "loss"


@pytest.mark.parametrize("l1", ["kept", "row_sum"])
def test_a_convention_that_fits_the_loss_by_accident_ends_no_search(l1):
    """In bfloat16 many do; and by accident the loss is right under none, too."""
    machine = Machine("bfloat16")
    for seed in range(8 if l1 == "kept" else 5):
        case = random_case(seed, machine, l1_coeff=0.3)
        results = simulate(case, machine, mse="over_norm", l1=l1)
        report = audited(case, results, arithmetic="bfloat16")
        assert "mse_over_norm" in report.explaining, (seed, str(report))


def test_ties_kept_and_ties_settled():
    machine = Machine("float32")
    case = tied(random_case(7, machine))
    report = audited(case, simulate(case, machine, ties="keep_all"))
    assert report.convention == "keep_all"
    keeping = dataclasses.replace(case, ties="keep_all")
    assert audited(keeping, simulate(keeping, machine)).passed
    report = audited(keeping, simulate(keeping, machine, ties="lowest_index"))
    assert report.convention == "lowest_index" or report.passed, str(report)


def test_a_declared_convention_passes_and_an_undeclared_one_does_not():
    machine = Machine("float32")
    case = random_case(8, machine)
    results = simulate(case, machine, x_minus_b_dec=True)
    assert not audited(case, results).passed
    assert not audited(case, results, conventions=["keep_all"]).passed
    assert audited(case, results, conventions=["x - b_dec"]).passed
    both = simulate(case, machine, **PAIRS["x - b_dec and mse_sum"])
    assert not audited(case, both, conventions=["x - b_dec"]).passed
    assert audited(case, both, conventions=["mse_sum", "x - b_dec"]).passed


def test_a_fault_beside_a_convention_is_blamed_where_it_is():
    machine = Machine("float32")
    case = random_case(9, machine)
    report = audited(case, simulate(case, machine, x_minus_b_dec=True, more=1))
    assert report.stages["pre"].verdict == "convention"
    assert report.blame == "hidden" and report.convention is None
    assert "7 features are kept, not 6" in report.stages["hidden"].explanation
    assert report.explanations == ("x - b_dec explains pre",)
    assert not report.passed


def test_conventions_that_cannot_be_told_apart_are_all_named():
    machine = Machine("float32")
    case = random_case(10, machine, B=1)
    report = audited(case, simulate(case, machine, mse="row_sum"))
    assert report.convention == "mse_sum or mse_total"
    names = ["mse_sum", "mse_total"]
    assert not audited(case, simulate(case, machine, mse="row_sum"), conventions=names[:1]).passed
    assert audited(case, simulate(case, machine, mse="row_sum"), conventions=names).passed
    case = random_case(10, machine)
    results = simulate(case, machine, norms="ranks")
    report = audited(case, {"reconstruction": results["reconstruction"]})
    assert report.convention == "rank_by_decoder_norm or rescale_acts_by_decoder_norm"


@pytest.mark.parametrize(
    "given", [("reconstruction",), ("reconstruction", "dW_enc", "dx"), ("hidden", "dW_dec")]
)
def test_a_subset_of_stages_is_enough(given):
    machine = Machine("float32")
    case = random_case(11, machine)
    results = simulate(case, machine, x_minus_b_dec=True)
    report = audited(case, {name: results[name] for name in given})
    assert report.convention == "x - b_dec", str(report)


def test_b_dec_that_is_zero_changes_nothing():
    machine = Machine("float32")
    case = random_case(12, machine)
    case = dataclasses.replace(case, b_dec=0 * case.b_dec)
    results = simulate(case, machine, x_minus_b_dec=True)
    # Its gradient is another all the same.
    report = audited(case, results)
    assert report.convention == "x - b_dec" and report.stages["db_dec"].verdict == "convention"
    del results["db_dec"]
    assert audited(case, results).passed


@pytest.mark.parametrize("name", ["x - b_dec", "mse_sum", "l1_over_k", "rank_by_decoder_norm"])
def test_the_search_on_parts_finds_the_same(name, monkeypatch):
    machine = Machine("float32")
    case = random_case(13, machine, B=40, D=64)
    results = simulate(case, machine, **CONVENTIONS[name])
    monkeypatch.setattr(subsets, "_SMALL", 0)
    monkeypatch.setattr(subsets, "_ROWS", 8)
    monkeypatch.setattr(subsets, "_FEATURES", 16)
    assert audited(case, results).convention == name
    late = ("hidden", "reconstruction", "dW_dec", "dW_enc", "db_dec")
    if name == "mse_sum":
        assert audited(case, {n: results[n] for n in late}).convention == name


def test_the_search_on_parts_knows_what_was_rounded_to_be_handed_over(monkeypatch):
    case = random_case(13, Machine("float32"), B=40, D=64)
    exact = simulate(case, Machine("float64"))
    results = {name: np.asarray(a, np.float32) for name, a in exact.items()}
    results["dW_enc"] = 2 * results["dW_enc"]
    monkeypatch.setattr(subsets, "_SMALL", 0)
    report = audited(case, results)
    assert report.blame == "dW_enc" and "twice" in report.sentence(), str(report)


def test_no_hypothesis_repeats_the_default():
    """Each changes a field of the definition, to something else than the default."""
    machine = Machine("float32")
    case = random_case(14, machine)
    definition = Definition(case.top_k)
    problem = Problem(
        transcoder(case).params, definition, by_stage("float32"), case.x, case.target, 1.0
    )
    for hypothesis in documented(problem):
        assert hypothesis.applied(problem).definition != definition
        assert hypothesis.stage in STAGES and hypothesis.meaning


def test_a_long_search_says_that_it_is_at_work():
    machine = Machine("float32")
    case = random_case(15, machine)
    results = simulate(case, machine, more=1)
    sizes = (len(case.x), *case.W_enc.shape[::-1], len(case.b_dec))
    problem = Problem(
        transcoder(case).params, Definition(case.top_k), by_stage("float32"), case.x, case.target, 1
    )
    candidate = Candidate(results, sizes, True)
    judged = Judge(problem, candidate).run()
    for search in (explain, name_fault):
        called = []
        search(problem, candidate, judged, called.append)
        assert called and not any(called)


def test_every_name_is_known_and_no_other():
    names = set()
    for options in ({}, {"ties": "keep_all"}, {"activation": "relu"}):
        case = random_case(5, Machine("float32"), **options)
        definition = Definition(case.top_k, case.activation, case.ties)
        params, arithmetic = rt.Params(**case.params()), by_stage("float32")
        given = case.x, case.target, case.l1_coeff
        problem = Problem(params, definition, arithmetic, *given)
        names |= {hypothesis.name for hypothesis in documented(problem)}
    assert names == set(NAMES)
    case = random_case(5, Machine("float32"))
    with pytest.raises(rt.errors.OptionError, match="mse_sun"):
        audited(case, {}, conventions=["mse_sun"])
    results = simulate(case, Machine("float32"), mse="row_sum")
    assert audited(case, results, conventions="mse_sum").passed
