"""The fast encoder returns what `encode_forward` does, to the last bit, whatever it is given; and
its screen discards nothing that could matter, which is seen in the bounds themselves.
"""

from __future__ import annotations

import functools
import gc
import os
import pickle
import platform
import subprocess
import sys
import weakref
from fractions import Fraction
from typing import NamedTuple

import llvmlite.binding
import numba
import numpy as np
import pytest
from numba.core import config

from reftranscoder import Params, kernels, reference
from reftranscoder.kernels import screened_encoder
from reftranscoder.kernels.encoders import encoder_of
from reftranscoder.kernels.gated_encoder import GatedEncoder
from reftranscoder.kernels.screen import expectations, layout
from reftranscoder.kernels.screen.cpu_target import KINDS, PANELS, TABLE, TILE, kinds_of
from reftranscoder.kernels.screen.layout import RESIDUAL, Candidates, Operands
from reftranscoder.kernels.screen.packed_float32 import FloatWeights
from reftranscoder.kernels.screen.packed_whole import Columns, PackedWeights
from reftranscoder.kernels.screen.products import configure, release
from reftranscoder.kernels.screen.quantised import OUTSIDE, SCREENED, ZERO, largest_whole
from reftranscoder.kernels.screen.rescoring import Closer, look_closer
from reftranscoder.kernels.screen.tile import screen_tile
from reftranscoder.kernels.screened_encoder import Encoder, difference_up

pytestmark = pytest.mark.kernels

# Every screen that may be compiled here: in 8 bits, in 16, and by float32.
ENCODERS = [functools.partial(Encoder, panels=panels) for panels in PANELS]

PLAIN = bool(config.DISABLE_JIT)
X86 = platform.machine() in ("x86_64", "AMD64")
compiled_only = pytest.mark.skipif(PLAIN, reason="NUMBA_DISABLE_JIT: too much for plain Python")
both_types = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture(autouse=True)
def _any_number_of_rows_may_be_screened(monkeypatch):
    monkeypatch.setattr(screened_encoder, "FEWEST_FOR_FLOATS", 1)
    # What would be too much of it is in test_screen_expectations.py.
    monkeypatch.setattr(expectations, "DENSE", 1.0)
    monkeypatch.setattr(expectations, "_FEWEST", 0)


def problem(rng, dtype, B, I, D):
    x, W = rng.standard_normal((B, I)), rng.standard_normal((D, I)) / np.sqrt(I)
    return x.astype(dtype), W.astype(dtype), (0.1 * rng.standard_normal(D)).astype(dtype)


def hostile(name, rng, dtype, B, I, D):
    """x, W and b of one kind that a screen could be wrong about."""
    x, W, b = problem(rng, np.float64, B, I, D)
    match name:
        case "zero rows":
            x[1::2] = 0
            x[3::4] = -0.0
        case "zero rows without bias":
            x[1::2], b[:] = 0, 0
        case "zero features":
            W[::3], b[::6] = 0, 0.5
        case "outlier column":
            x[:, 0] += 1000
        case "constant row":
            x[2:] = 7.0
        case "duplicated features":
            W[:], b[:] = W[rng.integers(0, 5, D)], 0.25
        case "whole numbers":
            x, W, b = rng.integers(-3, 4, x.shape), rng.integers(-3, 4, W.shape), np.round(9 * b)
        case "near ties":
            W[:] = W[0] * (1 + 1e-6 * rng.standard_normal((D, 1)))
        case "all the same":
            x[:], W[:], b[:] = 1, 1, 0
        case "huge":
            x, W = x * 1e30, W * 1e10
        case "tiny":
            x, W = x * 1e-30, W * 1e-15
        case "large":
            x, W = x * 1e10, W * 1e-5
        case "small":
            x, W, b = x * 1e-9, W * 1e-5, b * 1e-14
        case "some huge":
            x[::3], W[::4] = x[::3] * 1e25, W[::4] * 1e30
        case "some tiny":
            x[::3], W[::4], b[::8] = x[::3] * 1e-42, W[::4] * 1e-40, 1e-45
        case "bias 2^26":
            W, b = rng.integers(-3, 4, W.shape), np.full(D, 2.0**26)
            x = rng.integers(-3, 4, x.shape)
        case "bias beyond its bounds":
            b[::2], b[1::4] = 1e30, -1e35
        case "correlated":
            W = W[0] + 0.01 * W
            b[:] = 1e5
        case "mostly negative":
            b[: D - 3] = -100
        case "not finite":
            x[0], x[1, 0], x[2, 0] = np.nan, np.inf, -np.inf
        case "weights not finite":
            W[0, 0], W[1], b[2] = np.nan, np.inf, -np.inf
        case "ends of the range":
            x[::2], W[::2], x[1] = x[::2] * 1e35, W[::2] * 1e35, 1e300
            W[1::4] *= 1e-290
    with np.errstate(all="ignore"):
        return x.astype(dtype), W.astype(dtype), b.astype(dtype)


HOSTILE = [
    "zero rows",
    "zero rows without bias",
    "zero features",
    "outlier column",
    "constant row",
    "duplicated features",
    "whole numbers",
    "near ties",
    "all the same",
    "huge",
    "tiny",
    "large",
    "small",
    "some huge",
    "some tiny",
    "bias 2^26",
    "bias beyond its bounds",
    "correlated",
    "mostly negative",
    "not finite",
    "weights not finite",
    "ends of the range",
]
SELECTIONS = [
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 7, "ties": "keep_all"},
    {"top_k": 1, "activation": "relu"},
    {"top_k": 2, "activation": "batchtopk"},
    {"top_k": 3, "activation": "batchtopk", "ties": "keep_all"},
]


def assert_same(got, want):
    assert got.shape == want.shape
    for name in "indptr", "indices", "values":
        one, other = getattr(got, name), getattr(want, name)
        assert one.dtype == other.dtype and one.shape == other.shape, name
        assert np.array_equal(one, other, equal_nan=name == "values"), name


def check(x, W, b, selections=SELECTIONS):
    for selection in selections:
        selection = selection | {"top_k": min(selection["top_k"], len(W))}
        want = kernels.encode_forward(x, W, b, **selection)
        for fast in ENCODERS:
            assert_same(fast(W, b).encode(x, **selection), want)


@both_types
@pytest.mark.parametrize("name", HOSTILE[1::4] if PLAIN else HOSTILE)
def test_hostile_numbers_give_what_the_plain_kernel_gives(name, dtype, rng):
    for sizes in [(9, 3, 50)] if PLAIN else [(9, 3, 50), (70, 31, 700)]:
        check(*hostile(name, rng, dtype, *sizes), SELECTIONS[1::2] if PLAIN else SELECTIONS)


class Own(NamedTuple):
    """What jumprelu takes."""

    theta: np.ndarray


def thresholds(rng, x, W, b):
    """Some that a row meets exactly, or within one ulp; and negative, tiny and huge ones."""
    D = len(W)
    with np.errstate(all="ignore"):
        p = kernels.affine_forward(x, W, b)[rng.integers(0, len(x), D), np.arange(D)]
    theta = np.nan_to_num(p, posinf=1.0, neginf=-1.0)
    theta[1::7] = np.nextafter(theta[1::7], np.inf)
    theta[2::7] = np.nextafter(theta[2::7], -np.inf)
    theta[3::7] = rng.uniform(-1, 1, len(theta[3::7]))
    theta[4::49], theta[11::49], theta[18::49], theta[25::49] = 0, -0.0, 5e-324, 1e300
    return theta


@both_types
@pytest.mark.parametrize("name", HOSTILE[1::4] if PLAIN else HOSTILE)
def test_above_thresholds_it_gives_what_the_plain_kernel_gives(name, dtype, rng):
    for sizes in [(9, 3, 50)] if PLAIN else [(9, 3, 50), (70, 31, 700)]:
        x, W, b = hostile(name, rng, dtype, *sizes)
        for theta in (thresholds(rng, x, W, b), np.full(len(W), 0.5)):
            selection = {"top_k": len(W), "activation": "jumprelu", "own": Own(theta)}
            want = kernels.encode_forward(x, W, b, **selection)
            for fast in ENCODERS:
                assert_same(fast(W, b, theta=theta).encode(x, **selection), want)


@both_types
@pytest.mark.parametrize("name", HOSTILE[1::4] if PLAIN else HOSTILE)
def test_behind_gates_it_gives_what_the_plain_kernel_gives(name, dtype, rng):
    for sizes in [(9, 3, 50)] if PLAIN else [(9, 3, 50), (70, 31, 700)]:
        x, W, b = hostile(name, rng, dtype, *sizes)
        D = len(W)
        with np.errstate(all="ignore"):
            b_gate = -thresholds(rng, x, W, b).astype(dtype)
        for b_mag, r_mag in ((rng.standard_normal(D), rng.uniform(-2, 2, D)), (-b_gate, -0.1 * b)):
            r_mag = np.clip(np.nan_to_num(r_mag), -800, 700)
            own = reference.Gated(b_gate, b_mag.astype(dtype), r_mag.astype(dtype))
            selection = {"top_k": D, "activation": "gated", "own": own}
            want = kernels.encode_forward(x, W, b, **selection)
            fast = GatedEncoder(W, b, b_gate)
            for _ in range(2):  # where many gates were open, the second does not screen
                assert_same(fast.encode(x, **selection), want)


def test_a_gate_that_is_hardly_open_is_found():
    """A sum that float32 would round to 0; and a sum of zeros, which opens nothing."""
    x, W = np.array([[2.0**-80], [0]], np.float32), np.full((2, 1), 2.0**-80, np.float32)
    b, b_gate = np.float32([1, 0]), np.float32([-1, 0])
    own = reference.Gated(b_gate, np.float32([1, 1]), np.float32([0, 0]))
    selection = {"top_k": 2, "activation": "gated", "own": own}
    want = kernels.encode_forward(x, W, b, **selection)
    assert_same(GatedEncoder(W, b, b_gate).encode(x, **selection), want)
    assert want.indices.tolist() == [1] and want.values.tolist() == [1]


@compiled_only
def test_the_screen_does_the_work_behind_gates(monkeypatch, rng):
    x, W, b = problem(rng, np.float32, 200, 64, 3000)
    b_gate = np.full(3000, -2.0, np.float32)
    rows = count_plain_rows(monkeypatch)
    own = reference.Gated(b_gate, np.zeros(3000, np.float32), np.zeros(3000, np.float32))
    selection = {"top_k": 3000, "activation": "gated", "own": own}
    fast = GatedEncoder(W, b, b_gate)
    hidden = fast.encode(x, **selection)
    assert 0 < len(hidden.values) < 200 * 300
    assert_same(fast.encode(x, **selection), hidden)
    assert sum(rows) == 0


@both_types
def test_a_bias_less_its_threshold_is_rounded_up(dtype, rng):
    """Fractions tell: never below the difference, and the next number below is."""
    b, theta = (rng.standard_normal(60) * 2.0 ** rng.integers(-60, 60, 60) for _ in range(2))
    b, theta = b.astype(dtype), np.abs(theta)
    up = difference_up(b, theta)
    assert up.dtype == dtype
    below = np.nextafter(np.nextafter(up, dtype(-np.inf)), dtype(-np.inf))
    for at in range(60):
        exact = Fraction(float(b[at])) - Fraction(float(theta[at]))
        assert Fraction(float(below[at])) < exact <= Fraction(float(up[at]))


@compiled_only
def test_the_screen_does_the_work_above_thresholds(monkeypatch, rng):
    x, W, b = problem(rng, np.float32, 200, 64, 3000)
    theta = np.full(3000, 2.0)
    rows = count_plain_rows(monkeypatch)
    for fast in ENCODERS:
        selection = {"top_k": 3000, "activation": "jumprelu", "own": Own(theta)}
        hidden = fast(W, b, theta=theta).encode(x, **selection)
        assert 0 < len(hidden.values) < 200 * 300
    assert sum(rows) == 0


@compiled_only
@both_types
@pytest.mark.parametrize("sizes", [(300, 64, 3000), (65, 100, 5000), (1, 40, 9000), (3, 768, 2500)])
def test_many_features(sizes, dtype, rng):
    x, W, b = problem(rng, dtype, *sizes)
    check(x, W, b, [*SELECTIONS, {"top_k": 40}, {"top_k": 40, "ties": "keep_all"}, {"top_k": 600}])


@both_types
@pytest.mark.parametrize(
    "sizes",
    [(0, 3, 50), (1, 1, 1), (2, 1, 49), (8, 4, 48), (9, 8, 5), (1, 9, 97)],
    ids=str,
)
def test_odd_sizes(sizes, dtype, rng):
    B, I, D = sizes
    x, W, b = problem(rng, dtype, B, I, D)
    check(x, W, b, [*SELECTIONS[:3], {"top_k": D}, {"top_k": max(D // 4, 1)}])


@compiled_only
@both_types
def test_a_row_depends_on_itself_alone(dtype, rng):
    x, W, b = problem(rng, dtype, 130, 48, 2000)
    x[5] = 0
    x[6] *= 1e25
    fast = Encoder(W, b)
    batch = fast.encode(x, top_k=9)
    threads = numba.get_num_threads()
    try:
        for number in range(1, threads + 1):
            numba.set_num_threads(number)
            assert_same(fast.encode(x, top_k=9), batch)
            assert_same(Encoder(W, b).encode(x, top_k=9), batch)
    finally:
        numba.set_num_threads(threads)
    for b_ in (0, 5, 6, 77, 129):
        row = slice(*batch.indptr[b_ : b_ + 2])
        for few in (Encoder(W, b).encode(x[b_ : b_ + 1], top_k=9), fast.encode(x[b_:], top_k=9)):
            stored = slice(0, few.indptr[1])
            assert np.array_equal(few.indices[stored], batch.indices[row])
            assert np.array_equal(few.values[stored], batch.values[row])


def count_plain_rows(monkeypatch):
    """A list that receives the number of rows of every call of the plain kernel."""
    rows, plain = [], screened_encoder.encode_forward

    def counted(x, *arguments, **options):
        rows.append(len(x))
        return plain(x, *arguments, **options)

    monkeypatch.setattr(screened_encoder, "encode_forward", counted)
    return rows


@compiled_only
def test_the_screen_does_the_work(monkeypatch, rng):
    x, W, b = problem(rng, np.float32, 300, 64, 5000)
    rows = count_plain_rows(monkeypatch)
    Encoder(W, b).encode(x, top_k=20)
    Encoder(W, b).encode(x[:5], top_k=20)
    Encoder(W, b - 3).encode(x, top_k=1, activation="relu")
    Encoder(W, b).encode(x + 100, top_k=20)
    x, W, b = hostile("duplicated features", rng, np.float32, 300, 64, 1100)
    Encoder(W, b).encode(x, top_k=20)
    assert rows == []
    x[::2] = 0
    Encoder(W, b).encode(x, top_k=20)
    assert rows == [1]  # one for all rows of zeros


@compiled_only
def test_what_the_screen_cannot_do_is_done_without_it(monkeypatch, rng):
    rows = count_plain_rows(monkeypatch)
    monkeypatch.setattr(screened_encoder, "FEWEST_FOR_FLOATS", 1000)
    monkeypatch.setattr(sys.modules[__name__], "ENCODERS", ENCODERS[:1])
    x, W, b = problem(rng, np.float32, 100, 16, 6000)
    x[3], x[40] = 1e20, 1e-20
    check(x, W, b, [{"top_k": 10}])
    assert rows in ([2], [100])
    rows.clear()
    W[:] = W[0]  # ties beyond any room for candidates
    check(x, W, b * 0, [{"top_k": 10}])
    assert sum(rows) > 30
    rows.clear()
    monkeypatch.setattr(screened_encoder, "FEWEST_FOR_FLOATS", 1)
    W[:] = np.exp(rng.standard_normal(len(W)))[:, None] * W[0]
    W[:, 1:] += 1e-4 * rng.standard_normal(W[:, 1:].shape)
    check(x, W, b * 0, [{"top_k": 10}])
    rows.clear()
    check(x, W, b, [{"top_k": 1501}])
    assert rows == [100]


def test_a_wrong_guess_is_noticed_and_made_good(monkeypatch, rng):
    x, W, b = problem(rng, np.float32, 5, 4, 60)
    want = kernels.encode_forward(x, W, b, top_k=9)
    rows = count_plain_rows(monkeypatch)
    monkeypatch.setattr(screened_encoder, "CAUTION", -100)
    for fast in ENCODERS:
        assert_same(fast(W, b).encode(x, top_k=9), want)
    assert rows == []


def test_candidates_without_room_are_noticed(monkeypatch, rng):
    x, W, b = problem(rng, np.float32, 5, 4, 200)
    b[:] = 1
    want = kernels.encode_forward(x, W, b, top_k=9)
    rows = count_plain_rows(monkeypatch)
    monkeypatch.setattr(screened_encoder, "ROOM", 12)
    for fast in ENCODERS:  # the one in 8 bits hands over to the other
        rows.clear()
        assert_same(fast(W, b).encode(x, top_k=9), want)
        assert rows == [5]


# The bounds.


def packed(W, b, columns, panels):
    """The weights of a screen."""
    if panels == np.float32:
        return FloatWeights(W, b)
    return PackedWeights(W, b, columns, panels)


def each_bound(weights, inputs):
    """The upper bound of every p, by the same code that compares them; features in its order."""
    B, D = inputs.rows.shape[1], weights.features.shape[1]
    bounds = np.empty((B, D), np.float32)
    none = np.full((1, B), -np.inf, np.float32)
    with np.errstate(all="ignore"):
        _all_tiles(
            Operands(
                weights.panels, weights.features, inputs.panels, inputs.rows, inputs.starts,
                weights.steps, int(len(inputs.states) == 1),
            ),
            none, bounds, np.empty((TILE.rows, TILE.features), np.float32),
            np.empty(TILE.rows, np.int64),
        )  # fmt: skip
    return bounds


def each_closer_bound(weights, inputs):
    """As `each_bound`, those of 16 bits."""
    (B, _), D = inputs.sixteen.shape, len(weights.sixteen)
    ids = np.tile(np.arange(D, dtype=np.int32), B)
    bounds, estimates = np.empty((2, B * D), np.float32)
    counts = np.full((B, 1), D)
    candidates = Candidates(np.zeros((1, B), np.float32), counts, ids, bounds, estimates)
    closer = Closer(
        weights.sixteen, weights.closer, weights.features, inputs.sixteen, inputs.rows,
        inputs.starts,
    )  # fmt: skip
    with np.errstate(all="ignore"):
        _all_closer(closer, candidates, counts[:, 0])
    return bounds.reshape(B, D)


def _all_tiles(operands, thresholds, bounds, tile, masks):
    W, features, x, rows, _, _, _ = operands
    configure(W)
    w_stride = len(W) // (features.shape[1] // TILE.features)
    x_stride = len(x) // (rows.shape[1] // TILE.rows)
    for n in range(features.shape[1] // TILE.features):
        for m in range(rows.shape[1] // TILE.rows):
            j, r = n * TILE.features, m * TILE.rows
            screen_tile(operands, n * w_stride, m * x_stride, r, j, thresholds, 0, tile, masks)
            bounds[r : r + TILE.rows, j : j + TILE.features] = tile
    release(W)


def _all_closer(closer, candidates, counts):
    look_closer(0, closer, candidates, counts)


if not PLAIN:
    _all_tiles, _all_closer = numba.njit(_all_tiles), numba.njit(_all_closer)


@pytest.fixture(params=TABLE, ids=lambda kind: kind.product)
def panels(request, monkeypatch):
    """Every kind of panels as plain Python; compiled, those of this processor."""
    kind = request.param
    if PLAIN:
        monkeypatch.setattr(layout, "KINDS", {kind.weights: kind})
    elif kind not in KINDS.values():
        pytest.skip("there are no instructions for it")
    return kind.weights


@both_types
@pytest.mark.parametrize("moved", [False, True], ids=["", "moved"])
@pytest.mark.parametrize("name", HOSTILE[1::4] if PLAIN else HOSTILE)
def test_no_bound_is_below_what_it_bounds(name, panels, moved, dtype, rng):
    x, W, b = hostile(name, rng, dtype, *((9, 3, 50) if PLAIN else (80, 40, 500)))
    columns = Columns(x.shape[1])
    if moved:
        finite = np.where(np.abs(x) < 1e15, x, 0).astype(np.float64)
        columns.means = finite.mean(axis=0) + rng.standard_normal(x.shape[1])
        columns.scales = 2.0 ** rng.integers(-3, 4, x.shape[1])
    weights = packed(W, b, columns, panels)
    inputs = weights.pack(x)
    p = kernels.affine_forward(x, W, b)[:, weights.order]
    shares = [1e-5] if panels == np.float32 else [0.05 * 127 / weights.limit]
    shares += [0.0008] if weights.sixteen.size else []
    screened = inputs.states == SCREENED
    found = [each_bound(weights, inputs)[: len(x), : len(W)]]
    found += [each_closer_bound(weights, inputs)] if len(shares) > 1 else []
    for bounds in found:
        assert not (bounds[screened] < p[screened]).any()
    assert (inputs.states[~x.any(axis=1)] == ZERO).all()
    assert not (inputs.states == ZERO)[x.any(axis=1)].any()
    if name in ("not finite", "huge", "tiny"):
        assert (inputs.states[:3] == OUTSIDE).all()
    if name in ("outlier column", "constant row", "whole numbers", "near ties", "large", "small"):
        # And they are of use: not much wider than the bits make them.
        assert screened.sum() > len(x) * 0.8
        X, M = x[screened] / columns.scales, columns.means / columns.scales
        norms = np.sqrt((X**2).sum(axis=1)) + np.sqrt((M**2).sum())
        norms = norms[:, None] * np.sqrt(((W * columns.scales) ** 2).sum(axis=1)) + np.abs(b)
        for bounds, share in zip(found, shares):
            width = bounds[screened].astype(np.float64) - p[screened]
            assert (width <= share * norms[:, weights.order]).all()


@both_types
def test_the_largest_products_of_16_bits_do_not_wrap(dtype, rng):
    W = rng.standard_normal((24, 70)).astype(dtype)
    W[0], W[1] = 0, 1
    W[0, 3] = 1e-3
    x = np.concatenate([3 * W, -W])
    weights = PackedWeights(W, np.zeros(24, dtype), Columns(70), np.uint8)
    inputs = weights.pack(x)
    assert weights.sixteen.max() == 32767
    p = kernels.affine_forward(x, W, np.zeros(24, dtype))[:, weights.order]
    width = each_closer_bound(weights, inputs) - p
    norms = np.sqrt((x**2).sum(axis=1))[:, None] * np.sqrt((W**2).sum(axis=1))
    assert (width >= 0).all() and (width <= 0.001 * norms[:, weights.order]).all()


@pytest.mark.parametrize("inputs", [np.int8, np.int16])
def test_no_sum_of_products_reaches_2_to_31(inputs):
    most = np.iinfo(inputs).max
    for I in (*range(1, 3000), *range(3000, 131072, 97), 131071, 131072):
        L = largest_whole(inputs, I)
        assert L == int(L) and 127 <= L <= most and L * L * I < 2**31
        assert L == most or (L + 1) ** 2 * I >= 2**31


@both_types
@pytest.mark.parametrize("I", [1, 2, 3, 12] if PLAIN else [1, 2, 3, 12, 768, 2999, 131072])
def test_the_largest_sums_are_bounded(I, panels, dtype, rng):
    """Every number is the largest one, of either sign: a sum that wraps or saturates would tell."""
    x = np.repeat(rng.choice([-1, 1], (3, 1)), I, 1).astype(dtype)
    W = np.repeat(rng.choice([-1, 1], (10, 1)), I, 1).astype(dtype)
    x[0], W[0] = 1, 1
    weights = packed(W, np.zeros(10, dtype), Columns(I), panels)
    p = kernels.affine_forward(x, W, np.zeros(10, dtype))[:, weights.order]
    assert set(p.reshape(-1)) == {-I, I}
    for rows in (3, 1):  # one row is multiplied alone
        bounds = each_bound(weights, weights.pack(x[:rows]))[:rows, :10]
        assert not (bounds < p[:rows]).any()
        assert (bounds - p[:rows] <= 0.02 * I).all()


def test_pairs_of_16_bits_are_exact(rng):
    """What has no more bits than a panel holds loses nothing but what the theorem allows for."""
    if np.int16 not in PANELS and not PLAIN:
        pytest.skip("there are no instructions for it")
    I = 24
    L = int(largest_whole(np.int16, I))
    x, W = rng.integers(-L, L + 1, (9, I)), rng.integers(-L, L + 1, (30, I))
    x[:, 0] = W[:, -1] = L
    x, W, b = x.astype(np.float64), W.astype(np.float64), np.zeros(30)
    weights = packed(W, b, Columns(I), np.int16)
    inputs = weights.pack(x)
    p = x @ W[weights.order].T
    bounds = each_bound(weights, inputs)[:9, :30]
    assert not (bounds < p).any()
    norms = np.sqrt((x**2).sum(axis=1))[:, None] * np.sqrt((W**2).sum(axis=1))[weights.order]
    assert (bounds - p <= 60 * 2.0**-24 * norms).all()


def test_a_norm_that_underflows_is_no_zero():
    tiny = np.full((1, 3), 1e-170)
    weights = FloatWeights(tiny, np.zeros(1))
    assert weights.features[RESIDUAL, 0] == np.inf
    assert weights.pack(tiny).states == OUTSIDE
    assert weights.pack(0 * tiny).states == ZERO


@compiled_only
@both_types
def test_sums_of_more_than_24_bits_are_bounded(dtype, rng):
    # 127 * 127 * 3000 is 48 million: in float32 it has to be rounded, and so has what follows.
    x = 1 - 1e-6 * rng.integers(0, 2, (40, 3000)) - 1e-3 * (rng.random((40, 1)) < 0.5)
    W = 1 - 1e-6 * rng.integers(0, 2, (100, 3000))
    x, W, b = x.astype(dtype), W.astype(dtype), rng.choice([-3000, 0, 1e4], 100).astype(dtype)
    p = kernels.affine_forward(x, W, b)
    for panels in PANELS:
        weights = packed(W, b, Columns(3000), panels)
        inputs = weights.pack(x)
        assert (inputs.states == SCREENED).all()
        bounds = each_bound(weights, inputs)[:40, :100]
        assert not (bounds < p[:, weights.order]).any()
    check(x, W, b)


def other_processors():
    """By name: what Numba is told to compile for, and the kinds of panels to be tried there.

    The name of a processor alone would keep the features of this one.
    """
    if PLAIN or not X86:
        return {}
    found = {"AVX2": ("haswell", "+avx2,+fma", ("int16", "float32"))}
    here = llvmlite.binding.get_host_cpu_features()
    if here.get("avxvnni"):
        found["AVX-VNNI"] = ("haswell", "+avx2,+fma,+avxvnni", ("uint8",))
    elif here.get("avx512vl") and here.get("avx512vnni"):
        # The same instruction, of the same registers, in the encoding of AVX-512.
        found["AVX-VNNI"] = ("cascadelake", "+avx2,+fma", ("uint8",))
    return found


@pytest.fixture(scope="module", autouse=True)
def elsewhere(request, tmp_path_factory):
    """Processes that are to write what this file finds on other processors, and where.

    They have to compile everything, beside the tests that come before those that ask for it.
    """
    wanted = any("another_processor" in item.name for item in request.session.items)
    started = {}
    for name, (processor, features, kinds) in other_processors().items() if wanted else ():
        path = tmp_path_factory.mktemp(name) / "results.npz"
        environment = os.environ | {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features}
        command = [sys.executable, __file__, str(path), *kinds]
        started[name] = subprocess.Popen(command, env=environment, cwd=path.parent), path
    yield started
    for process, _ in started.values():
        process.kill()
        process.wait()


@compiled_only
@pytest.mark.parametrize("name", other_processors())
def test_the_same_bits_on_another_processor(name, elsewhere):
    process, path = elsewhere[name]
    assert process.wait() == 0
    with np.load(path) as there:
        assert len(there) == 3 * len(other_processors()[name][-1])
        for kind, array in as_on_any_processor().items():
            for panels in other_processors()[name][-1]:
                assert np.array_equal(array, there[f"{panels} {kind}"]), panels


def as_on_any_processor(panels=PANELS[0]):
    x, W, b = problem(np.random.default_rng(7), np.float32, 40, 50, 1500)
    return dict(zip(("indptr", "indices", "values"), Encoder(W, b, panels).encode(x, top_k=9)))


# The copies.


def some_params(rng):
    x, W, b = problem(rng, np.float32, 20, 6, 50)
    return x, Params(W, b, W, b[:6])


def test_one_encoder_for_one_set_of_parameters(rng):
    x, params = some_params(rng)
    one = encoder_of(params)
    assert encoder_of(params) is one
    other = pickle.loads(pickle.dumps(params))
    assert encoder_of(other) is not one
    assert_same(encoder_of(other).encode(x, top_k=3), one.encode(x, top_k=3))


def test_no_copy_outlives_its_parameters_or_is_pickled(rng):
    x, params = some_params(rng)
    before = len(pickle.dumps(params))
    encoder_of(params).encode(x, top_k=3)
    assert len(pickle.dumps(params)) == before
    gone = weakref.ref(encoder_of(params))
    del params
    gc.collect()
    assert gone() is None


if __name__ == "__main__":
    # There are 8 lanes there, and no more.
    path, *kinds = sys.argv[1:]
    assert TILE.lanes == 8
    if kinds == ["uint8"]:
        layout.KINDS = kinds_of(8, {"+avxvnni"}, tiles=False)
    else:
        assert [np.dtype(panels).name for panels in PANELS] == kinds
    results = {}
    for kind in kinds:
        panels = np.dtype(kind).type
        weights = packed(np.eye(3), np.ones(3), Columns(3), panels)
        each_bound(weights, weights.pack(np.eye(3)))
        compiled = list(_all_tiles.inspect_asm().values())[-1]
        instruction = {"uint8": "vpdpbusd", "int16": "vpmaddwd", "float32": "vfmadd231ps"}[kind]
        products = [line for line in compiled.splitlines() if f"\t{instruction}\t" in line]
        assert len(products) >= 2 * TILE.rows * TILE.vectors
        assert all("ymm" in line for line in products)
        results |= {f"{kind} {name}": array for name, array in as_on_any_processor(panels).items()}
    np.savez(path, **results)
