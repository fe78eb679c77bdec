"""Training of cross-layer transcoders: its steps, units and checkpoints, and what it refuses."""

from __future__ import annotations

import dataclasses
from signal import SIGINT

import numba
import numpy as np
import pytest

import reftranscoder as rt
from reftranscoder import kernels
from reftranscoder.errors import FileError, NonFiniteError, OptionError, ShapeError
from reftranscoder.params.cross_layer import CrossLayerConfig, CrossLayerParams
from reftranscoder.training.cross_layer.start import LayersScaling, folded
from reftranscoder.training.scaling import Scaling

L, N, I, D, O, K = 3, 60, 6, 16, 5, 3
OPTIONS = {"dict_size": D, "top_k": K, "steps": 6, "batch_size": 16, "log_every": 2, "lr": 0.01}


def data(layers=L, seed=0, dtype=np.float32):
    """What layers of different sizes of numbers read, and what a few features in it make."""
    rng = np.random.default_rng(seed)
    size = 2.0 ** np.arange(layers)[:, None, None]
    x = rng.standard_normal((layers, N, I)) * size
    W_in = rng.standard_normal((layers, I, 4))
    made = np.maximum(x @ W_in, 0).cumsum(axis=0)  # later layers have what earlier ones made
    return x.astype(dtype), (made @ rng.standard_normal((4, O)) + 3).astype(dtype)


def same(a, b):
    """Whether two transcoders have the same bits."""
    one, other = ({**t.params.arrays(), "theta": thetas(t)} for t in (a, b))
    return all(
        (p is q is None) or (p.dtype == q.dtype and np.array_equal(p, q))
        for name in one
        for p, q in zip(one[name], other[name], strict=True)
    )


def thetas(clt):
    return [None if own is None else own.theta for own in clt.params.own]


VARIANTS = (
    {},
    {"activation": "relu", "l1_coeff": 0.1},
    {"activation": "batchtopk", "skip": True},
    {"activation": "jumprelu", "bandwidth": 0.5},
    {"unit_norm_decoder": True, "dtype": "float64", "average": 0.9},
    {"second_moment": "entry", "skip": True, "top_k_start": 8},
)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_one_layer_is_trained_as_by_fit_to_the_bit(variant):
    (x,), (target,) = data(1)
    options = OPTIONS | variant
    alone = rt.fit(x, target, validation=0.25, **options)
    fit = rt.fit_cross_layer([x], [target], validation=0.25, **options)
    for name, array in alone.transcoder.params.arrays().items():
        (got,) = getattr(fit.transcoder.params, name)
        assert np.array_equal(got.reshape(array.shape), array), name
    if "bandwidth" in variant:
        assert np.array_equal(fit.transcoder.params.own[0].theta, alone.transcoder.params.own.theta)
    assert fit.history.entries == alone.history.entries
    if variant.get("activation") != "batchtopk":  # which fit returns with a threshold
        assert fit.metrics.fvu == alone.metrics.fvu and fit.metrics.l0 == alone.metrics.l0


@pytest.mark.kernels
@pytest.mark.parametrize("variant", [VARIANTS[n] for n in (0, 2, 5)], ids=str)
def test_the_pass_over_features_makes_the_step_of_gradients_in_memory(variant, tmp_path):
    """A norm that nothing reaches clips nothing, and needs the gradients first."""
    options = OPTIONS | variant | {"steps": 3}
    files = [tmp_path / "fused.npz", tmp_path / "stepwise.npz"]
    fused = rt.fit_cross_layer(*data(), checkpoint=files[0], **options)
    stepwise = rt.fit_cross_layer(*data(), checkpoint=files[1], clip_norm=1e30, **options)
    assert same(fused.transcoder, stepwise.transcoder)
    assert fused.history.entries == stepwise.history.entries
    saved = [np.load(file) for file in files]
    for name in set(saved[0].files) - {"meta"}:
        assert np.array_equal(*(arrays[name] for arrays in saved)), name
    assert not all((saved[0][f"silent.{l}"] == fused.steps).all() for l in range(L))


def test_a_step_is_that_of_adam_on_the_gradients_of_the_transcoder():
    """Of data whose scales are 1, from a start that one step without a rate shows."""
    signs = np.random.default_rng(3).choice([-1.0, 1.0], (2, L, N, I)).astype(np.float32)
    x, target = signs
    options = OPTIONS | {"steps": 1, "batch_size": N, "warmup": 0, "decay": 0, "average": 0}
    start = rt.fit_cross_layer(x, target, **options | {"lr": 1e-30}).transcoder
    _, grads = start.value_and_grad(x, target)
    got = rt.fit_cross_layer(x, target, **options).transcoder.params
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        step = kernels.adam_row_step if name.startswith("W") else kernels.adam_step
        for l in range(L):
            p, g = (np.array(getattr(a, name)[l]) for a in (start.params, grads))
            p, g = (a.reshape(len(a), -1) if a.ndim > 1 else a for a in (p, g))
            v = np.zeros_like(p[:, :1] if p.ndim > 1 else p)
            want, *_ = step(p, g, np.zeros_like(p), v, 1, 0.01, 0.9, 0.95, 1e-8)
            assert np.array_equal(getattr(got, name)[l].reshape(p.shape), want), (name, l)


def test_the_number_of_threads_changes_no_bit():
    fits = []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        fits.append(rt.fit_cross_layer(*data(), skip=True, validation=0.2, **OPTIONS))
    assert same(fits[0].transcoder, fits[1].transcoder)
    assert fits[0].history.entries == fits[1].history.entries


@pytest.mark.parametrize("skip", [False, True])
def test_taken_back_to_the_units_of_the_data_it_is_the_same(skip):
    """With powers of two for scales nothing is rounded."""
    rng = np.random.default_rng(4)
    scaling = LayersScaling(tuple(Scaling(2.0**a, 2.0**b) for a, b in ((1, -2), (0, 3), (-3, 1))))
    config = CrossLayerConfig(
        layers=L, input_size=I, output_size=O, dict_size=D, activation="jumprelu",
        skip=skip, dtype="float64",
    )  # fmt: skip
    made = {
        "W_enc": [rng.standard_normal((D, I)) for _ in range(L)],
        "b_enc": [rng.standard_normal(D) for _ in range(L)],
        "W_dec": [rng.standard_normal((D, L - l, O)) for l in range(L)],
        "b_dec": [rng.standard_normal(O) for _ in range(L)],
    }
    if skip:
        made["W_skip"] = [rng.standard_normal((L - l, O, I)) for l in range(L)]
    own = [rt.JumpReLU(rng.uniform(0, 1, D)) for _ in range(L)]
    trained = rt.CrossLayerTranscoder(config, CrossLayerParams.of(**made, own=own))
    arrays = {
        f"{name}.{l}": a
        for l, p in enumerate(trained.params.layers)
        for name, a in p.all_arrays().items()
    }
    back = folded(config, scaling, arrays)
    x = rng.standard_normal((L, 7, I))
    s_x = np.array([s.input_scale for s in scaling.layers])[:, None, None]
    s_y = np.array([s.target_scale for s in scaling.layers])[:, None, None]
    assert np.array_equal(back(x), s_y * trained(x / s_x))
    for l, hidden in enumerate(back.encode(x)):
        assert (hidden != s_y[l] * trained.encode(x / s_x)[l]).nnz == 0


def test_it_learns_what_only_earlier_layers_know():
    """The last layer reads noise; what it is to write is what the first one saw."""
    x, target = data(2, seed=5)
    x[1] = np.random.default_rng(6).standard_normal(x[1].shape)
    target[1] = target[0]
    options = OPTIONS | {"steps": 200, "average": 0, "validation": (x, target)}
    both = rt.fit_cross_layer(x, target, **options).metrics.layers
    alone = rt.fit(x[1], target[1], **options | {"validation": (x[1], target[1])}).metrics
    assert both[1].fvu < 0.1 < 0.4 < alone.fvu


@pytest.mark.parametrize("variant", [{}, VARIANTS[3], {"patience": 5, "validation": 0.25}], ids=str)
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(variant, tmp_path):
    def stop(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    options = OPTIONS | variant
    whole = rt.fit_cross_layer(*data(), **options)
    options["checkpoint"] = tmp_path / "run.npz"
    first = rt.fit_cross_layer(*data(), progress=stop, **options)
    assert first.interrupted and first.steps == 3
    second = rt.fit_cross_layer(*data(), **options)
    assert not second.interrupted and same(second.transcoder, whole.transcoder)
    assert second.history.entries == whole.history.entries
    assert second.best_step == whole.best_step
    x, target = data()
    target[2, 5, 1] += 1
    with pytest.raises(FileError, match="run on other data: target of layer 2 differs"):
        rt.fit_cross_layer(x, target, **options)
    with pytest.raises(OptionError, match="lr must be 0.01, as in the checkpoint"):
        rt.fit_cross_layer(*data(), **options | {"lr": 0.1})
    with pytest.raises(OptionError, match="layers must be 3, as in the checkpoint"):
        rt.fit_cross_layer(*(a[:2] for a in data()), **options)


def test_every_form_of_layers_is_taken(tmp_path):
    x, target = data()
    paths = []
    for l, rows in enumerate(x):
        paths.append(tmp_path / f"{l}.npy")
        np.save(paths[-1], rows)
    want = rt.fit_cross_layer(x, target, validation=(x[:, :9], target[:, :9]), **OPTIONS)
    validation = list(x[:, :9]), target[:, :9]
    got = rt.fit_cross_layer(paths, list(target), validation=validation, **OPTIONS)
    assert same(want.transcoder, got.transcoder) and got.metrics.rows == 9
    assert got.metrics.fvu == want.metrics.fvu == np.mean([m.fvu for m in got.metrics.layers])
    assert "mean FVU" in repr(got)
    assert "layer by layer" in got.history.units
    assert len(got.history.to_dict()["layers"]) == L


@pytest.mark.parametrize("step", [4, 6])
def test_a_signal_ends_both_alike_but_not_after_the_last_step(step):
    """What is ended has no metrics; the whole of ``OPTIONS`` is 6 steps."""

    def interrupt(progress):
        if progress.step == step:
            raise KeyboardInterrupt

    options = OPTIONS | {"validation": 0.25, "progress": interrupt}
    for fit, name in (
        (rt.fit(*(side[0] for side in data()), **options), "Fit(Transcoder("),
        (rt.fit_cross_layer(*data(), **options), "CrossLayerFit(CrossLayerTranscoder("),
    ):
        ended = fit.steps, fit.interrupted, fit.signal, fit.metrics is None
        assert ended == ((4, True, SIGINT, True) if step == 4 else (6, False, None, False))
        assert repr(fit).startswith(name)
        assert ("6 steps, " if step == 6 else "4 steps, interrupted)") in repr(fit)


REFUSED = {
    "one layer": ({"x": data()[0][0]}, OptionError, "x must be a list with an array or a path"),
    "no layer": ({"x": []}, OptionError, "x must be a list"),
    "no target": ({"target": None}, OptionError, "target must be a list"),
    "layers": (
        {"target": data()[1][:2]},
        ShapeError,
        "target must have shape of 3 layers; got 2 layers",
    ),
    "rows": (
        {"x": [*data()[0][:2], data()[0][2][:9]], "target": [*data()[1][:2], data()[1][2][:9]]},
        ShapeError,
        "Every layer has the same rows",
    ),
    "finite": ({"x": np.where(np.arange(L) == 2, np.nan, data()[0].T).T}, NonFiniteError, "x"),
    "pairs": ({"x": [*data()[0][:2], data()[0][2][:9]]}, ShapeError, "layer 2: target"),
    "gated": ({"activation": "gated"}, OptionError, "activation must be"),
    "aux_k": ({"aux_k": 4}, OptionError, "aux_k must be 0, for several layers"),
    "loss": ({"reconstruction_loss": "mse_sum"}, OptionError, "must be 'mse', for several layers"),
    "accumulate": ({"accumulate": 2}, OptionError, "accumulate must be 1"),
    "patience": ({"patience": 2}, OptionError, "validation must be given"),
    "validation": ({"validation": data()[::-1]}, ShapeError, "As in training"),
    "conventions": (
        {"conventions": rt.Conventions(normalize_activations="layer_norm")},
        OptionError,
        "for a cross-layer transcoder",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused_in_one_line(case):
    given, error, words = REFUSED[case]
    x, target = data()
    with pytest.raises(error, match=words) as caught:
        rt.fit_cross_layer(**{"x": x, "target": target} | OPTIONS | given)
    assert "\n" not in str(caught.value)


def test_each_layer_is_measured_against_the_mean_of_its_own_training_target():
    x, target = data()
    fit = rt.fit_cross_layer(x, target, validation=(x[:, :20], target[:, :20]), **OPTIONS)
    y = fit.transcoder(x[:, :20])
    for l, layer in enumerate(fit.metrics.layers):
        mean = target[l].astype(np.float64).mean(axis=0)
        # Sums of as many terms of one sign, in another order.
        want = rt.metrics.fvu(target[l, :20], y[l], mean)
        assert layer.fvu == pytest.approx(want, rel=8 * N * O * 2.0**-53)


def test_the_norm_that_is_clipped_is_that_of_all_layers(tmp_path):
    """Adam's first mean is a tenth of the first gradient."""

    def first(**more):
        file = tmp_path / f"{len(more)}.npz"
        options = OPTIONS | {"steps": 1, "checkpoint": file} | more
        rt.fit_cross_layer(*data(), **options)
        arrays = np.load(file)
        return {n: arrays[n].astype(float) for n in arrays.files if n.startswith("m.")}

    plain, clipped = first(), first(clip_norm=0.01)
    norm = np.sqrt(sum(np.square(m).sum() for m in plain.values())) / 0.1
    assert norm > 0.01
    for name, m in plain.items():
        # Four roundings of float32 on either side.
        within = 16 * 2.0**-24 * np.abs(m) * 0.01 / norm + 2.0**-140
        assert (np.abs(clipped[name] - m * (0.01 / norm)) <= within).all(), name


def test_what_it_returns_is_a_value():
    fit = rt.fit_cross_layer(*data(), **OPTIONS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        fit.steps = 3
