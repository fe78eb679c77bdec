"""What an encoder expects of a batch may be wrong in every way: its results are the same."""

from __future__ import annotations

import numpy as np
import pytest
from numba.core import config
from test_screened_encoder import Own, assert_same, count_plain_rows, problem

from reftranscoder import kernels
from reftranscoder.kernels import screened_encoder
from reftranscoder.kernels.screen import expectations
from reftranscoder.kernels.screened_encoder import Encoder

pytestmark = pytest.mark.kernels

PLAIN = bool(config.DISABLE_JIT)
SIZES = (70, 5, 60) if PLAIN else (200, 64, 3000)


@pytest.fixture
def batch(monkeypatch, rng):
    """x, W and b, of which any number of rows may be screened by any screen."""
    monkeypatch.setattr(screened_encoder, "FEWEST_FOR_FLOATS", 1)
    return problem(rng, np.float32, *SIZES)


@pytest.mark.parametrize("ties", ["lowest_index", "keep_all"])
def test_batches_that_are_not_like_the_last_one(batch, ties):
    x, W, b = batch
    W[1::2], b[1::2] = W[::2], b[::2]  # ties
    selection = {"top_k": 3, "activation": "batchtopk", "ties": ties}
    fast = Encoder(W, b, panels=np.float32)  # its bounds are narrow: they hide no wrong level
    one_row = np.where(np.arange(len(x))[:, None] == 9, 100 * x, x)
    few = x[:5]
    a_little_less = [np.float32(1 - 0.01 * n) * x if n else x for n in (0, 5, 0, 8, 0, 12, 0, 20)]
    for data in (x, 0.1 * x, 30 * x, one_row, x, few, x[:0], few, 0 * x, -x, *a_little_less):
        assert_same(fast.encode(data, **selection), kernels.encode_forward(data, W, b, **selection))


def test_what_is_not_screened_competes_unrounded(batch):
    """Values that are equal in float32, in rows that the theorem of the screen leaves out."""
    x, W, b = batch
    x[:], W[:], b[:] = 0, 0, 1
    x[:, 0] = 1e-13 * np.arange(1, len(x) + 1)
    W[:, 0] = np.linspace(1, 2, len(W))
    selection = {"top_k": 2, "activation": "batchtopk"}
    want = kernels.encode_forward(x, W, b, **selection)
    assert_same(Encoder(W, b).encode(x, **selection), want)


def test_not_a_number_is_above_all(batch):
    x, W, b = batch
    x[3] = np.nan
    selection = {"top_k": 3, "activation": "batchtopk"}
    fast = Encoder(W, b)
    for data in (x, x[4:], x):
        assert_same(fast.encode(data, **selection), kernels.encode_forward(data, W, b, **selection))


@pytest.mark.parametrize("activation", ["relu", "jumprelu", "batchtopk"])
def test_where_much_is_active_there_is_no_screen_and_where_little_is_there_is(
    activation, batch, monkeypatch
):
    x, W, b = batch
    B, D = len(x), len(W)
    theta = np.full(D, 0.25) if activation == "jumprelu" else None
    own = None if theta is None else Own(theta)
    selection = {"top_k": D // 3, "activation": activation, "own": own}
    sparse = {**selection, "top_k": 2}
    rows = count_plain_rows(monkeypatch)
    fast = Encoder(W, b, theta=theta)
    assert_same(fast.encode(x, **selection), kernels.encode_forward(x, W, b, **selection))
    assert rows == [B]
    quiet = 0.02 * x if activation != "batchtopk" else x
    if activation == "relu":
        b[:] = -3
        fast = Encoder(W, b)
    want = kernels.encode_forward(quiet, W, b, **sparse)
    for _ in range(2):  # the first may not have expected it
        assert_same(fast.encode(quiet, **sparse), want)
    rows.clear()
    assert_same(fast.encode(quiet, **sparse), want)
    assert sum(rows) == 0


def test_one_row_at_first_is_computed_as_it_is(batch, monkeypatch):
    x, W, b = batch
    for activation in ("relu", "batchtopk"):
        rows = count_plain_rows(monkeypatch)
        fast = Encoder(W, b - 2)
        selection = {"top_k": 2, "activation": activation}
        for _ in range(2):
            want = kernels.encode_forward(x[:1], W, b - 2, **selection)
            assert_same(fast.encode(x[:1], **selection), want)
        assert rows == [1]  # the second time it knows
        monkeypatch.undo()
        monkeypatch.setattr(screened_encoder, "FEWEST_FOR_FLOATS", 1)


def test_more_candidates_than_there_was_room_for(batch, monkeypatch):
    x, W, b = batch
    rows = count_plain_rows(monkeypatch)
    monkeypatch.setattr(expectations, "_BESIDE", 0)
    monkeypatch.setattr(expectations, "DENSE", 1.0)
    fast, selection = Encoder(W, b - 2), {"top_k": 1, "activation": "relu"}
    for data in (0.5 * x, x, 0.5 * x):
        want = kernels.encode_forward(data, W, b - 2, **selection)
        assert_same(fast.encode(data, **selection), want)
    assert len(want.values) and sum(rows) == 0
