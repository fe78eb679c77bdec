"""The skip connection; the mathematics stands in ``reference/skip.py``."""

from __future__ import annotations

import numpy as np

from ..sparse import Sparse
from .affine import affine_forward
from .engine.kernel_arrays import as_kernel_array
from .engine.sparse_loops import by_feature, combine_rows, outer_rows


def skip_forward(x, W_skip):
    """Return ``skip`` (B, O): what ``W_skip`` (O, I) adds to the reconstruction of ``x`` (B, I).

    Float64 dot products in lane order, rounded once to the dtype of ``W_skip``.
    """
    skip = affine_forward(x, W_skip, np.zeros(len(W_skip), W_skip.dtype))
    with np.errstate(over="ignore", under="ignore"):
        return skip.astype(W_skip.dtype)


def skip_backward(d_reconstruction, x, W_skip):
    """Return ``dx`` (B, I), this path's share, and ``dW_skip`` (O, I), given (B, O).

    The sums of `affine_backward` with every entry stored: ``dx`` ascends in o, ``dW_skip`` in b,
    one fused multiply-add a term, in the dtype of ``W_skip``.
    """
    dx = combine_rows(_every_entry(d_reconstruction, W_skip.dtype), W_skip)
    return dx, skip_weights_backward(d_reconstruction, x, W_skip)


def skip_weights_backward(d_reconstruction, x, W_skip, out=None):
    """Return the ``dW_skip`` of `skip_backward` alone, added to ``out`` (O, I) if that is given."""
    G = _every_entry(d_reconstruction, W_skip.dtype)
    dW_skip, _ = outer_rows(by_feature(G), G.values, as_kernel_array(x, W_skip.dtype), out)
    return dW_skip


def _every_entry(dense, dtype):
    """A `Sparse` that stores all of ``dense`` (B, O), zeros too: they matter beside inf and NaN."""
    dense = as_kernel_array(dense, dtype)
    B, O = dense.shape
    indptr = np.arange(B + 1, dtype=np.int32) * np.int32(O)
    indices = np.tile(np.arange(O, dtype=np.int32), B)
    return Sparse(indptr, indices, dense.reshape(-1), dense.shape)
