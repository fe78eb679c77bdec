"""Training: what `fit` returns, by independent arithmetic, on data small enough to look at."""

from __future__ import annotations

import functools
import json
import pickle
import signal
import threading

import numpy as np
import pytest

import reftranscoder as rt
from reftranscoder import kernels, reference
from reftranscoder.activations import Activations
from reftranscoder.errors import DTypeError, Error, NonFiniteError, OptionError, ShapeError
from reftranscoder.options import seed_sequence
from reftranscoder.reference import adam_step
from reftranscoder.training.adam import Recipe, State
from reftranscoder.training.batches import Batches, start_generator
from reftranscoder.training.scaling import Moments, Scaling
from reftranscoder.training.step import training_step

OPTIONS = {
    "dict_size": 24,
    "top_k": 3,
    "steps": 12,
    "batch_size": 16,
    "lr": 1e-2,
    "log_every": 5,
    "backend": "reference",
}


@pytest.fixture
def data(rng):
    x = rng.standard_normal((80, 6)) + 0.5
    return x, np.maximum(x @ rng.standard_normal((6, 4)), 0) + 1


@pytest.fixture
def ctrl_c():
    """Ctrl-C as Python handles it by default: a shell starts background jobs without."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def arrays_of(fit):
    return fit.transcoder.params.arrays()


def assert_same_arrays(got, want):
    assert got.keys() == want.keys()
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name, strict=True)


# What it learns


def test_the_loss_falls_and_held_out_rows_are_explained(data):
    fit = rt.fit(*data, **(OPTIONS | {"steps": 200, "log_every": 20}), validation=0.25)
    losses = fit.history.column("loss")
    assert losses[-1] < 0.3 * losses[0]
    # A model without features has FVU 1 or more: here the mean of other rows is not better.
    assert fit.metrics.fvu < 0.5
    assert fit.history[-1].fvu == fit.metrics.fvu
    assert (fit.steps, fit.interrupted) == (200, False)


def test_the_start_is_the_mean_with_living_features(data):
    x, target = data
    fit = rt.fit(x, target, **(OPTIONS | {"steps": 1, "lr": 1e-12}))
    # lr is too small to move a float32: this is the start.
    start = fit.transcoder
    np.testing.assert_allclose(start.params.b_dec, target.mean(axis=0), rtol=1e-6)
    norms = np.linalg.norm(start.params.W_dec, axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-6)
    # (I3): a row that is the mean activates nothing, beyond the rounding of seven terms.
    pre = x.mean(axis=0) @ start.params.W_enc.T + start.params.b_enc
    size = np.abs(x.mean(axis=0)) @ np.abs(start.params.W_enc.T) + np.abs(start.params.b_enc)
    assert (np.abs(pre) <= 8 * 2.0**-24 * size).all()
    assert fit.history[-1].dead == 0


def test_rows_that_occur_twice_make_no_twins(data):
    x, target = (np.repeat(a[:5], 16, axis=0) for a in data)
    fit = rt.fit(x, target, **OPTIONS)  # 24 features from 5 different rows
    assert len(np.unique(fit.transcoder.params.W_enc, axis=0)) == 24
    assert len(np.unique(fit.transcoder.params.W_dec, axis=0)) == 24


@pytest.mark.parametrize("what", ["x", "target", "both"])
def test_constant_data_are_no_trouble(data, what):
    x, target = (a.copy() for a in data)
    if what in ("x", "both"):
        x[:] = 3
    if what in ("target", "both"):
        target[:] = 0
    fit = rt.fit(x, target, **OPTIONS)
    assert np.isfinite(fit.transcoder(x)).all()


@pytest.mark.parametrize(
    "change",
    [
        {"activation": "relu", "l1_coeff": 0.1},
        {"ties": "keep_all"},
        {"skip": True},
        {"dtype": "float64"},
        {"dtype": "longdouble"},
        {"top_k": 24},
        {"batch_size": 200},
    ],
    ids=str,
)
def test_every_kind_of_transcoder_learns(data, change):
    options = OPTIONS | {"steps": 60, "log_every": 10} | change
    fit = rt.fit(*data, **options)
    assert fit.history[-1].loss < 0.7 * fit.history[0].loss
    for name in change.keys() & {"activation", "ties", "skip", "top_k"}:
        assert getattr(fit.transcoder.config, name) == change[name]
    assert fit.transcoder.params.dtype == np.dtype(change.get("dtype", "float32"))


def test_unit_norm_decoder(data):
    fit = rt.fit(*data, **OPTIONS, unit_norm_decoder=True)
    norms = np.linalg.norm(fit.transcoder.params.W_dec.astype(np.float64), axis=1)
    # The norm and each entry are rounded once: together less than 2 u, and some u^2.
    assert (np.abs(norms - 1) <= 2.01 * 2.0**-24).all()  # of the average too, which this is
    free = rt.fit(*data, **OPTIONS).transcoder.params.W_dec
    assert (np.abs(np.linalg.norm(free, axis=1) - 1) > 1e-3).all()


# Units


@pytest.mark.parametrize("skip", [False, True])
def test_units_change_nothing_but_units(data, skip):
    """Powers of two scale without rounding: every bit must follow."""
    x, target = (a.astype(np.float32) for a in data)
    options = OPTIONS | {"skip": skip}
    fit = rt.fit(x, target, **options, validation=0.25)
    other = rt.fit(8 * x, target / 4, **options, validation=0.25)
    assert other.history.entries == fit.history.entries
    np.testing.assert_array_equal(other.transcoder(8 * x), fit.transcoder(x) / 4)
    hidden, others = fit.transcoder.encode(x), other.transcoder.encode(8 * x)
    np.testing.assert_array_equal(others.toarray(), hidden.toarray() / 4)
    np.testing.assert_array_equal(other.transcoder.params.W_dec, fit.transcoder.params.W_dec)


@pytest.mark.parametrize("skip", [False, True])
def test_folding_predicts_the_same_in_the_units_of_the_data(data, rng, skip):
    x, target = data
    tc = rt.build(input_size=6, output_size=4, dict_size=24, top_k=3, skip=skip, dtype="float64")
    trained = {n: a + 0.1 * rng.standard_normal(a.shape) for n, a in tc.params.arrays().items()}
    scaling = Scaling(np.pi, np.e)
    folded = scaling.folded(trained)
    options = {"top_k": 3}
    inner = rt.Transcoder.from_arrays(**trained, **options)
    outer = rt.Transcoder.from_arrays(**folded, **options)
    want = inner(x / np.pi) * np.e
    got = outer(x)
    assert (outer.encode(x).indices == inner.encode(x / np.pi).indices).all()
    # Sums of products of at most four factors, each rounded at most three times (a division, the
    # ratio of the scales, a product), through sums of at most 7 + 5 + 7 terms, in both.
    absolute = {name: np.abs(array) for name, array in folded.items()}
    size = (np.abs(x) @ absolute["W_enc"].T + absolute["b_enc"]) @ absolute["W_dec"]
    size += absolute["b_dec"]
    if skip:
        size += np.abs(x) @ absolute["W_skip"].T
    assert (np.abs(got - want) <= 2 * (4 * 3 + 19) * 2.0**-53 * size).all()
    np.testing.assert_array_equal(folded["W_dec"], trained["W_dec"])


def test_training_data_have_unit_mean_square(data):
    x, target = (Activations(a, dtype="float64") for a in data)
    moments = Moments.of(x, target)
    scaling = Scaling.of(moments, "float64")
    batches = Batches(x, target, scaling, 80, seed_sequence(0), "float64")
    for array in batches(1):  # an epoch
        assert abs(np.square(array).mean() - 1) < 1e-14  # some roundings of numbers near 1
    np.testing.assert_allclose(moments.target, data[1].mean(axis=0), rtol=1e-14)
    long = np.arange(5000.0)[:, None]  # more than is read at a time
    moments = Moments.of(Activations(long), Activations(-long))
    assert (moments.x, moments.target) == (2499.5, -2499.5)
    assert moments.x_squares == moments.target_squares == 4999 * 9999 / 6
    zero = Activations(np.zeros((3, 2)))
    assert Scaling.of(Moments.of(zero, zero), "float32") == Scaling(1.0, 1.0)


def test_the_history_says_its_units(data):
    fit = rt.fit(*data, **OPTIONS, validation=0.25)
    x, target = (np.float32(a[:60]) for a in data)
    scales = [np.sqrt(np.square(a.astype(np.float64)).mean()) for a in (x, target)]
    units = fit.history.units
    assert f"inputs are divided by {scales[0]:.6g} and targets by {scales[1]:.6g}" in units
    assert "loss: training units" in units
    assert "fvu, l0, dead: 20 validation rows, in the units of the data" in units
    assert "80 training rows" in rt.fit(*data, **OPTIONS).history.units


def test_the_loss_in_the_history_is_in_training_units(data):
    # One batch of all rows, and a learning rate too small to move a float32.
    options = OPTIONS | {"batch_size": 80, "steps": 3, "log_every": 3, "lr": 1e-12}
    x, target = data
    fit = rt.fit(x, target, **options)
    scale = fit.history.scaling.target_scale
    mse = np.square(target - fit.transcoder(x)).mean() / scale**2
    l1 = 1e-3 * np.abs(fit.transcoder.encode(x).toarray()).mean() / scale
    np.testing.assert_allclose(fit.history[-1].loss, mse + l1, rtol=1e-6)


# What is measured


def test_metrics_and_log_are_those_of_the_result_on_held_out_rows(data):
    x, target = data
    fit = rt.fit(x, target, **(OPTIONS | {"lr": 0.1}), validation=0.25)
    hidden = fit.transcoder.encode(x[60:]).toarray()
    error = np.square(target[60:] - fit.transcoder(x[60:])).sum()
    fvu = error / np.square(target[60:] - target[:60].mean(axis=0)).sum()
    dead = np.flatnonzero(~(hidden > 0).any(axis=0))
    assert 0 < len(dead) < 24  # else this shows little
    np.testing.assert_array_equal(fit.metrics.dead_features, dead)
    last = fit.history[-1]
    assert (last.step, last.dead, last.l0) == (12, len(dead), (hidden > 0).sum(axis=1).mean())
    # float32 data in, float64 sums: about u each way.
    np.testing.assert_allclose([last.fvu, fit.metrics.fvu], fvu, rtol=1e-6)


def test_a_line_of_the_log_every_so_often_and_at_the_end(data):
    fit = rt.fit(*data, **OPTIONS, warmup=0.25, decay=0.5)
    assert fit.history.column("step") == [5, 10, 12]
    assert fit.history.column("lr") == [1e-2, 1e-2 * 3 / 7, 1e-2 / 7]  # w = 3, d = 6
    assert len(fit.history) == 3 and fit.history[1] in fit.history


def test_only_the_first_rows_are_measured_for_the_log(monkeypatch, data):
    monkeypatch.setattr("reftranscoder.training.evaluation.SOME", 10)
    fit = rt.fit(*data, **OPTIONS, validation=0.25)
    assert fit.history.measured_on == "the first 10 of 20 validation rows"
    assert fit.metrics.rows == 20
    assert fit.history[-1].fvu != fit.metrics.fvu
    assert "the first 10 of 80 training rows" in rt.fit(*data, **OPTIONS).history.units


def test_the_history_is_plain_data(data):
    fit = rt.fit(*data, **OPTIONS)
    plain = json.loads(json.dumps(fit.history.to_dict()))
    assert [entry["loss"] for entry in plain["entries"]] == fit.history.column("loss")
    assert plain["target_scale"] == fit.history.scaling.target_scale
    assert pickle.loads(pickle.dumps(fit)).history == fit.history
    assert repr(fit).startswith("Fit(Transcoder(6 -> 24 -> 4") and "\n" not in repr(fit)
    with pytest.raises(AttributeError):
        fit.steps = 0


# The step


@pytest.mark.parametrize("backend", ["kernels", "reference"])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"second_moment": "row"},
        {"skip": True},
        {"activation": "relu"},
        {"ties": "keep_all"},
        {"dtype": "float64"},
    ],
    ids=str,
)
def test_a_step_is_value_and_grad_followed_by_adam(data, rng, backend, change):
    """Bit for bit, and by the reference's Adam, three times in a row; of rows by that of the room,
    as their means are not added up in one order."""
    kind = (change := dict(change)).pop("second_moment", "entry")
    tc = rt.build(**({"input_size": 6, "output_size": 4, "dict_size": 24, "top_k": 3} | change))
    config = tc.config
    x, target = (a.astype(config.dtype) for a in data)
    recipe = Recipe(l1_coeff=0.5, beta1=0.9, beta2=0.99, eps=1e-8, second_moment=kind)
    p = {n: a.copy() for n, a in tc.params.arrays().items()}
    state = State.start(config, {n: a.copy() for n, a in p.items()}, recipe)
    m, v = ({name: np.zeros_like(a) for name, a in p.items()} for _ in range(2))
    of_rows = dict.fromkeys(p, adam_step)
    if kind == "row":
        room = kernels if backend == "kernels" else reference
        of_rows |= dict.fromkeys(("W_enc", "W_dec"), room.adam_row_step)
        v |= {name: v[name][:, :1].copy() for name in ("W_enc", "W_dec")}
    for t, lr in enumerate([1e-2, 2e-2, 1e-2], start=1):
        tc = rt.Transcoder(config, rt.Params(**p))
        loss, grads = tc.value_and_grad(x, target, 0.5, backend=backend)
        for name, g in grads.arrays().items():
            copies = p[name].copy(), g, m[name], v[name]  # of what belongs to a Transcoder
            p[name], m[name], v[name] = of_rows[name](*copies, t, lr, 0.9, 0.99, 1e-8)
        assert training_step(state, recipe, lr, x, target, backend) == float(loss)
    assert state.t == 3
    assert_same_arrays(state.arrays, p)
    assert_same_arrays(state.m, m)
    assert_same_arrays(state.v, v)


@pytest.mark.parametrize("backend", ["kernels", "reference"])
def test_a_step_on_an_infinite_input_is_seen_in_the_loss(data, backend):
    # Of features that minus infinity switches off nothing would be seen.
    ones = np.ones((3, 6), np.float32)
    tc = rt.Transcoder.from_arrays(
        W_enc=ones, b_enc=ones[:, 0], W_dec=ones[:, :4], b_dec=ones[0, :4], top_k=3
    )
    x, target = (a.astype(np.float32) for a in data)
    x[7, 1] = -np.inf
    recipe = Recipe(l1_coeff=0, beta1=0.9, beta2=0.99, eps=1e-8)
    state = State.start(tc.config, {n: a.copy() for n, a in tc.params.arrays().items()}, recipe)
    assert np.isnan(training_step(state, recipe, 1, x, target, backend))


def test_epochs_are_orders_of_all_rows_without_a_gap(data):
    x, target = (Activations(a) for a in data)
    batches = Batches(x, target, Scaling(1.0, 1.0), 24, seed_sequence(3), "float32")
    rows = [batches.rows(t) for t in range(1, 11)]
    assert all((np.diff(r) >= 0).all() for r in rows)
    seen = np.concatenate(rows)  # ten batches of 24 are three epochs of 80
    np.testing.assert_array_equal(np.bincount(seen), np.full(80, 3))
    # After three batches and a third, the first epoch is over.
    assert len(np.unique(np.concatenate(rows[:3]))) == 72
    assert (rows[0] != np.arange(24)).any()
    halves = Batches(x, target, Scaling(1.0, 1.0), 40, seed_sequence(3), "float32")
    assert (halves.rows(1) != halves.rows(3)).any()  # another order in each epoch
    np.testing.assert_array_equal(batches.rows(2), rows[1])  # whatever was asked for before
    assert (rows[0] != rows[5]).any()
    np.testing.assert_array_equal(batches(4)[0], data[0].astype(np.float32)[rows[3]])


# Reproducibility


@pytest.mark.parametrize(
    "seed",
    [5, np.random.SeedSequence(5), np.int32(5), np.random.default_rng],
    ids=["a number", "a SeedSequence", "an int32", "a Generator"],
)
def test_the_same_seed_gives_the_same_bits(data, seed):
    def make():
        return seed(5) if callable(seed) else seed

    fits = [rt.fit(*data, **OPTIONS, seed=make()) for _ in range(2)]
    assert_same_arrays(arrays_of(fits[1]), arrays_of(fits[0]))
    assert fits[0].history == fits[1].history
    other = rt.fit(*data, **OPTIONS, seed=6)
    assert (arrays_of(other)["W_enc"] != arrays_of(fits[0])["W_enc"]).any()


def test_a_seed_sequence_is_not_changed_and_differs_from_its_children(data):
    seed = np.random.SeedSequence(5)
    first = rt.fit(*data, **OPTIONS, seed=seed)
    (child,) = seed.spawn(1)
    assert child.spawn_key == (0,)
    other = rt.fit(*data, **OPTIONS, seed=child)
    assert (arrays_of(other)["W_enc"] != arrays_of(first)["W_enc"]).any()
    assert start_generator(seed).random() != np.random.default_rng(child).random()


def test_the_number_of_threads_changes_no_bit(data):
    numba = pytest.importorskip("numba")
    options = OPTIONS | {"backend": "kernels", "steps": 4}
    many = rt.fit(*data, **options)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = rt.fit(*data, **options)
    finally:
        numba.set_num_threads(threads)
    assert_same_arrays(arrays_of(one), arrays_of(many))
    assert one.history == many.history


# Where data come from


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_files_give_what_arrays_give(data, tmp_path, dtype):
    paths = [tmp_path / "x.npy", tmp_path / "target.npy"]
    arrays = [a.astype(dtype) for a in data]
    for path, array in zip(paths, arrays):
        np.save(path, array)
    want = rt.fit(*(a.astype(np.float32) for a in arrays), **OPTIONS, validation=0.25)
    assert_same_arrays(arrays_of(rt.fit(*paths, **OPTIONS, validation=0.25)), arrays_of(want))
    validation = tuple(Activations(path, rows="60:") for path in paths)
    training = [Activations(path, rows=":60") for path in paths]
    fit = rt.fit(*training, **OPTIONS, validation=validation)
    assert_same_arrays(arrays_of(fit), arrays_of(want))
    assert fit.history == want.history


def test_validation_rows_are_the_last_and_never_trained_on(data):
    x, target = data
    fit = rt.fit(x, target, **OPTIONS, validation=0.25)
    alone = rt.fit(x[:60], target[:60], **OPTIONS)
    assert_same_arrays(arrays_of(fit), arrays_of(alone))
    assert (fit.metrics.rows, alone.metrics) == (20, None)
    pair = rt.fit(x[:60], target[:60], **OPTIONS, validation=(x[60:], target[60:]))
    assert pair.history == fit.history


# Under way


def test_progress_is_told_after_every_step(data, capsys):
    told = []
    fit = rt.fit(*data, **OPTIONS, progress=told.append)
    assert [p.step for p in told] == list(range(1, 13))
    assert {p.steps for p in told} == {12}
    assert [p.latest for p in told] == [None] * 4 + [fit.history[0]] * 5 + [
        *[fit.history[1]] * 2,
        fit.history[2],
    ]
    means = [
        np.mean([p.loss for p in told[first:last]]) for first, last in [(0, 5), (5, 10), (10, 12)]
    ]
    np.testing.assert_allclose(fit.history.column("loss"), means, rtol=1e-15)
    assert all(p.rows_per_second > 0 for p in told)
    rt.fit(*data, **OPTIONS, progress=True)
    assert capsys.readouterr() == ("", "")  # no bar where there is no terminal


def test_the_bar_on_a_terminal(data, capsys, monkeypatch):
    tqdm = pytest.importorskip("tqdm").tqdm
    monkeypatch.setattr("tqdm.tqdm", functools.partial(tqdm, mininterval=0))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    fit = rt.fit(*data, **OPTIONS, progress=True)
    shown = capsys.readouterr().err
    assert "1/12" in shown and "12/12" in shown and "rows/s" in shown
    assert f"FVU {fit.history[1].fvu:.3f}" in shown


def test_ctrl_c_ends_after_the_step_with_a_usable_model(data, ctrl_c):
    def interrupt(progress):
        if progress.step == 7:
            signal.raise_signal(signal.SIGINT)

    fit = rt.fit(*data, **OPTIONS, validation=0.25, progress=interrupt)
    assert (fit.interrupted, fit.steps, fit.metrics) == (True, 7, None)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert fit.history.column("step") == [5]
    assert np.isfinite(fit.transcoder(data[0])).all()
    assert "7 steps, interrupted" in repr(fit)


def test_ctrl_c_within_a_step_lets_it_finish(data, ctrl_c, monkeypatch):
    """The parameters are those of a whole step, although the signal came in the middle of one."""
    options = OPTIONS | {"second_moment": "entry"}  # all four arrays by one function
    whole = rt.fit(*data, **options, progress=stop_at(4))
    seen = []

    def interrupted_adam(*args):
        seen.append(args)
        if len(seen) == 3 * 4 + 2:  # the second of four arrays, in the fourth step
            signal.raise_signal(signal.SIGINT)
        return adam_step(*args)

    monkeypatch.setattr("reftranscoder.reference.adam_step", interrupted_adam)
    fit = rt.fit(*data, **options)
    assert (fit.interrupted, fit.steps) == (True, 4)
    assert_same_arrays(arrays_of(fit), arrays_of(whole))


def test_a_second_ctrl_c_stops_at_once(data, ctrl_c):
    def interrupt(progress):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not stopped")

    fit = rt.fit(*data, **OPTIONS, progress=interrupt)
    assert (fit.interrupted, fit.steps) == (True, 1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_may_train(data):
    results = []
    thread = threading.Thread(target=lambda: results.append(rt.fit(*data, **OPTIONS)))
    thread.start()
    thread.join()
    assert_same_arrays(arrays_of(results[0]), arrays_of(rt.fit(*data, **OPTIONS)))


def test_a_failing_progress_function_is_not_swallowed(data, ctrl_c):
    with pytest.raises(ZeroDivisionError):
        rt.fit(*data, **OPTIONS, progress=lambda progress: 1 / 0)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def stop_at(step):
    def stop(progress):
        if progress.step == step:
            raise KeyboardInterrupt

    return stop


# What is refused


@pytest.mark.parametrize(
    "change",
    [
        {"dict_size": 0},
        {"top_k": 25},
        {"activation": "gelu"},
        {"ties": "random"},
        {"skip": "yes"},
        {"dtype": "float16"},
        {"steps": 0},
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"lr": 0},
        {"warmup": 1.5},
        {"decay": -1},
        {"l1_coeff": -1},
        {"l1_coeff": float("nan")},
        {"unit_norm_decoder": 2},
        {"second_moment": "column"},
        {"aux_k": -1},
        {"aux_k": 1.5},
        {"aux_coeff": -1},
        {"dead_after": 0},
        {"clip_norm": float("inf")},
        {"average": 1.5},
        {"top_k_start": 2},  # below top_k
        {"top_k_start": 25},
        {"top_k_fall": 2},
        {"accumulate": 0},
        {"accumulate": 17},
        {"patience": -1},
        {"beta1": 1},
        {"beta2": -0.1},
        {"eps": 0},
        {"validation": 0.0},
        {"validation": 1.0},
        {"validation": 1e-9},
        {"validation": float("nan")},
        {"validation": True},
        {"validation": "last"},
        {"validation": (1, 2, 3)},
        {"seed": -1},
        {"seed": 1.5},
        {"seed": None},
        {"seed": "lucky"},
        {"backend": "gpu"},
        {"log_every": 0},
        {"checkpoint": 1},
        {"checkpoint_every": 0},
        {"progress": "bar"},
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_refused_by_name(data, change):
    (name,) = change
    with pytest.raises(OptionError, match=f"^{name} must be") as caught:
        rt.fit(*data, **(OPTIONS | change))
    assert "\n" not in str(caught.value)


def test_kernels_refuse_longdouble(data):
    with pytest.raises(OptionError, match="^backend must be 'reference' for"):
        rt.fit(*data, **(OPTIONS | {"backend": "kernels", "dtype": "longdouble"}))


def test_data_that_do_not_fit_are_refused(data):
    x, target = data
    with pytest.raises(ShapeError, match=r"^target must have shape \(80, 4\); got \(79, 4\)"):
        rt.fit(x, target[1:], **OPTIONS)
    with pytest.raises(ShapeError, match=r"^validation x must have shape \(B, I\) = \(any, 6\)"):
        rt.fit(x, target, **OPTIONS, validation=(x[:, :5], target))
    with pytest.raises(ShapeError, match=r"^validation target must .* \(B, O\) = \(any, 4\)"):
        rt.fit(x, target, **OPTIONS, validation=(x, x))
    with pytest.raises(ShapeError, match="^validation target must have shape"):
        rt.fit(x, target, **OPTIONS, validation=(x, target[1:]))
    with pytest.raises(DTypeError, match="^x must hold real"):
        rt.fit(x + 1j, target, **OPTIONS)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_data_are_refused_before_training(data, bad):
    x, target = data
    target[17, 2] = bad
    told = []
    with pytest.raises(NonFiniteError, match="^target must be finite; .* row 17, column 2"):
        rt.fit(x, target, **OPTIONS, progress=told.append)
    assert not told
    unchecked = Activations(target, "target", check_finite=False)
    with pytest.raises(OptionError, match="^target must be finite, with squares"):
        rt.fit(x, unchecked, **OPTIONS)


def test_a_loss_that_is_no_longer_finite_is_an_error(data):
    with pytest.raises(Error, match="^lr must be low enough for a finite loss") as caught:
        rt.fit(*data, **(OPTIONS | {"lr": 1e38, "skip": True}))
    assert "\n" not in str(caught.value)
