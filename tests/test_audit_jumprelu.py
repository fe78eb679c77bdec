"""Audits of jumprelu: thresholds judge what is active, and mistakes about them have names."""

from __future__ import annotations

import dataclasses

import ml_dtypes
import numpy as np
import pytest

import reftranscoder as rt

B, I, D, O = 24, 8, 40, 6
rng = np.random.default_rng(3)
X, TARGET = (rng.standard_normal((B, n)).astype(np.float32) for n in (I, O))
WEIGHTS = {
    "W_enc": rng.standard_normal((D, I)),
    "b_enc": rng.standard_normal(D),
    "W_dec": rng.standard_normal((D, O)),
    "b_dec": rng.standard_normal(O),
}
# Thresholds below zero say no more than that pre is positive.
THETA = np.where(np.arange(D) % 7 == 3, -0.5, np.abs(rng.standard_normal(D)) / 2)


def made(theta=THETA, dtype=np.float32, weights=WEIGHTS, **own):
    arrays = {name: a.astype(dtype) for name, a in weights.items()}
    own = rt.JumpReLU(np.asarray(theta, dtype), **own)
    return rt.Transcoder.from_arrays(**arrays, activation="jumprelu", own=own)


def stages_of(tc, x, target=None):
    """Every stage as the kernels have it."""
    return tc.stages(x, target, backend="kernels", check_finite=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("backend", ["kernels", "reference"])
@pytest.mark.parametrize("given", [None, ("reconstruction",), ("pre", "db_enc", "dx")])
def test_right_results_pass(dtype, backend, given):
    tc = made(dtype=dtype)
    x, target = X.astype(dtype), TARGET.astype(dtype)
    stages = tc.stages(x, target, backend=backend)
    stages = {name: stages[name] for name in given or stages}
    arithmetic = np.dtype(dtype).name
    report = rt.audit(stages, tc, x, target, arithmetic=arithmetic)
    assert report.passed and report.conclusive, str(report)


@pytest.mark.parametrize(
    ("theta", "words"),
    [
        (0 * THETA, "the thresholds are left out"),
        (THETA.astype(ml_dtypes.bfloat16), "the thresholds are rounded to bfloat16"),
        (THETA.astype(np.float16), "the thresholds are rounded to float16"),
        (1.1 * THETA, "is above its threshold and left out"),
        (0.9 * THETA, "is selected, and its activation is not above its threshold"),
    ],
)
def test_what_is_wrong_with_thresholds_is_named(theta, words):
    # Rows that are units, times activations within a half of the thresholds, show every rounding.
    weights = WEIGHTS | {"W_enc": np.eye(D), "b_enc": np.zeros(D)}
    near = np.abs(THETA) * (1 + np.exp2(np.random.default_rng(4).uniform(-14, -3, (B, D))))
    x = near.astype(np.float32)
    x[::2] = (2 * np.abs(THETA) - near[::2]).astype(np.float32)
    tc = made(weights=weights)
    report = rt.audit(stages_of(made(theta, weights=weights), x, TARGET), tc, x, TARGET)
    assert report.blame == "hidden"
    assert words in report.stages["hidden"].explanation, str(report)


def test_a_feature_at_its_threshold_is_inactive():
    # Multiples of 1/64: no sum of them is rounded.
    weights = {name: np.rint(a * 8) / 8 for name, a in WEIGHTS.items()}
    x, theta = np.rint(8 * X) / 8, np.rint(64 * THETA) / 64
    pre = x @ weights["W_enc"].T + weights["b_enc"]
    theta[::2] = np.abs(pre[0, ::2])
    tc = made(theta, weights=weights)
    x = x.astype(np.float32)
    assert rt.audit(stages_of(tc, x, TARGET), tc, x, TARGET).passed
    reaching = stages_of(made(theta - 1 / 64, weights=weights), x, TARGET)
    report = rt.audit(reaching, tc, x, TARGET)
    assert report.blame == "hidden"
    assert "is active at its threshold, or just below" in report.stages["hidden"].explanation


@pytest.mark.parametrize("large", [False, True])
def test_functions_are_tried_on_cases_with_thresholds(large, monkeypatch):
    if large:
        monkeypatch.setattr("reftranscoder.auditor.probes.probe_set._MOST_WEIGHTS", 0)
    tc = made()

    def candidate(params, x, target, change=lambda own: own):
        arrays = params.arrays()
        own = change(params.own)
        theirs = rt.Transcoder.from_arrays(**arrays, activation="jumprelu", own=own)
        return stages_of(theirs, x, target)

    assert rt.audit(candidate, tc).passed

    def reaching(params, x, target):
        def below(own):
            positive = own.theta > 0
            theta = np.where(positive, np.nextafter(own.theta, np.float32(0)), own.theta)
            return dataclasses.replace(own, theta=theta)

        return candidate(params, x, target, below)

    def in_bfloat16(params, x, target):
        def rounded(own):
            theta = own.theta.astype(ml_dtypes.bfloat16).astype(np.float32)
            return dataclasses.replace(own, theta=theta)

        return candidate(params, x, target, rounded)

    def one_is_zero(params, x, target):
        def but_one(own):
            return dataclasses.replace(own, theta=np.where(np.arange(D) == 37, 0, own.theta))

        return candidate(params, x, target, but_one)

    wrong = [in_bfloat16, one_is_zero] if large else [reaching, in_bfloat16, one_is_zero]
    for function in wrong:
        report = rt.audit(function, tc)
        assert report.blame == "hidden", (function.__name__, str(report))


@pytest.mark.parametrize("through", ["theta", "theta_and_input"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_straight_through_gradients_are_judged(through, dtype):
    tc = made(dtype=dtype, bandwidth=0.5, through=through)
    x, target = X.astype(dtype), TARGET.astype(dtype)
    right, name = tc.stages(x, target, backend="reference"), np.dtype(dtype).name
    assert right["dtheta"].any()
    report = rt.audit(right, tc, x, target, arithmetic=name)
    assert report.passed and "dtheta" in report.judged, str(report)
    wrong = right | {"dtheta": np.roll(right["dtheta"], 1)}
    assert rt.audit(wrong, tc, x, target, arithmetic=name).blame == "dtheta"
    other = made(dtype=dtype, bandwidth=0.5, through="theta")
    stages = other.stages(x, target, backend="reference")
    blame = rt.audit(stages, tc, x, target, arithmetic=name).blame
    assert blame == (None if through == "theta" else "d_pre")


def test_what_cannot_be_judged_is_said():
    plain = rt.Transcoder.from_arrays(**WEIGHTS, top_k=4)
    report = rt.audit(plain.stages(X, TARGET) | {"dtheta": THETA}, plain, X, TARGET)
    assert report.passed and "dtheta was given, and is not judged" in report.unseen
