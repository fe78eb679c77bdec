"""Gated transcoders: their gradients proved, the libraries' own results, files, and refusals.

The proof is by dual numbers over fractions, as in ``test_conventions.py``.  r_mag is a logarithm of
a fraction, moved along by its slope: exp(r + s e) is exp(r) (1 + s e).
"""

from __future__ import annotations

import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from dual_numbers import Log, duals, slope_of, values_of

import reftranscoder as rt
from reftranscoder import reference
from reftranscoder.bounds import FLOAT64
from reftranscoder.errors import DTypeError, FileError, NonFiniteError, OptionError, ShapeError
from reftranscoder.formats import Model
from reftranscoder.formats.writing import write

OF_OWN = ("b_gate", "b_mag", "r_mag")


# The gradients.


def exact_case(seed):
    """x, the parameters and those of ``own`` by name, and a target: fractions, none of which sums
    to a gate or a magnitude of 0.  The strengths are exp(r_mag)."""
    rng = np.random.default_rng(seed)
    B, I, D = 4, 3, 6

    def some(*shape):
        return rng.integers(-6, 7, shape).astype(object) * Fraction(1, 2)

    arrays = {"x": some(B, I), "W_enc": some(D, I), "b_enc": some(D)}
    arrays |= {"W_dec": some(D, I), "b_dec": some(I), "b_gate": some(D), "b_mag": some(D)}
    for name, first in (("b_gate", 97), ("b_mag", 197)):
        arrays[name] = arrays[name] + np.array([Fraction(1, first + d) for d in range(D)])
    strengths = rng.integers(1, 7, D).astype(object) * Fraction(1, 3)
    return arrays | {"r_mag": strengths}, some(B, I)


def own_of(arrays, frozen):
    logarithms = np.array([Log(number) for number in arrays["r_mag"]], dtype=object)
    coefficients = Fraction(5, 3), Fraction(7, 4)
    return reference.Gated(arrays["b_gate"], arrays["b_mag"], logarithms, *coefficients, frozen)


def exact_loss(arrays, target, conventions, frozen):
    """The loss, the stages, and how to get the gradients."""
    parameters = {n: a for n, a in arrays.items() if n not in ("x", *OF_OWN)}
    own, x = own_of(arrays, frozen), arrays["x"]
    options = {"activation": "gated", "own": own, "conventions": conventions}
    read = reference.input_forward(x, arrays["b_dec"], conventions)
    forward = reference.conventional_forward(
        x, read, **parameters, top_k=None, ties=None, **options
    )  # fmt: skip
    penalty = Fraction(7, 3)
    loss = reference.transcoder_loss(target, forward.reconstruction, forward.hidden, penalty)
    loss = loss + reference.ACTIVATIONS["gated"].loss(forward.pre, own)

    def backward():
        weights = arrays["W_enc"], arrays["W_dec"]
        return reference.conventional_backward(
            x, target, forward, *weights, l1_coeff=penalty, **options
        )

    return loss, forward, backward


def prove(seed, auxiliary, subtracted):
    """The slope of the loss along a direction of each array is the hand-derived one."""
    arrays, target = exact_case(seed)
    conventions = rt.Conventions(apply_b_dec_to_input=subtracted)
    frozen = reference.Frozen(target, arrays["W_dec"], arrays["b_dec"]) if auxiliary else None
    at_rest = {name: duals(array, 0) for name, array in arrays.items()}
    _, forward, backward = exact_loss(at_rest, target, conventions, frozen)
    gradients = backward()
    rng = np.random.default_rng(seed)
    for name, array in arrays.items():
        direction = rng.choice([-2, -1, 1, 2], array.shape).astype(object)
        of_r = name == "r_mag"
        moved = at_rest | {name: duals(array, array * direction if of_r else direction)}
        loss, _, _ = exact_loss(moved, target, conventions, frozen)
        home = gradients.d_own if name in OF_OWN else gradients
        derived = values_of(getattr(home, name if name in OF_OWN else f"d{name}"))
        assert derived.shape == array.shape
        assert slope_of(loss) == np.sum(derived * direction), name
        assert derived.any() == (name != "b_gate" or auxiliary), name
    return values_of(forward.hidden), values_of(forward.pre), at_rest


@pytest.mark.parametrize("subtracted", [False, True])
@pytest.mark.parametrize("auxiliary", [False, True])
def test_the_gradients_are_what_dual_numbers_carry_along(auxiliary, subtracted):
    shut = weak = 0
    for seed in range(6):
        hidden, pre, arrays = prove(seed, auxiliary, subtracted)
        gate = pre + values_of(arrays["b_gate"])
        magnitude = pre * values_of(arrays["r_mag"]) + values_of(arrays["b_mag"])
        assert np.array_equal(hidden, np.where((gate > 0) & (magnitude > 0), magnitude, 0))
        shut += np.count_nonzero((gate <= 0) & (magnitude > 0))
        weak += np.count_nonzero((gate > 0) & (magnitude <= 0))
    assert shut > 3 and weak > 3  # of both kinds of inactive there are some


FAULTS = {
    "a dropped mask": ("gated_backward", lambda r, d_hidden, *_: (d_hidden, *r[1:])),
    "a lost exp(r_mag)": ("gated_backward", lambda r, d, h, *_: (np.where(h != 0, d, 0), *r[1:])),
    "a lost db_mag": ("gated_backward", lambda r, *_: (r[0], 0 * r[1], r[2])),
    "b_mag left in dr_mag": (
        "gated_backward",
        lambda r, d, hidden, *_: (*r[:2], np.sum(np.where(hidden != 0, d, 0) * hidden, axis=0)),
    ),
    "no gradient of the gate": ("gated_auxiliary_backward", lambda d, *_: 0 * d),
    "a gate that is not rectified": (
        "gated_auxiliary_backward",
        lambda d, target, pre, b_gate, *_: np.where(pre + b_gate > 0, d, 1),
    ),
    "a lost penalty": (
        "gated_auxiliary_backward",
        lambda d, target, pre, b, W, b_dec, l1, _: d - np.where(pre + b > 0, l1, 0) / pre.size,
    ),
    "a magnitude without its bias": ("gated_magnitude", lambda m, pre, b_mag, *_: m - b_mag),
    "a gate of the magnitude": (
        "gated_forward",
        lambda h, pre, b, b_mag, r: (
            np.where(reference.gated_magnitude(pre, b_mag, r) > 0, 1, 0)
            * reference.gated_magnitude(pre, b_mag, r)
        ),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, monkeypatch):
    name, change = FAULTS[fault]
    sound = getattr(reference, name)
    where = "gated" if name == "gated_magnitude" else "encode"
    monkeypatch.setattr(
        f"reftranscoder.reference.{where}.{name}", lambda *given: change(sound(*given), *given)
    )
    with pytest.raises(AssertionError):
        test_the_gradients_are_what_dual_numbers_carry_along(True, True)


def test_a_decoder_that_is_not_frozen_is_caught(monkeypatch):
    """As SAELens has it: what reaches W_dec through the auxiliary loss is no gradient here."""
    sound = reference.ACTIVATIONS["gated"]

    def thawed(pre, own):
        doubled = own.frozen._replace(W_dec=own.frozen.W_dec * 2)
        return sound.loss(pre, own._replace(frozen=doubled))

    monkeypatch.setitem(reference.ACTIVATIONS, "gated", sound._replace(loss=thawed))
    with pytest.raises(AssertionError):
        prove(0, True, False)


# The two backends, and what a gated transcoder is by other words.

B, I, D = 9, 6, 24


def made(dtype="float64", O=I, conventions=None, skip=False, **options):  # noqa: E741
    rng = np.random.default_rng(1)
    shapes = {"W_enc": (D, I), "b_enc": (D,), "W_dec": (D, O), "b_dec": (O,)}
    shapes |= {"W_skip": (O, I)} if skip else {}
    arrays = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    own = rt.Gated(*rng.standard_normal((3, D)), **options)
    tc = rt.Transcoder.from_arrays(**arrays, activation="gated", own=own, conventions=conventions)
    return tc.astype(dtype)


def data(O=I):  # noqa: E741
    rng = np.random.default_rng(2)
    return rng.standard_normal((B, I)), rng.standard_normal((B, O))


def dense(stage):
    return stage.toarray() if hasattr(stage, "toarray") else stage


CONVENTIONS = [
    rt.Conventions(),
    rt.Conventions(apply_b_dec_to_input=True),
    rt.Conventions(normalize_activations="layer_norm", apply_b_dec_to_input=True),
]


@pytest.mark.kernels
@pytest.mark.parametrize("conventions", CONVENTIONS, ids=repr)
def test_both_backends_agree_in_every_method(conventions):
    (x, target), tc = data(), made(conventions=conventions, skip=True)
    stages, kernels = tc.stages(x, target, 0.5), tc.stages(x, target, 0.5, backend="kernels")
    assert list(stages) == list(kernels)
    assert {"db_gate", "db_mag", "dr_mag"} <= set(stages)
    hidden = dense(stages["hidden"])
    # Each is put together from a few sums of at most 24 terms in float64, none above 1000.
    for name, want in stages.items():
        want, got = dense(want), dense(kernels[name])
        want = np.where(hidden != 0, want, 0) if name in ("d_hidden", "d_pre") else want
        assert np.array_equal(got == 0, want == 0), name
        assert np.abs(got - want).max() <= 1000 * 1000 * FLOAT64.unit, name
    for backend, same in (("kernels", kernels), ("reference", stages)):
        assert np.array_equal(dense(tc.encode(x, backend=backend)), dense(same["hidden"]))
        assert np.array_equal(tc(x, backend=backend), same["reconstruction"])
        _, grads = tc.value_and_grad(x, target, 0.5, backend=backend)
        for name, array in grads.all_arrays().items():
            assert np.array_equal(array, same[f"d{name}"]), name
    assert not kernels["db_gate"].any() and kernels["db_mag"].any() and kernels["dr_mag"].any()


def test_what_it_selects():
    """Counted from the two paths, without a word of `reference`."""
    (x, _), tc = data(), made()
    own, params = tc.params.own, tc.params
    both = x @ params.W_enc.T + params.b_enc
    gate, magnitude = both + own.b_gate, np.exp(own.r_mag) * both + own.b_mag
    hidden = tc.encode(x).toarray()
    assert np.array_equal(hidden != 0, (gate > 0) & (magnitude > 0))
    np.testing.assert_allclose(hidden, np.where(hidden, magnitude, 0), rtol=0, atol=1e-13)
    stages = tc.stages(x)
    np.testing.assert_allclose(stages["pre_acts"], np.fmax(magnitude, 0), rtol=0, atol=1e-13)


@pytest.mark.kernels
def test_at_zero_a_feature_is_inactive():
    """Whole numbers, on which every sum is exact."""
    own = rt.Gated(b_gate=[0, -2, 9, 9], b_mag=[3, 0, -2, -3], r_mag=np.zeros(4))
    tc = rt.Transcoder.from_arrays(
        W_enc=np.eye(4), b_enc=np.zeros(4), W_dec=np.eye(4), b_dec=np.zeros(4),
        activation="gated", own=own,
    )  # fmt: skip
    x = np.array([[0, 2, 2, 3], [1, 3, 3, 2.5], [-1, -1, -9, -9]], np.float32)
    want = [[0, 0, 0, 0], [4, 3, 1, 0], [0, 0, 0, 0]]
    for backend in ("kernels", "reference"):
        assert np.array_equal(tc.encode(x, backend=backend).toarray(), want)


def test_it_is_a_jumprelu_of_the_magnitude_path():
    """As the source says in its section on tied weights: the threshold is b_mag - exp(r_mag)
    b_gate.  Both are rounded, by which no feature of these is decided."""
    (x, _), tc = data(), made()
    own, arrays = tc.params.own, tc.params.arrays()
    strengths = np.exp(own.r_mag)
    arrays["W_enc"] = strengths[:, None] * arrays["W_enc"]
    arrays["b_enc"] = strengths * arrays["b_enc"] + own.b_mag
    theta = rt.JumpReLU(own.b_mag - strengths * own.b_gate)
    other = rt.Transcoder.from_arrays(**arrays, activation="jumprelu", own=theta)
    np.testing.assert_allclose(other(x), tc(x), rtol=0, atol=1e-12)
    assert other.encode(x).nnz == tc.encode(x).nnz


@pytest.mark.parametrize("backend", ["kernels", "reference"])
def test_the_start_is_a_relu(backend):
    sizes = {"input_size": I, "output_size": 5, "dict_size": D, "seed": 3}
    tc, plain = (rt.build(activation=name, **sizes) for name in ("gated", "relu"))
    x, _ = data()
    assert np.array_equal(tc(x, backend=backend), plain(x, backend=backend))
    assert repr(tc) == "Transcoder(6 -> 24 -> 5, gated, float32)"
    assert np.array_equal(tc.encode(x).toarray(), plain.encode(x).toarray())


def test_folding_changes_nothing_but_roundings():
    (x, _), tc = data(), made(conventions=rt.Conventions(apply_b_dec_to_input=True))
    folded = tc.folded()
    assert folded.config.conventions == rt.Conventions() and folded.params.own is tc.params.own
    np.testing.assert_allclose(dense(folded.encode(x)), dense(tc.encode(x)), rtol=0, atol=1e-12)
    np.testing.assert_allclose(folded(x), tc(x), rtol=0, atol=1e-12)


# Other libraries; see golden/make_gated.py.

GOLDEN = Path(__file__).parent / "golden" / "gated_f64.npz"
PARAMETERS = ("W_enc", "W_dec", "b_dec")
#: Sums of 12 terms, a few of them in a row, leave some 1e-15 of their largest term in float64, and
#: none here exceeds 100.
ROUNDING = 1e-12


def golden(case):
    """The arrays of a case, and our transcoder of it with some options of `rt.Gated`."""
    with np.load(GOLDEN) as file:
        numbers = {n: float(file[n]) for n in ("penalty", "l1_coeff")}
        arrays = {n.partition(".")[2]: file[n] for n in file if n.startswith(f"{case}.")}

    def transcoder(**options):
        return rt.Transcoder.from_arrays(
            **{name: arrays[name] for name in PARAMETERS},
            b_enc=np.zeros(len(arrays["W_enc"])),
            activation="gated",
            own=rt.Gated(*(arrays[name] for name in OF_OWN), **options),
            conventions=rt.Conventions(apply_b_dec_to_input=True),
        )

    return arrays, numbers, transcoder


@pytest.mark.parametrize("backend", ["kernels", "reference"])
def test_sae_lens_differentiates_the_same(backend):
    arrays, numbers, transcoder = golden("sae_lens_plain")
    tc = transcoder()
    stages = tc.stages(arrays["x"], arrays["target"], numbers["l1_coeff"], backend=backend)
    compared = arrays.keys() - {"x", "target", *PARAMETERS, *OF_OWN}
    assert compared == {"hidden", "reconstruction", "loss", "dx"} | {
        f"d{name}" for name in (*PARAMETERS, *OF_OWN)
    }
    for name in compared:
        assert np.abs(dense(stages[name]) - arrays[name]).max() <= ROUNDING, name


@pytest.mark.parametrize("case", ["sae_lens", "dictionary_learning"])
def test_training_in_the_libraries_is_the_auxiliary_loss(case):
    """Their losses are sums over outputs and features, ours means: O times ours.  SAELens, unlike
    the source, lets gradients of the auxiliary loss reach the decoder, by two terms, and weights
    its penalty by the norms of W_dec, which are 1 here: by a third."""
    arrays, numbers, transcoder = golden(case)
    x, (D, O) = arrays["x"], arrays["W_dec"].shape  # noqa: N806, E741
    tc = transcoder(gate_l1_coeff=numbers["penalty"] * D / O, auxiliary_coeff=1.0)
    loss, grads = tc.value_and_grad(x, x, 0.0, backend="reference")
    extra = dict.fromkeys(("W_dec", "b_dec"), 0.0)
    if case == "sae_lens":
        read = x - arrays["b_dec"]
        acts = np.fmax(read @ arrays["W_enc"].T + arrays["b_gate"], 0)
        error = 2 * (acts @ arrays["W_dec"] + arrays["b_dec"] - x) / len(x)
        weighted = numbers["penalty"] * acts.mean(axis=0)[:, None] * arrays["W_dec"]
        extra = {"W_dec": acts.T @ error + weighted, "b_dec": error.sum(axis=0)}
        assert all(np.abs(term).max() > 0.1 for term in extra.values())
    assert abs(O * loss - arrays["loss"]) <= ROUNDING
    ours = grads.all_arrays()
    for name in (*PARAMETERS, *OF_OWN):
        error = np.abs(O * ours[name] + extra.get(name, 0.0) - arrays[f"d{name}"])
        assert error.max() <= ROUNDING, name
        assert np.abs(arrays[f"d{name}"]).max() > 0.1, name


def test_what_the_penalty_and_the_decoder_add_is_seen():
    """Each coefficient moves the loss and the gradient of the gates; and none, neither."""
    x, target = data()
    losses = {}
    for options in ({}, {"gate_l1_coeff": 0.5}, {"auxiliary_coeff": 0.5}):
        loss, grads = made(**options).value_and_grad(x, target, backend="reference")
        assert grads.own.b_gate.any() == bool(options)
        assert grads.own.options() == {"gate_l1_coeff": 0.0, "auxiliary_coeff": 0.0} | options
        losses[tuple(options)] = loss
    assert len(set(losses.values())) == 3


# Files, and what is refused.


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_files_give_back_what_was_saved(tmp_path, suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors", reason="the format needs it")
    (x, _), tc = data(), made("float32", gate_l1_coeff=0.25, auxiliary_coeff=1)
    tc.save(tmp_path / f"model{suffix}")
    for again in (rt.load(tmp_path / f"model{suffix}"), pickle.loads(pickle.dumps(tc))):
        assert not any(a.flags.writeable for a in again.params.all_arrays().values())
        assert again.config == tc.config
        assert again.params.own.options() == {"gate_l1_coeff": 0.25, "auxiliary_coeff": 1.0}
        for name, array in tc.params.all_arrays().items():
            assert np.array_equal(again.params.all_arrays()[name], array)
        assert np.array_equal(again(x), tc(x))


def test_a_format_that_cannot_say_it_says_so(tmp_path):
    tc = made(conventions=rt.Conventions(apply_b_dec_to_input=True))
    with pytest.raises(FileError, match="cannot say a b_enc beside the biases of its paths"):
        write(Model(tc.config, tc.params), tmp_path / "a", "saelens", force=False)
    tc = made(gate_l1_coeff=1.0)
    with pytest.raises(FileError, match="cannot say how its gradients are made"):
        write(Model(tc.config, tc.params), tmp_path / "a", "saelens", force=False)
    tc = made(O=5)
    with pytest.raises(FileError, match=r"cannot say the activation gated .transcoder."):
        write(Model(tc.config, tc.params), tmp_path / "a", "saelens", force=False)


@pytest.mark.parametrize("missing", OF_OWN)
def test_a_file_that_lacks_an_array_is_refused(tmp_path, missing):
    made().save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as file:
        entries = {name: file[name] for name in file if name != missing}
    np.savez(tmp_path / "other.npz", **entries)
    with pytest.raises(FileError, match="it takes b_gate, b_mag, r_mag, own; it holds"):
        rt.load(tmp_path / "other.npz")


ONES = np.ones(3)
REFUSED = [
    ((ONES, ONES, [[1.0]]), {}, ShapeError, r"r_mag must have shape \(D,\) = \(3,\)"),
    ((ONES, ONES[:2], ONES), {}, ShapeError, r"b_mag must have shape \(D,\) = \(3,\)"),
    (([], [], []), {}, ShapeError, "b_gate must have shape"),
    ((ONES, ONES * 1j, ONES), {}, DTypeError, "b_mag must hold real"),
    ((ONES * np.nan, ONES, ONES), {}, NonFiniteError, "b_gate"),
    ((ONES, ONES, ONES * 710), {}, OptionError, "r_mag must be at most 710, so that"),
    ((ONES, ONES, ONES), {"gate_l1_coeff": -1}, OptionError, "gate_l1_coeff must be a finite"),
    ((ONES, ONES, ONES), {"auxiliary_coeff": "x"}, OptionError, "auxiliary_coeff must be a finite"),
]


@pytest.mark.parametrize(("arrays", "options", "error", "match"), REFUSED)
def test_what_cannot_be_a_gate_is_refused(arrays, options, error, match):
    with pytest.raises(error, match=match):
        rt.Gated(*arrays, **options)


def test_what_is_not_there_is_refused_in_one_line():
    (x, target), tc = data(), made()
    arrays = tc.params.arrays()
    with pytest.raises(OptionError, match="own must be a Gated with the biases of its paths"):
        rt.Transcoder.from_arrays(**arrays, activation="gated")
    with pytest.raises(OptionError, match="own must be a Gated with the biases of its paths"):
        rt.Transcoder.from_arrays(**arrays, activation="gated", own=rt.JumpReLU(np.ones(D)))
    with pytest.raises(OptionError, match="own must be a JumpReLU with its thresholds"):
        rt.Transcoder.from_arrays(**arrays, activation="jumprelu", own=tc.params.own)
    with pytest.raises(ShapeError, match=r"b_gate must have shape \(D,\) = \(24,\)"):
        rt.Transcoder.from_arrays(**arrays, activation="gated", own=rt.Gated(ONES, ONES, ONES))
    with pytest.raises(OptionError, match="backend must be 'reference', where the activation has"):
        made(auxiliary_coeff=1.0).value_and_grad(x, target)
    for changes in ({"skip": True}, {"conventions": CONVENTIONS[2]}):
        with pytest.raises(OptionError, match="gate_l1_coeff must be 0, with a skip connection"):
            made(gate_l1_coeff=1.0, **changes)
    with pytest.raises(OptionError, match="rescale_acts_by_decoder_norm must be False, for gated"):
        made(conventions=rt.Conventions(rescale_acts_by_decoder_norm=True))
    with pytest.raises(OptionError, match="activation must be topk or relu .*, for a threshold"):
        tc.with_threshold(0.5)
    with pytest.raises(OptionError, match="for check_gradient"):
        rt.check_gradient(lambda *given: (0, {}), tc.config, tc.params, x, target)
    with pytest.raises(OptionError, match="aux_k must be 0, for gated"):
        rt.fit(x, target, dict_size=D, activation="gated", steps=1, aux_k=2)


def test_a_feature_that_reads_nothing_is_told_where_it_can_never_be_active(tmp_path):
    """Of four, one with both biases above 0 is active everywhere."""
    own = rt.Gated(b_gate=[1, 1, -1, 0], b_mag=[1, 0, 1, 1], r_mag=[0, 0, 3, -800])
    tc = rt.Transcoder.from_arrays(
        W_enc=np.zeros((4, 2)), b_enc=np.zeros(4), W_dec=np.ones((4, 2)), b_dec=np.zeros(2),
        activation="gated", own=own,
    )  # fmt: skip
    assert np.flatnonzero(tc.params.b_enc <= tc.params.active_above).tolist() == [1, 2, 3]
    assert np.unique(tc.encode(np.ones((2, 2))).indices).tolist() == [0]


def test_weights_of_the_magnitude_path_may_be_stored():
    """As SAELens has it: W_enc times exp(r_mag), in the type of the weights, before the product."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(0)

    def narrow(array):
        return array.astype(ml_dtypes.bfloat16).astype(np.float64)

    W_enc, W_dec = narrow(rng.standard_normal((12, 64))), narrow(rng.standard_normal((12, 5)))
    b_gate, b_mag, r_mag = (narrow(rng.standard_normal(12)) for _ in range(3))
    arrays = {"W_enc": W_enc, "b_enc": np.zeros(12), "W_dec": W_dec, "b_dec": np.zeros(5)}
    own = rt.Gated(b_gate, b_mag, r_mag)
    tc = rt.Transcoder.from_arrays(**arrays, activation="gated", own=own).astype("float32")
    x = narrow(rng.standard_normal((200, 64)))
    strong = narrow(W_enc * narrow(np.exp(r_mag))[:, None])
    magnitude = narrow(narrow(x @ strong.T) + b_mag)
    gate = narrow(narrow(x @ W_enc.T) + b_gate)
    hidden = np.where(gate > 0, np.maximum(magnitude, 0), 0)
    for wrong in (0, 1):
        hidden[:, 3] *= 1 + 0.1 * wrong
        report = rt.audit({"hidden": hidden.astype("f4")}, tc, x, arithmetic="bfloat16")
        assert report.passed is not bool(wrong), str(report)
