"""The reconstruction loss; the mathematics stands in ``reference/mse.py``."""

from __future__ import annotations

import numpy as np
from numba import prange

from .engine.jit import kernel
from .engine.kernel_arrays import as_kernel_array
from .engine.vector import LANES, fma, lane_sum, load, load_tail, subtract, zeros


def mse_forward(target, reconstruction):
    """Return ``mse``, a float64 scalar, of ``target`` and ``reconstruction``, both (B, O), B >= 1.

    Everything is float64: differences, their squares summed in lane order within a row, the rows'
    sums in ascending order, one division.  Within (O + B + 4) 2^-53 of itself, relatively: no terms
    cancel.
    """
    return in_order(row_squares(target, reconstruction)) / reconstruction.size


def row_squares(target, reconstruction):
    """Return the sum of the squared differences in each row (B,), as in `mse_forward`."""
    dtype = reconstruction.dtype
    squares = np.empty(len(reconstruction))
    _squares(as_kernel_array(target, dtype), as_kernel_array(reconstruction, dtype), squares)
    return squares


def mse_backward(target, reconstruction):
    """Return ``d_reconstruction`` (B, O): computed in float64, rounded once to the dtype."""
    return slopes(target, reconstruction, 2, reconstruction.size)


def slopes(target, reconstruction, factor, size):
    """Return ``factor * (reconstruction - target) / size`` (B, O): in float64, rounded once."""
    return slopes_in_place(target, np.array(reconstruction, order="C"), factor, size)


def slopes_in_place(target, reconstruction, factor, size):
    """As `slopes`; ``reconstruction``, C-contiguous, is overwritten by them and returned."""
    target = as_kernel_array(target, reconstruction.dtype)
    _slopes(target, np.float64(factor), np.float64(size), reconstruction)
    return reconstruction


def in_order(partial_sums):
    """The float64 sum of ``partial_sums`` (B,) in ascending order, one addition at a time."""
    return np.float64(np.add.accumulate(partial_sums)[-1])


@kernel
def _squares(target, reconstruction, out):
    B, O = target.shape
    whole = O - O % LANES
    for b in prange(B):
        total = zeros()
        for o in range(0, whole, LANES):
            error = subtract(load(target, b, o), load(reconstruction, b, o))
            total = fma(error, error, total)
        if whole < O:
            error = subtract(load_tail(target, b, whole), load_tail(reconstruction, b, whole))
            total = fma(error, error, total)
        out[b] = lane_sum(total)


@kernel
def _slopes(target, factor, size, reconstruction):
    B, O = target.shape
    for b in prange(B):
        for o in range(O):
            error = np.float64(reconstruction[b, o]) - np.float64(target[b, o])
            reconstruction[b, o] = factor * error / size
