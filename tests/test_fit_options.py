"""What `fit` offers beyond plain Adam: each option does what its words say."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from dual_numbers import duals, slope_of

import reftranscoder as rt
from reftranscoder import kernels, reference
from reftranscoder.errors import OptionError
from reftranscoder.training import step
from reftranscoder.training.adam import Recipe, State
from reftranscoder.training.step import average_weights, training_step

OPTIONS = {"dict_size": 24, "top_k": 3, "steps": 12, "batch_size": 16, "lr": 1e-2}
BACKENDS = ["kernels", "reference"]


@pytest.fixture
def data(rng):
    x = rng.standard_normal((80, 6)) + 0.5
    return x, np.maximum(x @ rng.standard_normal((6, 4)), 0) + 1


def started(rng, top_k=3, recipe=None):
    """A state with some numbers, and a batch."""
    config = rt.TranscoderConfig(input_size=6, output_size=4, dict_size=24, top_k=top_k)
    shapes = {"W_enc": (24, 6), "b_enc": (24,), "W_dec": (24, 4), "b_dec": (4,)}
    arrays = {n: rng.standard_normal(shape).astype(np.float32) for n, shape in shapes.items()}
    batch = (rng.standard_normal((16, n)).astype(np.float32) for n in (6, 4))
    return State.start(config, arrays, recipe or Recipe()), *batch


def copied(state):
    return {name: array.copy() for name, array in state.arrays.items()}


# AuxK


@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_without_an_activation_are_counted(rng, backend):
    state, x, target = started(rng)
    state.arrays["b_enc"][:2] = 99, -99  # in every row and in none
    seen = np.zeros(24, int)
    for _ in range(3):
        arrays = copied(state)
        tc = rt.Transcoder.from_arrays(**arrays, top_k=3)
        active = (tc.encode(x).toarray() > 0).any(axis=0)
        seen = np.where(active, 0, seen + 1)
        training_step(state, Recipe(), 1e-3, x, target, backend)
        np.testing.assert_array_equal(state.silent, seen)
    assert seen[:2].tolist() == [0, 3]


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_dead_features_learn_from_the_residual(rng, backend):
    """The first step from the same state, with AuxK and without."""
    dead, states, losses = np.arange(24) < 12, [], []
    for recipe in (Recipe(aux_k=2, dead_after=5, aux_coeff=0.5), Recipe()):
        state, x, target = started(np.random.default_rng(3))
        state.silent[dead] = 5
        losses.append(training_step(state, recipe, 1e-3, x, target, backend))
        states.append(state)
    with_aux, without = states
    assert losses[0] == losses[1]  # which is without AuxK's
    different = [
        (with_aux.m[name] != without.m[name]).reshape(24, -1).any(axis=1)
        for name in ("W_enc", "b_enc", "W_dec")
    ]
    for one in different:
        assert one.any() and not (one & ~dead).any()
    np.testing.assert_array_equal(with_aux.m["b_dec"], without.m["b_dec"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_aux_k_revives_what_is_never_the_largest(backend):
    alive = []
    for aux_k in (0, 4):
        state, x, target = started(np.random.default_rng(3), top_k=1)
        state.arrays["W_enc"][12:] *= 0.1
        state.arrays["b_enc"][12:] = 0
        recipe = Recipe(aux_k=aux_k, dead_after=3, aux_coeff=1.0, beta2=0.999)
        for _ in range(120):
            training_step(state, recipe, 1e-2, x, target, backend)
        alive.append(np.count_nonzero(state.silent[12:] < 3))
    assert alive[0] < alive[1]


# Clipping, unit norm, averages


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_gradient_is_clipped(rng, backend):
    """Adam's first mean is (1 - beta1) times the gradient it was given."""
    norms = []
    for clip_norm in (0.0, 1e-3, 1e6):
        state, x, target = started(np.random.default_rng(3))
        training_step(state, Recipe(beta1=0, clip_norm=clip_norm), 1e-3, x, target, backend)
        norms.append(np.sqrt(sum(np.sum(m.astype(np.float64) ** 2) for m in state.m.values())))
    assert norms[0] == norms[2] > 1e-3
    # Each entry and the factor are rounded once, and the norm by a float64's last digits.
    assert abs(norms[1] / 1e-3 - 1) < 3 * 2.0**-24


def test_the_gradient_of_unit_rows_is_exact():
    rows = np.array([[3, 4], [5, 12], [-8, 15]], dtype=object) * Fraction(1)
    unit = rows / np.array([[5], [13], [17]], dtype=object)  # the roots are rational
    np.testing.assert_array_equal(reference.unit_rows_forward(duals(rows, 0)), duals(unit, 0))
    d_unit = np.array([[1, 2], [-3, 1], [2, 2]], dtype=object) * Fraction(1, 3)
    got = reference.unit_rows_backward(d_unit, unit)
    for d, o in np.ndindex(3, 2):
        along = np.zeros((3, 2), dtype=object)
        along[d, o] = Fraction(1)
        moved = reference.unit_rows_forward(duals(unit, along))
        assert slope_of(np.sum(moved * d_unit)) == got[d, o]
    nothing = np.zeros((1, 2))  # has no direction
    np.testing.assert_array_equal(reference.unit_rows_forward(nothing), nothing)
    got = reference.unit_rows_backward(d_unit[:1], nothing.astype(int))
    np.testing.assert_array_equal(got, d_unit[:1])


def test_the_average_is_the_mean_of_the_steps_and_then_forgets():
    steps = [Fraction(n) for n in (3, 1, 4, 1, 5, 9)]
    average = np.array([Fraction(99)], dtype=object)
    for t, p in enumerate(steps, start=1):
        p = np.array([p], dtype=object)
        average = reference.average_step(average, p, Fraction(t), Fraction(3, 4))
        if t <= 4:
            assert average[0] == sum(steps[:t]) / t
    assert average[0] == (Fraction(9, 4) * 3 + 5) / 4 * Fraction(3, 4) + Fraction(9, 4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_average_follows_the_arrays(rng, backend):
    recipe = Recipe(average=0.5)
    state, x, target = started(rng, recipe=recipe)
    want = copied(state)
    for t in range(1, 5):
        training_step(state, recipe, 1e-2, x, target, backend)
        want = {
            name: reference.average_step(a, state.arrays[name], t, 0.5) for name, a in want.items()
        }
    for name, array in want.items():
        np.testing.assert_array_equal(state.measured[name], array, strict=True)
    assert any((state.arrays[name] != array).any() for name, array in want.items())


@pytest.mark.parametrize("decay", [0.75, 1])
def test_a_step_that_stands_for_eight_counts_as_eight(rng, decay):
    """Where the arrays stay as they are between, the average is that of every step."""
    recipe = Recipe(average=decay)
    state, *_ = started(rng, recipe=recipe)
    p = state.arrays["W_enc"]
    every = p.astype(np.float64)
    kept = []
    for t in range(1, 90):
        if t > 64 and t % 8 == 1 or t <= 64:
            p[...] = rng.standard_normal(p.shape)
        state.t = t
        before = state.average["W_enc"].copy()
        average_weights(state, recipe, "kernels")
        every = reference.average_step(every, p, t, decay)
        kept.append((state.average["W_enc"] == before).all())
        if t <= 64 or t % 8 == 0:
            # Of 90 steps each rounds three times what is below 6.
            np.testing.assert_allclose(state.average["W_enc"], every, atol=90 * 3 * 6 * 2.0**-24)
    assert [t for t, same in enumerate(kept, start=1) if not same] == [*range(1, 65), 72, 80, 88]


def test_what_is_measured_and_returned_is_the_average(data):
    fit = rt.fit(*data, **OPTIONS, validation=0.25, average=0.9)
    plain = rt.fit(*data, **OPTIONS, validation=0.25)
    assert fit.metrics.fvu == fit.history[-1].fvu != plain.metrics.fvu
    assert fit.history.column("loss") == plain.history.column("loss")  # of the arrays themselves


# Schedules, and when it stops


def test_each_step_keeps_what_the_schedule_says(data, monkeypatch):
    kept = []

    def noted(*arguments):
        kept.append(arguments[-1])
        return step.step_on_parts(*arguments)

    monkeypatch.setattr("reftranscoder.training.steps.step_on_parts", noted)
    fit = rt.fit(*data, **OPTIONS, top_k_start=9, top_k_fall=0.5)
    assert kept == [9, 8, 7, 6, 5, 4] + [3] * 6
    assert fit.transcoder.config.top_k == 3
    plain = rt.fit(*data, **OPTIONS)
    assert plain.history[-1].loss != fit.history[-1].loss


@pytest.mark.parametrize("activation", ["relu", "groupmax"])
def test_where_top_k_cannot_fall_it_is_refused(data, activation):
    with pytest.raises(OptionError, match="^top_k_start must be 0 for activation="):
        rt.fit(*data, **OPTIONS | {"activation": activation}, top_k_start=6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_in_parts_is_the_whole(data, backend):
    whole, parts = (
        rt.fit(*data, **OPTIONS, backend=backend, accumulate=n, aux_k=4, dead_after=1)
        for n in (1, 5)
    )
    for name, array in whole.transcoder.params.arrays().items():
        np.testing.assert_array_equal(parts.transcoder.params.arrays()[name], array)
    assert parts.history == whole.history


def test_rows_that_compete_are_not_divided(data):
    with pytest.raises(OptionError, match="^accumulate must be 1 for activation='batchtopk'"):
        rt.fit(*data, **OPTIONS, activation="batchtopk", accumulate=2)


def test_training_stops_where_it_gets_worse_and_the_best_is_returned(data):
    options = OPTIONS | {"steps": 400, "lr": 0.1, "decay": 0, "log_every": 5, "patience": 4}
    fit = rt.fit(*data, **options, validation=0.25)
    fvus = fit.history.column("fvu")
    best = int(np.argmin(fvus))
    assert len(fvus) - 1 - best == 4 and fit.steps == 5 * len(fvus) < 400
    assert not fit.interrupted and fit.best_step == 5 * (best + 1)
    assert fit.metrics.fvu == min(fvus) < fvus[-1]
    # Without the last measurements it had not stopped yet: no four of them were in vain before.
    assert all(min(fvus[n - 4 : n]) < min(fvus[: n - 4]) for n in range(5, len(fvus)))
    plain = rt.fit(*data, **OPTIONS, validation=0.25)
    assert plain.best_step is None


def test_without_held_out_rows_nothing_says_when_to_stop(data):
    with pytest.raises(OptionError, match="^validation must be given where patience is"):
        rt.fit(*data, **OPTIONS, patience=3)


def test_the_rooms_make_the_same_average(rng):
    average, p = rng.standard_normal((2, 9000)).astype(np.float32)  # more than a thread takes
    want = reference.average_step(average, p, 3, 0.9)
    assert kernels.average_step(average, p, 3, 0.9) is average
    np.testing.assert_array_equal(average, want, strict=True)


def test_arrays_in_training_begin_with_a_cache_line(rng):
    state, *_ = started(rng)
    arrays = {name: a for name, a in state.named().items() if name != "silent"}
    assert {"arrays.W_dec", "m.W_dec", "v.W_dec", "average.W_dec"} <= set(arrays)
    assert all(array.ctypes.data % 64 == 0 for array in arrays.values())


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_has_one_second_moment(rng, backend):
    """(O4) from Adam's first step: m is 0.1 g, and v 0.05 times the mean of the squares of g."""
    state, x, target = started(rng)
    training_step(state, Recipe(), 1e-3, x, target, backend)
    for name in ("W_enc", "W_dec"):
        g = state.m[name].astype(np.float64) / (1 - 0.9)
        v = state.v[name].astype(np.float64)
        assert v.shape == (24, 1) and v.any()
        # Of m and v, made in float32: 1 - 0.9, g and their product; of v the mean and two more.
        mean = (1 - 0.95) * np.mean(g**2, axis=1, keepdims=True)
        assert (np.abs(v - mean) <= 9 * 2.0**-24 * mean).all()
    assert state.v["b_enc"].shape == (24,)
