"""Audits of the other selections: groups, magnitudes, the batch."""

from __future__ import annotations

import numpy as np
import pytest

import reftranscoder as rt
from reftranscoder.errors import OptionError, ShapeError

B, I, D, O, K = 24, 8, 40, 6, 5
rng = np.random.default_rng(3)
X, TARGET = (rng.standard_normal((B, n)).astype(np.float32) for n in (I, O))
WEIGHTS = {
    name: rng.standard_normal(shape).astype(np.float32)
    for name, shape in {"W_enc": (D, I), "b_enc": D, "W_dec": (D, O), "b_dec": O}.items()
}
ACTIVATIONS = ("groupmax", "abstopk", "batchtopk")


def made(activation, **options):
    return rt.Transcoder.from_arrays(**WEIGHTS, activation=activation, top_k=K, **options)


@pytest.mark.parametrize("ties", ["lowest_index", "keep_all"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_right_results_pass(activation, ties):
    tc = made(activation, ties=ties)
    for backend in ("kernels", "reference"):
        stages = tc.stages(X, TARGET, backend=backend)
        report = rt.audit(stages, tc, X, TARGET)
        assert report.passed and report.conclusive, str(report)
        if activation != "batchtopk":
            for given in (["reconstruction"], ["pre", "db_enc", "dx"], ["dW_dec"]):
                report = rt.audit({name: stages[name] for name in given}, tc, X, TARGET)
                assert report.passed and report.conclusive, str(report)


@pytest.mark.parametrize("others", ["topk", "relu", *ACTIVATIONS])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_selection_of_another_activation_is_at_fault(activation, others):
    if others == activation:
        return
    tc = made(activation)
    # The same pre and pre_acts, so that the selection is all that is wrong.
    wrong = tc.stages(X, TARGET) | {"hidden": made(others).stages(X)["hidden"]}
    report = rt.audit(wrong, tc, X, TARGET)
    assert report.blame == "hidden", str(report)
    hidden = made(others).stages(X)["hidden"]
    alone = {"hidden": hidden, "reconstruction": hidden @ WEIGHTS["W_dec"] + WEIGHTS["b_dec"]}
    report = rt.audit(alone, tc, X)
    assert report.faults == ("hidden",), str(report)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_follows_the_selection_is_judged_as_ever(activation):
    tc = made(activation)
    stages = tc.stages(X, TARGET)
    for name in ("reconstruction", "loss", "dW_dec", "dW_enc", "dx"):
        report = rt.audit(stages | {name: 2 * stages[name]}, tc, X, TARGET)
        assert report.blame == name
        assert "twice" in report.stages[name].explanation, str(report)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_functions_are_tried_on_cases(activation):
    def theirs(activation):
        def run(params, x, target):
            tc = rt.Transcoder.from_arrays(**params.arrays(), activation=activation, top_k=K)
            return tc.stages(x, target, backend="kernels", check_finite=False)

        return run

    assert rt.audit(theirs(activation), made(activation)).passed
    assert rt.audit(theirs("topk"), made(activation)).blame in ("pre_acts", "hidden")


def test_what_a_batch_selects_is_judged_as_a_whole():
    tc = made("batchtopk")
    stages = tc.stages(X, TARGET)
    with pytest.raises(OptionError, match="candidate must be a mapping that holds hidden"):
        rt.audit({"reconstruction": stages["reconstruction"]}, tc, X)
    x = X.copy()
    x[3, 1] = np.nan
    with pytest.raises(OptionError, match="finite, for an audit of batchtopk; got .* in row 3"):
        rt.audit(stages, tc, x, TARGET)
    with pytest.raises(ShapeError, match="at most 838860 rows, for an audit of batchtopk"):
        rt.audit({}, tc, np.zeros((838861, I), np.float32))
