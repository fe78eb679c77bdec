"""The bounds by which ``tests/trained_by_libraries.py`` judges: they hold, and they see faults."""

from __future__ import annotations

import numpy as np
import pytest
from majorants import bounds_of, majorants, values_of

import reftranscoder as rt
from reftranscoder import reference

B, I, D, O = 5, 4, 9, 3


def computed(arrays, x, target, l1_coeff=0.25):
    """The loss and the gradients by the reference, of whatever numbers these are."""
    conventions = rt.Conventions(rescale_acts_by_decoder_norm=True)
    read = reference.input_forward(x, arrays["b_dec"], conventions)
    options = {"activation": "topk", "own": None}
    forward = reference.conventional_forward(
        x, read, **arrays, top_k=3, ties="lowest_index", **options, conventions=conventions
    )
    losses = reference.Losses("fvu", "l0_tanh", tanh_scale=2)
    given = target, forward.reconstruction, forward.hidden, l1_coeff, arrays["W_dec"], losses
    gradients = reference.conventional_backward(
        x, target, forward, arrays["W_enc"], arrays["W_dec"],
        l1_coeff=l1_coeff, **options, conventions=conventions, losses=losses,
    )  # fmt: skip
    found = {name: getattr(gradients, f"d{name}") for name in (*arrays, "x")}
    return found | {"loss": reference.transcoder_loss(*given)}


def case(seed):
    rng = np.random.default_rng(seed)
    shapes = {"W_enc": (D, I), "b_enc": (D,), "W_dec": (D, O), "b_dec": (O,)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return arrays, *(rng.standard_normal((B, n)).astype(np.float32) for n in (I, O))


def shuffled(seed, arrays, x, target):
    """The same problem with its features, inputs and outputs in another order, and the way back:
    sums are made in other orders."""
    rng = np.random.default_rng(seed)
    i, d, o = (rng.permutation(n) for n in (I, D, O))
    moved = {"W_enc": arrays["W_enc"][d][:, i], "b_enc": arrays["b_enc"][d],
             "W_dec": arrays["W_dec"][d][:, o], "b_dec": arrays["b_dec"][o]}  # fmt: skip
    found = computed(moved, x[:, i], target[:, o])
    i, d, o = (np.argsort(p) for p in (i, d, o))
    found["W_enc"], found["W_dec"] = found["W_enc"][d][:, i], found["W_dec"][d][:, o]
    found["b_enc"], found["b_dec"], found["x"] = (
        found["b_enc"][d],
        found["b_dec"][o],
        found["x"][:, i],
    )
    return found


@pytest.mark.parametrize("seed", range(3))
def test_float32_in_any_order_is_within_the_bounds(seed):
    arrays, x, target = case(seed)
    known = computed({n: majorants(a) for n, a in arrays.items()}, majorants(x), majorants(target))
    for order in range(5):
        for name, got in shuffled(order, arrays, x, target).items():
            apart = np.abs(got - values_of(known[name]))
            assert (apart <= bounds_of(known[name], 2.0**-24)).all(), name
            # And they are no wider than a fault: one in a hundred is beyond, wherever no term of
            # another sign hides it.
            largest = np.abs(got) == np.abs(got).max()
            beyond = np.abs(1.01 * got - values_of(known[name])) > bounds_of(known[name], 2.0**-24)
            assert beyond[largest].all(), name


def test_what_cancels_is_bounded_by_its_terms():
    a, b, c = majorants(np.array([1.0, 2.0**-30, -1.0], np.float32))
    total = a + b + c
    in_float32 = float(np.float32(np.float32(1) + np.float32(2.0**-30)) - np.float32(1))
    assert in_float32 == 0 and values_of(total) == 2.0**-30
    assert abs(in_float32 - values_of(total)) <= bounds_of(total, 2.0**-24)
    quotient = majorants(1.0) / total
    assert bounds_of(quotient, 2.0**-24) > values_of(quotient)  # nothing is known of it
