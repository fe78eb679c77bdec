"""The average of the weights, in place; the mathematics stands in ``reference/average.py``."""

from __future__ import annotations

from numba import prange

from .engine.jit import kernel
from .engine.kernel_arrays import as_kernel_array

_CHUNK = 4096


def average_step(average, p, t, decay):
    """Return ``average``, a C-contiguous array of the shape of ``p``, after overwriting it.

    Every operation is made in its dtype, in the order in which the reference writes it: bit for
    bit what NumPy computes from arrays of that dtype.
    """
    weight = average.dtype.type(max(1 - decay, 1 / t))
    _average(average.reshape(-1), as_kernel_array(p, average.dtype).reshape(-1), weight)
    return average


@kernel
def _average(average, p, weight):
    for chunk in prange((len(p) + _CHUNK - 1) // _CHUNK):
        part = slice(chunk * _CHUNK, (chunk + 1) * _CHUNK)  # as in ``adam.py``
        average_, p_ = average[part], p[part]
        for n in range(len(p_)):
            average_[n] += weight * (p_[n] - average_[n])
