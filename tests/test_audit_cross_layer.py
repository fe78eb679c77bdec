"""The audit of cross-layer transcoders: right results pass, and planted faults are found once, at
their layer and stage.

``python tests/test_audit_cross_layer.py N`` audits N right candidates and prints how many passed,
then the table of faults.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from simulated_cross_layer import random_layers, selected, simulate_layers
from simulated_transcoder import Machine

import reftranscoder as rt
from reftranscoder.auditor import STAGES
from reftranscoder.errors import DTypeError, NonFiniteError, OptionError, ShapeError

ARITHMETICS = ("float32", "float64", "bfloat16")
L = 3


class Fault(NamedTuple):
    """What is computed in place of a stage of a layer, and what is said of it."""

    name: str
    stage: str
    layer: int
    made: Callable
    says: str
    options: dict = {}


def _decoded(t, decoders=None, bias=None, features=None, skips=None):
    """reconstruction[t] with other decoders, biases or features of each layer up to it."""

    def made(out, c, m):
        hidden = [out["hidden"][l if features is None else features(l)] for l in range(t + 1)]
        total = 0
        for l in range(t + 1):
            k = t - l if decoders is None else decoders(l)
            if k is not None:
                total = total + m.product(hidden[l], c.W_dec[l][:, k])
            if c.W_skip is not None and (skips is None or skips(l)):
                total = total + m.product(c.x[l], c.W_skip[l][t - l].T)
        b = c.b_dec[t] if bias is None else bias(c)
        return m.store(m.store(total) + b)

    return made


def _slopes(l, which):
    """d_hidden[l] through ``which`` of the layers from l on: (t, and the decoder that it takes)."""

    def made(out, c, m):
        total = sum(m.product(out["d_reconstruction"][t], c.W_dec[l][:, k].T) for t, k in which)
        penalty = c.l1_coeff / out["hidden"][l].size * (out["hidden"][l] > 0)
        return m.store(m.store(total) + m.store(penalty))

    return made


def _hidden_of(m_):
    return lambda out, c, m: np.where(
        selected(c, m_, out["pre"][m_], out["pre_acts"][m_]), out["pre_acts"][m_], 0
    )


FAULTS = (
    Fault("x of another layer", "pre", 1,
          lambda out, c, m: m.store(m.product(c.x[0], c.W_enc[1].T) + c.b_enc[1]),
          "x of layer 0 is read"),
    Fault("W_enc of another layer", "pre", 2,
          lambda out, c, m: m.store(m.product(c.x[2], c.W_enc[1].T) + c.b_enc[1]),
          "W_enc of layer 1 is read"),
    Fault("b_enc of another layer", "pre", 0,
          lambda out, c, m: m.store(m.product(c.x[0], c.W_enc[0].T) + c.b_enc[2]),
          "b_enc of layer 2 is added"),
    Fault("no b_enc", "pre", 1, lambda out, c, m: m.matmul(c.x[1], c.W_enc[1].T),
          "b_enc is not added"),
    Fault("pre_acts of another layer", "pre_acts", 2,
          lambda out, c, m: np.maximum(out["pre"][0], 0), "pre of layer 0 is read"),
    Fault("pre_acts without ReLU", "pre_acts", 0, lambda out, c, m: out["pre"][0],
          "not rectified"),
    Fault("hidden of another layer", "hidden", 1, _hidden_of(0),
          "selected from pre_acts of layer 0"),
    Fault("nothing is selected", "hidden", 2, lambda out, c, m: out["pre_acts"][2],
          "every active feature is kept"),
    Fault("thresholds of another layer", "hidden", 1,
          lambda out, c, m: np.where(out["pre"][1] > c.theta[2], out["pre_acts"][1], 0),
          "the thresholds are those of layer 2", {"activation": "jumprelu"}),
    Fault("no decoder from layer 0", "reconstruction", 2,
          _decoded(2, decoders=lambda l: None if l == 0 else 2 - l),
          "the decoder from layer 0 is not added"),
    Fault("its own decoder alone", "reconstruction", 2,
          _decoded(2, decoders=lambda l: 0 if l == 2 else None),
          "no decoder from another layer is added"),
    Fault("the decoder to another layer", "reconstruction", 2,
          _decoded(2, decoders=lambda l: 1 if l == 0 else 2 - l),
          "the decoder from layer 0 is that to layer 1"),
    Fault("decoders in the other order", "reconstruction", 0,
          _decoded(0, decoders=lambda l: 2), "in the other order"),
    Fault("no b_dec", "reconstruction", 1, _decoded(1, bias=lambda c: 0), "b_dec is not added"),
    Fault("b_dec of another layer", "reconstruction", 1, _decoded(1, bias=lambda c: c.b_dec[2]),
          "b_dec of layer 2 is added, not of layer 1"),
    Fault("b_dec of every layer", "reconstruction", 2, _decoded(2, bias=lambda c: sum(c.b_dec)),
          "b_dec of every layer up to it is added"),
    Fault("features of another layer", "reconstruction", 1,
          _decoded(1, features=lambda l: 0), "features of layer 0 are decoded by the decoder from"),
    Fault("no skip from layer 0", "reconstruction", 1, _decoded(1, skips=lambda l: l),
          "the skip connection from layer 0 is not added", {"skip": True}),
    Fault("a mean over layers", "loss", 0, lambda out, c, m: m.store(out["loss"] / L),
          "the mean over layers"),
    Fault("no penalty", "loss", 0,
          lambda out, c, m: m.store(np.mean((np.stack(out["reconstruction"]) - c.target) ** 2) * L),
          "the L1 loss is left out", {"l1_coeff": 50.0}),
    Fault("the loss of two layers", "loss", 0,
          lambda out, c, m: m.store(sum(
              np.mean((out["reconstruction"][t] - c.target[t]) ** 2)
              + c.l1_coeff * np.mean(out["hidden"][t]) for t in (0, 2))),
          "that of layer 1 is left out"),
    Fault("a sum over outputs", "loss", 0,
          lambda out, c, m: m.store(sum(
              np.mean(np.sum((out["reconstruction"][t] - c.target[t]) ** 2, axis=1))
              + c.l1_coeff * np.mean(out["hidden"][t]) for t in range(L))),
          "the error is the sum of e^2 over B"),
    Fault("the target of another layer", "d_reconstruction", 1,
          lambda out, c, m: m.store(
              m.store(2 * m.store(out["reconstruction"][1] - c.target[2])) / c.target[0].size),
          "the target is that of layer 2"),
    Fault("slopes of another layer", "d_reconstruction", 2,
          lambda out, c, m: m.store(
              m.store(2 * m.store(out["reconstruction"][0] - c.target[0])) / c.target[0].size),
          "it is that of layer 0"),
    Fault("nothing through a later layer", "d_hidden", 0, _slopes(0, [(0, 0), (2, 2)]),
          "the gradient through layer 1 is not added"),
    Fault("through its own layer alone", "d_hidden", 0, _slopes(0, [(0, 0)]),
          "no gradient through a later layer is added"),
    Fault("slopes in the other order", "d_hidden", 0, _slopes(0, [(0, 2), (1, 1), (2, 0)]),
          "in the other order"),
    Fault("the mask of another layer", "d_pre", 1,
          lambda out, c, m: np.where(out["hidden"][0] > 0, out["d_hidden"][1], 0),
          "hidden of layer 0 is read"),
    Fault("dW_dec of another layer's features", "dW_dec", 1,
          lambda out, c, m: np.stack(
              [m.matmul(out["hidden"][0].T, out["d_reconstruction"][t]) for t in (1, 2)], axis=1),
          "hidden of layer 0 is read"),
    Fault("dW_dec in the other order", "dW_dec", 0, lambda out, c, m: out["dW_dec"][0][:, ::-1],
          "in the other order"),
    Fault("dW_dec to one layer is zero", "dW_dec", 0,
          lambda out, c, m: out["dW_dec"][0] * np.array([1, 0, 1])[:, None],
          "that to layer 1 is left out"),
    Fault("db_dec of another layer", "db_dec", 1,
          lambda out, c, m: m.sum(out["d_reconstruction"][2]), "it is that of layer 2"),
    Fault("db_dec of every later layer", "db_dec", 0,
          lambda out, c, m: m.sum(np.concatenate(out["d_reconstruction"])),
          "that of every later layer is added"),
    Fault("dW_skip in the other order", "dW_skip", 0, lambda out, c, m: out["dW_skip"][0][::-1],
          "in the other order", {"skip": True}),
    Fault("dW_enc of another input", "dW_enc", 2,
          lambda out, c, m: m.matmul(out["d_pre"][2].T, c.x[1]), "x of layer 1 is read"),
    Fault("db_enc of another layer", "db_enc", 1, lambda out, c, m: m.sum(out["d_pre"][2]),
          "d_pre of layer 2 is read"),
    Fault("db_enc twice", "db_enc", 1, lambda out, c, m: 2 * out["db_enc"][1], "twice"),
    Fault("dx by another encoder", "dx", 0,
          lambda out, c, m: m.matmul(out["d_pre"][0], c.W_enc[1]), "W_enc of layer 1 is read"),
)  # fmt: skip


def audited(seed, arithmetic, fault=None, order="blas", apart=False, given=None, **options):
    machine = Machine(arithmetic, order)
    case = random_layers(seed, machine, **options)
    wrong = {}
    if fault is not None:
        key = "loss" if fault.stage == "loss" else (fault.stage, fault.layer)
        wrong = {key: fault.made}
    results = simulate_layers(case, machine, wrong, apart)
    if given is not None:
        results = {name: results[name] for name in given if name in results}
    clt = case.transcoder(np.float64 if arithmetic == "float64" else np.float32)
    options = {"l1_coeff": case.l1_coeff, "arithmetic": arithmetic}
    return rt.audit(results, clt, case.x, case.target, **options)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_planted_fault_is_blamed_once_at_its_layer_and_stage(fault):
    key = "loss" if fault.stage == "loss" else f"{fault.stage}[{fault.layer}]"
    for arithmetic in ARITHMETICS:
        report = audited(3, arithmetic, fault, **fault.options)
        assert report.faults == (key,), (arithmetic, str(report))
        assert not report.passed
        assert fault.says in report.stages[key].explanation, (arithmetic, str(report))


def test_the_planted_faults_are_of_every_stage():
    names = {fault.stage for fault in FAULTS}
    assert names == set(STAGES) and len(FAULTS) >= 36


def clean(number: int):
    """The report on right candidate ``number``, another one for each, of which any stages are
    given."""
    rng = np.random.default_rng(number)
    arithmetic = ("float32", "float64", "bfloat16", "bfloat16-inputs", "float16")[rng.integers(5)]
    order = ("blas", "loop", "permuted", "blocked", "fma", "sorted")[rng.integers(6)]
    activation = ("topk", "relu", "jumprelu", "batchtopk")[rng.integers(4)]
    given = [stage for stage in STAGES if rng.random() < rng.choice([1.0, 0.5])] or ["loss"]
    if activation == "batchtopk" and "hidden" not in given:
        given.append("hidden")
    sizes = {name: int(rng.integers(1, most)) for name, most in (("L", 5), ("B", 24), ("I", 20))}
    sizes |= {"D": int(rng.choice([3, 12, 40])), "O": int(rng.integers(1, 16))}
    more = {"skip": bool(rng.integers(2)), "l1_coeff": float(rng.choice([0.0, 0.5, 20.0]))}
    options = {"apart": bool(rng.integers(2)), "activation": activation, **sizes, **more}
    return audited(number, arithmetic, order=order, given=given, **options)


@pytest.mark.parametrize("number", range(24))
def test_right_candidates_pass(number):
    report = clean(number)
    assert report.blame is None and (report.passed or not report.judged), str(report)


GIVEN = (
    ("pre", "hidden"),
    ("reconstruction",),
    ("loss",),
    ("hidden", "d_hidden", "dx"),
    ("reconstruction", "dW_dec", "db_dec"),
    ("dW_skip", "dW_enc", "db_enc"),
    ("d_reconstruction", "d_pre"),
)


@pytest.mark.parametrize("given", GIVEN, ids="-".join)
def test_what_is_not_given_is_worked_out(given):
    """Of one stage alone, too: it is right, and is at fault where one number of it is off."""
    report = audited(5, "float32", given=given, skip=True)
    assert report.passed, str(report)
    judged = [f"{name}[{l}]" for name in given for l in range(L) if name != "loss"]
    assert set(report.judged) == {*judged, *({"loss"} & set(given))}
    for name in given:

        def off(out, c, m, name=name):
            if name == "loss":
                return out["loss"] * 1.5
            found = out[name][1].copy()
            found[tuple(axis[-1] for axis in np.nonzero(found))] *= 1.5
            return found

        wrong = Fault("", name, 1, off, "")
        report = audited(5, "float32", wrong, given=[name], skip=True)
        assert report.faults == ("loss" if name == "loss" else f"{name}[1]",), str(report)


def test_one_layer_is_judged_as_a_transcoder():
    """By the same bounds, to the bit, but for the loss's, which are two roundings wider."""
    case = random_layers(7, Machine("float32"), L=1)
    results = simulate_layers(case, Machine("float32"))
    clt = case.transcoder(np.float32)
    tc = clt.layer(0)
    alone = {n: r if n == "loss" else r[0] for n, r in results.items()}
    alone["dW_dec"] = alone["dW_dec"][:, 0]
    want = rt.audit(alone, tc, case.x[0], case.target[0], l1_coeff=case.l1_coeff)
    got = rt.audit(results, clt, case.x, case.target, l1_coeff=case.l1_coeff)
    assert got.passed and want.passed
    for name, result in got.layer(0).items():
        if result.verdict != "not given":
            other = want.stages[name]
            assert (result.verdict, result.max_error, result.bound) == (
                other.verdict, other.max_error, other.bound,
            ), name  # fmt: skip
    assert got.stages["loss"].bound == want.stages["loss"].bound


def small(**changes):
    case = random_layers(9, Machine("float32"))
    results = simulate_layers(case, Machine("float32")) | changes
    return case, case.transcoder(np.float32), results


def test_every_form_of_results_is_taken():
    case, clt, results = small()
    order = [np.argsort(-h, axis=1, kind="stable")[:, :4] for h in results["hidden"]]
    values = [np.take_along_axis(h, i, axis=1) for h, i in zip(results["hidden"], order)]
    forms = [
        results | {"pre": np.stack(results["pre"])},
        {n: r for n, r in results.items() if n != "hidden"} | {"indices": order, "values": values},
        lambda params, x, target: results,
        clt.stages(case.x, case.target, case.l1_coeff),
        clt.stages(case.x, case.target, case.l1_coeff, backend="kernels"),
    ]
    for given in forms:
        rows = []
        report = rt.audit(
            given, clt, case.x, case.target, l1_coeff=case.l1_coeff, progress=rows.append
        )
        assert report.passed and sum(rows) == len(case.x[0]), str(report)
        report.raise_if_failed()


def test_blocks_of_rows_change_no_verdict(monkeypatch):
    whole = audited(4, "float32", skip=True)
    monkeypatch.setattr("reftranscoder.auditor.cross_layer.layers_judge._BLOCK", 7 * L * 24)
    parts = audited(4, "float32", skip=True)
    for key, result in whole.stages.items():
        assert parts.stages[key].verdict == result.verdict, key
        assert parts.stages[key].max_error == pytest.approx(result.max_error, rel=1e-6, abs=1e-300)


def test_the_report_says_which_layer_in_words():
    fault = next(f for f in FAULTS if f.name == "no decoder from layer 0")
    report = audited(3, "float32", fault)
    want = "Fault at reconstruction of layer 2: the decoder from layer 0 is not added."
    assert report.sentence() == want and str(report).endswith(want)
    assert report.blame == "reconstruction[2]" and report.suspects == ("reconstruction[2]",)
    assert report.layer(2)["reconstruction"].verdict == "fault"
    assert report.to_dict()["blame"] == "reconstruction[2]"
    with pytest.raises(AssertionError, match="Fault at reconstruction of layer 2"):
        report.raise_if_failed()
    report = audited(3, "float32", given=["hidden", "reconstruction"])
    want = "Every difference in hidden and reconstruction is rounding in float32."
    assert report.sentence() == want


def test_what_was_not_given_is_suspected_with_its_layer():
    fault = next(f for f in FAULTS if f.name == "features of another layer")
    report = audited(3, "float32", fault, given=["pre_acts", "reconstruction"])
    assert report.blame == "reconstruction[1]"
    assert report.suspects == ("hidden[0]", "hidden[1]", "reconstruction[1]")
    words = "it was made there or in hidden of layers 0 and 1, none of which was given"
    assert words in report.sentence()


def test_places_in_gradients_have_the_axis_of_layers():
    def off(out, c, m):
        found = out["dW_dec"][0].copy()
        found[5, 2, 3] += 1
        return found

    report = audited(3, "float32", Fault("", "dW_dec", 0, off, ""))
    assert report.stages["dW_dec[0]"].index == (5, 2, 3)
    assert "Fault at dW_dec of layer 0[5, 2, 3]: got" in report.sentence()

    def one_column(out, c, m):
        found = out["dW_dec"][1].copy()
        found[:, 1, 4] += np.sign(found[:, 1, 4])
        return found

    report = audited(3, "float32", Fault("", "dW_dec", 1, one_column, ""))
    assert "are wrong, all in layer written to 2, all in output column 4." in report.sentence()

    def skipped(out, c, m):
        found = out["dW_skip"][1].copy()
        found[1, 2, 3] += 1
        return found

    report = audited(3, "float32", Fault("", "dW_skip", 1, skipped, ""), skip=True)
    assert report.stages["dW_skip[1]"].index == (1, 2, 3)


def test_what_is_not_finite_is_blamed_where_it_was_made():
    def lost(out, c, m):
        found = out["hidden"][1].copy()
        found[2, 3] = np.nan
        return found

    report = audited(3, "float32", Fault("", "hidden", 1, lost, ""))
    assert report.blame == "hidden[1]" and "not finite" in report.stages["hidden[1]"].explanation
    for key in ("reconstruction[0]", "d_reconstruction[0]"):
        assert report.stages[key].verdict in ("exact", "rounding")
    for key in ("reconstruction[1]", "reconstruction[2]", "d_pre[1]", "dW_dec[1]", "loss"):
        assert report.stages[key].verdict in ("not judged", "fault"), key
    nan = Fault("", "loss", 0, lambda out, c, m: np.nan, "")
    assert audited(3, "float32", nan).blame == "loss"


REFUSED = {
    "a vector": ({"x": np.ones(3)}, ShapeError, r"x .*\(3, 1 or more, 12\)"),
    "no x": ({"x": None}, OptionError, "x must be what the candidate was given"),
    "rows": ({"target": np.ones((3, 4, 10))}, ShapeError, "Rows must pair up"),
    "nan": ({"x": np.full((3, 20, 12), np.nan)}, NonFiniteError, "Leave such rows out"),
    "no mapping": ({"candidate": 3}, OptionError, "a mapping from stages to L arrays"),
    "a name": ({"candidate": {"acts": []}}, OptionError, "names must be among loss, pre"),
    "layers": ({"candidate": {"pre": [np.ones((20, 24))] * 2}}, ShapeError, "of 3 layers"),
    "a shape": ({"candidate": {"pre": [np.ones((20, 3))] * 3}}, ShapeError, "layer 0: pre"),
    "dW_dec": (
        {"candidate": {"dW_dec": [np.ones((24, 1, 10))] * 3}},
        ShapeError,
        r"layer 0: dW_dec must have shape \(D, L - l, O\) = \(24, 3, 10\)",
    ),
    "text": ({"candidate": {"pre": [["a"]] * 3}}, DTypeError, "layer 0: pre"),
    "no target": (
        {"target": None, "candidate": {"loss": 1.0}},
        OptionError,
        "target must be given, since loss depends on it",
    ),
    "conventions": ({"conventions": ["half"]}, OptionError, "conventions must be none"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_malformed_input_gets_no_verdict(case):
    given, error, words = REFUSED[case]
    c, clt, results = small()
    with pytest.raises(error, match=words) as caught:
        rt.audit(**{"candidate": results, "tc": clt, "x": c.x, "target": c.target} | given)
    assert "\n" not in str(caught.value)


def test_what_has_no_bounds_is_refused():
    c, clt, results = small()
    arrays = {n: list(a) for n, a in clt.params.arrays().items()}
    post_enc = [np.ones((24, 3 - l)) for l in range(3)]
    other = rt.CrossLayerTranscoder.from_arrays(**arrays, post_enc=post_enc, top_k=4)
    with pytest.raises(OptionError, match="post_enc must be None, for an audit"):
        rt.audit(results, other, c.x)
    batch = rt.CrossLayerTranscoder.from_arrays(**arrays, activation="batchtopk", top_k=4)
    with pytest.raises(OptionError, match="a mapping that holds hidden, for an audit of batchtopk"):
        rt.audit({"pre": results["pre"]}, batch, c.x)


def test_hands_computed_in_float64_and_rounded_are_copies():
    """Stages that were rounded to be handed over are not what the next ones read."""
    case = random_layers(11, Machine("float64"), skip=True)
    results = simulate_layers(case, Machine("float64"))
    rounded = {
        n: np.float32(r) if n == "loss" else [a.astype(np.float32) for a in r]
        for n, r in results.items()
    }
    clt = case.transcoder(np.float64)
    given = {"l1_coeff": case.l1_coeff, "arithmetic": "float64"}
    assert rt.audit(results, clt, case.x, case.target, **given).passed
    assert not rt.audit(rounded, clt, case.x, case.target, **given).passed
    given["arithmetic"] = "float32"
    assert rt.audit(rounded, clt, case.x, case.target, **given).passed


def test_what_the_data_do_not_show_is_said_layer_by_layer():
    case = random_layers(5, Machine("float32"), skip=True)
    case.b_enc[1][7] = -100  # a feature that is never active
    case.b_dec[2][:] = 0
    results = simulate_layers(case, Machine("float32"))
    clt = case.transcoder(np.float32)
    report = rt.audit(results, clt, case.x, case.target, l1_coeff=case.l1_coeff)
    assert report.passed
    (words,) = [text for text in report.not_exercised if text.startswith("layer 1: ")]
    dead = [j for j in range(24) if not results["hidden"][1][:, j].any()]
    assert 7 in dead and f"of 24 features ({', '.join(map(str, dead))})" in words
    assert "W_enc, b_enc, W_dec" not in words  # which pre tells
    assert report.unseen == ("layer 2: b_dec is zero: whether it is added does not show",)
    with pytest.raises(AssertionError, match="were not exercised"):
        report.raise_if_failed(require_coverage=True)
    assert "No row has fewer than K positive activations" in " ".join(report.coverage)
    case.b_enc[2][:] = -100
    clt = case.transcoder(np.float32)
    results = simulate_layers(case, Machine("float32"))
    report = rt.audit(results, clt, case.x, case.target, l1_coeff=case.l1_coeff)
    assert any(text.startswith("Layers 0 and 1: No row") for text in report.coverage)
    small = rt.audit(results, clt, case.x, case.target, l1_coeff=0.0)
    assert small.blame == "loss"
    results = simulate_layers(dataclasses.replace(case, l1_coeff=0.0), Machine("float32"))
    zero = rt.audit(results, clt, case.x, case.target, l1_coeff=0.0)
    assert "l1_coeff is zero: the L1 loss does not show" in zero.unseen


def test_a_coarser_arithmetic_than_declared_is_proved_by_its_mark():
    case = random_layers(5, Machine("float32"), B=64, D=40, I=30)
    results = simulate_layers(case, Machine("bfloat16-inputs"))
    wide = {name: results[name] for name in ("pre", "hidden")}
    clt = case.transcoder(np.float32)
    report = rt.audit(wide, clt, case.x, arithmetic="bfloat16")
    assert report.passed and "looks like bfloat16" in report.arithmetic
    assert rt.audit(wide, clt, case.x).blame == "pre[0]"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_torch_is_never_at_fault(dtype):
    """What each layer writes is stored and added up, and gradients are those of autograd."""
    torch = pytest.importorskip("torch")
    kind = getattr(torch, dtype)
    for number in range(12):
        case = random_layers(
            number, Machine(dtype), L=2 + number % 3, activation=("topk", "relu")[number % 2],
            skip=number % 4 > 1,
        )  # fmt: skip
        layers = range(len(case.x))
        names = [n for n in ("W_enc", "b_enc", "W_dec", "b_dec", "W_skip") if getattr(case, n)]
        params = {
            n: [torch.tensor(a, dtype=kind, requires_grad=True) for a in getattr(case, n)]
            for n in names
        }
        x = [torch.tensor(rows, dtype=kind, requires_grad=True) for rows in case.x]
        target = torch.tensor(case.target, dtype=kind)
        pre = [x[l] @ params["W_enc"][l].T + params["b_enc"][l] for l in layers]
        acts = [torch.relu(p) for p in pre]
        hidden = acts
        if case.activation == "topk":
            best = [a.topk(case.top_k, dim=1) for a in acts]
            hidden = [
                torch.zeros_like(a).scatter(1, b.indices, b.values) for a, b in zip(acts, best)
            ]
        y = []
        for t in layers:
            out = params["b_dec"][t]
            for l in range(t + 1):
                out = out + hidden[l] @ params["W_dec"][l][:, t - l]
                if "W_skip" in params:
                    out = out + x[l] @ params["W_skip"][l][t - l].T
            y.append(out)
        loss = sum(
            ((target[t] - y[t]) ** 2).mean() + case.l1_coeff * hidden[t].abs().mean()
            for t in layers
        )
        for stage in (*pre, *hidden, *y):
            stage.retain_grad()
        loss.backward()
        results = {"pre": pre, "pre_acts": acts, "hidden": hidden, "reconstruction": y}
        results |= {"loss": loss, "d_reconstruction": [a.grad for a in y]}
        results |= {"dx": [a.grad for a in x], "d_hidden": [a.grad for a in hidden]}
        results |= {f"d{n}": [a.grad for a in params[n]] for n in names}
        if case.activation == "topk":  # else the gradient by hidden is that by pre_acts
            results["d_pre"] = [a.grad for a in pre]
        clt = case.transcoder(np.float32)
        given = {"l1_coeff": case.l1_coeff, "arithmetic": dtype}
        report = rt.audit(results, clt, case.x, case.target, **given)
        assert report.blame is None and report.convention is None, (number, str(report))


def main() -> None:
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    failed = [(n, r) for n in range(total) if (r := clean(n)).faults]
    for number, report in failed[:5]:
        print(number, report, sep="\n")
    print(f"{total} right candidates, {len(failed)} false alarms")
    for fault in FAULTS:
        cells = []
        for arithmetic in ARITHMETICS:
            report = audited(3, arithmetic, fault, **fault.options)
            named = report.blame and fault.says in report.stages[report.blame].explanation
            cells.append(f"{' '.join(report.faults)}{' named' * bool(named)}")
        print(f"{fault.stage:16} {fault.layer} {fault.name:36} {', '.join(cells)}")


if __name__ == "__main__":
    main()
