"""The fused step is, bit for bit, the backward pass followed by Adam."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numba.core import config

from reftranscoder import kernels, reference
from reftranscoder.kernels.batch_part import Aux
from reftranscoder.kernels.engine.vector import LANES, fma, lane_sum, load, load_tail, zeros
from reftranscoder.kernels.fused_step import apply_gradients, step_in_place
from reftranscoder.kernels.gradient_sums import clip_gradients, gradient_sums
from reftranscoder.kernels.screen.cpu_target import PANELS
from reftranscoder.kernels.screen.packed_whole import Columns, PackedWeights
from reftranscoder.kernels.screened_encoder import Encoder
from reftranscoder.testing import Probe

pytestmark = pytest.mark.kernels

B, I, D, O, K = 12, 11, 15, 13, 4
ADAM = {"beta1": 0.8, "beta2": 0.95, "eps": 1e-8}
SHAPES = {"W_enc": (D, I), "b_enc": (D,), "W_dec": (D, O), "b_dec": (O,), "W_skip": (O, I)}


def problem(dtype, skip):
    """Parameters of which the first feature is active in every row, and the last in none."""
    rng = np.random.default_rng(20240617)
    arrays = {name: rng.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()}
    arrays["b_enc"][[0, -1]] = 50, -50
    if not skip:
        del arrays["W_skip"]
    return arrays, rng


def batch(rng, dtype):
    return (rng.standard_normal((B, size)).astype(dtype) for size in (I, O))


def zeros_like(arrays):
    return {name: np.zeros_like(array) for name, array in arrays.items()}


def copies(*groups):
    return [{name: array.copy() for name, array in group.items()} for group in groups]


def plain_step(arrays, m, v, x, target, t, lr, l1_coeff, unit_norm_decoder, **selection):
    """The step from the functions that it fuses, and the reference's Adam."""
    forward = kernels.transcoder_forward(x, **arrays, **selection)
    loss = kernels.transcoder_loss(target, forward.reconstruction, forward.hidden, l1_coeff)
    gradients = kernels.transcoder_backward(
        x,
        target,
        forward,
        arrays["W_enc"],
        arrays["W_dec"],
        arrays.get("W_skip"),
        l1_coeff=l1_coeff,
    )
    for name in arrays:
        g = getattr(gradients, f"d{name}")
        if name == "W_dec" and unit_norm_decoder:
            g = np.stack([row - dot(row, w) * w for row, w in zip(g, arrays[name])])
        # Of rows, the means are not added up in one order in both rooms.
        adam = reference.adam_step if v[name].shape == g.shape else kernels.adam_row_step
        arrays[name], m[name], v[name] = adam(arrays[name], g, m[name], v[name], t, lr, **ADAM)
    if unit_norm_decoder:
        for row in arrays["W_dec"]:
            row /= norm(row)
    return loss, forward.hidden


def norm(row):
    return row.dtype.type(np.sqrt(lanes(row, row)))


def dot(one, other):
    return one.dtype.type(lanes(one, other))


def lanes(one, other):
    """As `step_in_place` sums; these functions are plain Python outside of a kernel."""
    one, other, total = one[None], other[None], zeros()
    for o in range(0, O - LANES + 1, LANES):
        total = fma(load(one, 0, o), load(other, 0, o), total)
    w = O - O % LANES
    return lane_sum(fma(load_tail(one, 0, w), load_tail(other, 0, w), total))


def assert_same_bits(got, want):
    assert got.keys() == want.keys()
    for name, array in want.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array, err_msg=name, strict=True)


CASES = [
    {},
    {"skip": True},
    {"ties": "keep_all"},
    {"activation": "relu", "skip": True},
    {"unit_norm_decoder": True},
    {"rows": True, "skip": True},
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_both_ways_take_the_same_steps(dtype, case):
    case = {"unit_norm_decoder": False, "activation": "topk", "top_k": K} | case
    arrays, rng = problem(dtype, case.pop("skip", False))
    state = arrays, zeros_like(arrays), zeros_like(arrays)
    if case.pop("rows", False):
        state[2].update({name: np.zeros((D, 1), dtype) for name in ("W_enc", "W_dec")})
    plain = copies(*state)
    entries, moved_on = set(), 0
    for t, lr in enumerate([1e-2, 3e-2, 1e-2, 1e-3], start=1):
        x, target = batch(rng, dtype)
        before = arrays["W_enc"].copy()
        want, hidden = plain_step(*plain, x, target, t, lr, 0.3, **case)
        got = step_in_place(*state, x, target, t, lr, **ADAM, l1_coeff=0.3, **case)
        assert got == want and got.dtype == np.float64
        for group, other in zip(state, plain):
            assert_same_bits(group, other)
        counts = np.bincount(hidden.indices, minlength=D)
        entries |= set(counts.tolist())
        moved_on += np.sum((counts == 0) & (arrays["W_enc"] != before).any(axis=1))
    # What these cases are to contain: none, some, more than four, and all rows; and, where not
    # nearly every feature is active, one without entries that moves on.
    assert {0, B} < entries and entries & {1, 2, 3} and entries & {5, 6, 7, 9}
    assert moved_on or case["activation"] == "relu"


@pytest.mark.parametrize("panels", PANELS)
def test_the_screen_s_copies_are_rewritten_with_the_weights(panels):
    rng = np.random.default_rng(20240617)
    rows, top_k = 66, 5  # enough for means to be moved, and D for features to be screened
    shapes = {"W_enc": (60, I), "b_enc": (60,), "W_dec": (60, O), "b_dec": (O,)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    state = arrays, zeros_like(arrays), zeros_like(arrays)
    plain = copies(*state)
    encoder = Encoder(arrays["W_enc"], arrays["b_enc"], panels)
    for t in range(1, 4):
        x, target = (rng.standard_normal((rows, n)).astype(np.float32) + 1 for n in (I, O))
        options = {**ADAM, "l1_coeff": 0.3, "top_k": top_k}
        got = step_in_place(*state, x, target, t, 1e-2, **options, encoder=encoder)
        assert got == step_in_place(*plain, x, target, t, 1e-2, **options)
        for group, other in zip(state, plain):
            assert_same_bits(group, other)
        order, kept = encoder.rewrite()
        assert len(kept.panels) == 0 if panels == np.float32 else kept.columns[1].all()
        if len(kept.panels):
            chosen = Columns(I)
            chosen.scales, chosen.means = kept.columns
            anew = PackedWeights(arrays["W_enc"], arrays["b_enc"], chosen, panels)
            np.testing.assert_array_equal(order, anew.order)
            for name in ("panels", "features", "sixteen", "closer"):
                np.testing.assert_array_equal(getattr(kept, name), getattr(anew, name))


def test_a_row_of_zeros_has_no_norm():
    arrays, rng = problem(np.float32, skip=False)
    arrays["W_dec"][-1] = 0  # of the feature that is never active: Adam does not move it
    state = arrays, zeros_like(arrays), zeros_like(arrays)
    options = {"l1_coeff": 0.3, "top_k": K, "unit_norm_decoder": True}
    step_in_place(*state, *batch(rng, np.float32), 1, 1e-2, **ADAM, **options)
    assert not arrays["W_dec"][-1].any() and arrays["W_dec"][:-1].all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_takes_the_same_way(bad):
    arrays, rng = problem(np.float32, skip=True)
    state = arrays, zeros_like(arrays), zeros_like(arrays)
    plain = copies(*state)
    x, target = batch(rng, np.float32)
    target[3, 2] = bad
    with np.errstate(all="ignore"):
        want, _ = plain_step(*plain, x, target, 1, 1e-2, 0.3, False, top_k=K)
        got = step_in_place(*state, x, target, 1, 1e-2, **ADAM, l1_coeff=0.3, top_k=K)
    np.testing.assert_array_equal(got, want)
    for group, other in zip(state, plain):
        assert_same_bits(group, other)
    assert np.isnan(arrays["W_dec"][0]).any() and np.isfinite(arrays["W_dec"][-1]).all()


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="too large for plain Python")
def test_no_array_of_gradients_is_made(monkeypatch):
    rng = np.random.default_rng(20240617)
    shapes = {"W_enc": (8192, 128), "b_enc": (8192,), "W_dec": (8192, 128), "b_dec": (128,)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    state = arrays, zeros_like(arrays), zeros_like(arrays)
    x, target = rng.standard_normal((2, 8, 128)).astype(np.float32)
    forward = kernels.transcoder_forward(x, **arrays, top_k=K)
    monkeypatch.setattr(Encoder, "encode", lambda *args, **options: forward.hidden)
    options = {"l1_coeff": 0.3, "top_k": K}
    fused = peak(lambda: step_in_place(*state, x, target, 1, 1e-2, **ADAM, **options))
    weights = arrays["W_enc"], arrays["W_dec"]
    plain = peak(lambda: kernels.transcoder_backward(x, target, forward, *weights, l1_coeff=0.3))
    assert plain > 2 * arrays["W_enc"].nbytes  # both gradients: this is how they would be seen
    assert fused < arrays["W_enc"].nbytes / 8


def peak(function):
    """The most memory that NumPy's arrays take at once during a call, in bytes."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Batches in parts, AuxK and clipping.

DEAD = np.arange(D) % 3 > 0  # some of which are active again, in the same rows and in others
WITH_AUX = [None, Aux(DEAD, 3, 1 / 32)]


@pytest.mark.parametrize("aux", WITH_AUX, ids=["alone", "AuxK"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_into_however_many_parts_a_batch_is_divided_the_bits_are_those_of_the_whole(dtype, aux):
    arrays, rng = problem(dtype, skip=True)
    x, target = batch(rng, dtype)
    options = {"l1_coeff": 0.3, "aux": aux}
    whole, *states = (copies(arrays, *[zeros_like(arrays)] * 2) for _ in range(4))
    was_active = np.zeros(D, bool)
    loss = step_in_place(
        *whole,
        x,
        target,
        1,
        1e-2,
        **ADAM,
        top_k=K,
        unit_norm_decoder=True,
        active=was_active,
        **options,
    )
    hidden = kernels.encode_forward(x, arrays["W_enc"], arrays["b_enc"], top_k=K)
    np.testing.assert_array_equal(np.flatnonzero(was_active), np.unique(hidden.indices))
    for number, state in zip((1, 3, 5), states):
        encoder = Encoder(state[0]["W_enc"], state[0]["b_enc"])
        parts = zip(np.array_split(x, number), np.array_split(target, number))
        active = np.zeros(D, bool)
        gradients, got = gradient_sums(
            state[0], parts, B, encoder, selection={"top_k": K}, active=active, **options
        )
        assert got == loss and np.array_equal(active, was_active)
        apply_gradients(*state, gradients, (1, 1e-2, *ADAM.values()), encoder, True)
        for group, other in zip(state, whole):
            assert_same_bits(group, other)


@pytest.mark.parametrize("number", [1, 2])
def test_the_gradients_with_aux_k_are_those_of_both(number):
    """Over numbers of which every sum is exact, whatever its order."""
    probe = Probe(3, dtype=np.float64, values="integers")
    P = {name: getattr(probe, name) for name in SHAPES}
    aux, weights = Aux(probe.dead, 3, 1 / 32), (P["W_enc"], P["W_dec"])
    forward = kernels.transcoder_forward(probe.x, **P, top_k=K)
    of_loss = kernels.transcoder_backward(
        probe.x, probe.target, forward, *weights, P["W_skip"], l1_coeff=0.5
    )
    residual = probe.target - forward.reconstruction
    of_dead = kernels.aux_k_forward(probe.x, probe.dead, P["W_enc"], P["b_enc"], P["W_dec"], 3)
    of_aux = kernels.aux_k_backward(probe.x, residual, *of_dead, *weights, 1 / 32)
    assert len(of_dead.hidden.values) and np.any(residual)
    encoder = Encoder(P["W_enc"], P["b_enc"])
    parts = zip(np.array_split(probe.x, number), np.array_split(probe.target, number))
    got, loss = gradient_sums(P, parts, len(probe.x), encoder, 0.5, {"top_k": K}, aux)
    for name, gradient in got.items():
        want = getattr(of_loss, f"d{name}") + getattr(of_aux, f"d{name}", 0)
        np.testing.assert_array_equal(gradient, want, err_msg=name)
    want = kernels.transcoder_loss(probe.target, forward.reconstruction, forward.hidden, 0.5)
    assert loss == want  # without AuxK's


def test_gradients_are_clipped_by_their_norm_all_together():
    gradients = {"W": np.array([[3.0, 0], [0, 4]], np.float32), "b": np.array([12.0], np.float32)}
    as_they_were = copies(gradients)[0]
    assert clip_gradients(gradients, 13) == 13
    assert_same_bits(gradients, as_they_were)  # not larger
    assert clip_gradients(gradients, 6.5) == 13
    assert_same_bits(gradients, {name: g / 2 for name, g in as_they_were.items()})
