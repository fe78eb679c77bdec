"""Weights that stay as they are stored, read in stretches: in half precision too, and from a map.

What is read becomes the numbers that it stands for, exactly, in the dtype of the parameters.
"""

from __future__ import annotations

import numpy as np

from ..files import halves
from .engine.kernel_arrays import as_kernel_array
from .engine.sparse_loops import combine_rows
from .feature_slices import columns

_GATHERED_BYTES = 1 << 25  # of rows of W_dec, at a time


def widened(rows, out):
    """Return ``rows`` (n, I), of float16, bfloat16 or what kernels take, in the dtype of ``out``,
    exactly: themselves, if they are that, else written to ``out`` (n, I)."""
    if rows.dtype == out.dtype and rows.flags.c_contiguous and rows.flags.aligned:
        return as_kernel_array(rows, out.dtype)
    if halves.is_half(rows.dtype) and out.dtype == np.float32:
        halves.widened(rows, out)
    else:
        out[:] = rows
    return as_kernel_array(out, out.dtype)


def decode_stored(hidden, W_dec, b_dec):
    """Return `decode_forward` of ``hidden``, a `Sparse` (B, D), reading the rows of ``W_dec`` that
    it needs, each once, some at a time.

    ``b_dec`` (O,) has the dtype of the result.  The sums go on from one lot to the next in the same
    order, so that the bits are the same.
    """
    dtype = b_dec.dtype
    B, O = hidden.shape[0], len(b_dec)
    needed, places = np.unique(hidden.indices, return_inverse=True)
    dense = hidden._replace(indices=places.astype(np.int32), shape=(B, len(needed)))
    out = np.zeros((B, O), dtype)
    step = max(_GATHERED_BYTES // (O * dtype.itemsize), 1)
    for first in range(0, len(needed), step):
        rows = needed[first : first + step]
        part = columns(dense, first, first + len(rows))
        combine_rows(part, widened(W_dec[rows], np.empty((len(rows), O), dtype)), None, out)
    with np.errstate(all="ignore"):
        out += b_dec
    return out
