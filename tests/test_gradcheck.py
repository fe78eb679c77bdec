"""`check_gradient`: that it passes what is right, finds what is wrong, and knows the kinks."""

from __future__ import annotations

import dataclasses
import pickle
from typing import NamedTuple

import numpy as np
import pytest

import reftranscoder as rt
from reftranscoder import reference
from reftranscoder.errors import DTypeError, KinkError, NonFiniteError, OptionError, ShapeError
from reftranscoder.gradcheck import GradientCheck, Slope, check_gradient

L1 = 0.25


class Model(NamedTuple):
    """What `check_gradient` is given, but for the function."""

    config: rt.TranscoderConfig
    params: rt.Params
    x: np.ndarray
    target: np.ndarray

    def check(self, fn, **options) -> GradientCheck:
        return check_gradient(fn, *self, L1, **options)


def model(seed=0, dtype="float64", B=7, I=5, D=24, O=4, top_k=4, **options) -> Model:
    rng = np.random.default_rng(seed)
    config = rt.TranscoderConfig(
        input_size=I, output_size=O, dict_size=D, top_k=top_k, dtype=dtype, **options
    )
    shapes = {"W_enc": (D, I), "b_enc": D, "W_dec": (D, O), "b_dec": O}
    shapes |= {"W_skip": (O, I)} if config.skip else {}
    arrays = {name: rng.standard_normal(s).astype(dtype) for name, s in shapes.items()}
    x, target = (rng.standard_normal((B, size)).astype(dtype) for size in (I, O))
    return Model(config, rt.Params(**arrays), x, target)


def reference_fn(config, spoil=lambda loss, grads: None, factor=1):
    """The reference in the dtype of its arguments; ``spoil`` may change the gradients in place."""

    def fn(params, x, target):
        options = {name: getattr(config, name) for name in ("top_k", "activation", "ties")}
        forward = reference.transcoder_forward(x, **params.arrays(), **options)
        gradients = reference.transcoder_backward(
            x,
            target,
            forward,
            params.W_enc,
            params.W_dec,
            params.W_skip,
            l1_coeff=L1,
            activation=config.activation,
        )
        loss = reference.transcoder_loss(target, forward.reconstruction, forward.hidden, L1)
        grads = {name: g for name, g in gradients._asdict().items() if g is not None}
        spoil(loss, grads)
        return factor * loss, {name: factor * grad for name, grad in grads.items()}

    return fn


VARIANTS = [
    {"activation": "topk"},
    {"activation": "topk", "ties": "keep_all"},
    {"activation": "topk", "top_k": 24},
    {"activation": "relu"},
]


# What is right passes, and the tolerance is tight enough to mean something.


@pytest.mark.parametrize("dtype", ["float32", "float64", "longdouble"])
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_the_reference_passes(options, skip, dtype):
    m = model(dtype=np.dtype(dtype).name, skip=skip, **options)
    checked = m.check(reference_fn(m.config))
    assert checked.max_ratio <= 1
    assert {slope.block for slope in checked.slopes} == {"x", "parameters", *m.params.arrays()}
    # A fault of 1e5 roundings would not have passed: bounds of a few hundred, over the fraction
    # of the way to the nearest of 24 kinks that a row of x can go.
    unit = np.finfo(dtype).eps / 2
    assert max(slope.floor for slope in checked.slopes) < 1e5 * float(unit)
    assert all(slope.moved == 1 for slope in checked.slopes)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_the_kernels_pass(options, dtype):
    m = model(dtype=dtype, skip=True, **options)

    def fn(params, x, target):
        stages = rt.Transcoder(m.config, params).stages(x, target, L1, backend="kernels")
        return stages["loss"], stages

    checked = m.check(fn, directions=1)
    assert {slope.block for slope in checked.slopes} == {"x", "parameters", *m.params.arrays()}


def test_a_params_of_gradients_will_do():
    m = model(dtype="float32")

    def fn(params, x, target):
        tc = rt.Transcoder(m.config, params)
        return tc.value_and_grad(x, target, L1, backend="reference")

    assert "x" not in {slope.block for slope in m.check(fn).slopes}


def test_an_object_with_gradients_will_do():
    m = model()

    def fn(params, x, target):
        loss, grads = reference_fn(m.config)(params, x, target)
        return loss, reference.Backward(**dict.fromkeys(reference.Backward._fields) | grads)

    assert m.check(fn).slopes == m.check(reference_fn(m.config)).slopes


@pytest.mark.parametrize("factor", [1 / 2, -1, 1e-6, 1e6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_loss_that_is_a_multiple_of_ours_is_as_good(factor, dtype):
    m = model(dtype=dtype)
    factor = np.dtype(dtype).type(factor)
    m.check(reference_fn(m.config, factor=factor))
    with pytest.raises(rt.errors.GradientError):
        m.check(reference_fn(m.config, put("db_dec", one_entry), factor))


def test_the_rounding_of_our_own_loss_is_measured():
    """The bound of a mean over 4096 entries, in any order, would hide much more."""
    m = model(dtype="float32", B=64, I=8, D=32, O=64)
    checked = m.check(reference_fn(m.config), directions=1)
    scaled = m.check(reference_fn(m.config, factor=np.float32(4)), directions=1)
    for one, four in zip(checked.slopes, scaled.slopes):
        assert four.block == one.block and four.ratio < 1
        assert one.floor < min(0.01, four.floor / 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_random_models_pass(dtype):
    """No false alarm, small and large numbers included."""
    for seed in range(25):
        rng = np.random.default_rng(seed)
        B, I, D, O = rng.integers(1, 9, 4)
        top_k = rng.integers(1, D + 1)
        options = VARIANTS[seed % 2] | {"skip": bool(seed % 3), "top_k": top_k}
        m = model(seed, dtype, B, I, D, O, **options)
        scale = 10.0 ** rng.integers(-6, 7)
        m = m._replace(x=(scale * m.x).astype(dtype), target=(scale * m.target).astype(dtype))
        m.check(reference_fn(m.config), seed=seed, directions=1)


def test_coarser_arithmetic_has_a_wider_tolerance():
    """Results stored in float16 are not float32, and that must be declared."""
    m = model(dtype="float32")

    def fn(params, x, target):
        loss, grads = reference_fn(m.config)(params, x, target)
        return np.float16(loss), {name: grad.astype(np.float16) for name, grad in grads.items()}

    m.check(fn, arithmetic="float16")
    with pytest.raises(rt.errors.GradientError):
        m.check(fn)


# What is wrong is found, in the right place.


def put(name, change):
    def spoil(loss, grads):
        grads[name] = change(grads[name])

    return spoil


def one_entry(grad):
    grad = grad.copy()
    grad[(-1,) * grad.ndim] += np.abs(grad).max() / 100
    return grad


def one_lost(grad):
    grad = grad.copy()
    grad[np.unravel_index(np.abs(grad).argmax(), grad.shape)] = 0
    return grad


FAULTS = {
    "a sign": np.negative,
    "a lost factor 2": lambda grad: grad / 2,
    "lost": np.zeros_like,
    "an entry": one_entry,
    "an entry lost": one_lost,
    "reversed": lambda grad: grad[::-1],
    "a constant": lambda grad: grad + np.abs(grad).mean(),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("block", ["W_enc", "b_enc", "W_dec", "b_dec", "W_skip", "x"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_in_its_block(fault, block, dtype):
    m = model(dtype=dtype, skip=True)
    spoil = put(f"d{block}", FAULTS[fault])
    with pytest.raises(rt.errors.GradientError, match=f"gradient by {block} is not the") as raised:
        m.check(reference_fn(m.config, spoil))
    error = raised.value
    assert isinstance(error, AssertionError)
    assert error.block == block
    assert abs(error.analytic - error.numeric) > error.tolerance
    right = reference_fn(m.config)(m.params, m.x, m.target)[1][f"d{block}"]
    wrong = FAULTS[fault](right)
    # The entry named is one that is wrong.
    assert wrong[error.index] != right[error.index]
    entry = f"d{block}[{', '.join(map(str, error.index))}] it is {wrong[error.index]:.6e} and"
    assert entry in str(error)
    assert "\n" not in str(error)


def test_the_one_wrong_entry_of_many_is_named():
    m = model(D=300, I=40)
    with pytest.raises(rt.errors.GradientError) as raised:
        m.check(reference_fn(m.config, put("dW_enc", one_lost)))
    right = reference_fn(m.config)(m.params, m.x, m.target)[1]["dW_enc"]
    assert raised.value.index == np.unravel_index(np.abs(right).argmax(), right.shape)


def mask_dropped(params, x, target, config):
    """All gradients without the top-k mask: what reaches the encoder is wrong."""
    options = {name: getattr(config, name) for name in ("top_k", "activation", "ties")}
    forward = reference.transcoder_forward(x, **params.arrays(), **options)
    d_reconstruction = reference.mse_backward(target, forward.reconstruction)
    d_hidden, dW_dec, db_dec = reference.decode_backward(
        d_reconstruction, forward.hidden, params.W_dec
    )
    d_pre = reference.relu_backward(
        d_hidden + reference.l1_backward(forward.hidden, L1), forward.pre
    )
    _, dW_enc, db_enc = reference.affine_backward(d_pre, x, params.W_enc)
    loss = reference.transcoder_loss(target, forward.reconstruction, forward.hidden, L1)
    return loss, {"W_enc": dW_enc, "b_enc": db_enc, "W_dec": dW_dec, "b_dec": db_dec}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_dropped_mask_is_found(dtype):
    m = model(dtype=dtype)
    with pytest.raises(rt.errors.GradientError) as raised:
        m.check(lambda params, x, target: mask_dropped(params, x, target, m.config))
    # The entry belongs to a feature that passes a gradient though it is cut off somewhere.
    feature = raised.value.index[0]
    pre, pre_acts, hidden, _ = reference.transcoder_forward(
        m.x, **m.params.arrays(), top_k=m.config.top_k
    )
    assert raised.value.block == "W_enc"
    assert np.any((pre_acts > 0) & (hidden == 0), axis=0)[feature]


def test_a_wrong_loss_is_found():
    """The gradient is right, and the loss has lost its L1 term."""
    m = model()

    def fn(params, x, target):
        options = {name: getattr(m.config, name) for name in ("top_k", "activation", "ties")}
        forward = reference.transcoder_forward(x, **params.arrays(), **options)
        grads = reference_fn(m.config)(params, x, target)[1]
        return reference.mse_forward(target, forward.reconstruction), grads

    with pytest.raises(rt.errors.GradientError):
        m.check(fn)


def test_every_direction_is_tried():
    m = model()
    calls = []

    def fn(params, x, target):
        calls.append(1)
        return reference_fn(m.config)(params, x, target)

    assert len(m.check(fn, directions=3).slopes) == 3 * 6
    # The point itself; two ends of five lines, and four points of the one in all parameters.
    assert len(calls) == 1 + 3 * (5 * 2 + 4)


def test_fn_may_write_to_what_it_gets():
    m = model()
    x, target = m.x.copy(), m.target.copy()

    def fn(params, x, target):
        result = reference_fn(m.config)(params, x, target)
        x[:], target[:] = 1, 2
        return result

    m.check(fn)
    assert np.array_equal(m.x, x) and np.array_equal(m.target, target)


# Kinks.


def near_tie(gap, dtype="float64"):
    """A model in whose first row features 0 and 1, the second and third largest, differ by ``gap``;
    top_k is 2.
    """
    m = model(dtype=dtype, B=4, I=5, D=8, top_k=2)
    W_enc, b_enc = m.params.W_enc.copy(), m.params.b_enc.copy()
    x = m.x.copy()
    x[0] = 0  # so that pre[0] is b_enc, exactly
    b_enc[:] = [1 + gap, 1, 2, -1, -2, -3, 0.5, 0.25]
    params = dataclasses.replace(m.params, W_enc=W_enc, b_enc=b_enc)
    return m._replace(params=params, x=x)


@pytest.mark.parametrize("gap", [1e-3, 1e-8, 1e-11])
def test_next_to_a_kink_it_passes(gap):
    """A fixed step of 1e-6 fails there, though the gradient is right."""
    m = near_tie(gap)
    checked = m.check(reference_fn(m.config))
    assert all(slope.moved == 1 for slope in checked.slopes)
    with pytest.raises(KinkError) as raised:
        m.check(reference_fn(m.config), step=gap)
    assert 0 < raised.value.radius < gap


def test_within_rounding_of_a_kink_the_features_stay():
    """In float32 they may change places, and either way is right."""
    m = near_tie(2.0**-23, "float32")
    with pytest.raises(KinkError, match="no derivative by b_enc here: within rounding"):
        m.check(reference_fn(m.config), step=1e-3)
    moved = {slope.block: slope.moved for slope in m.check(reference_fn(m.config)).slopes}
    assert moved["b_enc"] == moved["W_enc"] == 6 / 8
    assert moved["W_dec"] == 1


def test_at_a_tie_there_is_no_derivative():
    m = near_tie(0)
    for options in ({}, {"step": 1e-9}):
        with pytest.raises(KinkError, match="tie at the top_k-th place") as raised:
            m.check(reference_fn(m.config), **options)
        assert raised.value.radius == 0
    assert raised.value.step == 1e-9


def test_at_a_tie_that_keep_all_keeps_there_is_no_derivative_either():
    m = near_tie(0)
    m = m._replace(config=dataclasses.replace(m.config, ties="keep_all"))
    with pytest.raises(KinkError):
        m.check(reference_fn(m.config))


def test_a_zero_is_a_kink_where_it_could_enter():
    m = near_tie(0.5)
    b_enc = m.params.b_enc.copy()
    b_enc[[0, 1, 2]] = [1, -1, 0]  # six more follow, of which two are positive
    params = dataclasses.replace(m.params, b_enc=b_enc)
    assert np.count_nonzero(b_enc > 0) == 3
    m._replace(params=params).check(reference_fn(m.config))  # the row is full: zero is far from in
    full = dataclasses.replace(m.config, top_k=4)
    with pytest.raises(KinkError):
        m._replace(config=full, params=params).check(reference_fn(full))
    relu = dataclasses.replace(m.config, activation="relu")
    with pytest.raises(KinkError):
        m._replace(config=relu, params=params).check(reference_fn(relu))


def test_a_step_is_taken_if_it_crosses_no_kink():
    m = near_tie(0.1)
    with pytest.raises(KinkError, match=r"step = 0\.2 along .* would cross a kink") as raised:
        m.check(reference_fn(m.config), step=0.2)
    assert raised.value.step == 0.2
    step = raised.value.radius / 10
    arrays = m.params.arrays() | {"x": m.x}
    sizes = {name: array.size for name, array in arrays.items()}
    sizes["parameters"] = sum(array.size for array in m.params.arrays().values())
    for slope in m.check(reference_fn(m.config), step=step).slopes:
        assert step / 2 <= slope.step / np.sqrt(sizes[slope.block]) <= step


@pytest.mark.parametrize("step", [0.01, 0.02, 0.03])
def test_no_step_ends_in_a_false_alarm(step):
    """Those of all parameters together go twice as far."""
    m = near_tie(0.1)
    together = 0
    for seed in range(30):
        try:
            m.check(reference_fn(m.config), step=step, seed=seed)
        except KinkError as error:
            together += "along parameters" in str(error)
    assert together > 1


def test_a_step_across_a_kink_would_have_been_a_false_alarm():
    """What the check is there to prevent: differences across a kink deny a right gradient."""
    m = near_tie(0.01)
    fn = reference_fn(m.config)
    ends = []
    for step in (1, -1):
        b_enc = m.params.b_enc.copy()
        b_enc[1] += step * 0.02  # past feature 0, which is 0.01 above
        ends.append(fn(dataclasses.replace(m.params, b_enc=b_enc), m.x, m.target)[0])
    derivative = fn(m.params, m.x, m.target)[1]["db_enc"][1]
    assert abs((ends[0] - ends[1]) / 0.04 - derivative) > abs(derivative)


def test_nothing_can_move():
    """One feature, within float32's rounding of zero in the only row."""
    m = model(dtype="float32", B=1, I=2, D=1, top_k=1)
    W_enc = np.array([[1, -1]], np.float32)
    b_enc = np.array([2.0**-24], np.float32)
    params = dataclasses.replace(m.params, W_enc=W_enc, b_enc=b_enc)
    m = m._replace(params=params, x=np.ones((1, 2), np.float32))
    with pytest.raises(KinkError, match="no entry of W_enc can move"):
        m.check(reference_fn(m.config))


# What is refused.


def test_arguments_that_cannot_be():
    m = model()
    fn = reference_fn(m.config)
    for options, text in (
        ({"step": 0}, "step must be above 0, or None; got 0"),
        ({"step": -1.0}, "step must be a finite number, 0 or above; got -1.0"),
        ({"directions": 0}, "directions must be a positive integer; got 0"),
        ({"arithmetic": "float8"}, "arithmetic must be one of float16, bfloat16"),
    ):
        with pytest.raises(OptionError, match=text):
            m.check(fn, **options)
    with pytest.raises(ShapeError, match="x must have shape .* = .any, 5.; got .7, 4."):
        m._replace(x=m.x[:, :4]).check(fn)
    with pytest.raises(ShapeError, match=r"target must have shape \(7, 4\); got \(6, 4\)"):
        m._replace(target=m.target[:6]).check(fn)
    with pytest.raises(ShapeError, match="target must have shape"):
        m._replace(x=m.x[:0], target=m.target[:0]).check(fn)
    with pytest.raises(NonFiniteError, match="x must be finite; got nan at row 1, column 2"):
        x = m.x.copy()
        x[1, 2] = np.nan
        m._replace(x=x).check(fn)


def test_results_that_cannot_be():
    m = model(skip=True)

    def returning(change):
        def fn(params, x, target):
            return change(*reference_fn(m.config)(params, x, target))

        return fn

    def without(loss, grads):
        del grads["dW_skip"]
        return loss, grads

    def with_grad(name, change):
        return lambda loss, grads: (loss, grads | {name: change(grads[name])})

    cases = (
        (without, OptionError, "a Params, or hold dW_skip or W_skip; got 'dict'"),
        (with_grad("dW_dec", np.transpose), ShapeError, r"return dW_dec\.T"),
        (with_grad("dW_dec", lambda d: d[1:]), ShapeError, r"dW_dec must have .*got \(23, 4\)"),
        (with_grad("db_dec", lambda d: d * np.nan), NonFiniteError, "db_dec must be finite"),
        (with_grad("db_dec", lambda d: d * 1j), DTypeError, "db_dec must hold real"),
        (lambda loss, grads: (np.ones(2), grads), ShapeError, "loss must have shape"),
        (lambda loss, grads: (np.inf, grads), NonFiniteError, "loss must be finite"),
    )
    for change, kind, text in cases:
        with pytest.raises(kind, match=text):
            m.check(returning(change))


# What is returned.


def test_the_result_is_a_table():
    m = model()
    checked = m.check(reference_fn(m.config), directions=1)
    lines = str(checked).split("\n")
    assert lines[0].split() == ["analytic", "numeric", "error", "tolerance", "floor"]
    blocks = ["W_enc", "b_enc", "W_dec", "b_dec", "parameters", "x"]
    assert [line.split()[0] for line in lines[1:]] == blocks
    assert "cannot tell" not in str(checked)
    with pytest.raises(dataclasses.FrozenInstanceError):
        checked.slopes = ()
    assert pickle.loads(pickle.dumps(checked)) == checked


def test_a_tolerance_as_large_as_the_gradient_is_admitted():
    slope = Slope("x", analytic=1, numeric=2, error=1, tolerance=4, step=1, size=2, moved=1)
    assert (slope.ratio, slope.floor) == (1 / 4, 2)
    assert str(GradientCheck((slope,))).endswith("cannot tell")
    # Without any gradient there is nothing to hide.
    assert "cannot tell" not in str(GradientCheck((dataclasses.replace(slope, size=0),)))


def test_the_same_seed_gives_the_same_result():
    m = model()
    fn = reference_fn(m.config)
    assert m.check(fn, seed=3) == m.check(fn, seed=3) != m.check(fn, seed=4)


def test_the_errors_survive_pickling():
    m = near_tie(0)
    with pytest.raises(KinkError) as kink:
        m.check(reference_fn(m.config))
    m = model()
    with pytest.raises(rt.errors.GradientError) as fault:
        m.check(reference_fn(m.config, put("dW_dec", np.negative)))
    for error in (kink.value, fault.value):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error) and str(copy) == str(error)
        assert vars(copy) == vars(error)
