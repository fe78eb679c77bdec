"""The sparsity penalty, on stored entries alone; the mathematics stands in ``reference/l1.py``."""

from __future__ import annotations

import numpy as np
from numba import prange

from .engine.jit import kernel
from .engine.kernel_arrays import as_kernel_sparse
from .engine.work_division import equal_parts
from .mse import in_order


def l1_forward(hidden, l1_coeff):
    """Return ``l1``, a float64 scalar, of ``hidden``, a `Sparse` (B, D) with B >= 1.

    Absolute values are summed in float64, in ascending order within a row, then the rows' sums in
    ascending order: within (n + B + 2) 2^-53 of itself, relatively, for n entries in the longest
    row.
    """
    B, D = hidden.shape
    return np.float64(l1_coeff) * (in_order(row_sums(hidden)) / (B * D))


def row_sums(hidden):
    """Return the sum of the absolute values in each row (B,), as in `l1_forward`."""
    hidden = as_kernel_sparse(hidden, hidden.values.dtype)
    sums = np.empty(len(hidden.indptr) - 1)
    _sums(equal_parts(hidden.indptr), hidden.indptr, hidden.values, sums)
    return sums


def l1_backward(hidden, l1_coeff):
    """Return this loss's share of ``d_hidden``, a `Sparse` with the entries of ``hidden``.

    One rounding to float64, one to the dtype of ``hidden``.
    """
    return hidden.with_values(l1_slopes(hidden, l1_coeff, hidden.shape[0]))


def l1_slopes(hidden, l1_coeff, rows):
    """Return the values of `l1_backward` (nnz,), of a mean over ``rows`` rows, of which these are
    some."""
    slope = np.float64(l1_coeff) / (rows * hidden.shape[1])
    with np.errstate(over="ignore", under="ignore"):
        return (np.sign(hidden.values) * slope).astype(hidden.values.dtype)


@kernel
def _sums(firsts, indptr, values, sums):
    for part in prange(len(firsts) - 1):
        for b in range(firsts[part], firsts[part + 1]):
            total = 0.0
            for n in range(indptr[b], indptr[b + 1]):
                total += np.float64(abs(values[n]))
            sums[b] = total
