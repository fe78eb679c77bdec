"""The sentence of an audit: what it says of the faults that real libraries have."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_transcoder import Machine, random_case, simulate

import reftranscoder as rt
from reftranscoder.auditor import AuditFailure
from reftranscoder.auditor.audit import audit
from reftranscoder.auditor.explaining import subsets
from reftranscoder.auditor.explaining.known_faults import explain_zero
from reftranscoder.auditor.judging.verdict import StageResult
from reftranscoder.auditor.task.arithmetic import by_stage
from reftranscoder.auditor.task.candidate import Candidate
from reftranscoder.auditor.task.definition import Definition
from reftranscoder.auditor.task.problem import Problem
from reftranscoder.auditor.task.stage_graph import STAGES
from reftranscoder.conventions import MSE

INACTIVE = "gradients pass through selected features that are inactive (ReLU'(0) is 0)"
FEW = random_case(20, Machine("float32"), few=True)
MANY = random_case(20, Machine("float32"))
GRADIENTS = ("dW_dec", "db_dec", "dW_skip", "dW_enc", "db_enc", "dx")


def audited(case, results, given=None, **options):
    tc = rt.Transcoder.from_arrays(**case.params(), top_k=case.top_k, activation=case.activation)
    results = {name: results[name] for name in given} if given else results
    return audit(results, tc, case.x, case.target, l1_coeff=case.l1_coeff, **options)


def with_indices(case, results):
    """``results`` with hidden as indices and values: the last of equal activations are selected."""
    order = np.argsort(-results["pre_acts"][:, ::-1], axis=1, kind="stable")[:, : case.top_k]
    indices = len(case.b_enc) - 1 - order
    values = np.take_along_axis(results["hidden"], indices, axis=1)
    assert (values == 0).any() and (values > 0).any()
    rest = {name: array for name, array in results.items() if name != "hidden"}
    return rest | {"indices": indices, "values": values}


def through_inactive(**how):
    """Gradients pass wherever the last of equal activations are selected, active or not."""
    return simulate(FEW, Machine("float32"), prefers_last=True, mask="largest", **how)


GIVEN = ("pre_acts", "indices", "values", "reconstruction", "loss", *GRADIENTS)


@pytest.mark.parametrize("large", [False, True])
def test_gradients_through_inactive_features_that_indices_select_are_named(large, monkeypatch):
    if large:
        monkeypatch.setattr(subsets, "_SMALL", 0)
        monkeypatch.setattr(subsets, "_FEATURES", 16)
    results = with_indices(FEW, through_inactive())
    report = audited(FEW, results, GIVEN)
    assert report.faults == ("dW_enc", "db_enc", "dx") and report.blame == "dW_enc"
    assert report.suspects == ("d_reconstruction", "d_hidden", "d_pre", "dW_enc")
    assert report.sentence() == (
        f"Fault at dW_enc: {INACTIVE}; it was made in d_pre, which was not given; "
        "also at db_enc and dx."
    )


def test_they_are_named_at_d_pre_where_that_is_given():
    report = audited(FEW, with_indices(FEW, through_inactive()))
    assert report.faults == ("d_pre",)
    assert report.sentence() == f"Fault at d_pre: {INACTIVE}."


def test_indices_that_select_inactive_features_are_no_fault_by_themselves():
    results = with_indices(FEW, simulate(FEW, Machine("float32"), prefers_last=True))
    assert audited(FEW, results, GIVEN).passed and audited(FEW, results).passed
    # Nor do they turn another fault into this one.
    results["dW_enc"] = 2 * results["dW_enc"]
    assert "dW_enc is twice" in audited(FEW, results, GIVEN).sentence()


def test_without_indices_a_feature_that_is_never_active_is_the_reason():
    results = through_inactive()
    given = ("pre_acts", "hidden", "reconstruction", "loss", *GRADIENTS)
    report = audited(FEW, results, given)
    assert report.blame == "dW_enc"
    feature, column = report.stages["dW_enc"].index
    assert not results["hidden"][:, feature].any()
    got = results["dW_enc"][feature, column]
    assert report.sentence() == (
        f"Fault at dW_enc[{feature}, {column}]: got {got:.9g} where a correct result is 0, as "
        f"feature {feature} is active in no row; it was made there or in d_reconstruction, "
        "d_hidden or d_pre, none of which was given; also at db_enc and dx."
    )
    # Without hidden, what it is made from tells.
    del results["hidden"]
    given = ("pre_acts", "dW_enc")
    assert f"feature {feature} is active in no row" in audited(FEW, results, given).sentence()


def test_where_a_gradient_ought_to_be_0_in_a_row_the_sentence_says_so():
    results = simulate(MANY, Machine("float32"))
    results["d_pre"] = results["d_pre"].copy()
    row, feature = 3, int(np.flatnonzero(results["pre"][3] < 0)[0])
    results["d_pre"][row, feature] = 0.25
    given = ("pre", "hidden", "d_hidden", "d_pre")
    assert audited(MANY, results, given).sentence() == (
        f"Fault at d_pre[{row}, {feature}]: got 0.25 where a correct result is 0, as "
        f"feature {feature} is not active in that row."
    )
    # Active and not selected is another reason.
    results["d_pre"][row, feature] = 0
    unselected = (results["pre"] > 0) & (results["hidden"] == 0)
    row, feature = np.argwhere(unselected)[0]
    results["d_pre"][row, feature] = 0.25
    sentence = audited(MANY, results, given).sentence()
    assert f"as feature {feature} is not selected in that row" in sentence
    # A result that is far from 0 is compared with what it ought to be.
    results["d_pre"] = simulate(MANY, Machine("float32"))["d_pre"]
    row, feature = np.argwhere(results["hidden"])[0]
    results["d_pre"][row, feature] += 0.25
    assert "and a correct float32 result is within" in audited(MANY, results, given).sentence()


@pytest.mark.parametrize(
    ("got", "want", "bound", "zero"),
    [
        (1.0, 0.0, 0.0, True),
        (1.0, 0.0, 2.0**-145, True),
        (1.0, 0.0, 1e-7, False),
        (1.0, 1e-30, 0.0, False),
        (2.0**-144, 0.0, 2.0**-145, False),
    ],
)
def test_a_zero_within_a_bound_that_shows_is_not_called_zero(got, want, bound, zero):
    given = {"db_enc": np.zeros(48), "hidden": np.zeros((24, 48))}
    candidate = Candidate(given, (24, 16, 48, 16), True)
    fault = StageResult("db_enc", "fault", index=(7,), got=got, want=want, bound=bound)
    results = {name: StageResult(name, "not given") for name in STAGES} | {"db_enc": fault}
    params, definition = rt.Params(**MANY.params()), Definition(6)
    problem = Problem(params, definition, by_stage("float32"), MANY.x, MANY.target, 1.0)
    found = explain_zero(problem, candidate, results)["db_enc"].extra
    assert found == ({"zero": "feature 7 is active in no row"} if zero else {})


def test_the_same_names_in_two_orders_are_one_explanation():
    results = simulate(MANY, Machine("float32"), x_minus_b_dec=True, norms="pre")
    both = {"x - b_dec", "rescale_acts_by_decoder_norm"}
    # Without pre, it does not matter whether |W_dec[j]| scales that or hidden.
    for given in (("hidden", "reconstruction"), ("reconstruction",), ("pre", "hidden"), None):
        report = audited(MANY, results, given)
        alternatives = [frozenset(a.split(" and ")) for a in report.convention.split(" or ")]
        assert both in alternatives and len(set(alternatives)) == len(alternatives)
        assert "rescale_acts_by_decoder_norm and x - b_dec" in report.convention


def test_a_failure_says_how_a_convention_is_declared():
    results = simulate(MANY, Machine("float32"), mse="row_sum")
    report = audited(MANY, results)
    text = 'under the convention mse_sum. If that .* declare it: conventions=."mse_sum",., or on '
    with pytest.raises(AuditFailure, match=text):
        report.raise_if_failed()
    declared = audited(MANY, results, conventions="mse_sum")
    assert report.to_declare and declared.passed and not declared.to_declare


def test_a_convention_that_explains_the_first_stages_is_in_the_sentence():
    results = with_indices(FEW, through_inactive(x_minus_b_dec=True))
    for accepted in ((), ("x - b_dec",)):
        report = audited(FEW, results, GIVEN, conventions=accepted)
        assert not report.passed and report.convention is None
        assert report.explanations == ("x - b_dec explains pre_acts",)
        assert report.faults == ("db_dec", "dW_enc", "db_enc", "dx")
        # Under it db_dec reads d_pre.
        assert report.suspects == ("d_reconstruction", "d_hidden", "d_pre", "db_dec")
        assert report.sentence() == (
            f"Right up to dW_dec, under the convention x - b_dec; fault at db_dec: {INACTIVE}; "
            "it was made in d_pre, which was not given; also at dW_enc, db_enc and dx."
        )


def test_what_db_dec_reads_depends_on_the_convention():
    for how in ({}, {"x_minus_b_dec": True}):
        results = simulate(MANY, Machine("float32"), **how)
        results["db_dec"] = results["db_dec"] + 0.125
        report = audited(MANY, results, ("pre", "hidden", "reconstruction", "db_dec"))
        between = ("d_hidden", "d_pre") if how else ()
        assert report.suspects == ("d_reconstruction", *between, "db_dec")
        listed = ", ".join(("d_reconstruction", *between)).replace(", d_pre", " or d_pre")
        seen = "none of which was given" if how else "which was not given"
        assert report.sentence().endswith(f"it was made there or in {listed}, {seen}.")
        assert report.sentence().startswith("Right up to" if how else "Fault at db_dec[")
    # What is not finite in d_pre is not blamed on db_dec.
    results = simulate(MANY, Machine("float32"), x_minus_b_dec=True)
    results["d_pre"] = results["d_pre"].copy()
    results["d_pre"][2, 5] = np.nan
    report = audited(MANY, results)
    assert report.blame == "d_pre" and report.stages["db_dec"].verdict == "not judged"


@pytest.mark.parametrize("mse", ["fvu", "over_square"])
@pytest.mark.parametrize("given", [None, ("hidden", "reconstruction", "loss", *GRADIENTS)])
def test_a_loss_with_the_gradients_of_another_is_named(mse, given):
    name = {"fvu": "fvu_batch", "over_square": "nmse_uncentred"}[mse]
    results = simulate(MANY, Machine("float32"))
    results["loss"] = simulate(MANY, Machine("float32"), mse=mse)["loss"]
    report = audited(MANY, results, given)
    blame = "dW_dec" if given else "d_reconstruction"
    assert report.blame == blame and report.explanations == (f"{name} explains loss",)
    text = report.sentence()
    start = f"Right up to loss, under the convention {name}; fault at {blame}: "
    assert text.startswith(f"{start}the gradients are not those of that loss but of the default")
    assert ("it was made in d_reconstruction, which was not given" in text) == bool(given)
    assert set(report.suspects) <= set(STAGES)


@pytest.mark.parametrize("mse", ["fvu", "over_square", "over_norm"])
def test_the_gradients_of_a_documented_loss_beside_the_default_one_are_named(mse):
    results = simulate(MANY, Machine("float32"), mse=mse)
    results["loss"] = simulate(MANY, Machine("float32"))["loss"]
    report = audited(MANY, results, ("hidden", "reconstruction", "loss", *GRADIENTS))
    assert report.blame == "dW_dec" and report.explanations == ()
    assert report.sentence().startswith(
        f"Fault at dW_dec: the gradients are those of another loss, {MSE[mse]}; it was made in "
    )
    # Of two others, the loss's is a convention and the gradients' is not.
    results["loss"] = simulate(MANY, Machine("float32"), mse="row_sum")["loss"]
    report = audited(MANY, results)
    assert report.blame == "d_reconstruction" and report.explanations == ("mse_sum explains loss",)
    assert f"the gradients are those of another loss, {MSE[mse]}" in report.sentence()
