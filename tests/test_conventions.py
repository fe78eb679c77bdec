"""Conventions of input and output: their gradients proved, the kernels against the reference, what
folding rounds, files, and what is refused.

The proof is by dual numbers over fractions (`dual_numbers`): what a loss carries along must *equal*
the gradient worked out by hand.  Data are such that every root is rational.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
from fractions import Fraction
from pathlib import Path

import numba
import numpy as np
import pytest
from dual_numbers import duals, slope_of, values_of

import reftranscoder as rt
from reftranscoder import reference
from reftranscoder.bounds import FLOAT64
from reftranscoder.errors import FileError, OptionError
from reftranscoder.kernels.row_dots import row_dots
from reftranscoder.params.folding import folding_bound

NORMALIZATIONS = list(reference.NORMALIZATIONS)
FLAGS = ("apply_b_dec_to_input", "rescale_output", "rescale_acts_by_decoder_norm")
#: Every flag with and without each of the others.
PAIRS = [(False, False, True), (False, True, False), (True, False, False), (True, True, True)]
each_normalization = pytest.mark.parametrize("normalization", NORMALIZATIONS)


def conventions_of(normalization, flags, **changes):
    scale = 2.5 if normalization == "expected_average_only_in" else 1.0
    given = {"normalize_activations": normalization, "scale": scale} | dict(zip(FLAGS, flags))
    return rt.Conventions(**given | changes)


# The gradients.

#: Vectors of four with a norm of twice a whole number, so that sqrt(4) over it is rational.
OF_RATIONAL_NORM = [(1, 1, 1, 1), (1, 1, 3, 5), (-1, 5, 3, -1), (1, -3, 3, 9), (0, 0, 6, 8)]
#: Of four, with sums of squares about their mean that are 3 times a square.
OF_RATIONAL_DEVIATION = [(3, -1, -1, -1), (-2, 6, -2, -2), (0, 0, 4, 0), (5, 5, 5, 1), (1, 9, 1, 1)]


def fractions(rows):
    return np.array([[Fraction(v) for v in row] for row in rows], dtype=object)


def exact_case(seed, normalization, activation, skip):
    """x, target, the parameters and ``own``, all fractions, of which all roots are rational."""
    rng = np.random.default_rng([seed, *normalization.encode(), *activation.encode()])
    B, I, D, K = 3, 4, 6, 2

    def some(*shape):
        found = rng.integers(-6, 7, shape).astype(object)
        return found * Fraction(1, 2)

    kinds = OF_RATIONAL_NORM if normalization == "constant_norm_rescale" else OF_RATIONAL_DEVIATION
    x = fractions([kinds[k] for k in rng.permutation(len(kinds))[:B]]) * Fraction(1, 3)
    if normalization == "layer_norm":
        x = x + some(B, 1)
    W_dec = fractions([OF_RATIONAL_NORM[k] for k in rng.integers(0, 5, D)])
    W_dec = W_dec * rng.choice([-1, 1, 2], (D, 1)).astype(object)
    arrays = {"x": x, "W_enc": some(D, I), "b_enc": some(D), "W_dec": W_dec, "b_dec": some(I)}
    if skip:
        arrays["W_skip"] = some(I, I)
    # Numbers that no other equals, so that nothing ties.
    arrays["b_enc"] = arrays["b_enc"] + np.array([Fraction(1, 97 + d) for d in range(D)])
    own = reference.JumpReLU(np.abs(some(D)) / 4) if activation == "jumprelu" else None
    return arrays, some(B, I), {"top_k": K, "activation": activation, "ties": "lowest_index"}, own


def exact_loss(arrays, target, options, conventions, l1_coeff):
    parameters = {name: a for name, a in arrays.items() if name != "x"}
    read = reference.input_forward(arrays["x"], arrays["b_dec"], conventions)
    made = reference.conventional_forward(
        arrays["x"], read, **parameters, **options, conventions=conventions
    )
    loss = reference.transcoder_loss(target, made.reconstruction, made.hidden, l1_coeff)
    return loss, made


def prove(seed, normalization, flags, activation, skip, skip_input):
    """The slope of the loss along a direction of each array is the hand-derived one."""
    found = exact_case(seed, normalization, activation, skip)
    arrays, target, options, own = found
    exact = dataclasses.replace(conventions_of(normalization, flags, skip_input=skip_input))
    conventions = WithFractions(exact)
    options, l1_coeff = options | {"own": own}, Fraction(7, 3)
    at_rest = {name: duals(a, 0) for name, a in arrays.items()}
    if own is not None:
        options["own"] = own._replace(theta=duals(own.theta, 0))
    _, forward = exact_loss(at_rest, target, options, conventions, l1_coeff)
    gradients = reference.conventional_backward(
        at_rest["x"], target, forward, at_rest["W_enc"], at_rest["W_dec"], at_rest.get("W_skip"),
        l1_coeff=l1_coeff, activation=activation, own=options["own"], conventions=conventions,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    for name, array in arrays.items():
        direction = rng.choice([-2, -1, 1, 2], array.shape).astype(object)
        moved = at_rest | {name: duals(array, direction)}
        loss, _ = exact_loss(moved, target, options, conventions, l1_coeff)
        derived = values_of(getattr(gradients, f"d{name}"))
        assert derived.shape == array.shape
        assert slope_of(loss) == np.sum(derived * direction), name
    return forward


class WithFractions:
    """Conventions whose numbers are fractions, and what `reference` reads of them."""

    def __init__(self, conventions):
        self.__dict__.update(dataclasses.asdict(conventions))
        self.scale, self.eps = Fraction(conventions.scale), Fraction(1, 8)


CASES = [
    (flags, skip, skip_input)
    for flags in PAIRS
    for skip, skip_input in ((False, "x"), (True, "x"), (True, "encoder_input"))
]


@each_normalization
def test_the_gradients_are_what_dual_numbers_carry_along(normalization):
    active = 0
    for seed, (flags, skip, skip_input) in enumerate(CASES):
        activation = ("topk", "relu", "abstopk", "jumprelu", "topk")[seed % 5]
        forward = prove(seed, normalization, flags, activation, skip, skip_input)
        active += np.count_nonzero(values_of(forward.hidden))
    assert active > 3 * len(CASES)


def lost(position):
    """A backward function that loses one of its results."""

    def change(found):
        return (*found[:position], 0 * found[position], *found[position + 1 :])

    return change


FAULTS = {
    "a lost second path of b_dec": ("input_bias_backward", lost(1)),
    "a lost path through the norms": ("decoder_norm_backward", lost(1)),
    "a lost gain": ("rescale_backward", lost(1)),
    "a lost shift": ("rescale_backward", lost(2)),
    "a forgotten rescaling": ("rescale_backward", lambda found: (found[0] * 2, *found[1:])),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, monkeypatch):
    name, change = FAULTS[fault]
    sound = getattr(reference, name)
    where = f"reftranscoder.reference.conventional.{name}"
    monkeypatch.setattr(where, lambda *given: change(sound(*given)))
    with pytest.raises(AssertionError):
        prove(0, "layer_norm", (True, True, True), "topk", False, "x")


@pytest.mark.parametrize("name", ["constant_norm_rescale", "layer_norm"])
def test_a_statistic_that_is_held_fixed_is_caught(name, monkeypatch):
    """What a library would get that detached the norm, or the mean and the deviation."""
    row = reference.NORMALIZATIONS[name]

    def detached(d_u, d_gain, d_shift, x, conventions):
        _, gain, _ = row.forward(x, conventions)
        return d_u / gain

    monkeypatch.setitem(reference.NORMALIZATIONS, name, row._replace(backward=detached))
    with pytest.raises(AssertionError):
        prove(0, name, (False, False, False), "topk", False, "x")


# The two backends.

B, I, D, K = 9, 6, 24, 4


@pytest.fixture(autouse=True)
def one_thread():
    """Arrays are tiny, and `test_twins` shows that threads change no bit."""
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(threads)


def made(conventions, dtype="float64", skip=True, activation="topk", D=D, **changes):
    rng = np.random.default_rng(1)
    shapes = {"W_enc": (D, I), "b_enc": (D,), "W_dec": (D, I), "b_dec": (I,), "W_skip": (I, I)}
    arrays = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    if not skip:
        del arrays["W_skip"]
    if activation == "jumprelu":
        changes["own"] = rt.JumpReLU(rng.uniform(0, 1, D))
    options = {"top_k": K, "activation": activation, "conventions": conventions}
    return rt.Transcoder.from_arrays(**arrays, **options, **changes).astype(dtype)


def data():
    rng = np.random.default_rng(2)
    return rng.standard_normal((B, I)), rng.standard_normal((B, I))


def dense(stage):
    return stage.toarray() if hasattr(stage, "toarray") else stage


@each_normalization
@pytest.mark.parametrize(
    "skip_input", ["x", pytest.param("encoder_input", marks=pytest.mark.kernels)]
)
def test_both_backends_agree_in_every_method(normalization, skip_input):
    x, target = data()
    for flags in PAIRS:
        tc = made(conventions_of(normalization, flags, skip_input=skip_input))
        stages, kernels = tc.stages(x, target, 0.5), tc.stages(x, target, 0.5, backend="kernels")
        assert list(stages) == list(kernels)
        hidden = dense(stages["hidden"])
        # Each is put together from a few sums of at most 24 terms in float64; with the norms of
        # rows of 6 as factors, no term exceeds 1000.
        for name, want in stages.items():
            want, got = dense(want), dense(kernels[name])
            if name in ("d_hidden", "d_pre"):
                want = np.where(hidden != 0, want, 0)
            assert np.array_equal(got == 0, want == 0) or name not in ("hidden", "d_pre")
            error = np.abs(got - want).max()
            assert error <= 1000 * 1000 * FLOAT64.unit, (flags, name, error)
        for backend, same in (("kernels", kernels), ("reference", stages)):
            encoded = tc.encode(x, backend=backend)
            assert np.array_equal(dense(encoded), dense(same["hidden"]))
            assert np.array_equal(tc(x, backend=backend), same["reconstruction"])
            assert np.array_equal(tc.decode(encoded, x, backend=backend), tc(x, backend=backend))
    loss, grads = tc.value_and_grad(x, target, 0.5)
    assert loss == kernels["loss"]
    assert all(np.array_equal(a, kernels[f"d{n}"]) for n, a in grads.arrays().items())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_depends_on_that_row_alone_and_encode_is_what_forward_selects(dtype):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((64, I)).astype(dtype)
    for normalization in NORMALIZATIONS:
        for activation in ("topk", "jumprelu"):
            conventions = conventions_of(normalization, (True, True, True))
            tc = made(conventions, dtype, activation=activation)
            whole, hidden = tc(x), tc.encode(x)
            assert np.array_equal(dense(tc.forward(x).hidden), dense(hidden))
            for b in (0, 17, 63):
                assert np.array_equal(tc(x[b : b + 1])[0], whole[b])
                assert np.array_equal(dense(tc.encode(x[b : b + 1]))[0], dense(hidden)[b])


@pytest.mark.kernels
@pytest.mark.parametrize("n", [1, 7, 8, 16, 31, 40])
def test_dot_products_of_rows_are_within_their_bound(n):
    A, B = np.random.default_rng(n).standard_normal((2, 5, n)).astype(np.float32)
    for got, a, b in zip(row_dots(A, B)[:, 0], A, B):
        products = [Fraction(float(u)) * Fraction(float(v)) for u, v in zip(a, b)]
        exact, most = sum(products), sum(map(abs, products))
        assert abs(Fraction(float(got)) - exact) <= n * Fraction(2) ** -53 * most


def test_without_conventions_no_bit_changes():
    x, target = data()
    plain = made(rt.Conventions(), "float32")
    unused = made(rt.Conventions(skip_input="encoder_input", eps=0.5), "float32")
    assert "encoder_input" not in plain.stages(x, target)
    for name, stage in plain.stages(x, target, backend="kernels").items():
        other = unused.stages(x, target, backend="kernels")[name]
        assert dense(stage).tobytes() == dense(other).tobytes()


def test_a_row_of_zeros_and_one_that_is_not_finite():
    x, _ = data()
    x[2], x[5, 0] = 0, np.nan
    for normalization, undefined in (("constant_norm_rescale", {2, 5}), ("layer_norm", {5})):
        tc = made(conventions_of(normalization, (True, True, False)))
        for backend in ("kernels", "reference"):
            y = tc(x, backend=backend, check_finite=False)
            assert set(np.flatnonzero(np.isnan(y).any(axis=1))) == undefined
            assert np.isnan(y[sorted(undefined)]).all()


@pytest.mark.kernels
def test_a_feature_that_writes_nothing_is_never_active():
    x, target = data()
    tc = made(rt.Conventions(rescale_acts_by_decoder_norm=True))
    arrays = {name: array.copy() for name, array in tc.params.arrays().items()}
    arrays["W_dec"][3] = 0
    tc = rt.Transcoder(tc.config, rt.Params(**arrays))
    for backend in ("kernels", "reference"):
        stages = tc.stages(x, target, backend=backend)
        assert not dense(stages["hidden"])[:, 3].any()
        assert all(np.isfinite(dense(stage)).all() for stage in stages.values())


# Folding.


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_folding_rounds_no_more_than_it_says(dtype, skip):
    """Both computed exactly, over fractions; norms of rows of W_dec as whole numbers."""
    x, rng = data()[0][:2].astype(dtype), np.random.default_rng(4)
    for flags in itertools.product((False, True), repeat=3):
        skip_input = "encoder_input" if skip else "x"
        normalization = "expected_average_only_in" if flags[0] == flags[2] or skip else "none"
        scale = {"scale": 0.3} if normalization != "none" else {}
        conventions = conventions_of(normalization, flags, skip_input=skip_input, **scale)
        tc = made(conventions, dtype, skip=skip, D=5)
        arrays = {name: array.copy() for name, array in tc.params.arrays().items()}
        of_norm_ten = np.tile([1, 1, 3, 5, 8, 0], (5, 1))
        arrays["W_dec"] = rng.permuted(of_norm_ten, axis=1).astype(dtype)
        check_folding(rt.Transcoder(tc.config, rt.Params(**arrays)), x)


def check_folding(tc, x):
    hidden = dense(tc.encode(x))
    exact = {name: as_fractions(array) for name, array in tc.params.arrays().items()}
    arrays = {name: duals(a, 0) for name, a in exact.items()}
    conventions = WithFractions(tc.config.conventions)
    read = reference.input_forward(duals(as_fractions(x), 0), arrays["b_dec"], conventions)
    options = {"top_k": K, "activation": "topk", "ties": "lowest_index", "own": None}
    made_of = duals(as_fractions(x), 0), read
    pre = values_of(
        reference.conventional_forward(
            *made_of, **arrays, **options, conventions=conventions
        ).pre
    )  # fmt: skip
    same = duals(as_fractions(hidden), 0)
    weights = arrays["W_dec"], arrays["b_dec"], arrays.get("W_skip")
    decoded = reference.conventional_decode(same, *made_of, *weights, conventions)
    folded = tc.folded()
    assert folded.config.conventions == rt.Conventions()
    plain = {name: as_fractions(array) for name, array in folded.params.arrays().items()}
    folded_pre = reference.affine_forward(as_fractions(x), plain["W_enc"], plain["b_enc"])
    written = reference.decode_forward(as_fractions(hidden), plain["W_dec"], plain["b_dec"])
    if "W_skip" in plain:
        written = written + reference.skip_forward(as_fractions(x), plain["W_skip"])
    bound = folding_bound(tc.config, tc.params, x.astype(np.float64), hidden.astype(np.float64))
    for name, want, got in (
        ("pre", pre, folded_pre),
        ("reconstruction", values_of(decoded[-1]), written),
    ):
        error, most = np.abs(want - got), as_fractions(bound[name])
        assert (error <= most).all(), (name, tc.config.conventions)
        # And not much more: no term here exceeds 1000, and float64 counts 40 roundings.
        most = 1000 * np.finfo(tc.params.dtype).eps + 1000 * 40 * np.finfo(np.float64).eps
        assert bound[name].max() <= most


def as_fractions(array):
    numbers = [Fraction(float(v)) for v in np.asarray(array).flat]
    return np.array(numbers, dtype=object).reshape(np.shape(array))


def test_folding_changes_nothing_but_roundings_of_a_jumprelu():
    x, _ = data()
    conventions = conventions_of("expected_average_only_in", (True, True, True))
    tc = made(conventions, activation="jumprelu")
    folded = tc.folded()
    assert np.array_equal(folded.params.own.theta, tc.params.own.theta)
    np.testing.assert_allclose(dense(folded.encode(x)), dense(tc.encode(x)), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(folded(x), tc(x), rtol=0, atol=1e-11)


@pytest.mark.parametrize("normalization", ["constant_norm_rescale", "layer_norm"])
def test_what_is_done_row_by_row_is_not_folded(normalization):
    with pytest.raises(OptionError, match="must be a constant, to be folded .*; got"):
        made(conventions_of(normalization, (True, True, False))).folded()


# Audits.


@pytest.mark.parametrize("skip_input", ["x", "encoder_input"])
@pytest.mark.parametrize("flags", [(True, False), (False, True), (True, True)])
def test_an_audit_judges_under_the_conventions_of_the_transcoder(flags, skip_input):
    names = "apply_b_dec_to_input", "rescale_acts_by_decoder_norm"
    conventions = rt.Conventions(**dict(zip(names, flags)), skip_input=skip_input)
    tc, (x, target) = made(conventions, "float32"), data()
    x, target = x.astype(np.float32), target.astype(np.float32)
    theirs = tc.stages(x, target, 0.5, backend="kernels")
    report = rt.audit(theirs, tc, x, target, l1_coeff=0.5)
    assert report.passed and report.blame is None
    without = made(rt.Conventions(), "float32").stages(x, target, 0.5, backend="kernels")
    assert rt.audit(without, tc, x, target, l1_coeff=0.5).blame == "pre"
    # A gradient that forgets one of its two paths is found where it is.
    name = "db_dec" if flags[0] else "dW_dec"
    rest = made(rt.Conventions(), "float32").params
    theirs[name] = without[name] if name == "db_dec" else theirs[name] + rest.W_dec / 100
    assert rt.audit(theirs, tc, x, target, l1_coeff=0.5).blame == name


@pytest.mark.parametrize(
    ("flags", "forgotten", "stage", "words"),
    [
        ((True, False), (False, False), "pre", "b_dec is not subtracted from x"),
        ((False, True), (False, False), "pre", "features are not scaled by |W_dec[j]|"),
        ((True, True), (True, False), "pre", "features are not scaled by |W_dec[j]|"),
        ((True, False), None, "reconstruction", "the skip connection reads x, not x - b_dec"),
    ],
)
def test_what_a_candidate_forgets_is_named(flags, forgotten, stage, words):
    names = "apply_b_dec_to_input", "rescale_acts_by_decoder_norm"
    reads = "encoder_input" if forgotten is None else "x"
    tc = made(rt.Conventions(**dict(zip(names, flags)), skip_input=reads), "float32")
    theirs = rt.Conventions(**dict(zip(names, forgotten or flags)), skip_input="x")
    x, target = (a.astype(np.float32) for a in data())
    report = rt.audit(made(theirs, "float32").stages(x, target, 0.5), tc, x, target, l1_coeff=0.5)
    assert report.blame == stage
    assert report.stages[stage].explanation.startswith(words), str(report)


# Files, and what is refused.


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_files_give_back_what_was_saved(tmp_path, suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors", reason="the format needs it")
    x, _ = data()
    tc = made(conventions_of("expected_average_only_in", (True, True, True)), "float32")
    tc.save(tmp_path / f"model{suffix}")
    again = rt.load(tmp_path / f"model{suffix}")
    assert again.config == tc.config
    assert np.array_equal(again(x), tc(x))
    copied = pickle.loads(pickle.dumps(tc))
    assert copied.config == tc.config and np.array_equal(copied(x), tc(x))


def test_a_file_without_conventions_is_as_it_was(tmp_path):
    made(rt.Conventions()).save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as file:
        meta = json.loads(str(file["meta"]))
    names = {f.name for f in dataclasses.fields(rt.TranscoderConfig)} - {"conventions"}
    assert set(meta["config"]) == names


@pytest.mark.parametrize(
    ("conventions", "match"),
    [
        ({"apply": True}, "its conventions must be among apply_b_dec_to_input.*; it holds apply"),
        ([1], r"it holds \[1\]"),
        (3, "it holds 3"),
        ({"scale": 2.0}, "scale must be 1 but for"),
        ({"eps": "x"}, "eps must be a finite number"),
    ],
)
def test_a_file_with_other_conventions_is_refused(tmp_path, conventions, match):
    made(rt.Conventions(eps=1.0)).save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as file:
        entries = dict(file)
    meta = json.loads(str(entries.pop("meta")))
    meta["config"]["conventions"] = conventions
    np.savez(tmp_path / "other.npz", meta=np.array(json.dumps(meta)), **entries)
    with pytest.raises(FileError, match=match):
        rt.load(tmp_path / "other.npz")


REFUSED = [
    ({"apply_b_dec_to_input": 1}, "apply_b_dec_to_input must be True or False"),
    ({"normalize_activations": "batch"}, "normalize_activations must be one of none, expected"),
    ({"skip_input": "y"}, "skip_input must be one of x, encoder_input"),
    ({"scale": 0, "normalize_activations": "expected_average_only_in"}, "scale must be above 0"),
    ({"scale": 2}, "scale must be 1 but for expected_average_only_in"),
    ({"eps": -1}, "eps must be a finite number"),
]


@pytest.mark.parametrize(("options", "match"), REFUSED)
def test_what_is_no_convention_is_refused(options, match):
    with pytest.raises(OptionError, match=match):
        rt.Conventions(**options)


def test_what_makes_no_sense_or_is_not_there_is_refused_in_one_line():
    x, target = data()
    sizes = {"dict_size": 8, "top_k": 2}
    subtracting = rt.Conventions(apply_b_dec_to_input=True)
    with pytest.raises(OptionError, match="apply_b_dec_to_input must be False, where input_size 4"):
        rt.TranscoderConfig(input_size=4, output_size=3, conventions=subtracting, **sizes)
    layer_norm = rt.Conventions(normalize_activations="layer_norm")
    with pytest.raises(OptionError, match="must be another, for one input"):
        rt.TranscoderConfig(input_size=1, output_size=3, conventions=layer_norm, **sizes)
    with pytest.raises(OptionError, match="conventions must be a Conventions"):
        rt.TranscoderConfig(input_size=1, output_size=3, conventions="layer_norm", **sizes)
    tc = made(layer_norm, skip=False)
    with pytest.raises(OptionError, match="x must be the input"):
        tc.decode(tc.encode(x))
    with pytest.raises(OptionError, match="conventions must be none, for check_gradient"):
        rt.check_gradient(lambda *given: (0, {}), tc.config, tc.params, x, target)


def test_info_says_which_conventions_there_are(tmp_path):
    conventions = rt.Conventions(apply_b_dec_to_input=True)
    assert made(conventions).config.to_dict()["conventions"] == {"apply_b_dec_to_input": True}
    assert "conventions" not in made(rt.Conventions()).config.to_dict()
    assert repr(made(conventions)).endswith("Conventions(apply_b_dec_to_input=True))")


# Other libraries; see golden/make_conventions.py.

GOLDEN = Path(__file__).parent / "golden" / "conventions_f64.npz"
INPUTS = {"x", "target", "W_enc", "b_enc", "W_dec", "b_dec", "W_skip", "theta"}


def golden_cases():
    with np.load(GOLDEN) as file:
        held = dict(file)
    options = json.loads(str(held.pop("options")))
    for name, given in options.items():
        arrays = {k.partition(".")[2]: a for k, a in held.items() if k.startswith(f"{name}.")}
        yield pytest.param(given, arrays, id=name)


@pytest.mark.parametrize(("given", "arrays"), list(golden_cases()))
def test_other_libraries_compute_the_same(given, arrays):
    """In float64, in which sums of 12 terms, a few of them in a row, leave some 1e-15 of their
    largest term; no term exceeds 100."""
    options = {"top_k": 3, "activation": given.pop("activation")}
    parameters = {name: arrays[name] for name in INPUTS & set(arrays) - {"x", "target", "theta"}}
    own = rt.JumpReLU(arrays["theta"]) if "theta" in arrays else None
    conventions = rt.Conventions(**{"apply_b_dec_to_input": True} | given)
    tc = rt.Transcoder.from_arrays(**parameters, **options, own=own, conventions=conventions)
    for backend in ("reference", "kernels"):
        stages = tc.stages(arrays["x"], arrays["target"], 0.25, backend=backend)
        compared = set(arrays) - INPUTS
        assert len(compared) == (9 if "W_skip" in arrays else 8)
        for name in compared:
            error = np.max(np.abs(dense(stages[name]) - arrays[name]))
            assert error <= 1e-12, (backend, name, error)
        assert np.array_equal(dense(stages["hidden"]) != 0, arrays["hidden"] != 0)
