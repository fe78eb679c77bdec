"""Dot products of the rows of two matrices, of which means and norms are made."""

from __future__ import annotations

import numpy as np
from numba import prange

from .engine.jit import kernel
from .engine.kernel_arrays import as_kernel_array
from .engine.sparse_loops import row_dot


def row_dots(A, B):
    """Return the float64 dot product of each row of ``A`` (rows, n) with that of ``B``: (rows, 1).

    In lane order: within n 2^-53 of the sum of absolute products.
    """
    out = np.empty((len(A), 1))
    _row_dots(as_kernel_array(A, np.float64), as_kernel_array(B, np.float64), out)
    return out


def row_sums(A):
    """Return the float64 sum of each row of ``A`` (rows, n), (rows, 1): `row_dots` with ones."""
    return row_dots(A, np.broadcast_to(1.0, A.shape))


@kernel
def _row_dots(A, B, out):
    for r in prange(len(A)):
        out[r, 0] = row_dot(A, r, B, r)
