"""Gated transcoders: their gradients proved, the libraries' own results, files, and refusals.

The proof is by dual numbers over fractions, as in ``test_conventions.py``.  r_mag is a logarithm of
a fraction, moved along by its slope: exp(r + s e) is exp(r) (1 + s e).
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from dual_numbers import Log, duals, slope_of, values_of

import reftranscoder as rt
from reftranscoder import reference

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
