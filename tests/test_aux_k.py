"""AuxK: its gradients proved, and which features it takes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from dual_numbers import duals, slope_of, values_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reftranscoder import kernels, reference
from reftranscoder.sparse import Sparse

pytestmark = pytest.mark.kernels

B, I, D, O = 3, 4, 7, 2
SHAPES = {"x": (B, I), "W_enc": (D, I), "b_enc": (D,), "W_dec": (D, O)}
COEFF = Fraction(1, 32)


def fractions(rng, shape):
    """Multiples of 1/2, none of them zero."""
    numbers = rng.integers(-6, 6, shape).astype(object)
    return np.where(numbers < 0, numbers, numbers + 1) * Fraction(1, 2)


def aux(arrays, dead, residual, aux_k):
    """The loss, and what is needed for its gradient."""
    forward = reference.aux_k_forward(**arrays, dead=dead, aux_k=aux_k)
    return reference.aux_k_loss(residual, forward.reconstruction, COEFF), forward


@given(st.integers(0, 2**32 - 1), st.integers(1, D))
@settings(max_examples=25)
def test_dual_numbers_carry_the_gradients(seed, aux_k):
    """The derivative along any direction of all arrays at once is that of the hand-made ones."""
    rng = np.random.default_rng(seed)
    arrays = {name: fractions(rng, shape) for name, shape in SHAPES.items()}
    along = {name: fractions(rng, shape) for name, shape in SHAPES.items()}
    residual, dead = fractions(rng, (B, O)), rng.random(D) < 0.7
    loss, forward = aux(arrays, dead, residual, aux_k)
    # Without a tie at a place that matters the selection does not change in a small enough step.
    pre = reference.affine_forward(arrays["x"], arrays["W_enc"], arrays["b_enc"])
    assume(all(len({*row} | {0}) == D + 1 for row in pre) and np.any(forward.hidden != 0))
    gradients = reference.aux_k_backward(
        arrays["x"],
        residual,
        *forward,
        arrays["W_enc"],
        arrays["W_dec"],
        COEFF,
    )
    for name, array in arrays.items():
        moved = arrays | {name: duals(array, along[name])}
        moved = {n: a if n == name else duals(a, 0) for n, a in moved.items()}
        carried, _ = aux(moved, dead, residual, aux_k)
        assert slope_of(carried) == np.sum(getattr(gradients, f"d{name}") * along[name]), name
        np.testing.assert_array_equal(values_of(carried), loss)
    for gradient in gradients:  # not one decayed to a float
        assert {type(v) for v in gradient.flat} <= {Fraction, int}


def by_hand():
    x = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    W_enc = np.zeros((D, I))
    W_enc[:, 0] = [5, 4, 3, 2, 1, -1, 6]
    W_enc[:, 1] = [1, 1, 1, 1, 1, 1, 1]
    W_enc[:, 2] = -1
    return x, W_enc, np.zeros(D)


@pytest.mark.parametrize("room", [reference, kernels])
def test_the_dead_with_the_largest_activations_are_taken(room):
    x, W_enc, b_enc = by_hand()
    W_dec = np.arange(D * O, dtype=float).reshape(D, O)
    dead = np.array([False, True, True, False, True, True, True])
    hidden, reconstruction = room.aux_k_forward(x, dead, W_enc, b_enc, W_dec, 2)
    if isinstance(hidden, Sparse):
        assert np.all(hidden.values != 0)
        hidden = hidden.dense()
    want = np.zeros((B, D))
    want[0, [1, 6]] = 4, 6  # the largest of the dead, not feature 0
    want[1, [1, 2]] = 1  # the lower index among equals
    np.testing.assert_array_equal(hidden, want)  # in the last row none is positive
    np.testing.assert_array_equal(reconstruction, want @ W_dec)


@pytest.mark.parametrize("room", [reference, kernels])
def test_without_dead_features_there_is_nothing_to_learn(room):
    x, W_enc, b_enc = by_hand()
    W_dec = np.ones((D, O))
    hidden, reconstruction = room.aux_k_forward(x, np.zeros(D, bool), W_enc, b_enc, W_dec, 3)
    assert not reconstruction.any()
    residual = np.ones((B, O))
    back = room.aux_k_backward(x, residual, hidden, reconstruction, W_enc, W_dec, 1 / 32)
    for name in ("dW_dec", "dW_enc", "db_enc", "dx"):
        assert not getattr(back, name).any()
    assert room.aux_k_loss(residual, reconstruction, 1 / 32) == 1 / 32
