"""Audits where x is normalized: what is computed so passes in any order, and mistakes are found."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import reftranscoder as rt

B, I, D, K = 12, 10, 24, 4
NAMES = ("layer_norm", "constant_norm_rescale", "expected_average_only_in")
ACTIVATIONS = ("topk", "relu", "jumprelu", "batchtopk", "abstopk", "gated")


def made(name, activation="topk", dtype="float32", skip=False, seed=0, **conventions):
    rng = np.random.default_rng(seed)
    own = None
    if activation == "jumprelu":
        own = rt.JumpReLU(rng.uniform(0.1, 0.6, D), bandwidth=0.5)
    if activation == "gated":
        own = rt.Gated(*(rng.standard_normal(D) / 2 for _ in range(3)))
    scale = {"scale": 0.37} if name == "expected_average_only_in" else {}
    shapes = {"W_enc": (D, I), "b_enc": (D,), "W_dec": (D, I), "b_dec": (I,)}
    shapes |= {"W_skip": (I, I)} if skip else {}
    tc = rt.Transcoder.from_arrays(
        **{n: rng.standard_normal(shape) for n, shape in shapes.items()},
        top_k=K, activation=activation, own=own,
        conventions=rt.Conventions(normalize_activations=name, **scale, **conventions),
    ).astype(dtype)  # fmt: skip
    x, target = (2 + 3 * rng.standard_normal((2, B, I))).astype(dtype)
    return tc, x, target


CASES = [
    *itertools.product(NAMES, ACTIVATIONS, [False], [{"apply_b_dec_to_input": True}]),
    *itertools.product(NAMES, ["topk"], [False, True], [{}, {"rescale_output": False}]),
    *itertools.product(NAMES, ["topk"], [True], [{"skip_input": "encoder_input"}]),
    *itertools.product(
        NAMES, ["topk"], [True], [{"skip_input": "encoder_input", "apply_b_dec_to_input": True}]
    ),
    *itertools.product(NAMES, ["topk"], [False], [{"rescale_acts_by_decoder_norm": True}]),
]


@pytest.mark.parametrize(("name", "activation", "skip", "conventions"), CASES)
def test_what_we_compute_passes(name, activation, skip, conventions):
    tc, x, target = made(name, activation, skip=skip, **conventions)
    backend = "reference" if activation == "jumprelu" else "kernels"
    results = tc.stages(x, target, backend=backend)
    report = rt.audit(results, tc, x, target)
    assert report.passed, str(report)
    judged = {n for n, stage in report.stages.items() if stage.verdict != "not given"}
    outside = skip and tc.config.conventions.changes_output and "skip_input" not in conventions
    open_ = {"dx", "dW_skip"} if outside else {"dx"}
    between = {"encoder_input", "d_encoder_input", "decoded", "d_decoded"}
    assert judged & set(results) == set(results) - open_ - between


@pytest.mark.parametrize("stage", ["reconstruction", "d_hidden", "dW_dec", "db_dec", "dW_enc"])
def test_a_stage_that_is_off_is_blamed(stage):
    tc, x, target = made("layer_norm", apply_b_dec_to_input=True)
    results = tc.stages(x, target, backend="reference")
    report = rt.audit(results | {stage: results[stage] * np.float32(1.01)}, tc, x, target)
    assert report.blame == stage


def test_gradients_that_forget_the_way_back_are_found():
    """What reaches the decoder is d_reconstruction times the deviation of the row."""
    tc, x, target = made("constant_norm_rescale", apply_b_dec_to_input=True)
    results = tc.stages(x, target)
    hidden = results["hidden"].toarray()
    wrong = {"dW_dec": hidden.T @ results["d_reconstruction"]}
    wrong["d_hidden"] = np.where(hidden != 0, results["d_reconstruction"] @ tc.params.W_dec.T, 0)
    for stage, array in wrong.items():
        report = rt.audit(results | {stage: array.astype("f4")}, tc, x, target)
        assert report.blame == stage


def forward(tc, x, order, ddof=1, eps=1e-5, gain=None, shift=None):
    """In float32 and NumPy, with inputs in another ``order``."""
    p, f4 = tc.params, np.float32
    x = x[:, order]
    mean = x.mean(axis=1, keepdims=True, dtype=f4)
    z = x - mean
    sigma = z.std(axis=1, keepdims=True, ddof=ddof, dtype=f4)
    pre = ((z / (sigma + f4(eps))) - p.b_dec[order]) @ p.W_enc.T[order] + p.b_enc
    acts = np.maximum(pre, 0)
    hidden = np.where(acts >= np.sort(acts)[:, [-K]], acts, 0)
    y = (hidden @ p.W_dec + p.b_dec) * (sigma if gain is None else gain)
    return {"pre": pre, "hidden": hidden, "reconstruction": y + (mean if shift is None else shift)}


@pytest.mark.parametrize("seed", range(4))
def test_it_may_be_computed_in_any_order(seed):
    tc, x, _ = made("layer_norm", apply_b_dec_to_input=True, seed=seed)
    order = np.random.default_rng(seed).permutation(I)
    x[0] = x[0].mean() + x[0] * 2**-12  # a row that hardly varies
    assert rt.audit(forward(tc, x, order), tc, x).passed


@pytest.mark.parametrize(
    ("change", "stage"),
    [
        ({"ddof": 0}, "pre"),
        ({"eps": 1e-2}, "pre"),
        ({"gain": 1}, "reconstruction"),
        ({"shift": 0}, "reconstruction"),
    ],
)
def test_mistakes_are_found_where_they_are_made(change, stage):
    tc, x, _ = made("layer_norm", apply_b_dec_to_input=True)
    report = rt.audit(forward(tc, x, np.arange(I), **change), tc, x)
    found = [name for name, result in report.stages.items() if result.verdict == "fault"]
    # A deviation that is off goes into the way back, too.
    assert found == [stage] + ["reconstruction"] * ("ddof" in change)


def test_a_function_is_audited_on_probes():
    tc, _, _ = made("layer_norm", apply_b_dec_to_input=True)

    def candidate(params, x, target, conventions=tc.config.conventions):
        config = {"top_k": K, "conventions": conventions}
        theirs = rt.Transcoder.from_arrays(**params.arrays(), **config)
        return theirs.stages(x, target, backend="kernels", check_finite=False)

    assert rt.audit(candidate, tc).passed
    plain = rt.Conventions(apply_b_dec_to_input=True)
    assert rt.audit(lambda *given: candidate(*given, plain), tc).blame == "pre"


def test_a_row_without_a_norm_becomes_no_number():
    tc, x, _ = made("constant_norm_rescale")
    x[3] = 0
    with np.errstate(invalid="ignore", divide="ignore"):
        norms = np.float32(I**0.5) / np.linalg.norm(x, axis=1, keepdims=True)
        pre = (x * norms) @ tc.params.W_enc.T + tc.params.b_enc
    assert not np.isfinite(pre[3]).any() and rt.audit({"pre": pre}, tc, x).passed
    report = rt.audit({"pre": np.nan_to_num(pre)}, tc, x)
    assert report.blame == "pre"
