"""Cross-layer transcoders: the reference by hand and by dual numbers, the kernels against it, what
a library computes, files, and what is refused.
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
import pickle
import shutil
import types
from fractions import Fraction
from pathlib import Path

import numba
import numpy as np
import pytest
from dual_numbers import duals, slope_of, values_of

import reftranscoder as rt
from reftranscoder import cli, reference
from reftranscoder.bounds import chain_bound, precision
from reftranscoder.errors import DTypeError, FileError, NonFiniteError, OptionError, ShapeError
from reftranscoder.params.cross_layer import CrossLayerConfig, CrossLayerParams
from reftranscoder.reference import cross_layer

GOLDEN = Path(__file__).parent / "golden" / "formats"
ACTIVATIONS = ("topk", "relu", "jumprelu", "batchtopk")
L, B, I, D, O, K = 3, 7, 6, 12, 5, 3


@pytest.fixture(autouse=True)
def one_thread():
    """Arrays are tiny, and `test_twins` shows that threads change no bit."""
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(threads)


# The reference.


def fractions(*numbers):
    return np.array(numbers, dtype=object) * Fraction(1)


def test_two_layers_by_hand():
    """One row, one feature a layer, one output: hidden is 2 and 5, what is made of it 7 and 31."""
    x, target = fractions([[2]], [[3]]), fractions([[5]], [[30]])
    W_enc, b_enc = fractions([[1]], [[2]]), fractions([0], [-1])
    W_dec, b_dec = (fractions([[3], [4]]), fractions([[5]])), fractions([1], [-2])
    forward = cross_layer.cross_layer_forward(
        x, W_enc, b_enc, W_dec, b_dec, top_k=1, activation="relu"
    )
    assert [h.item() for h in forward.hidden] == [2, 5]
    assert [y.item() for y in forward.reconstruction] == [2 * 3 + 1, 2 * 4 + 5 * 5 - 2]
    half = Fraction(1, 2)
    loss = cross_layer.cross_layer_loss(target, forward.reconstruction, forward.hidden, half)
    assert loss == (7 - 5) ** 2 + (31 - 30) ** 2 + half * (2 + 5)
    got = cross_layer.cross_layer_backward(
        x, target, forward, W_enc, W_dec, l1_coeff=half, activation="relu"
    )
    assert [g.item() for g in got.d_reconstruction] == [4, 2]
    first, second = 4 * 3 + 2 * 4 + half, 2 * 5 + half
    assert [g.item() for g in got.d_hidden] == [first, second]
    assert [g.ravel().tolist() for g in got.dW_dec] == [[2 * 4, 2 * 2], [5 * 2]]
    assert [g.item() for g in got.db_dec] == [4, 2]
    assert [g.item() for g in got.dW_enc] == [first * 2, second * 3]
    assert [g.item() for g in got.db_enc] == [first, second]
    assert [g.item() for g in got.dx] == [first * 1, second * 2]


def exact_case(seed, activation, more):
    """x, target and the parameters of three layers, all fractions; nothing ties."""
    rng = np.random.default_rng([seed, *activation.encode()])
    B, I, D, O = 2, 3, 4, 2

    def some(*shape):
        return rng.integers(-6, 7, shape).astype(object) * Fraction(1, 2)

    shift = np.array([Fraction(1, 97 + d) for d in range(D)])
    arrays = {
        "x": [some(B, I) for _ in range(L)],
        "W_enc": [some(D, I) for _ in range(L)],
        "b_enc": [some(D) + shift for _ in range(L)],
        "W_dec": [some(D, L - l, O) for l in range(L)],
        "b_dec": [some(O) for _ in range(L)],
    }
    if more:
        arrays["W_skip"] = [some(L - l, O, I) for l in range(L)]
        arrays["post_enc"] = [some(D, L - l) for l in range(L)]
    own = None
    if activation == "jumprelu":
        own = [reference.JumpReLU(np.abs(some(D)) / 4) for _ in range(L)]
    return arrays, [some(B, O) for _ in range(L)], own


def prove(seed, activation, ops=cross_layer, more=False):
    """The slope of the loss along a direction of each array, of each layer by itself, is the
    gradient worked out by hand."""
    arrays, target, own = exact_case(seed, activation, more)
    l1_coeff, rng = Fraction(7, 3), np.random.default_rng(seed)
    options = {"top_k": 2, "activation": activation}
    if own is not None:
        options["own"] = [of._replace(theta=duals(of.theta, 0)) for of in own]
    at_rest = {name: [duals(a, 0) for a in layers] for name, layers in arrays.items()}
    forward = ops.cross_layer_forward(**at_rest, **options)
    gradients = ops.cross_layer_backward(
        at_rest["x"], target, forward, at_rest["W_enc"], at_rest["W_dec"],
        at_rest.get("W_skip"), at_rest.get("post_enc"), l1_coeff=l1_coeff,
        activation=activation, own=options.get("own"),
    )  # fmt: skip
    for name, layers in arrays.items():
        for l, array in enumerate(layers):
            direction = rng.choice([-2, -1, 1, 2], array.shape).astype(object)
            moved = [*at_rest[name][:l], duals(array, direction), *at_rest[name][l + 1 :]]
            made = ops.cross_layer_forward(**at_rest | {name: moved}, **options)
            loss = ops.cross_layer_loss(target, made.reconstruction, made.hidden, l1_coeff)
            derived = values_of(getattr(gradients, f"d{name}")[l])
            assert derived.shape == array.shape
            assert slope_of(loss) == np.sum(derived * direction), (name, l)
    return [np.count_nonzero(values_of(hidden)) for hidden in forward.hidden]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_gradients_are_what_dual_numbers_carry_along(activation):
    active = np.array([prove(seed, activation, more=seed == 1) for seed in range(2)])
    assert (active.sum(axis=0) > 2).all() and (active < 8).any()  # 8 would be all


FAULTS = {
    "only to its own layer": ("W_dec[l][:, t - l])\n            for t in range(l, len(x))",
                              "W_dec[l][:, t - l])\n            for t in range(l, l + 1)"),
    "not to its own layer": ("d_hidden = sum(part[0] for part in parts)",
                             "d_hidden = sum((part[0] for part in parts[1:]), 0 * hidden[l])"),
    "the output of another layer": ("l, t), W_dec[l][:, t - l]", "l, t), W_dec[l][:, 0]"),
    "absolute for relative layers": ("l, t) @ W_dec[l][:, t - l]",
                                     "l, t) @ W_dec[l][:, t % len(b_dec[l:])]"),
    "a penalty of another layer": ("l1_backward(hidden[l], l1_coeff)",
                                   "l1_backward(hidden[l - 1], l1_coeff)"),
    "no penalty": ("+ l1_backward(hidden[l], l1_coeff)", ""),
    "b_dec once for every layer": ("db_dec = parts[0][2]", "db_dec = sum(p[2] for p in parts)"),
    "outputs in the other order": ("part[1] for part in parts]", "p[1] for p in parts[::-1]]"),
    "the slopes of another layer": ("decode_backward(G[t]", "decode_backward(G[t - 1]"),
    "the input of another layer": ("affine_backward(d_pre, x[l]", "affine_backward(d_pre, x[0]"),
    "hidden alone in dW_dec": ("G[t], _written(hidden, post_enc, l, t)", "G[t], hidden[l]"),
    "post_enc of inactive features": ("post_enc_backward(part[0], hidden[l])",
                                      "np.sum(part[0], axis=0)"),
    "post_enc in the other order": ("np.stack(slopes, axis=1)", "np.stack(slopes[::-1], axis=1)"),
    "a lost skip to later layers": ("dx + sum(part[0] for part in around)", "dx + around[0][0]"),
    "skips in the other order": ("[part[1] for part in around]", "[p[1] for p in around[::-1]]"),
    "the skip of another layer": ("G[t], x[l], W_skip[l][t - l]", "G[t], x[0], W_skip[l][t - l]"),
    "a mean over layers": ("for layer in layers)", "for layer in layers) / len(target)"),
}  # fmt: skip


def planted(old, new):
    """The reference with ``new`` in place of ``old``."""
    source = inspect.getsource(cross_layer)
    assert source.count(old) == 1
    module = types.ModuleType(cross_layer.__name__)
    module.__package__ = cross_layer.__package__
    exec(compile(source.replace(old, new), "planted", "exec"), vars(module))
    return module


@functools.cache
def proved():
    """What the faults are planted in has none."""
    prove(0, "relu", more=True)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault):
    proved()
    with pytest.raises(AssertionError, match="slope_of"):
        prove(0, "relu", planted(*FAULTS[fault]), more=True)


def test_straight_through_gradients_are_those_of_each_layer():
    clt = made("jumprelu", bandwidth=0.5)
    x, target = data()
    stages = clt.stages(x, target)
    for l in range(L):
        d_hidden, pre = stages["d_hidden"][l], stages["pre"][l]
        own = clt.params.own[l]
        d_pre, dtheta = reference.jumprelu_backward(d_hidden, pre, own.theta, 0.5)
        assert np.array_equal(stages["dtheta"][l], dtheta) and dtheta.any()
        assert np.array_equal(stages["d_pre"][l], d_pre)
    _, grads = clt.value_and_grad(x, target, backend="reference")
    assert np.array_equal(grads.own[1].theta, stages["dtheta"][1])
    with pytest.raises(OptionError, match="where the activation has a bandwidth"):
        clt.value_and_grad(x, target)


# The kernels.

BOTH = ("W_skip", "post_enc")


def made(activation="topk", dtype="float64", bandwidth=None, more=(), seed=1, **sizes):
    n = {"L": L, "I": I, "D": D, "O": O} | sizes
    rng = np.random.default_rng(seed)
    own = None
    if activation == "jumprelu":
        own = [rt.JumpReLU(rng.uniform(0, 1, n["D"]), bandwidth) for _ in range(n["L"])]
    return rt.CrossLayerTranscoder.from_arrays(
        W_enc=rng.standard_normal((n["L"], n["D"], n["I"])),
        b_enc=rng.standard_normal((n["L"], n["D"])),
        W_dec=[rng.standard_normal((n["D"], n["L"] - l, n["O"])) for l in range(n["L"])],
        b_dec=rng.standard_normal((n["L"], n["O"])),
        W_skip=[rng.standard_normal((n["L"] - l, n["O"], n["I"])) for l in range(n["L"])]
        if "W_skip" in more
        else None,
        post_enc=[rng.standard_normal((n["D"], n["L"] - l)) for l in range(n["L"])]
        if "post_enc" in more
        else None,
        top_k=min(K, n["D"]),
        activation=activation,
        own=own,
    ).astype(dtype)


def data(B=B, **sizes):
    n = {"L": L, "I": I, "O": O} | sizes
    rng = np.random.default_rng(2)
    return rng.standard_normal((n["L"], B, n["I"])), rng.standard_normal((n["L"], B, n["O"]))


def dense(stage):
    return stage.toarray() if hasattr(stage, "toarray") else np.asarray(stage)


def bounds(clt, x, target, hidden, l1_coeff):
    """How far two computations of each stage may be apart that round to the dtype of ``clt``,
    whatever the order of their sums, given that both keep the entries of ``hidden``.

    Every number is a sum of products.  With absolute values of all that is added, the reference
    itself gives the sum of the absolute terms; and no term passes more roundings than all sums on
    the longest way have terms: (E7).
    """
    L, B, I = x.shape
    _, D, O = clt.params.sizes
    p = {n: [np.abs(a).astype(float) for a in of] for n, of in clt.params.arrays().items()}
    x, away = np.abs(x).astype(float), -np.abs(target).astype(float)
    pre = [reference.affine_forward(x[l], p["W_enc"][l], p["b_enc"][l]) for l in range(L)]
    kept = [np.where(dense(h) != 0, a, 0) for h, a in zip(hidden, pre)]
    y = cross_layer.cross_layer_decode(
        kept, p["W_dec"], p["b_dec"], x, p.get("W_skip"), p.get("post_enc")
    )
    found = {"pre": pre, "pre_acts": pre, "hidden": kept, "reconstruction": y}
    found["loss"] = cross_layer.cross_layer_loss(away, y, kept, l1_coeff)
    found |= cross_layer.cross_layer_backward(
        x, away, cross_layer.CrossLayerForward(kept, kept, kept, y), p["W_enc"], p["W_dec"],
        p.get("W_skip"), p.get("post_enc"), l1_coeff=l1_coeff, activation="relu",
    )._asdict()  # fmt: skip
    # pre and its store, twice as hidden is a factor twice; what is decoded; the loss; and back.
    # Eight for factors that libraries multiply activations with, and that are in the weights here.
    roundings = (
        8
        + 2 * (I + 2)
        + (L * (2 * D + I + 5) + 1)
        + (B * (O + D) + L + 6)
        + (3 * L * O + 4)
        + 2 * B
        + D
        + 5
    )
    u = precision(clt.params.dtype)
    return {
        name: 2 * chain_bound(layers, roundings, u)
        if name == "loss"
        else [2 * chain_bound(layer, roundings, u) for layer in layers]
        for name, layers in found.items()
        if name != "d_own" and layers is not None and (name == "loss" or layers[0] is not None)
    }


def compare(got, want, bound, hidden):
    """Within the bound, layer by layer; gradients by features at the entries of hidden."""
    for name in want:
        if name == "loss":
            assert abs(got[name] - want[name]) <= bound[name]
            continue
        if name == "dtheta":
            assert not np.any(got[name]) and not np.any(want[name])
            continue
        for l, (a, b, most) in enumerate(zip(got[name], want[name], bound[name], strict=True)):
            a, b = dense(a), dense(b)
            if name in ("d_hidden", "d_pre"):
                b = np.where(dense(hidden[l]) != 0, b, 0)
            if name == "pre_acts":
                most = np.where(b == 0, 0, most)
            assert a.shape == b.shape and (np.abs(a - b) <= most).all(), (name, l)


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_both_backends_agree_within_the_bound(activation, dtype):
    for sizes in ({}, {"L": 1}, {"L": 2, "I": 1, "D": 1, "O": 1}, {"L": 5, "O": 17, "I": 9}):
        clt, (x, target) = made(activation, dtype, more=BOTH[: len(sizes)], **sizes), data(**sizes)
        x, target = x.astype(dtype), target.astype(dtype)
        want = clt.stages(x, target, 0.5)
        got = clt.stages(x, target, 0.5, backend="kernels")
        assert list(got) == list(want)
        hidden = want["hidden"]
        for ours, theirs in zip(got["hidden"], hidden, strict=True):
            assert np.array_equal(dense(ours) != 0, dense(theirs) != 0)
        compare(got, want, bounds(clt, x, target, hidden, 0.5), hidden)


def test_the_bound_is_small_and_faults_are_seen(monkeypatch):
    """No bound is above 2e-12 of the largest value: a fault of one part in 10^11 is seen."""
    clt, (x, target) = made(), data()
    want = clt.stages(x, target, 0.5)
    most = bounds(clt, x, target, want["hidden"], 0.5)
    for name in ("reconstruction", "dW_dec", "db_dec", "dW_enc", "db_enc", "dx"):
        for of, layer in zip(most[name], want[name]):
            assert of.max() < 2e-12 * np.abs(layer).max() * 20
    for name in ("loss", "reconstruction", "dW_dec", "db_dec", "dW_enc", "dx"):
        got = dict(want)
        got[name] = got[name] * (1 + 1e-10) if name == "loss" else [a + 1e-9 for a in got[name]]
        with pytest.raises(AssertionError):
            compare(got, want, most, want["hidden"])


@pytest.mark.parametrize("activation", ["topk", "jumprelu"])
def test_methods_agree_to_the_bit(activation):
    clt, (x, target) = (
        made(activation, "float32", more=BOTH if activation == "topk" else ()),
        data(),
    )
    for backend in ("kernels", "reference"):
        stages = clt.stages(x, target, 0.5, backend=backend)
        hidden = clt.encode(x, backend=backend)
        for ours, theirs in zip(hidden, stages["hidden"]):
            assert np.array_equal(dense(ours), dense(theirs))
        y = clt(x, backend=backend)
        assert y.shape == (L, B, O) and y.dtype == np.float32
        assert np.array_equal(y, clt.decode(hidden, x, backend=backend))
        assert np.array_equal(y, clt.decode([dense(h) for h in hidden], x, backend=backend))
        loss, grads = clt.value_and_grad(x, target, 0.5, backend=backend)
        assert loss == stages["loss"]
        for name, layers in grads.arrays().items():
            assert all(map(np.array_equal, layers, stages[f"d{name}"])), name
    assert "loss" not in clt.stages(x)
    rows = np.concatenate([clt(x[:, b : b + 1]) for b in range(B)], axis=1)
    assert np.array_equal(rows, clt(x))


def test_a_layer_is_a_transcoder_whose_outputs_stand_side_by_side():
    clt, (x, target) = made("relu", more=["W_skip"]), data()
    total = np.zeros((L, B, O))
    for l in range(L):
        layer = clt.layer(l)
        assert isinstance(layer, rt.Transcoder) and layer.config.output_size == (L - l) * O
        assert np.array_equal(dense(layer.encode(x[l])), dense(clt.encode(x)[l]))
        total[l:] += layer(x[l]).reshape(B, L - l, O).swapaxes(0, 1)
    assert np.array_equal(total, clt(x))
    last = clt.layer(L - 1)
    stages = last.stages(x[-1], target[-1], backend="kernels")
    assert rt.audit(stages, last, x[-1], target[-1], arithmetic="float64").passed
    with pytest.raises(ShapeError, match=r"^x must have shape \(L, B, I\)"):
        rt.audit(stages, clt, x[-1], target[-1])
    with pytest.raises(OptionError, match="^x must be a list with an array or a path for each"):
        rt.evaluate(clt, x[-1], target[-1])


@pytest.mark.parametrize("backend", ["kernels", "reference"])
def test_what_is_not_finite_reaches_later_layers_alone(backend):
    clt, (x, target) = made(), data()
    clean = clt(x, backend=backend)
    x[1, 2, 0] = np.inf
    with pytest.raises(NonFiniteError, match=r"^x must be finite; got inf at index 1, index 2"):
        clt(x, backend=backend)
    y = clt(x, backend=backend, check_finite=False)
    assert np.array_equal(y[0], clean[0]) and np.isnan(y[1:, 2]).all()
    others = [b for b in range(B) if b != 2]
    assert np.array_equal(y[:, others], clean[:, others])
    target[0, 0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="^target must be finite"):
        clt.value_and_grad(data()[0], target, backend=backend)


def test_no_rows():
    clt, nothing = made(), np.zeros((L, 0, I))
    assert clt(nothing).shape == (L, 0, O)
    assert [h.shape for h in clt.encode(nothing)] == [(0, D)] * L
    with pytest.raises(ShapeError, match="A mean needs one"):
        clt.value_and_grad(nothing, np.zeros((L, 0, O)))


# What a library computes.


@pytest.mark.parametrize("name", ["circuit_tracer_clt-relu", "circuit_tracer_clt-jumprelu"])
@pytest.mark.parametrize("backend", ["kernels", "reference"])
def test_circuit_tracer_and_autograd_agree_within_the_bound(name, backend):
    clt = rt.load(GOLDEN / name)
    with np.load(GOLDEN / name / "expect.npz") as archive:
        theirs = dict(archive)
    x, target, l1_coeff = theirs["x"], theirs["target"], float(theirs["l1_coeff"])
    ours = clt.stages(x, target, l1_coeff, backend=backend)
    hidden = theirs["features"]
    assert all(np.array_equal(dense(h) != 0, f != 0) for h, f in zip(ours["hidden"], hidden))
    most = bounds(clt, x, target, hidden, l1_coeff)
    want = {"hidden": hidden, "reconstruction": theirs["reconstruction"], "loss": theirs["loss"]}
    want |= {f"d{n}": theirs[f"grad.{n}"] for n in ("W_enc", "b_enc", "b_dec")}
    want["dW_dec"] = [theirs[f"grad.W_dec.{l}"] for l in range(L)]
    compare(ours, want, most, hidden)
    decoded = clt.decode(hidden, backend=backend)
    assert (np.abs(decoded - theirs["reconstruction"]) <= most["reconstruction"]).all()


def test_the_origin_of_circuit_tracer():
    origin = rt.load(GOLDEN / "circuit_tracer_clt-jumprelu").origin
    assert (origin.format, origin.dtype) == ("circuit_tracer_clt", "float32")
    assert origin.variant == "jumprelu cross-layer transcoder of 3 layers"
    assert (origin.hook_in, origin.hook_out) == ("hook_resid_mid", "hook_mlp_out")
    (found,) = rt.scan(GOLDEN / "circuit_tracer_clt-relu")
    assert (found.format, found.input_size, found.dict_size) == ("circuit_tracer_clt", 6, 16)


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(GOLDEN / "circuit_tracer_clt-jumprelu", tmp_path / "clt"))


def test_parts_of_a_folder_are_refused(folder):
    for name in ("W_enc_1.safetensors", "W_dec_0.safetensors"):
        with pytest.raises(FileError, match="part of a cross-layer transcoder. Load its folder"):
            rt.load(folder / name)
    rt.load(folder / "W_enc_0.safetensors")
    shutil.copy(GOLDEN / "circuit_tracer_clt-relu" / "W_enc_1.safetensors", folder)
    with pytest.raises(FileError, match="thresholds in some of its layers"):
        rt.load(folder)
    shutil.copy(folder / "W_dec_1.safetensors", folder / "W_enc_1.safetensors")
    with pytest.raises(FileError, match="must hold W_enc_1, b_enc_1, b_dec_1; it holds 'W_dec_1'"):
        rt.load(folder)
    (folder / "W_enc_1.safetensors").unlink()  # and layer 0 has outputs for three
    for refused in (rt.load, rt.scan):
        with pytest.raises(FileError, match=r"W_dec of layer 0 .* \(16, 1, 6\); it has \(16, 3, 6"):
            refused(folder)
    (folder / "W_dec_0.safetensors").unlink()
    with pytest.raises(FileError, match="W_dec_0.safetensors: is missing"):
        rt.load(folder)


def test_another_kind_by_its_settings(folder):
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("cross_layer_transcoder", "transcoder_set"))
    with pytest.raises(FileError, match="is of model_kind 'transcoder_set' by config.yaml"):
        rt.load(folder)
    with pytest.raises(FileError, match="in which top_k is not left open"):
        rt.load(folder, top_k=3)


CODING = [f"crosslayer_coding_clt-{tying}" for tying in ("untied", "per_source", "per_target")]


KINDS = ("untied", "window", "concat", "per_layer")
TRAINING = {kind: f"clt_training_clt-{kind}" for kind in KINDS}


@pytest.mark.parametrize("name", [*CODING, *TRAINING.values()])
def test_libraries_agree_within_the_bound(name):
    clt = rt.load(GOLDEN / name)
    with np.load(GOLDEN / name / "expect.npz") as archive:
        theirs = dict(archive)
    x, hidden = theirs["x"], theirs["features"]
    most = bounds(clt, x, x, hidden, 0)
    for backend in ("kernels", "reference"):
        ours = clt.stages(x, backend=backend)
        assert all(np.array_equal(dense(h) != 0, f != 0) for h, f in zip(ours["hidden"], hidden))
        compare(ours, {"hidden": hidden}, most, hidden)
        y = clt.decode(hidden, x, backend=backend)
        assert (np.abs(y - theirs["reconstruction"]) <= most["reconstruction"]).all()
    assert clt.origin.format == name.partition("_clt-")[0]
    (found,) = rt.scan(GOLDEN / name)
    assert (found.format, found.output_size) == (clt.origin.format, 6)


def test_what_libraries_publish_has_what_they_say():
    """Of decoders that are tied, a skip connection leads to its own layer alone."""
    read = {name: rt.load(GOLDEN / name) for name in (*CODING, *TRAINING.values())}
    skips = {name: clt.params.W_skip for name, clt in read.items() if clt.config.skip}
    everywhere = {CODING[0]: True, CODING[1]: False}
    everywhere |= {TRAINING["untied"]: True, TRAINING["concat"]: False}
    assert {name: bool(skip[0][1:].any()) for name, skip in skips.items()} == everywhere
    without = {name for name, clt in read.items() if clt.params.post_enc is None}
    assert without == {CODING[0]}
    for kind in ("window", "per_layer"):  # whose first layer does not write to the last
        params = read[TRAINING[kind]].params
        for array in (params.W_dec[0], params.post_enc[0]):
            assert array[:, 1].any() and not array[:, 2].any()
    # A decoder for each layer that is read, and one for each that is written to, with its scales.
    assert np.array_equal(*read[TRAINING["window"]].params.W_dec[1].swapaxes(0, 1))
    concat = read[TRAINING["concat"]].params.W_dec
    ratio = concat[0][:, 2] / concat[1][:, 1]
    assert np.abs(ratio / ratio[:, :1] - 1).max() <= 4 * 2.0**-23  # each entry was rounded once


def rewritten(folder, tensors=None, **settings):
    """The folder with other settings, and with the tensors that a function makes of its own."""
    numpy = pytest.importorskip("safetensors.numpy")
    (folder / "cfg.json").write_text(
        json.dumps(json.loads((folder / "cfg.json").read_text()) | settings)
    )
    path = folder / "clt_checkpoint_latest.safetensors"
    held = numpy.load_file(path)
    if tensors is not None:
        held = tensors(held)
    numpy.save_file({name: np.ascontiguousarray(a) for name, a in held.items()}, path)
    return folder


LOG, DECODER = "theta_manager.log_threshold", "decoder_module.decoders.0->1.weight"
SKIP = "decoder_module.skip_weights.1->2"


def test_a_feature_of_crosslayer_coding_is_active_at_its_threshold(tmp_path):
    folder = tmp_path / "clt"
    shutil.copytree(GOLDEN / CODING[0], folder)
    logs = np.full((3, 16), np.log(np.float32(0.5)), np.float32)
    clt = rt.load(rewritten(folder, lambda held: held | {LOG: logs}))
    theta = np.float32(np.exp(np.float64(logs[0, 0])))
    assert all((own.theta < theta).all() for own in clt.params.own)
    params = clt.params
    zero = [np.zeros_like(W) for W in params.W_enc]
    arrays = params.arrays() | {"W_enc": zero, "b_enc": np.full((3, 16), theta)}
    at = rt.CrossLayerTranscoder.from_arrays(**arrays, activation="jumprelu", own=params.own)
    assert all(h.nnz == 16 for h in at.encode(np.zeros((3, 1, 6)), backend="reference"))


@pytest.mark.parametrize(
    ("tensors", "settings", "says"),
    [
        (None, {"activation_fn": "topk"}, "its topk ranks the normalised features of all layers"),
        (None, {"activation_fn": "gelu"}, "its activation_fn is 'gelu', not relu or"),
        (None, {"activation_fn": 3}, "its activation_fn is 3, not relu or jumprelu"),
        (None, {"decoder_tying": "both"}, "its decoder_tying is 'both', not none, per_source"),
        (None, {"decoder_tying": "per_source"}, "lacks decoder_module.decoders.0.bias_param"),
        (None, {"activation_fn": "relu"}, "also holds theta_manager.log_threshold"),
        (lambda h: {n: a for n, a in h.items() if n != LOG}, {}, f"lacks {LOG}, by its cfg.json"),
        (lambda h: h | {"decoder_module.feature_offset.0": h[LOG][0]}, {}, "also holds .*offset.0"),
        (None, {"skip_connection": False}, "also holds decoder_module.skip_weights.0->0"),
        (lambda h: h | {SKIP: h[DECODER]}, {}, r"W_skip of layer 1 must have shape \(2, 6, 6\)"),
        (lambda h: h | {LOG: h[LOG][:2]}, {}, r"theta of layer 0 must have shape \(16,\); it has"),
        (lambda h: h | {DECODER: h[DECODER].T}, {}, r"W_dec of layer 0 must have shape \(16, 3, 6"),
        (lambda h: h | {DECODER: h[DECODER].astype(int)}, {}, "W_dec must hold floating-point"),
    ],
)
def test_what_is_not_read_of_crosslayer_coding_is_refused(tensors, settings, says, tmp_path):
    folder = tmp_path / "clt"
    shutil.copytree(GOLDEN / CODING[0], folder)
    with pytest.raises(FileError, match=says):
        rt.load(rewritten(folder, tensors, **settings))


@pytest.fixture
def layers(tmp_path):
    return Path(shutil.copytree(GOLDEN / TRAINING["untied"], tmp_path / "clt"))


def set_in(folder, **settings):
    """Other settings in every layer."""
    for path in folder.glob("*/cfg.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"coalesce_topk": "group"}, "has coalesce_topk='group', which is not read here"),
        ({"coalesce_topk": "concat", "topk_coalesced": True}, "ranks the features of all layers"),
        ({"divide_cross_layer": True}, "has divide_cross_layer, which is not read"),
        ({"secondary_target_tied": True}, "has secondary_target_tied, which is not read"),
        ({"activation": "batchtopk"}, "has activation='batchtopk', which is not read"),
        ({"activation": ["topk"]}, r"has activation=\['topk'\], which is not read"),
        ({"k": "3"}, "has k='3', which is not read here"),
        ({"k": 0}, "has k=0, which is not read here"),
        ({"transcode": False}, "has no transcode, which is not read here"),
        ({"n_targets": 3}, "layers.9.mlp/cfg.json: its n_targets must be from 1 to 2"),
        ({"activation": "groupmax"}, "top_k must be a divisor of dict_size = 16"),
        ({"coalesce_topk": "per-layer"}, "W_dec of layer 0 must have shape"),
    ],
)
def test_what_is_not_read_of_clt_training_is_refused(settings, says, layers):
    with pytest.raises(FileError, match=says):
        rt.load(set_in(layers, **settings))


def test_layers_of_clt_training_are_of_one_kind_and_all_there(layers):
    with pytest.raises(FileError, match="is a layer of a cross-layer .* Load the folder above"):
        rt.load(layers / "layers.9.mlp")
    with pytest.raises(FileError, match="is a layer of a cross-layer"):
        rt.load(layers, layer=10)
    assert same(rt.load(layers / "layers.8.mlp"), rt.load(layers))
    (layers / "layers.1.mlp").symlink_to(layers / "layers.9.mlp")
    assert same(rt.load(layers / "layers.8.mlp"), rt.load(layers))
    numpy = pytest.importorskip("safetensors.numpy")
    path = layers / "layers.10.mlp" / "sae.safetensors"
    held = numpy.load_file(path)
    offsets = held.pop("post_encs.0")
    numpy.save_file(held, path)
    with pytest.raises(FileError, match="layers.10.mlp.*lacks post_encs.0, by its cfg.json"):
        rt.load(layers)
    for name, says in {
        "out_norm": r"out_norm must be one number; it is \(2,\)",
        "b_decs.0": r"b_dec of layer 2 must have shape \(6,\); it has \(\)",
        "post_encs.0": r"post_enc of layer 2 must have shape \(16, 1\); it has \(2, 1\)",
        "post_enc_scales.0": r"W_dec of layer 2 must have shape \(16, 1, 6\); it has \(0, 1, 6",
        "W_decs.0": r"W_dec of layer 2 must have shape \(16, 1, 6\); it has \(0, 1\)",
        "W_skips.0": r"W_skip of layer 2 must have shape \(1, 6, 6\); it has \(1, 2\)",
        "encoder.weight": r"W_enc of layer 2 must have shape \(16, 6\); it has \(2,\)",
    }.items():
        numpy.save_file(held | {"post_encs.0": offsets, name: np.zeros(2, "f4")}, path)
        with pytest.raises(FileError, match=says):
            rt.load(layers)
    settings = layers / "layers.10.mlp" / "cfg.json"
    settings.write_text(settings.read_text().replace('"k": 3', '"k": 4'))
    with pytest.raises(FileError, match="its k is 4, and 3 elsewhere. All layers must be of one"):
        rt.load(layers)
    shutil.rmtree(layers / "layers.10.mlp")
    with pytest.raises(FileError, match="its n_targets must be from 1 to 2, .*; it is 3"):
        rt.load(layers)


def test_the_first_of_several_may_stand_under_the_name_of_one(layers):
    numpy = pytest.importorskip("safetensors.numpy")
    path, whole = layers / "layers.8.mlp" / "sae.safetensors", rt.load(layers)
    held = numpy.load_file(path)
    first = ("W_decs.0", "b_decs.0", "W_skips.0")
    numpy.save_file({n: a for n, a in held.items() if n not in first}, path)
    assert same(rt.load(layers), whole)


def test_crosslayer_coding_needs_its_settings_and_says_what_is_normalised(tmp_path):
    folder = tmp_path / "clt"
    shutil.copytree(GOLDEN / CODING[1], folder)
    clt = rt.load(rewritten(folder, normalization_method="mean_std"))
    assert clt.origin.warnings[0].startswith("trained on what mean_std normalised")
    (folder / "cfg.json").unlink()
    with pytest.raises(FileError, match="lacks cfg.json beside it"):
        rt.load(folder)


# Files.


def same(a, b):
    """Equal options, and arrays of equal bits."""
    pairs = zip(a.params.arrays().values(), b.params.arrays().values(), strict=True)
    arrays = all(x.tobytes() == y.tobytes() for p, q in pairs for x, y in zip(p, q, strict=True))
    thetas = [[None if o is None else o.theta.tolist() for o in of.params.own] for of in (a, b)]
    return a.config == b.config and arrays and thetas[0] == thetas[1]


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_saved_is_loaded(suffix, dtype, tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / f"clt.{suffix}"
    for activation in ("topk", "jumprelu"):
        jumps = activation == "jumprelu"
        clt = made(activation, dtype, bandwidth=0.5 if jumps else None, more=() if jumps else BOTH)
        clt.save(path)
        back = rt.load(path)
        assert same(back, clt)
        assert [o and o.bandwidth for o in back.params.own] == [
            o and o.bandwidth for o in clt.params.own
        ]
        assert back.origin.variant == f"cross-layer {activation}"
        first = path.read_bytes()
        back.save(path)
        assert path.read_bytes() == first


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_no_flipped_bit_passes(suffix, tmp_path):
    pytest.importorskip("safetensors")
    path, clt = tmp_path / f"clt.{suffix}", made("jumprelu", "float32", L=2, D=4, I=2, O=2)
    clt.save(path)
    content = path.read_bytes()
    for place in range(0, len(content), 37):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            assert same(rt.load(path), clt), place  # a date, or padding
        except FileError:
            pass


def entries(path):
    with np.load(path) as archive:
        return dict(archive)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda e: e.pop("W_dec.1"), "it lacks W_dec.1"),
        (lambda e: e.update({"b_dec.7": np.zeros(2)}), "what no transcoder has: b_dec.7"),
        (lambda e: e.pop("theta.1"), "it lacks theta.1"),
        (lambda e: [e.pop(f"theta.{l}") for l in range(2)], "theta.1, own; it holds own"),
        (lambda e: e.update({"W_dec.0": e["W_dec.1"]}), r"layer 0: W_dec must have shape"),
        (lambda e: e.update({"W_dec.0": e["W_dec.0"].swapaxes(0, 1)}), "first two axes"),
        (lambda e: e.update({"b_enc.1": np.full(4, np.nan)}), "layer 1: b_enc must be finite"),
        (lambda e: e.update(meta=changed(e, layers=3)), "layers must be 2, which is what"),
        (lambda e: e.update(meta=changed(e, layers=None)), "its config must hold .*layers"),
        (lambda e: e.update(meta=changed(e, skip=True)), "skip must be False, as W_skip says"),
        (lambda e: e.update({"W_skip.1": np.zeros((1, 2, 2))}), "it lacks W_skip.0"),
        (lambda e: e.update(meta=changed(e, output_size=4)), "output_size must be 2, which"),
    ],
)
def test_what_cannot_be_is_refused(change, says, tmp_path):
    path = tmp_path / "clt.npz"
    made("jumprelu", "float32", L=2, D=4, I=2, O=2).save(path)
    content = entries(path)
    change(content)
    np.savez(path, **content)
    with pytest.raises(FileError, match=says):
        rt.load(path)


def changed(content, **options):
    """The text of a file with other options; None takes one away."""
    meta = json.loads(str(content["meta"]))
    config = meta["config"] | options
    meta["config"] = {name: value for name, value in config.items() if value is not None}
    return np.array(json.dumps(meta))


def test_commands(tmp_path, capsys):
    path = str(tmp_path / "clt.npz")
    assert cli.main(["convert", str(GOLDEN / "circuit_tracer_clt-relu"), path]) == 0
    assert same(rt.load(path), rt.load(GOLDEN / "circuit_tracer_clt-relu"))
    capsys.readouterr()
    assert cli.main(["info", str(GOLDEN / "circuit_tracer_clt-relu")]) == 0
    out = capsys.readouterr().out
    assert "3 layers of 6 -> 16 -> 6, relu" in out and "format circuit_tracer_clt" in out
    assert cli.main(["info", path, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["layers"]) == report["config"]["layers"] == 3
    assert report["parameters"] == 3 * (16 * 6 + 16 + 6) + 6 * 16 * 6
    for arguments in (["info", path, "x.npy"], ["encode", path, "x.npy", "-o", "h.npz"]):
        assert cli.main(arguments) == 2
        assert "is a cross-layer transcoder" in capsys.readouterr().err
    assert cli.main(["convert", path, str(tmp_path / "s"), "--format", "saelens"]) == 2
    assert "cannot say that features write to several layers" in capsys.readouterr().err


# The class.


def test_it_is_a_value():
    clt = made("jumprelu", "float32")
    assert same(pickle.loads(pickle.dumps(clt)), clt) and copy.deepcopy(clt) is clt
    assert copy.deepcopy(clt.params) is clt.params
    assert clt.astype("float32") is clt and clt.params.astype("float32") is clt.params
    assert clt.astype("float64").config.dtype == "float64"
    assert repr(clt) == "CrossLayerTranscoder(3 layers of 6 -> 12 -> 5, jumprelu, float32)"
    with pytest.raises(ValueError, match="read-only"):
        clt.params.W_dec[0][0] = 1


def arrays(**changes):
    found = {
        "W_enc": np.ones((2, 4, 3)),
        "b_enc": np.ones((2, 4)),
        "W_dec": [np.ones((4, 2, 5)), np.ones((4, 1, 5))],
        "b_dec": np.ones((2, 5)),
        "top_k": 2,
    }
    return rt.CrossLayerTranscoder.from_arrays(**found | changes)


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"W_enc": np.ones((3, 4, 3))}, ShapeError, "^W_enc must have shape of 2 layers; got 3"),
        ({"W_enc": np.ones((2, 3, 4))}, ShapeError, "^layer 0: W_enc must .*looks transposed"),
        ({"W_enc": [np.ones((4, 3)), np.ones((4, 2))]}, ShapeError, "^W_enc of layer 1 must"),
        ({"b_enc": 1.0}, ShapeError, "^b_enc must have shape of L layers"),
        ({"W_dec": [np.ones((2, 4, 5)), np.ones((1, 4, 5))]}, ShapeError, r"swapaxes\(0, 1\)"),
        ({"W_dec": [np.ones((4, 2, 5)), np.ones((4, 1, 3))]}, ShapeError, "^layer 1: b_dec must"),
        ({"W_dec": [np.ones((4, 2, 5)), np.ones((4, 1, 5)) * 1j]}, DTypeError, "^layer 1: W_dec"),
        ({"b_dec": np.full((2, 5), np.nan)}, NonFiniteError, "^layer 0: b_dec must be finite"),
        ({"W_skip": np.ones((2, 5, 3))}, ShapeError, r"^layer 0: W_skip must .*\(2, 5, any\)"),
        ({"W_skip": [np.ones((2, 5, 3))]}, ShapeError, "^W_skip must have shape of 2 layers"),
        ({"post_enc": np.ones((2, 4, 2))}, ShapeError, "^post_enc of layer 1 must"),
        (
            {"post_enc": [np.ones((4, 2)), np.full((4, 1), np.nan)]},
            NonFiniteError,
            "^layer 1: post",
        ),
        ({"own": [None]}, OptionError, "^own must be 2 JumpReLU, one a layer"),
        ({"activation": "jumprelu"}, OptionError, "^own must be a JumpReLU"),
        ({"top_k": 5}, OptionError, "^top_k must be from 1 to dict_size = 4"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes, kind, says):
    with pytest.raises(kind, match=says):
        arrays(**changes)


def test_options_that_do_not_fit_are_refused():
    own = [rt.JumpReLU(np.ones(4), 0.5), rt.JumpReLU(np.ones(4))]
    with pytest.raises(OptionError, match="^own must be of one bandwidth"):
        arrays(activation="jumprelu", own=own)
    sizes = {"layers": 2, "input_size": 3, "output_size": 5, "dict_size": 4, "top_k": 2}
    for option, says in (
        ({"conventions": rt.Conventions(apply_b_dec_to_input=True)}, "^apply|^conventions must be"),
        ({"layers": 0}, "^layers must be a whole number from 1 to 1000"),
        ({"layers": 1000, "output_size": 2**30}, "^output_size must be a positive integer up to"),
    ):
        with pytest.raises(OptionError, match=says):
            CrossLayerConfig(**sizes | option)
    params = arrays().params
    for option in ({"layers": 3}, {"output_size": 4}, {"dict_size": 8}, {"skip": True}):
        with pytest.raises(OptionError, match="which is what the arrays have|as W_skip says"):
            rt.CrossLayerTranscoder(CrossLayerConfig(**sizes | option), params)
    with pytest.raises(ShapeError, match="^layers must have shape of at least one layer"):
        CrossLayerParams(())


def test_data_that_do_not_fit_are_refused():
    clt, (x, target) = made(), data()
    for wrong in (x[0], x[:2], x[:, :, :3]):
        with pytest.raises(ShapeError, match=r"^x must have shape \(L, B, I\) = \(3, any, 6\)"):
            clt(wrong)
    with pytest.raises(ShapeError, match="Rows must pair up"):
        clt.value_and_grad(x, target[:, :3])
    hidden = [dense(h) for h in clt.encode(x)]
    with pytest.raises(ShapeError, match="^hidden must have shape of 3 layers; got 2 layers"):
        clt.decode(hidden[:2])
    with pytest.raises(ShapeError, match=r"^hidden\[2\] must have .*Rows must pair up"):
        clt.decode([*hidden[:2], hidden[2][:3]])
    with pytest.raises(OptionError, match=r"^x must be the input \(L, B, I\), of which"):
        made(more=BOTH).decode(hidden)
    with pytest.raises(ShapeError, match="^x must .*Rows must pair up"):
        made(more=BOTH).decode(hidden, x[:, :2])
    hidden[1][0, 0] = np.inf
    with pytest.raises(NonFiniteError, match=r"^hidden\[1\].values must be finite"):
        clt.decode(hidden)
    with pytest.raises(OptionError, match="without post_enc"):
        made(more=BOTH).layer(0)
    for l in (-1, L, True, "0"):
        with pytest.raises(OptionError, match="^l must be a layer from 0 to 2"):
            clt.layer(l)
