"""What users' tests import: the comparison must fail, and say enough when it does."""

import re

import numpy as np
import pytest
from scipy.sparse import csr_array

from reftranscoder.sparse import Sparse
from reftranscoder.testing import VALUES, Probe, assert_same, layouts
from reftranscoder.twins import TWINS, find


def test_the_message_is_a_bug_report():
    want = np.arange(6.0).reshape(2, 3)
    got = np.asfortranarray(want.astype(np.float32))
    got[1, 2] += 0.5
    with pytest.raises(AssertionError) as failure:
        assert_same(got, want, 0.125, function="decode_forward", seed=(7, "ties"))
    lines = str(failure.value).splitlines()
    assert lines[0] == "decode_forward is further from what it should be than it may be"
    facts = dict(re.fullmatch(r" {4}(\w+) +(.*)", line).groups() for line in lines[1:])
    assert facts.pop("versions").startswith(f"numpy {np.__version__}, numba ")
    assert facts == {
        "function": "decode_forward",
        "index": "[1][2] of shape (2, 3)",
        "want": "5.0",
        "got": "5.5",
        "error": "0.5",
        "bound": "0.125, exceeded by a factor of 4",
        "dtype": "float32, compared with float64",
        "order": "F",
        "seed": "(7, 'ties')",
    }


def test_it_names_the_entry_that_is_worst_for_its_bound():
    bound = np.array([1.0, 0.01, 0.0])
    with pytest.raises(AssertionError, match=r"\[1\] of"):
        assert_same([0.9, 0.1, 0.0], np.zeros(3), bound)
    with pytest.raises(AssertionError, match=r"\[2\] of"):
        assert_same([0.9, 0.0, 1e-300], np.zeros(3), bound)
    assert_same([1.0, -0.01, 0.0], np.zeros(3), bound)


@pytest.mark.parametrize(
    ("got", "want", "same"),
    [
        (np.nan, np.nan, True),
        (np.nan, 0.0, False),
        (0.0, np.nan, False),
        (np.inf, np.inf, True),
        (np.inf, -np.inf, False),
        (np.inf, 0.0, False),
        (0.0, np.inf, False),
        (0.0, -0.0, True),
    ],
)
@pytest.mark.parametrize("bound", [0.0, np.inf, np.nan])
def test_numbers_that_are_not_finite(got, want, same, bound):
    if same:
        assert_same(got, want, bound)
    else:
        with pytest.raises(AssertionError, match="scalar of shape"):
            assert_same(got, want, bound)


def test_a_bound_that_is_nan_allows_nothing():
    with pytest.raises(AssertionError):
        assert_same(1.0, 2.0, np.nan)


def test_shapes_must_agree():
    with pytest.raises(AssertionError, match=r"y must have the shape \(2, 3\); got \(3,\)"):
        assert_same(np.zeros(3), np.zeros((2, 3)), function="y")
    assert_same(np.zeros((0, 3)), np.zeros((0, 3)))


def test_sparse_matrices_of_every_kind():
    dense = np.array([[0.0, 2.0], [3.0, 0.0]])
    for sparse in (Sparse.from_dense(dense), csr_array(dense)):
        assert_same(sparse, dense)
        assert_same(dense, sparse)
        with pytest.raises(AssertionError, match=r"order +(Sparse|csr_array)"):
            assert_same(sparse, dense + 1)


def test_tensors():
    torch = pytest.importorskip("torch")
    assert_same(torch.ones(3, requires_grad=True), np.ones(3))
    with pytest.raises(AssertionError):
        assert_same(torch.zeros(3, dtype=torch.bfloat16), np.ones(3))


def test_a_longdouble_is_compared_as_such():
    if np.finfo(np.longdouble).eps == np.finfo(np.float64).eps:
        pytest.skip("longdouble is float64 here")
    with pytest.raises(AssertionError):
        assert_same(np.longdouble(1) + np.finfo(np.longdouble).eps, 1.0)


@pytest.mark.parametrize("shape", [(3, 4), (5,), (0, 4), (1, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layouts_hold_the_same_values_in_other_memory(shape, dtype):
    array = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    made = dict(layouts(array))
    for other in made.values():
        np.testing.assert_array_equal(other, array)
        assert not np.shares_memory(other, array) or other.flags.f_contiguous
    if shape == (3, 4):
        assert made["F"].flags.f_contiguous
        assert not made["read-only"].flags.writeable
        assert made["negative strides"].strides[0] < 0
        assert made["every other column"].strides[1] == 2 * array.itemsize
        assert not made["unaligned"].flags.aligned
        assert not made["swapped bytes"].dtype.isnative


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("activation", ["topk", "relu"])
def test_a_probe_fits_every_function(values, activation):
    probe = Probe(3, values=values, activation=activation, dtype=np.float32)
    for twin in TWINS:
        if twin.kernel:
            arrays = [a for a in probe.arguments(twin).values() if isinstance(a, np.ndarray)]
            assert all(a.dtype in (np.float32, bool) for a in arrays)  # dead is a mask
            assert any(a.dtype == np.float32 for a in arrays)
    again = Probe(3, values=values, activation=activation, dtype=np.float32)
    adam = find("adam_step")
    for name, value in probe.arguments(adam).items():
        np.testing.assert_array_equal(again.arguments(adam)[name], value, name)


def test_a_probe_is_what_it_says():
    assert (Probe(values="negative").x @ Probe(values="negative").W_enc.T).max() <= 0
    assert (Probe(values="negative").b_enc < 0).all()
    assert np.ptp(Probe(values="ties").W_enc) == 0
    zeros = Probe(values="zeros").x
    assert {True, False} == set(np.signbit(zeros[zeros == 0]).tolist())
    tiny = Probe(values="tiny")
    assert 0 < np.median(np.abs(tiny.x[:, :1] * tiny.W_enc[0, 0])) < np.finfo(np.float32).tiny
    hidden = Probe(B=64, D=16, K=3).hidden
    assert set((hidden != 0).sum(axis=1)) == {0, 1, 2, 3}
