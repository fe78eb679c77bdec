"""The losses by name: their formulas, their gradients proved, the kernels against the reference.

The proof is by dual numbers over fractions (`dual_numbers`): what a loss carries along must *equal*
the gradient worked out by hand.  Rows of W_dec and of the target are such that norms are rational.
A number of active features has no derivative but zero: what it gives a threshold is compared with
the equations that define it, feature by feature.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from dual_numbers import duals, slope_of, values_of

import reftranscoder as rt
from reftranscoder import reference
from reftranscoder.bounds import FLOAT64
from reftranscoder.errors import OptionError, ShapeError
from reftranscoder.params.losses import COUNTING, RECONSTRUCTION_LOSSES, SPARSITY_LOSSES, WEIGHTED

EVERY = [("mse", name) for name in SPARSITY_LOSSES] + [(n, "l1") for n in RECONSTRUCTION_LOSSES[1:]]
each_loss = pytest.mark.parametrize("names", EVERY, ids="-".join)
CONVENTIONS = [
    rt.Conventions(),
    rt.Conventions(rescale_acts_by_decoder_norm=True, apply_b_dec_to_input=True),
]


def losses_of(names, **changes):
    options = {"target_l0": 2.5, "tanh_scale": 1.5} | changes
    return rt.Losses(reconstruction_loss=names[0], sparsity_loss=names[1], **options)


def exact_losses(names):
    return reference.Losses(*names, target_l0=Fraction(5, 2), tanh_scale=Fraction(3, 2))


def test_the_names_are_those_of_both_rooms():
    from reftranscoder.kernels import losses

    for room in (reference, losses):
        assert tuple(room.RECONSTRUCTION_LOSSES) == RECONSTRUCTION_LOSSES
        assert tuple(room.SPARSITY_LOSSES) == SPARSITY_LOSSES
        assert set(room.Losses._fields) == set(rt.Losses.__dataclass_fields__)
    assert rt.Losses().plain and not losses_of(("mse", "l1_sum")).plain


# The formulas, row by row and feature by feature.


def by_hand(names, target, reconstruction, hidden, W_dec, l1_coeff, losses):
    """The loss, from lists of Python's floats."""
    (B, O), D = target.shape, len(W_dec)
    squares = [sum((t - r) ** 2 for t, r in zip(*row)) for row in zip(target, reconstruction)]
    sizes = [sum(t * t for t in row) for row in target]
    means = [sum(target[:, o]) / B for o in range(O)]
    variance = sum((target[b, o] - means[o]) ** 2 for b in range(B) for o in range(O))
    error = {
        "mse": sum(squares) / (B * O),
        "mse_sum": sum(squares) / B,
        "mse_over_norm": sum(s / n**0.5 for s, n in zip(squares, sizes)) / (B * O),
        "nmse": sum(s / n for s, n in zip(squares, sizes)) / B,
        "fvu": sum(squares) / variance,
    }
    norms = [sum(w * w for w in row) ** 0.5 for row in W_dec]
    pairs = [(abs(hidden[b, d]), norms[d]) for b in range(B) for d in range(D)]
    l0, t = [sum(h != 0 for h in row) for row in hidden], losses.target_l0
    penalty = {
        "l1": sum(h for h, _ in pairs) / (B * D),
        "l1_sum": sum(h for h, _ in pairs) / B,
        "l1_decoder_weighted": sum(h * n for h, n in pairs) / B,
        "l0_step": sum(l0) / B,
        "l0_quadratic": sum(2 / t * (n - t) ** 2 for n in l0) / B,
        "l0_target": (sum(l0) / B / t - 1) ** 2,
        "l0_tanh": sum(np.tanh(losses.tanh_scale * h * n) for h, n in pairs) / B,
    }
    return error[names[0]] + l1_coeff * penalty[names[1]]


@pytest.mark.kernels
@each_loss
def test_each_is_its_formula(names):
    rng = np.random.default_rng(0)
    target, reconstruction = rng.standard_normal((2, 5, 3))
    hidden = rng.standard_normal((5, 7)) * (rng.random((5, 7)) < 0.5)
    W_dec, losses = rng.standard_normal((7, 3)), losses_of(names)
    want = by_hand(names, target, reconstruction, hidden, W_dec, 0.25, losses)
    chosen = {"reconstruction_loss": names[0], "sparsity_loss": names[1]}
    chosen |= {"target_l0": 2.5, "tanh_scale": 1.5, "W_dec": W_dec}
    for backend in ("kernels", "reference"):
        got = rt.loss(target, reconstruction, hidden, 0.25, **chosen, backend=backend)
        # None of fewer than 200 roundings of sums of terms of one sign, of which few are larger.
        assert abs(got - want) <= 200 * FLOAT64.unit * want, backend


# The gradients.

#: Vectors of two with a norm that is a whole number.
OF_RATIONAL_NORM = [(3, 4), (-5, 12), (8, -6), (0, 2), (-1, 0), (15, 8)]


class Case(NamedTuple):
    arrays: dict
    target: np.ndarray
    options: dict
    conventions: rt.Conventions
    losses: reference.Losses

    def loss(self, arrays):
        """The loss, and the stages."""
        parameters = {name: a for name, a in arrays.items() if name != "x"}
        read = reference.input_forward(arrays["x"], arrays["b_dec"], self.conventions)
        made = reference.conventional_forward(
            arrays["x"], read, **parameters, **self.options, conventions=self.conventions
        )
        arguments = self.target, made.reconstruction, made.hidden, Fraction(7, 3)
        return reference.transcoder_loss(*arguments, arrays["W_dec"], self.losses), made

    def backward(self, arrays, forward):
        """The gradients, by the rules that the conventions ask for."""
        given = arrays["x"], self.target, forward, arrays["W_enc"], arrays["W_dec"]
        options = {name: self.options[name] for name in ("activation", "own")}
        options |= {"l1_coeff": Fraction(7, 3), "losses": self.losses}
        if self.conventions.plain:
            plain = reference.Forward(*(getattr(forward, n) for n in reference.Forward._fields))
            return reference.transcoder_backward(*given[:2], plain, *given[3:], **options)
        return reference.conventional_backward(*given, **options, conventions=self.conventions)


def exact_case(seed, names, conventions):
    rng = np.random.default_rng(seed)
    B, I, D = 4, 2, 6

    def some(*shape):
        return rng.integers(-6, 7, shape).astype(object) * Fraction(1, 2)

    def rational(rows):
        kinds = np.array(OF_RATIONAL_NORM, dtype=object)[rng.integers(0, 6, rows)]
        return kinds * Fraction(1, 3) * rng.choice([-1, 1, 2], (rows, 1)).astype(object)

    arrays = {"x": some(B, I), "W_enc": some(D, I), "b_enc": some(D), "W_dec": rational(D)}
    arrays["b_enc"] = arrays["b_enc"] + np.array([Fraction(1, 97 + d) for d in range(D)])
    arrays["b_dec"] = some(I)
    activation = ("topk", "relu", "abstopk", "jumprelu")[seed % 4]
    own = reference.JumpReLU(np.abs(some(D)) / 4) if activation == "jumprelu" else None
    options = {"top_k": 3, "activation": activation, "ties": "lowest_index", "own": own}
    return Case(arrays, duals(rational(B), 0), options, conventions, exact_losses(names))


def prove(seed, names, conventions):
    """The slope of the loss along a direction of each array is the hand-derived one."""
    case = exact_case(seed, names, conventions)
    at_rest = {name: duals(array, 0) for name, array in case.arrays.items()}
    _, forward = case.loss(at_rest)
    gradients = case.backward(at_rest, forward)
    rng = np.random.default_rng(seed)
    for name, array in case.arrays.items():
        direction = rng.choice([-2, -1, 1, 2], array.shape).astype(object)
        loss, _ = case.loss(at_rest | {name: duals(array, direction)})
        derived = values_of(getattr(gradients, f"d{name}"))
        assert derived.shape == array.shape
        assert slope_of(loss) == np.sum(derived * direction), name
    return np.count_nonzero(values_of(forward.hidden))


@each_loss
def test_the_gradients_are_what_dual_numbers_carry_along(names):
    active = sum(
        prove(seed, names, conventions) for seed in range(4) for conventions in CONVENTIONS
    )
    assert active > 8 * 4


FAULTS = {
    "a lost factor": ("mse_sum", "l1", "mse_sum_backward", lambda found: found / 2),
    "a lost size": ("mse", "l1_sum", "l1_sum_backward", lambda found: found * 2),
    "a lost path": ("mse", "l1_decoder_weighted", "through_norms", lambda found: 0 * found),
    "a norm squared": ("mse_over_norm", "l1", "mse_over_norm_backward", lambda found: found * 3),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, monkeypatch):
    error, penalty, name, change = FAULTS[fault]
    loss, table = error, reference.RECONSTRUCTION_LOSSES
    if error == "mse":
        loss, table = penalty, reference.SPARSITY_LOSSES
    if name == "through_norms":
        where = "reftranscoder.reference.l1_decoder_weighted.through_norms"
        monkeypatch.setattr(where, lambda d_n, W_dec: 0 * W_dec)
    else:
        sound = table[loss]

        def faulty(*given):
            found = sound.backward(*given)
            return found._replace(d_hidden=change(found[0])) if penalty != "l1" else change(found)

        monkeypatch.setitem(table, loss, sound._replace(backward=faulty))
    with pytest.raises(AssertionError):
        prove(0, (error, penalty), CONVENTIONS[0])


@pytest.mark.parametrize("through", ["theta", "theta_and_input"])
@pytest.mark.parametrize("name", COUNTING)
def test_a_number_of_active_features_reaches_thresholds_straight_through(name, through):
    """Entry by entry, by (J3) to (J6) and (P12) to (P14); and on the edge of the window, none."""
    pre = np.array([[1, 2, 3], [Fraction(3, 2), 5, -1], [2, 2, 2]], dtype=object) * Fraction(1)
    theta = np.array([Fraction(5, 4), Fraction(5, 2), Fraction(3, 2)], dtype=object)
    bandwidth, coeff, t, (B, D) = Fraction(1), Fraction(7, 3), Fraction(5, 2), pre.shape
    hidden = np.where(pre > theta, pre, 0)
    losses = exact_losses(("mse", name))
    penalty = reference.SPARSITY_LOSSES[name].backward(hidden, None, coeff, losses)
    assert penalty.dW_dec is None and not np.any(penalty.d_hidden)
    d_hidden = np.array([[1, -2, 3], [4, 5, -6], [7, 8, 9]], dtype=object) * Fraction(1, 7)
    own = reference.JumpReLU(theta, bandwidth, through)
    d_pre, d_own = reference.ACTIVATIONS["jumprelu"].backward(
        d_hidden, pre, hidden, own, penalty.d_active
    )
    counts = [sum(h != 0 for h in row) for row in hidden]
    d_theta, edges = [Fraction(0)] * D, 0
    for b, d in itertools.product(range(B), range(D)):
        slope = {
            "l0_step": coeff / B,
            "l0_quadratic": coeff * 4 / t * (counts[b] - t) / B,
            "l0_target": coeff * 2 * (sum(counts) / (B * t) - 1) / (B * t),
        }[name]
        inside = abs(pre[b, d] - theta[d]) < bandwidth / 2
        edges += abs(pre[b, d] - theta[d]) == bandwidth / 2
        jump = (d_hidden[b, d] * theta[d] + slope) / bandwidth if inside else 0
        d_theta[d] -= jump
        passed = d_hidden[b, d] if hidden[b, d] else 0
        assert d_pre[b, d] == passed + (jump if through == "theta_and_input" else 0)
    assert d_own.theta.tolist() == d_theta and any(d_theta) and edges


def test_the_smooth_count_reaches_thresholds_from_the_right():
    """Of what is inactive within the window the slope is tanh's at 0, s n: as SAELens has it."""
    pre, theta, s = np.array([[0.75, 0.9, 1.5, 3.0]]).T, np.array([1.0]), 1.5
    W_dec = np.array([[3.0, 4.0]])  # of norm 5
    own = reference.JumpReLU(theta, 1.0, "theta")
    losses = reference.Losses("mse", "l0_tanh", tanh_scale=s)
    hidden = np.where(pre > theta, pre, 0)
    penalty = reference.SPARSITY_LOSSES["l0_tanh"].backward(hidden, W_dec, 0.5, losses)
    _, d_own = reference.ACTIVATIONS["jumprelu"].backward(penalty.d_hidden, pre, hidden, own)
    slopes = [s * 5 * (1 - np.tanh(s * 5 * h) ** 2) for h in (0, 0)]  # 1.5 is on the edge, 3 beyond
    want = -sum(0.5 / 4 * slope * theta[0] for slope in slopes)
    assert abs(d_own.theta[0] - want) <= 8 * FLOAT64.unit * abs(want)


# The two backends.


def made(conventions, dtype, activation="topk"):
    tc = rt.build(
        input_size=6, output_size=6, dict_size=24, top_k=5, skip=True, seed=1,
        conventions=conventions, activation=activation, dtype=dtype,
    )  # fmt: skip
    x, target = np.random.default_rng(2).standard_normal((2, 9, 6)).astype(dtype)
    return tc, x, target


@pytest.mark.kernels
@each_loss
def test_both_backends_agree(names):
    losses = losses_of(names)
    for conventions, dtype in itertools.product(CONVENTIONS, ("float64", "float32")):
        tc, x, target = made(conventions, dtype)
        stages, kernels = (
            tc.stages(x, target, 0.5, losses=losses, backend=backend)
            for backend in ("reference", "kernels")
        )
        assert list(stages) == list(kernels)
        # Each is put together from a few sums of at most 24 terms, none of a sum above 1000.
        unit = 1000 * 1000 * np.finfo(dtype).eps / 2
        for name in set(stages) - {"hidden", "pre", "pre_acts", "d_hidden", "d_pre"}:
            assert np.abs(stages[name] - kernels[name]).max() <= unit, name
        for backend, same in (("kernels", kernels), ("reference", stages)):
            loss, grads = tc.value_and_grad(x, target, 0.5, losses=losses, backend=backend)
            assert loss == same["loss"]
            for name, array in grads.arrays().items():
                assert np.array_equal(array, same[f"d{name}"]), name
            named = tc.backward(x, target, 0.5, losses=losses, backend=backend)
            assert np.array_equal(named["dW_dec"], same["dW_dec"])


@pytest.mark.kernels
def test_the_default_is_the_default_to_the_bit():
    tc, x, target = made(rt.Conventions(), "float32")
    for backend in ("kernels", "reference"):
        plain = tc.stages(x, target, 0.5, backend=backend)
        named = tc.stages(x, target, 0.5, losses=rt.Losses(), backend=backend)
        for name, want in plain.items():
            got, want = (getattr(stage, "data", stage) for stage in (named[name], want))
            assert np.asarray(got).tobytes() == np.asarray(want).tobytes(), name


@pytest.mark.parametrize("backend", ["kernels", "reference"])
def test_what_each_is_to_the_default(backend):
    """Sums are O and D times the means; what divides by the target is as if the target were 1."""
    tc, x, target = made(rt.Conventions(), "float64")
    target = np.sign(target)  # every row has the squares 6, and the norm sqrt(6)
    plain = float(tc.value_and_grad(x, target, 0.0, backend=backend)[0])
    for name, factor in (("mse_sum", 6), ("mse_over_norm", 6**-0.5), ("nmse", 1)):
        losses = losses_of((name, "l1"))
        loss, _ = tc.value_and_grad(x, target, 0.0, losses=losses, backend=backend)
        assert abs(loss - factor * plain) <= 40 * FLOAT64.unit * loss
    for name, factor in (("l1_sum", 24), ("l1", 1)):
        losses = losses_of(("mse", name))
        loss, _ = tc.value_and_grad(x, target, 1.0, losses=losses, backend=backend)
        l1 = float(tc.value_and_grad(x, target, 1.0, backend=backend)[0]) - plain
        assert abs(loss - plain - factor * l1) <= 400 * FLOAT64.unit * loss


@pytest.mark.kernels
@pytest.mark.parametrize("names", [("mse_over_norm", "l1"), ("nmse", "l1"), ("fvu", "l1")])
def test_what_has_no_size_is_infinite(names):
    """As the sources have it: nothing takes the place of a division by zero."""
    tc, x, target = made(rt.Conventions(), "float64")
    target[:] = 0
    for backend in ("kernels", "reference"):
        with np.errstate(divide="ignore"):
            loss, _ = tc.value_and_grad(x, target, losses=losses_of(names), backend=backend)
        assert loss == np.inf


def test_a_feature_that_writes_nothing():
    """A row of zeros in W_dec has no norm to differentiate: its gradient is that of the rest."""
    tc, x, target = made(rt.Conventions(), "float64", "relu")
    arrays = tc.params.arrays()
    arrays["W_dec"] = arrays["W_dec"] * (np.arange(24) > 0)[:, None]
    tc = rt.Transcoder.from_arrays(**arrays, activation="relu")
    for name, backend in itertools.product(WEIGHTED, ("kernels", "reference")):
        losses = losses_of(("mse", name))
        _, grads = tc.value_and_grad(x, target, 0.5, losses=losses, backend=backend)
        _, plain = tc.value_and_grad(x, target, 0.0, backend=backend)
        assert tc.encode(x)[:, [0]].nnz and np.array_equal(grads.W_dec[0], plain.W_dec[0])
        assert not np.array_equal(grads.W_dec[1:], plain.W_dec[1:])


# What is refused.

REFUSED = [
    ({"reconstruction_loss": "l2"}, "reconstruction_loss must be one of mse, mse_sum"),
    ({"sparsity_loss": "l2"}, "sparsity_loss must be one of l1, l1_sum"),
    ({"sparsity_loss": "l0_target"}, "target_l0 must be above 0, for l0_target"),
    ({"target_l0": -1}, "target_l0 must be a finite number"),
    ({"tanh_scale": 0}, "tanh_scale must be above 0"),
]


@pytest.mark.parametrize(("options", "match"), REFUSED)
def test_what_cannot_be_is_refused(options, match):
    with pytest.raises(OptionError, match=match):
        rt.Losses(**options)
    with pytest.raises(OptionError, match=match):
        rt.loss(np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 4)), **options)


def test_what_a_loss_needs_is_asked_for():
    arrays = np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 4))
    for name in WEIGHTED:
        with pytest.raises(OptionError, match="W_dec must be the decoder"):
            rt.loss(*arrays, sparsity_loss=name)
        with pytest.raises(ShapeError, match=r"W_dec must have shape \(D, O\) = \(4, 3\)"):
            rt.loss(*arrays, sparsity_loss=name, W_dec=np.ones((5, 3)))
    tc, x, target = made(rt.Conventions(), "float64")
    with pytest.raises(OptionError, match="losses must be a Losses"):
        tc.value_and_grad(x, target, losses="mse_sum")
