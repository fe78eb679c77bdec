"""The decoder, on stored entries alone; the mathematics stands in ``reference/decode.py``."""

from __future__ import annotations

import numpy as np

from .engine.jit import serial_kernel
from .engine.kernel_arrays import as_kernel_array
from .engine.sparse_loops import by_feature, combine_rows, entry_dots, outer_rows


def decode_forward(hidden, W_dec, b_dec):
    """Return ``reconstruction`` (B, O) of ``hidden``, a `Sparse` (B, D).

    Sums start at 0, ascend in the feature index with one fused multiply-add a term in the dtype of
    ``W_dec``, and end with b_dec: within (n + 1) u of the sum of absolute terms, for n stored
    terms.
    """
    return combine_rows(hidden, W_dec, b_dec)


def decode_backward(d_reconstruction, hidden, W_dec):
    """Return ``d_hidden``, ``dW_dec`` (D, O) and ``db_dec`` (O,), given (B, O).

    ``d_hidden`` is a `Sparse` with the entries of ``hidden``: each a float64 dot product in lane
    order, rounded once.  ``dW_dec`` and ``db_dec`` sum over ascending rows in the dtype of
    ``W_dec``, the former over stored entries with one fused multiply-add a term: within n u of the
    sum of absolute terms, for n of them.  O(nnz O), and no (B, D) array.
    """
    d_reconstruction = as_kernel_array(d_reconstruction, W_dec.dtype)
    d_hidden = hidden.with_values(entry_dots(hidden, d_reconstruction, W_dec))
    dW_dec, _ = outer_rows(by_feature(hidden), hidden.values, d_reconstruction)
    return d_hidden, dW_dec, sum_rows(d_reconstruction)


def sum_rows(rows, out=None):
    """The sum (O,) of ``rows`` (B, O), in ascending order, in their dtype; or ``out`` plus that,
    in place: the sum of all rows, if ``out`` was that of those before."""
    out = np.zeros(rows.shape[1], rows.dtype) if out is None else out
    _sum_rows(as_kernel_array(rows, rows.dtype), out)
    return out


@serial_kernel
def _sum_rows(rows, out):
    B, O = rows.shape
    for b in range(B):
        for o in range(O):
            out[o] += rows[b, o]
