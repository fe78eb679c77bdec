"""The three loops that every product with a sparse matrix is one of, and its transposition.

Each output row belongs to one thread, which makes the whole of every sum in it, in the order
stated: no atomic operations, and the same bits on any number of threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from ...ownership import aligned
from .jit import kernel, routine, serial_kernel
from .kernel_arrays import as_kernel_array, as_kernel_sparse
from .prefetch import fetch_row
from .vector import LANES, fma, lane_sum, load, load_tail, zeros
from .work_division import equal_parts

#: Rows of weights are asked for so many entries before they are read.
_AHEAD = 2


class ByFeature(NamedTuple):
    """The entries of a (B, D) sparse matrix feature by feature: what its transpose holds."""

    starts: np.ndarray  # (D + 1,) int32, where each feature's entries begin
    rows: np.ndarray  # (nnz,) int32, ascending within a feature
    entries: np.ndarray  # (nnz,) int32, the place of each in the row-by-row order


def by_feature(matrix):
    """Transpose the pattern of a `Sparse` (B, D) by counting: O(nnz + B + D)."""
    indptr, indices, _, (_, D) = as_kernel_sparse(matrix, matrix.values.dtype)
    starts = np.zeros(D + 1, np.int32)
    np.cumsum(np.bincount(indices, minlength=D), out=starts[1:])
    rows, entries = np.empty(len(indices), np.int32), np.empty(len(indices), np.int32)
    _scatter(indptr, indices, starts[:-1].copy(), rows, entries)
    return ByFeature(*(as_kernel_array(a, np.int32) for a in (starts, rows, entries)))


@serial_kernel
def _scatter(indptr, indices, places, rows, entries):
    for b in range(len(indptr) - 1):
        for n in range(indptr[b], indptr[b + 1]):
            place = places[indices[n]]
            places[indices[n]] = place + 1
            rows[place] = b
            entries[place] = n


def combine_rows(matrix, W, bias=None, out=None):
    """Return ``matrix @ W (+ bias)``: (B, D) sparse by (D, O).

    Each result starts at 0, takes its terms in ascending feature index with one fused multiply-add
    a term, in the dtype of ``W``, and then the bias: within (n + 1) u of the sum of absolute terms,
    for n entries in the row.  ``out`` (B, O), if given, is gone on from and overwritten: what was
    made of the features before these.
    """
    dtype = W.dtype
    matrix = as_kernel_sparse(matrix, dtype)
    bias = as_kernel_array(np.empty(0) if bias is None else bias, dtype)
    size = matrix.shape[0], W.shape[1]
    out = aligned(size, dtype, np.zeros) if out is None else out
    _combine(
        equal_parts(matrix.indptr),
        matrix.indptr,
        matrix.indices,
        matrix.values,
        as_kernel_array(W, dtype),
        bias,
        out,
    )
    return out


@kernel
def _combine(firsts, indptr, indices, values, W, bias, out):
    O = W.shape[1]
    B = len(indptr) - 1
    for part in prange(len(firsts) - 1):
        for b in range(firsts[part], firsts[part + 1]):
            for n in range(indptr[b], indptr[b + 1]):
                j, value = indices[n], values[n]
                fetch_row(W, indices[min(n + _AHEAD, indptr[B] - 1)])
                for o in range(O):
                    out[b, o] = fma(value, W[j, o], out[b, o])
            if len(bias):
                for o in range(O):
                    out[b, o] += bias[o]


def outer_rows(transpose, values, G, out=None):
    """Return ``matrix.T @ G`` (D, O) and the column sums (D,) of a sparse matrix (B, D).

    ``transpose`` is `by_feature` of the matrix and ``values`` (nnz,) are its entries, row by row;
    ``G`` is (B, O).  Sums ascend in b, with one fused multiply-add a term, in the dtype of ``G``:
    within n u of the sum of absolute terms, for n entries in the feature.  A feature without
    entries costs nothing: its zeros are memory not yet touched.  ``out`` (D, O), if given, is gone
    on from and overwritten.
    """
    dtype = G.dtype
    D = len(transpose.starts) - 1
    out = np.zeros((D, G.shape[1]), dtype) if out is None else out
    sums = np.zeros(D, dtype)
    _outer(
        equal_parts(transpose.starts),
        *transpose,
        as_kernel_array(values, dtype),
        as_kernel_array(G, dtype),
        out,
        sums,
    )
    return out, sums


@kernel
def _outer(firsts, starts, rows, entries, values, G, out, sums):
    O = G.shape[1]
    for part in prange(len(firsts) - 1):
        for j in range(firsts[part], firsts[part + 1]):
            for n in range(starts[j], starts[j + 1]):
                b, value = rows[n], values[entries[n]]
                sums[j] += value
                for o in range(O):
                    out[j, o] = fma(value, G[b, o], out[j, o])


def entry_dots(matrix, G, W, stored=None):
    """Return ``(G @ W.T)`` at the entries of a sparse matrix (B, D), as values (nnz,).

    ``G`` is (B, O) and ``W`` (D, O).  Each is a float64 dot product in lane order (see ``vector``),
    rounded once to the dtype of ``W``, or ``stored``.
    """
    dtype = W.dtype
    out = np.empty(len(matrix.indices))
    indptr, indices = (as_kernel_array(a, np.int32) for a in (matrix.indptr, matrix.indices))
    G, W = as_kernel_array(G, dtype), as_kernel_array(W, dtype)
    _dots(equal_parts(indptr), indptr, indices, G, W, out)
    with np.errstate(over="ignore", under="ignore"):
        return out.astype(dtype if stored is None else stored, copy=False)


@kernel
def _dots(firsts, indptr, indices, G, W, out):
    for part in prange(len(firsts) - 1):
        for b in range(firsts[part], firsts[part + 1]):
            last = indptr[b + 1] - 1
            # Four at a time; past the end, the last again.
            for n in range(indptr[b], indptr[b + 1], 4):
                n1, n2, n3 = min(n + 1, last), min(n + 2, last), min(n + 3, last)
                out[n], out[n1], out[n2], out[n3] = four_dots(
                    G, b, W, indices[n], indices[n1], indices[n2], indices[n3]
                )


@routine
def four_dots(one, row, many, r0, r1, r2, r3):
    """Row ``row`` of ``one`` times four rows of ``many``, in lane order (see ``vector``), float64.

    Four at once hide the latency of an addition.
    """
    length = one.shape[1]
    whole = length - length % LANES
    a0, a1, a2, a3 = zeros(), zeros(), zeros(), zeros()
    for i in range(0, whole, LANES):
        v = load(one, row, i)
        a0 = fma(v, load(many, r0, i), a0)
        a1 = fma(v, load(many, r1, i), a1)
        a2 = fma(v, load(many, r2, i), a2)
        a3 = fma(v, load(many, r3, i), a3)
    if whole < length:
        v = load_tail(one, row, whole)
        a0 = fma(v, load_tail(many, r0, whole), a0)
        a1 = fma(v, load_tail(many, r1, whole), a1)
        a2 = fma(v, load_tail(many, r2, whole), a2)
        a3 = fma(v, load_tail(many, r3, whole), a3)
    return lane_sum(a0), lane_sum(a1), lane_sum(a2), lane_sum(a3)


@routine
def row_dot(A, a, B, b):
    """Row ``a`` of ``A`` times row ``b`` of ``B``, in lane order, float64."""
    n = A.shape[1]
    whole = n - n % LANES
    total = zeros()
    for i in range(0, whole, LANES):
        total = fma(load(A, a, i), load(B, b, i), total)
    if whole < n:
        total = fma(load_tail(A, a, whole), load_tail(B, b, whole), total)
    return lane_sum(total)
