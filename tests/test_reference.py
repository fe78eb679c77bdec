"""The reference: numbers worked out by hand, every number type, and results of two libraries."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from reftranscoder import reference

GOLDEN = Path(__file__).parent / "golden"
FLOATS = [np.float16, np.float32, np.float64, np.longdouble]
NUMBERS = [*FLOATS, np.complex64, np.complex128, object]
nan, inf = np.nan, np.inf


def ids(dtype):
    return "Fraction" if dtype is object else np.dtype(dtype).name


def array(rows, dtype=np.float64):
    """An array of this dtype; object means `Fraction`."""
    if dtype is not object:
        return np.array(rows, dtype=dtype)
    rows = np.array(rows)
    return np.array([Fraction(v) for v in rows.flat], dtype=object).reshape(rows.shape)


def assert_is(got, want, dtype=np.float64):
    """The same shape, numbers and dtype; real zeros are +0."""
    want = np.array(want)
    assert got.shape == want.shape
    assert got.dtype == dtype
    assert np.array_equal(got, want, equal_nan=dtype is not object)
    if got.dtype.kind == "f":
        assert not np.signbit(got[got == 0]).any()


# One transcoder, by hand: B = 2, I = 2, D = 3, O = 2, top_k = 1, all numbers exact in float16.
X = [[1, 2], [-1, 1]]
W_ENC = [[1, 0], [0, 1], [1, 1]]
B_ENC = [0, 0, -1]
W_DEC = [[1, 1], [2, -1], [0, 3]]
B_DEC = [1, 0]
TARGET = [[4, 0], [3, 1]]
L1_COEFF = 6

# pre = x W_enc^T + b_enc: row 0 is (1, 2, 1 + 2 - 1), row 1 is (-1, 1, -1 + 1 - 1).
PRE = [[1, 2, 2], [-1, 1, -1]]
PRE_ACTS = [[1, 2, 2], [0, 1, 0]]
# In row 0, features 1 and 2 tie: the lower index is kept.
HIDDEN = [[0, 2, 0], [0, 1, 0]]
# Twice (2, -1) plus (1, 0); once (2, -1) plus (1, 0).
RECONSTRUCTION = [[5, -2], [3, -1]]
# Errors (1, -2), (0, -2): their squares' mean is 9/4.  L1: 6 (2 + 1) / 6 = 3.
LOSS = 21 / 4
# 2 / 4 of the errors.
D_RECONSTRUCTION = [[1 / 2, -1], [0, -1]]
# G W_dec^T: (1/2 - 1, 1 + 1, -3) and (-1, 1, -3); to the active feature L1 adds 6 / 6.
D_HIDDEN = [[-1 / 2, 3, -3], [-1, 2, -3]]
D_PRE = [[0, 3, 0], [0, 2, 0]]
# Feature 1: 2 (1/2, -1) + 1 (0, -1).
DW_DEC = [[0, 0], [1, -3], [0, 0]]
DB_DEC = [1 / 2, -2]
# Feature 1: 3 (1, 2) + 2 (-1, 1).
DW_ENC = [[0, 0], [1, 8], [0, 0]]
DB_ENC = [0, 5, 0]
# 3 (0, 1) and 2 (0, 1).
DX = [[0, 3], [0, 2]]

# With a skip connection, and a target farther by what it adds: x W_skip^T is (1, 2 - 2) and
# (-1, -2 - 1).
W_SKIP = [[1, 0], [2, -1]]
SKIP = [[1, 0], [-1, -3]]
# G^T x: 1/2 (1, 2) + 0 (-1, 1), and -1 (1, 2) - 1 (-1, 1).
DW_SKIP = [[1 / 2, 1], [0, -3]]
# dx and G W_skip: 1/2 (1, 0) - (2, -1), and -(2, -1).
DX_SKIP = [[0 - 3 / 2, 3 + 1], [0 - 2, 2 + 1]]


def whole(dtype, target, W_skip=None, **options):
    """Forward, loss and backward of the transcoder above."""
    x, W_enc, b_enc, W_dec, b_dec = (array(a, dtype) for a in (X, W_ENC, B_ENC, W_DEC, B_DEC))
    forward = reference.transcoder_forward(
        x, W_enc, b_enc, W_dec, b_dec, W_skip, **{"top_k": 1} | options
    )
    # An int times a Fraction is a Fraction; an int over an int would be a float.
    l1_coeff = Fraction(L1_COEFF) if dtype is object else L1_COEFF
    loss = reference.transcoder_loss(target, forward.reconstruction, forward.hidden, l1_coeff)
    backward = reference.transcoder_backward(
        x,
        target,
        forward,
        W_enc,
        W_dec,
        W_skip,
        l1_coeff=l1_coeff,
        activation=options.get("activation", "topk"),
    )
    return forward, loss, backward


@pytest.mark.parametrize("dtype", NUMBERS, ids=ids)
def test_the_transcoder_by_hand(dtype):
    forward, loss, backward = whole(dtype, array(TARGET, dtype))
    assert_is(forward.pre, PRE, dtype)
    assert_is(forward.pre_acts, PRE_ACTS, dtype)
    assert_is(forward.hidden, HIDDEN, dtype)
    assert_is(forward.reconstruction, RECONSTRUCTION, dtype)
    assert loss == LOSS
    assert type(loss) is (Fraction if dtype is object else dtype)
    assert_is(backward.d_reconstruction, D_RECONSTRUCTION, dtype)
    assert_is(backward.d_hidden, D_HIDDEN, dtype)
    assert_is(backward.d_pre, D_PRE, dtype)
    assert_is(backward.dW_dec, DW_DEC, dtype)
    assert_is(backward.db_dec, DB_DEC, dtype)
    assert_is(backward.dW_enc, DW_ENC, dtype)
    assert_is(backward.db_enc, DB_ENC, dtype)
    assert_is(backward.dx, DX, dtype)
    assert backward.dW_skip is None


@pytest.mark.parametrize("dtype", NUMBERS, ids=ids)
def test_the_skip_connection_by_hand(dtype):
    target = array(np.add(TARGET, SKIP), dtype)
    forward, loss, backward = whole(dtype, target, array(W_SKIP, dtype))
    assert_is(reference.skip_forward(array(X, dtype), array(W_SKIP, dtype)), SKIP, dtype)
    assert_is(forward.reconstruction, np.add(RECONSTRUCTION, SKIP), dtype)
    assert loss == LOSS
    assert_is(backward.dW_skip, DW_SKIP, dtype)
    assert_is(backward.dx, DX_SKIP, dtype)
    assert_is(backward.dW_enc, DW_ENC, dtype)


def test_keep_all_by_hand():
    forward, _, backward = whole(np.float64, array(TARGET), ties="keep_all")
    assert_is(forward.hidden, [[0, 2, 2], [0, 1, 0]])
    # Feature 2 adds 2 (0, 3), so that the errors of row 0 are (1, 4), and 1/2 of them G.
    assert_is(forward.reconstruction, [[5, 4], [3, -1]])
    assert_is(backward.d_reconstruction, [[1 / 2, 2], [0, -1]])
    # G W_dec^T of row 0: (1/2 + 2, 1 - 2, 6); L1 adds 1 to both active features.
    assert_is(backward.d_hidden, [[5 / 2, 0, 7], [-1, 2, -3]])
    assert_is(backward.d_pre, [[0, 0, 7], [0, 2, 0]])


def test_relu_by_hand():
    forward, _, backward = whole(np.float64, array(TARGET), activation="relu")
    assert_is(forward.hidden, PRE_ACTS)
    # Feature 0 adds 1 (1, 1) to the above: the errors of row 0 are (2, 5).
    assert_is(forward.reconstruction, [[6, 5], [3, -1]])
    assert_is(backward.d_reconstruction, [[1, 5 / 2], [0, -1]])
    # G W_dec^T of row 0: (1 + 5/2, 2 - 5/2, 15/2), and 1 from L1 for each.
    assert_is(backward.d_pre, [[9 / 2, 1 / 2, 17 / 2], [0, 2, 0]])


def test_one_row():
    x, target = array(X[:1]), array(TARGET[:1])
    forward = reference.transcoder_forward(
        x, array(W_ENC), array(B_ENC), array(W_DEC), array(B_DEC), top_k=1
    )
    backward = reference.transcoder_backward(
        x, target, forward, array(W_ENC), array(W_DEC), l1_coeff=3
    )
    # Errors (1, -2), of which there are two: G is the errors.  L1 adds 3 / 3.
    assert_is(forward.reconstruction, RECONSTRUCTION[:1])
    assert_is(backward.d_hidden, [[1 - 2, 2 + 2 + 1, -6]])
    assert_is(backward.dW_enc, [[0, 0], [5, 10], [0, 0]])
    assert_is(backward.dx, [[0, 5]])


def test_no_rows():
    forward = reference.transcoder_forward(
        np.zeros((0, 2)), array(W_ENC), array(B_ENC), array(W_DEC), array(B_DEC), top_k=1
    )
    shapes = [stage.shape for stage in forward]
    assert shapes == [(0, 3), (0, 3), (0, 3), (0, 2)]


@pytest.mark.parametrize("activation", ["topk", "relu"])
@pytest.mark.parametrize("ties", ["lowest_index", "keep_all"])
def test_the_encoder_is_the_first_half(activation, ties):
    options = {"top_k": 1, "activation": activation, "ties": ties}
    hidden = reference.encode_forward(array(X), array(W_ENC), array(B_ENC), **options)
    forward, _, _ = whole(np.float64, array(TARGET), **options)
    assert_is(hidden, forward.hidden)
    assert_is(reference.affine_relu_forward(array(X), array(W_ENC), array(B_ENC)), PRE_ACTS)


def test_nothing_is_written_to():
    arrays = [array(a) for a in (X, W_ENC, B_ENC, W_DEC, B_DEC, W_SKIP, TARGET)]
    for a in arrays:
        a.flags.writeable = False
    *model, target = arrays
    forward = reference.transcoder_forward(*model, top_k=1)
    reference.transcoder_backward(
        model[0], target, forward, model[1], model[3], model[5], l1_coeff=1
    )


# The rectifier.


@pytest.mark.parametrize("dtype", FLOATS, ids=ids)
def test_relu_forward(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    pre = array([[-1, -0.0, 0.0, tiny, -tiny, 2, inf, -inf, nan]], dtype)
    # Both zeros give +0, which `assert_is` sees; NaN stays.
    assert_is(reference.relu_forward(pre), [[0, 0, 0, tiny, 0, 2, inf, 0, nan]], dtype)


def test_relu_backward():
    pre = array([[-1, -0.0, 0.0, 2, nan]])
    # ReLU'(0) = 0, and NaN passes.
    assert_is(reference.relu_backward(array([[3, 4, 5, 6, 7]]), pre), [[0, 0, 0, 6, 7]])
    assert_is(
        reference.relu_backward(array([[nan, nan, nan, nan, nan]]), pre), [[0, 0, 0, nan, nan]]
    )


def test_a_row_of_nan_gives_nan_and_leaves_the_others_alone():
    x = array(X)
    x[0] = nan
    model = [array(a) for a in (W_ENC, B_ENC, W_DEC, B_DEC, W_SKIP)]
    for activation in ("topk", "relu"):
        forward = reference.transcoder_forward(x, *model, top_k=1, activation=activation)
        backward = reference.transcoder_backward(
            x, array(TARGET), forward, model[0], model[2], l1_coeff=6, activation=activation
        )
        assert np.isnan(forward.reconstruction[0]).all() and np.isnan(backward.dx[0]).all()
        assert np.isfinite(forward.reconstruction[1]).all() and np.isfinite(backward.dx[1]).all()


def test_complex_numbers_are_judged_by_their_real_part():
    step = 1e-30j
    pre = array([[-1 + step, 1 - step, 2 + step, 0 + step, -3 - step]], np.complex128)
    pre_acts = reference.relu_forward(pre)
    assert_is(pre_acts, [[0, 1 - step, 2 + step, 0, 0]], np.complex128)
    # 1 and 2 tie for one place at the real part alone: the step does not decide.
    tied = array([[1 - step, 1 + step, 0.5]], np.complex128)
    assert_is(reference.topk_forward(tied, 1), [[1 - step, 0, 0]], np.complex128)
    assert_is(reference.topk_forward(tied, 1, "keep_all"), [[1 - step, 1 + step, 0]], np.complex128)


# Selection.

SELECTIONS = [
    # pre_acts, top_k, hidden for lowest_index, hidden for keep_all
    ([3, 1, 2], 1, [3, 0, 0], [3, 0, 0]),
    ([3, 1, 2], 2, [3, 0, 2], [3, 0, 2]),
    ([3, 1, 2], 3, [3, 1, 2], [3, 1, 2]),
    ([1, 2, 2], 1, [0, 2, 0], [0, 2, 2]),
    ([2, 1, 2, 2], 2, [2, 0, 2, 0], [2, 0, 2, 2]),
    ([2, 3, 2, 2], 2, [2, 3, 0, 0], [2, 3, 2, 2]),
    ([5, 5, 5, 5], 3, [5, 5, 5, 0], [5, 5, 5, 5]),
    ([5, 5, 5, 5], 4, [5, 5, 5, 5], [5, 5, 5, 5]),
    # Fewer than top_k: zeros are kept, and are zeros.
    ([0, 4, 0, 0], 2, [0, 4, 0, 0], [0, 4, 0, 0]),
    ([0, 0, 0, 0], 2, [0, 0, 0, 0], [0, 0, 0, 0]),
    ([7], 1, [7], [7]),
    # NaN ranks above every number, so that it is seen; infinity is a number.
    ([1, nan, inf, 2], 1, [0, nan, 0, 0], [0, nan, 0, 0]),
    ([1, nan, inf, 2], 2, [0, nan, inf, 0], [0, nan, inf, 0]),
    ([nan, 3, nan], 1, [nan, 0, 0], [nan, 0, nan]),
    ([nan, 3, nan, nan], 2, [nan, 0, nan, 0], [nan, 0, nan, nan]),
    ([nan, 3, 4, 4], 2, [nan, 0, 4, 0], [nan, 0, 4, 4]),
]


@pytest.mark.parametrize("dtype", NUMBERS, ids=ids)
@pytest.mark.parametrize("pre_acts, top_k, lowest, every", SELECTIONS)
def test_topk_forward(pre_acts, top_k, lowest, every, dtype):
    if not np.isfinite(pre_acts).all():
        dtype = np.float64 if dtype is object else dtype  # no fraction is infinite
    for ties, hidden in (("lowest_index", lowest), ("keep_all", every)):
        assert_is(reference.topk_forward(array([pre_acts], dtype), top_k, ties), [hidden], dtype)


def test_ties_are_of_the_numbers_as_they_are():
    third = Fraction(1, 3)
    nearly = third + Fraction(1, 10**30)  # the same float64
    pre_acts = np.array([[third, nearly]], dtype=object)
    assert reference.topk_forward(pre_acts, 1).tolist() == [[0, nearly]]


def test_each_row_is_selected_by_itself():
    rows = [row for row, top_k, *_ in SELECTIONS if len(row) == 4 and top_k == 2]
    together = reference.topk_forward(array(rows), 2)
    for row, hidden in zip(rows, together):
        assert_is(reference.topk_forward(array([row]), 2), [hidden])
    fortran = np.asfortranarray(array(rows))
    assert_is(reference.topk_forward(fortran, 2), together)
    assert_is(reference.topk_forward(fortran[::-1], 2), together[::-1])


def test_topk_backward():
    # Kept; cut off or inactive; kept and not a number.
    assert_is(
        reference.topk_backward(array([[1, 2, 3]]), array([[4, 0, nan]])),
        [[1, 0, 3]],
    )


# The losses.


@pytest.mark.parametrize("dtype", NUMBERS, ids=ids)
def test_mse_by_hand(dtype):
    target, reconstruction = array([[1, 2, 3, 4]], dtype), array([[1, 0, 4, 4]], dtype)
    # Errors 0, -2, 1, 0: the mean of squares is 5/4, and 2/4 of each the derivative.
    mse = reference.mse_forward(target, reconstruction)
    assert mse == 5 / 4
    assert_is(reference.mse_backward(target, reconstruction), [[0, -1, 1 / 2, 0]], dtype)


@pytest.mark.parametrize("dtype", [*FLOATS, object], ids=ids)
def test_l1_by_hand(dtype):
    hidden = array([[0, -2, 6, 0]], dtype)
    l1_coeff = Fraction(2) if dtype is object else 2
    assert reference.l1_forward(hidden, l1_coeff) == 4  # 2 (2 + 6) / 4
    # sign(0) = 0.
    assert_is(reference.l1_backward(hidden, l1_coeff), [[0, -1 / 2, 1 / 2, 0]], dtype)


def test_losses_keep_the_type_of_their_arguments():
    for dtype in FLOATS:
        one = array([[1.0]], dtype)
        assert type(reference.transcoder_loss(one, 2 * one, one, 1e-3)) is dtype


# Adam.


def test_adam_by_hand():
    zero = np.zeros(1)
    options = {"lr": 0.5, "beta1": 0.5, "beta2": 0.75, "eps": 0}
    # m = 2 / 2 and v = 4 / 4, corrected 1 / (1/2) and 1 / (1/4): a step of 1/2 times 2 / 2.
    p, m, v = reference.adam_step(np.ones(1), np.full(1, 2.0), zero, zero, 1, **options)
    assert (p, m, v) == (0.5, 1, 1)
    # m = 1/2 - 1 and v = 3/4 + 1, corrected -1/2 / (3/4) and 7/4 / (7/16): 1/2 times 2/3 / 2, back.
    p, m, v = reference.adam_step(p, np.full(1, -2.0), m, v, 2, **options)
    assert (m, v) == (-0.5, 1.75)
    assert p == 0.5 + 1 / 6
    # eps is added to the root: 2 / (2 + 2).
    p, _, _ = reference.adam_step(
        np.ones(1), np.full(1, 2.0), zero, zero, 1, **options | {"eps": 2}
    )
    assert p == 0.75


def test_adam_keeps_the_dtype():
    for dtype in FLOATS:
        ones = np.ones(2, dtype)
        step = reference.adam_step(ones, ones, ones, ones, 1, 1e-3, 0.9, 0.999, 1e-8)
        assert {a.dtype for a in step} == {np.dtype(dtype)}


# Other libraries' results; see golden/README.rst.


STAGES_GIVEN = {
    "topk_transcoder": 10,
    "relu_skip_transcoder": 13,
    "batchtopk": 8,
    "abstopk": 8,
    "groupmax": 8,
    "jumprelu": 9,
    "jumprelu_to_input": 9,
}


@pytest.mark.parametrize("name", STAGES_GIVEN)
def test_golden(name):
    with np.load(GOLDEN / f"{name}_f32.npz") as file:
        given = {key: file[key] for key in file.files}
    activation = name.partition("_")[0]
    wide = {key: value.astype(np.float64) for key, value in given.items() if value.ndim}
    target, l1_coeff = wide["target"], float(given["l1_coeff"])
    model = [wide[n] for n in ("x", "W_enc", "b_enc", "W_dec", "b_dec")] + [wide.get("W_skip")]

    own = None
    if "theta" in wide:
        through = "theta_and_input" if name.endswith("to_input") else "theta"
        own = reference.JumpReLU(wide["theta"], 0.5, through)
    options = {"activation": activation, "own": own}

    forward = reference.transcoder_forward(*model, top_k=int(given["top_k"]), **options)
    backward = reference.transcoder_backward(
        model[0],
        target,
        forward,
        wide["W_enc"],
        wide["W_dec"],
        wide.get("W_skip"),
        l1_coeff=l1_coeff,
        **options,
    )
    stages = forward._asdict() | backward._asdict()
    stages["dtheta"] = backward.d_own and backward.d_own.theta
    stages["loss"] = reference.transcoder_loss(
        target, forward.reconstruction, forward.hidden, l1_coeff
    )
    inputs = {"x", "target", "W_enc", "b_enc", "W_dec", "b_dec", "W_skip", "theta"}
    compared = given.keys() - inputs - {"top_k", "l1_coeff", "about"}
    assert len(compared) == STAGES_GIVEN[name]
    for stage in compared:
        want = given[stage].astype(np.float64)
        # Their rounding: sums of at most 96 terms in float32, a few of them in a row.  It adds up
        # like a root, to some 10 times 2^-24 of the largest value, 6e-7; measured here, 1.8e-7.
        error = np.max(np.abs(stages[stage] - want))
        assert error <= 3e-6 * np.max(np.abs(want)), stage
    assert np.array_equal(given["hidden"] != 0, stages["hidden"] != 0)


def test_ties_are_those_of_a_stable_sort_in_torch():
    torch = pytest.importorskip("torch", reason="compares with torch.sort")
    rng = np.random.default_rng(4)
    pre_acts = rng.integers(0, 4, (50, 300)).astype(np.float32)
    order = torch.sort(torch.tensor(pre_acts), descending=True, stable=True).indices[:, :32]
    kept = np.zeros_like(pre_acts)
    np.put_along_axis(kept, order.numpy(), np.take_along_axis(pre_acts, order.numpy(), 1), 1)
    assert (reference.topk_forward(pre_acts, 32) == kept).all()
