"""The public interface: what it refuses, and that every method gives what the reference defines."""

import copy
import dataclasses
import importlib
import multiprocessing
import pickle

import numpy as np
import pytest
import scipy.sparse

import reftranscoder as rt
from reftranscoder import reference
from reftranscoder.errors import DTypeError, Error, NonFiniteError, OptionError, ShapeError

B, I, D, O, K = 6, 10, 32, 7, 4
NAMES = ["pre", "pre_acts", "hidden", "reconstruction", "loss", "d_reconstruction", "d_hidden"]
NAMES += ["d_pre", "dW_dec", "db_dec", "dW_skip", "dW_enc", "db_enc", "dx"]
both_backends = pytest.mark.parametrize("backend", ["kernels", "reference"])


def build(**options):
    sizes = {"input_size": I, "output_size": O, "dict_size": D, "top_k": K, "seed": 5}
    return rt.build(**sizes | options)


@pytest.fixture
def data(rng):
    return rng.standard_normal((B, I)), rng.standard_normal((B, O))


def dense(array):
    return array.toarray() if scipy.sparse.issparse(array) else array


@both_backends
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("activation", ["topk", "relu"])
def test_every_stage_by_every_method(backend, skip, activation, data):
    x, target = data
    tc = build(skip=skip, activation=activation, dtype="float64")
    options = {"activation": activation, "top_k": tc.config.top_k}
    arrays = tc.params.arrays()
    forward = reference.transcoder_forward(x, **arrays, **options)
    gradients = reference.transcoder_backward(
        *(x, target, forward, arrays["W_enc"], arrays["W_dec"], arrays.get("W_skip")),
        l1_coeff=0.5,
        activation=activation,
    )
    loss = reference.transcoder_loss(target, forward.reconstruction, forward.hidden, 0.5)
    want = forward._asdict() | gradients._asdict() | {"loss": loss}

    # Sums of at most 33 terms of size below 10, twice in a row: 2^-53 * 33 * 10 * 33 < 2e-12.
    def same(name, got):
        expected = want[name]
        if backend == "kernels" and name in ("d_hidden", "d_pre"):
            expected = np.where(want["hidden"] != 0, expected, 0)
        np.testing.assert_allclose(dense(got), expected, rtol=0, atol=2e-12, err_msg=name)

    stages = tc.stages(x, target, 0.5, backend=backend)
    assert list(stages) == [n for n in NAMES if skip or n != "dW_skip"]
    for name, got in stages.items():
        same(name, got)
    for name, got in tc.backward(x, target, 0.5, backend=backend).items():
        same(name, got)
    loss, grads = tc.value_and_grad(x, target, 0.5, backend=backend)
    same("loss", loss)
    for name, got in grads.arrays().items():
        same(f"d{name}", got)
    out = tc.forward(x, backend=backend)
    for name, got in out._asdict().items():
        same(name, got)
    hidden = tc.encode(x, backend=backend)
    same("hidden", hidden)
    same("reconstruction", tc(x, backend=backend))
    same("reconstruction", tc.decode(hidden, x, backend=backend))
    same("reconstruction", tc.decode(hidden.toarray(), x, backend=backend))
    same("loss", rt.loss(target, out.reconstruction, hidden, 0.5, backend=backend))
    same("loss", rt.loss(target, out.reconstruction, hidden.toarray(), 0.5, backend=backend))
    assert list(tc.stages(x, backend=backend)) == NAMES[:4]


@both_backends
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_stages_are_those_of_forward_and_backward_and_encode_once(
    backend, dtype, data, monkeypatch
):
    x, target = data
    tc = build(dtype=dtype, skip=True)
    out = tc.forward(x, backend=backend)._asdict()
    want = out | tc.backward(x, target, 0.5, backend=backend)
    room = importlib.import_module(f"reftranscoder.{backend}")
    calls = []
    for name in ("affine_forward", "encode_forward", "transcoder_forward"):
        monkeypatch.setattr(room, name, counted(getattr(room, name), calls))
    stages = tc.stages(x, target, 0.5, backend=backend)
    assert len(calls) == 1
    for name, array in want.items():
        assert np.array_equal(dense(stages[name]), dense(array)), name


def counted(function, calls):
    def counting(*arguments, **options):
        calls.append(function.__name__)
        return function(*arguments, **options)

    return counting


@both_backends
def test_hidden_is_canonical_csr_and_a_selection_of_pre_acts(backend, data):
    out = build().forward(data[0], backend=backend)
    assert isinstance(out.hidden, scipy.sparse.csr_array) and out.hidden.indices.dtype == np.int32
    assert out.hidden.data.all() and (np.diff(out.hidden.indptr) <= K).all()
    for b in range(B):
        row = slice(out.hidden.indptr[b], out.hidden.indptr[b + 1])
        kept = out.hidden.indices[row]
        assert (np.diff(kept) > 0).all()
        assert np.array_equal(out.hidden.data[row], out.pre_acts[b, kept])
        left = np.delete(out.pre_acts[b], kept)
        assert left.max() <= out.hidden.data[row].min()


@both_backends
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_have_the_dtype_of_the_parameters(backend, dtype, data):
    x, target = data
    tc = build(dtype=dtype, skip=True)
    for name, stage in tc.stages(x, target, backend=backend).items():
        assert stage.dtype == dtype, name
    assert tc.value_and_grad(x, target, backend=backend)[1].dtype == dtype


@both_backends
def test_no_rows_are_fine_where_no_mean_is_taken(backend):
    tc, x = build(), np.ones((0, I))
    assert tc(x, backend=backend).shape == (0, O)
    assert tc.encode(x, backend=backend).shape == (0, D)
    out = tc.forward(x, backend=backend)
    assert out.pre_acts.shape == (0, D) and out.reconstruction.shape == (0, O)
    with pytest.raises(ValueError, match="at least one row"):
        tc.value_and_grad(x, np.ones((0, O)), backend=backend)
    with pytest.raises(ValueError, match="empty axis"):
        rt.loss(np.ones((0, O)), np.ones((0, O)), np.ones((0, D)), backend=backend)


@both_backends
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_row_is_refused_or_nan_and_spares_the_others(backend, bad, data):
    x, target = data
    tc = build()
    spoilt = x.copy()
    spoilt[2, 3] = bad
    with pytest.raises(NonFiniteError, match="^x must be finite; got .* at row 2, column 3"):
        tc(spoilt, backend=backend)
    with pytest.raises(NonFiniteError, match="^target must be finite; got .* at row 1, column 0"):
        target[1, 0] = bad
        tc.value_and_grad(x, target, backend=backend)
    got = tc(spoilt, backend=backend, check_finite=False)
    others = np.arange(B) != 2
    assert np.isnan(got[2]).all()
    assert np.array_equal(got[others], tc(x, backend=backend)[others])
    hidden = tc.encode(spoilt, backend=backend, check_finite=False)
    assert np.isnan(hidden.toarray()[2]).sum() == K


def test_a_decoder_with_a_skip_connection_needs_x(data):
    tc = build(skip=True)
    hidden = tc.encode(data[0])
    with pytest.raises(OptionError, match="^x must be the input"):
        tc.decode(hidden)
    with pytest.raises(ShapeError, match="Rows must pair up"):
        tc.decode(hidden, data[0][:2])


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (np.ones((I, B)), ShapeError, r"\(B, I\) = \(any, 10\); got \(10, 6\). It looks transp"),
        (np.ones((2, 3, I)), ShapeError, r"Pass x\.reshape\(-1, x\.shape\[-1\]\)"),
        (np.ones(I), ShapeError, r"pass x\[None, :\]"),
        (np.ones((B, I), complex), DTypeError, "complex128"),
        (np.full((B, I), "a"), DTypeError, "text"),
        ([[1.0] * I, [2.0]], DTypeError, "ragged"),
        (scipy.sparse.csr_array(np.ones((B, I))), DTypeError, r"Pass x\.toarray\(\)"),
    ],
)
def test_input_that_cannot_be_meant_is_refused_in_one_line(x, error, text):
    with pytest.raises(error, match=text) as caught:
        build()(x)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", ["numba", None, 3])
def test_an_unknown_backend_is_refused(option, data):
    with pytest.raises(OptionError, match="^backend must be one of kernels, reference"):
        build()(data[0], backend=option)


def test_longdouble_is_for_the_reference(data):
    tc = build().astype("longdouble")
    if tc.config.dtype == "float64":
        pytest.skip("longdouble is float64 on this machine")
    assert tc(data[0], backend="reference").dtype == np.longdouble
    with pytest.raises(OptionError, match="'reference' for"):
        tc(data[0])


@pytest.mark.parametrize("coefficient", [-1, np.nan, np.inf, True, "a", None, [1.0, 2.0]])
def test_l1_coeff_is_a_finite_number(coefficient, data):
    with pytest.raises(OptionError, match="^l1_coeff must be a finite number"):
        build().value_and_grad(*data, coefficient)


def test_writing_to_an_array_after_from_arrays_changes_no_result(data):
    given = {name: a.copy() for name, a in build(skip=True).params.arrays().items()}
    tc = rt.Transcoder.from_arrays(**given, top_k=K)
    before = tc(data[0])
    for array in given.values():
        array += 1
    assert np.array_equal(tc(data[0]), before)


def test_the_config_must_agree_with_the_arrays():
    tc = build()
    for change in ({"input_size": 3}, {"dict_size": 40}, {"skip": True}, {"dtype": "float64"}):
        with pytest.raises(OptionError, match=f"^{next(iter(change))} must be"):
            rt.Transcoder(dataclasses.replace(tc.config, **change), tc.params)


def test_pickle_copy_and_text(data):
    tc = build(skip=True)
    want = tc(data[0], backend="reference")
    for other in (pickle.loads(pickle.dumps(tc)), copy.copy(tc), copy.deepcopy(tc)):
        assert np.array_equal(other(data[0], backend="reference"), want)
        assert other.config == tc.config
    assert tc == tc and tc != build(skip=True) and hash(tc) == hash(tc)
    assert repr(tc) == "Transcoder(10 -> 32 -> 7, top_k=4, ties='lowest_index', skip, float32)"


def test_a_spawned_worker_gets_the_same_bits(data):
    tc = build()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        got = pool.apply(tc, (data[0],))  # no function of this file, which a worker cannot import
    assert np.array_equal(got, tc(data[0]))


def test_astype_rounds_once_and_returns_itself_where_nothing_changes():
    tc = build()
    wide = tc.astype("float64")
    assert wide.config.dtype == "float64" and tc.astype(np.float32) is tc
    assert np.array_equal(wide.params.W_enc, tc.params.W_enc)


class Tensor:
    """What a torch tensor can do, as far as this library uses it."""

    def __init__(self, array, dtype="torch.float32"):
        self.array, self.dtype = array, dtype
        self.device = type("Device", (), {"type": "cpu"})

    def detach(self):
        return Tensor(self.array, self.dtype)

    def float(self):
        return Tensor(self.array.astype(np.float32))

    def __array__(self, dtype=None, copy=None):
        if self.dtype == "torch.bfloat16":
            raise TypeError("NumPy knows no bfloat16")
        return self.array


@pytest.mark.parametrize("dtype", ["torch.float32", "torch.bfloat16"])
def test_tensors_are_detached_and_widened(dtype, data):
    tc = build()
    x = data[0].astype(np.float32)
    assert np.array_equal(tc(Tensor(x, dtype)), tc(x))


def test_numbers_too_large_for_the_dtype_are_named(data):
    x = data[0].copy()
    x[1, 2] = 1e300
    with pytest.raises(
        NonFiniteError, match=r"got 1e\+300 at row 1, column 2. It is too large for f"
    ):
        build()(x)
    # In float64 the squares overflow: inf, by both backends, and no warning.
    for backend in ("kernels", "reference"):
        assert np.isinf(build(dtype="float64").value_and_grad(x, data[1], backend=backend)[0])


def test_a_masked_array_is_refused(data):
    with pytest.raises(DTypeError, match="masked"):
        build()(np.ma.masked_array(data[0], data[0] > 0))


def test_a_tensor_elsewhere_is_refused(data):
    elsewhere = Tensor(data[0])
    elsewhere.detach = lambda: elsewhere
    elsewhere.device.type = "cuda"
    with pytest.raises(DTypeError, match="CPU"):
        build()(elsewhere)


def test_a_malformed_csr_is_refused(data):
    tc = build()
    hidden = tc.encode(data[0])
    hidden.indices[0] = D + 3
    with pytest.raises(Error) as caught:
        tc.decode(hidden)
    assert "\n" not in str(caught.value)
    with pytest.raises(ShapeError, match=r"\(B, D\)"):
        tc.decode(scipy.sparse.csr_array((B, D + 1)))


@both_backends
def test_a_csr_in_any_order_with_repeats_and_zeros_is_understood(backend, data):
    tc = build()
    rows, columns = [0, 0, 0, 1], [5, 2, 2, 7]
    values = np.array([1.0, 2.0, 3.0, 0.0])
    coo = scipy.sparse.coo_array((values, (rows, columns)), shape=(2, D))
    messy = scipy.sparse.csr_array((values, columns, [0, 3, 4]), shape=(2, D))
    want = tc.decode(coo.toarray(), backend=backend)
    assert np.array_equal(tc.decode(coo, backend=backend), want)
    assert np.array_equal(tc.decode(messy, backend=backend), want)


def test_strided_and_foreign_order_input_gives_the_same_bits(data):
    x, target = (a.astype(np.float32) for a in data)
    tc = build()
    want = tc(x)
    big = np.zeros((2 * B, 2 * I), np.float32)
    big[::-2, ::2] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    for other in (np.asfortranarray(x), big[::-2, ::2], x.astype(">f4"), read_only, x.tolist()):
        assert np.array_equal(tc(other), want)
