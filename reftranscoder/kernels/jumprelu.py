"""JumpReLU; the mathematics and the conventions stand in ``reference/jumprelu.py``."""

from __future__ import annotations

import numpy as np
from numba import prange

from ..sparse import Sparse, row_starts
from .engine.jit import kernel
from .engine.kernel_arrays import as_kernel_array


def jumprelu_forward(pre, theta):
    """Return ``hidden``, a `Sparse` (B, D), of ``pre`` (B, D) with thresholds ``theta`` (D,).

    Values are moved, not computed: exact.
    """
    return above(pre, theta).astype(pre.dtype)


def above(pre, theta):
    """Return `jumprelu_forward` in float64.  With thresholds of zero, the positive entries."""
    pre, theta = as_kernel_array(pre, np.float64), as_kernel_array(theta, np.float64)
    counts = np.empty(len(pre), np.int64)
    _count(pre, theta, counts)
    starts = row_starts(counts)
    indices, values = np.empty(starts[-1], np.int32), np.empty(starts[-1])
    _fill(pre, theta, starts, indices, values)
    return Sparse(starts, indices, values, pre.shape)


@kernel
def _count(pre, theta, counts):
    B, D = pre.shape
    for b in prange(B):
        count = 0
        for d in range(D):
            count += not (pre[b, d] <= theta[d] or pre[b, d] <= 0)  # NaN is active
        counts[b] = count


@kernel
def _fill(pre, theta, starts, indices, values):
    B, D = pre.shape
    for b in prange(B):
        n = starts[b]
        for d in range(D):
            if not (pre[b, d] <= theta[d] or pre[b, d] <= 0):
                indices[n], values[n] = d, pre[b, d]
                n += 1
