"""A sparse matrix as four plain values: what passes from one operation to the next.

SciPy's ``csr_array`` cannot hold `fractions.Fraction` and takes longer to import than this whole
library may, so that it is only made of what users get, over the same memory.
"""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .errors import ShapeError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_MOST_ENTRIES = np.iinfo(np.int32).max


class Sparse(NamedTuple):
    """A sparse (B, D) matrix, row by row.

    The entries of row ``b`` are ``values[indptr[b]:indptr[b + 1]]``, in the columns
    ``indices[indptr[b]:indptr[b + 1]]``.  An activation matrix has sorted columns and no stored
    zeros, so that two equal results are equal arrays.  (Gradients with respect to it are stored at
    the same entries, where they may be zero.)

    >>> hidden = rt.Sparse.from_dense(np.array([[0, 5.0, 0], [0, 0, 0], [7, 0, 8]]))
    >>> hidden.indptr.tolist(), hidden.indices.tolist(), hidden.values.tolist()
    ([0, 1, 1, 3], [1, 0, 2], [5.0, 7.0, 8.0])
    >>> hidden.dense()[2]
    array([7., 0., 8.])
    """

    indptr: np.ndarray  # (B + 1,) int32
    indices: np.ndarray  # (nnz,) int32, ascending within a row
    values: np.ndarray  # (nnz,) of any dtype
    shape: tuple[int, int]  # (B, D)

    @classmethod
    def from_dense(cls, dense: np.ndarray) -> Sparse:
        """Return the nonzero entries of ``dense`` (B, D).  NaN is not zero.

        Raises:
            ShapeError: ``dense`` is no array of two axes.
        """
        if not isinstance(dense, np.ndarray) or dense.ndim != 2:
            got = dense.shape if isinstance(dense, np.ndarray) else type(dense).__name__
            raise ShapeError("dense", "(any, any)", got, letters="(B, D)")
        rows, columns = np.nonzero(dense)
        counts = np.bincount(rows, minlength=dense.shape[0])
        return cls(row_starts(counts), columns.astype(np.int32), dense[rows, columns], dense.shape)

    def dense(self) -> np.ndarray:
        """Return the same matrix (B, D) with its zeros, in the dtype of ``values``."""
        dense = np.zeros(self.shape, dtype=self.values.dtype)
        dense[self.rows(), self.indices] = self.values
        return dense

    def rows(self) -> np.ndarray:
        """Return the row of each entry (nnz,)."""
        return np.repeat(np.arange(self.shape[0]), np.diff(self.indptr))

    def with_values(self, values: np.ndarray) -> Sparse:
        """Return other values (nnz,) at the same entries: a gradient, say."""
        return self._replace(values=values)

    def astype(self, dtype: np.typing.DTypeLike) -> Sparse:
        """Return each value rounded once to ``dtype``; what rounds to zero is no longer stored."""
        dtype = np.dtype(dtype)
        if self.values.dtype == dtype:
            return self
        with np.errstate(over="ignore", under="ignore"):
            values = self.values.astype(dtype)
        rounded = self.with_values(values)
        whole = np.count_nonzero(values) == len(values)
        return rounded if whole else rounded.only(values != 0)

    def only(self, which: np.ndarray) -> Sparse:
        """Return those entries for which the bool array ``which`` (nnz,) says so."""
        counts = np.bincount(self.rows()[which], minlength=self.shape[0])
        return Sparse(row_starts(counts), self.indices[which], self.values[which], self.shape)


def row_starts(counts: np.ndarray) -> np.ndarray:
    """Where each row of a `Sparse` starts (B + 1,), from the number of entries of each (B,)."""
    ends = np.cumsum(counts, dtype=np.int64)
    if len(ends) and ends[-1] > _MOST_ENTRIES:
        raise MemoryError(
            f"a sparse result holds at most {_MOST_ENTRIES} entries; got {ends[-1]}. "
            "Pass fewer rows at a time."
        )
    return np.concatenate([[0], ends]).astype(np.int32)


def to_csr(sparse: Sparse) -> csr_array:
    """The same matrix as SciPy's ``csr_array``, over the same memory."""
    # Made from these arrays, it would look whether they are what they are by construction, and
    # take as long as the kernels for a small row.
    csr = copy.copy(_without_entries(sparse.shape))
    csr.data, csr.indices, csr.indptr = widened(sparse.values), sparse.indices, sparse.indptr
    return csr


def for_users(stages: dict[str, Any]) -> dict[str, Any]:
    """Return ``stages``, those that are a `Sparse` as a ``csr_array``."""
    return {name: to_csr(s) if isinstance(s, Sparse) else s for name, s in stages.items()}


@functools.lru_cache(maxsize=16)
def _without_entries(shape: tuple[int, int]) -> csr_array:
    """A ``csr_array`` to copy, known to be sorted and without repeats."""
    from scipy.sparse import csr_array

    empty = csr_array(shape, dtype=np.float32)
    empty.indptr = empty.indices  # which need not be kept: as long as there are rows
    empty.has_canonical_format = True
    return empty


def widened(values: np.ndarray) -> np.ndarray:
    """The same in a format that SciPy computes with, which float16 is not."""
    return values.astype(np.float32) if values.dtype == np.float16 else values
