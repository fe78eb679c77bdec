"""The sparse type between operations: there and back, canonical, and rounded once."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from reftranscoder import sparse
from reftranscoder.sparse import Sparse

matrices = arrays(
    np.float64, array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=6), elements=st.floats()
)


@given(matrices)
def test_there_and_back(dense):
    matrix = Sparse.from_dense(dense)
    np.testing.assert_array_equal(matrix.dense(), dense)
    assert matrix.dense().dtype == dense.dtype and matrix.shape == dense.shape


@given(matrices)
def test_the_form_is_canonical(dense):
    matrix = Sparse.from_dense(dense)
    assert matrix.indptr.dtype == matrix.indices.dtype == np.int32
    assert matrix.indptr[0] == 0 and len(matrix.indptr) == len(dense) + 1
    assert matrix.indptr[-1] == len(matrix.indices) == len(matrix.values)
    assert np.all(matrix.values != 0)
    for b in range(len(dense)):
        columns = matrix.indices[matrix.indptr[b] : matrix.indptr[b + 1]]
        np.testing.assert_array_equal(columns, np.flatnonzero(dense[b]))
        assert np.all(matrix.rows()[matrix.indptr[b] : matrix.indptr[b + 1]] == b)


def test_an_example_by_hand():
    matrix = Sparse.from_dense(np.array([[0, 2, 3], [0, 0, 0], [4, 0, 0]]))
    assert matrix.indptr.tolist() == [0, 2, 2, 3]
    assert matrix.indices.tolist() == [1, 2, 0]
    assert matrix.values.tolist() == [2, 3, 4]
    assert matrix.rows().tolist() == [0, 0, 2]


def test_fractions_stay_fractions():
    third = Fraction(1, 3)
    dense = np.array([[Fraction(0), third]], dtype=object)
    matrix = Sparse.from_dense(dense)
    assert matrix.values.tolist() == [third]
    assert matrix.dense().tolist() == [[0, third]]


def test_nan_is_stored():
    matrix = Sparse.from_dense(np.array([[np.nan, 0.0]]))
    assert matrix.indices.tolist() == [0] and np.isnan(matrix.values[0])


def test_rounding_is_once_and_zeros_are_dropped():
    halfway = 1 + 2.0**-24  # between two float32 numbers: to even
    dense = np.array([[1e-60, halfway, 0.0], [-1e-46, 0.0, 1e300]])
    narrow = Sparse.from_dense(dense).astype("float32")
    assert narrow.values.dtype == np.float32
    assert narrow.values.tolist() == [1.0, np.inf]
    assert narrow.indices.tolist() == [1, 2] and narrow.indptr.tolist() == [0, 1, 2]
    assert narrow.shape == (2, 3)


def test_the_same_dtype_is_the_same_object():
    matrix = Sparse.from_dense(np.eye(3))
    assert matrix.astype(np.float64) is matrix
    wide = matrix.astype(np.longdouble)
    assert wide.indices is matrix.indices, "nothing was dropped: the pattern is shared"


def test_other_values_at_the_same_entries():
    matrix = Sparse.from_dense(np.eye(2))
    gradient = matrix.with_values(np.array([0.0, 5.0]))
    assert gradient.dense().tolist() == [[0, 0], [0, 5]]
    assert len(gradient.values) == 2, "a gradient may be zero where the activation is not"
    assert gradient.indptr is matrix.indptr


def test_more_entries_than_int32_can_count():
    with pytest.raises(MemoryError, match="Pass fewer rows"):
        sparse.row_starts(np.array([2**31 - 1, 1]))
    assert sparse.row_starts(np.array([2**31 - 1, 0]))[-1] == 2**31 - 1
    assert sparse.row_starts(np.array([], dtype=int)).tolist() == [0]
