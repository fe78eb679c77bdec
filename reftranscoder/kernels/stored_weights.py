"""Weights that stay as they are stored, read in stretches: in half precision too, and from a map.

What is read becomes the numbers that it stands for, exactly, in the dtype of the parameters.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import prange

from .engine.jit import kernel
from .engine.kernel_arrays import as_kernel_array
from .engine.sparse_loops import combine_rows
from .feature_slices import columns

_GATHERED_BYTES = 1 << 25  # of rows of W_dec, at a time


def widened(rows, out):
    """Return ``rows`` (n, I), of float16, bfloat16 or what kernels take, in the dtype of ``out``,
    exactly: themselves, if they are that, else written to ``out`` (n, I)."""
    if rows.dtype == out.dtype and rows.flags.c_contiguous and rows.flags.aligned:
        return as_kernel_array(rows, out.dtype)
    if rows.dtype.itemsize == 2 and out.dtype == np.float32:
        bits = as_kernel_array(rows.view(np.uint16), np.uint16)
        _look_up(bits, _numbers(rows.dtype), out)
    else:
        out[:] = rows
    return as_kernel_array(out, out.dtype)


@functools.cache
def _numbers(dtype):
    """The float32 number of each pattern of 16 bits, (65536,)."""
    every = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    with np.errstate(invalid="ignore"):  # of signalling NaNs
        return as_kernel_array(every.astype(np.float32), np.float32)


@kernel
def _look_up(bits, table, out):
    for r in prange(len(bits)):
        for i in range(bits.shape[1]):
            out[r, i] = table[bits[r, i]]


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
