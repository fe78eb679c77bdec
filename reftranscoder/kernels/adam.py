"""One step of Adam, in place; the mathematics stands in ``reference/adam.py``."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import prange

from .engine.jit import kernel, routine
from .engine.kernel_arrays import as_kernel_array
from .engine.sparse_loops import row_dot


class Moments(NamedTuple):
    """A parameter and what Adam remembers of its gradients, three arrays of one dtype, and of one
    shape, unless ``v`` is one number a row."""

    p: np.ndarray
    m: np.ndarray  # the mean of the gradients
    v: np.ndarray  # the mean of their squares


def adam_step(p, g, m, v, t, lr, beta1, beta2, eps):
    """Return ``p``, ``m`` and ``v``, C-contiguous arrays of any one shape, after overwriting them.

    Every operation is made in their dtype, in the order in which the reference writes it, without
    fusing any: bit for bit what NumPy computes from arrays of that dtype.
    """
    _step(
        p.reshape(-1),
        as_kernel_array(g, p.dtype).reshape(-1),
        m.reshape(-1),
        v.reshape(-1),
        adam_factors(p.dtype, t, lr, beta1, beta2, eps),
    )
    return p, m, v


def adam_row_step(p, g, m, v_rows, t, lr, beta1, beta2, eps):
    """Return ``p``, ``m`` (D, O) and ``v_rows`` (D, 1), C-contiguous, after overwriting them.

    As `adam_step`, with the mean of the squares of a row: summed in float64 in lane order, divided,
    rounded once.
    """
    factors = adam_factors(p.dtype, t, lr, beta1, beta2, eps)
    _step_rows(p, as_kernel_array(g, p.dtype), m, v_rows, factors)
    return p, m, v_rows


def adam_factors(dtype, t, lr, beta1, beta2, eps):
    """What `adam_entry` multiplies with and divides by at step ``t``, each rounded to ``dtype``."""
    factors = (beta1, 1 - beta1, 1 - beta1**t, beta2, 1 - beta2, 1 - beta2**t, lr, eps)
    return tuple(map(np.dtype(dtype).type, factors))


@routine
def adam_entry(p, g, m, v, factors):
    """The new ``p``, ``m`` and ``v`` of one entry."""
    beta1, rest1, correction1, beta2, rest2, correction2, lr, eps = factors
    m = beta1 * m + rest1 * g
    v = beta2 * v + rest2 * (g * g)
    return p - lr * (m / correction1) / (math.sqrt(v / correction2) + eps), m, v


@routine
def adam_row(j, p, g, row, m, v_rows, factors):
    """Overwrite row ``j``, whose gradient is row ``row`` of ``g``."""
    beta1, rest1, correction1, beta2, rest2, correction2, lr, eps = factors
    mean = p.dtype.type(row_dot(g, row, g, row) / p.shape[1])
    v_rows[j, 0] = beta2 * v_rows[j, 0] + rest2 * mean
    root = math.sqrt(v_rows[j, 0] / correction2) + eps
    for n in range(p.shape[1]):
        m[j, n] = beta1 * m[j, n] + rest1 * g[row, n]
        p[j, n] -= lr * (m[j, n] / correction1) / root


@kernel
def _step_rows(p, g, m, v_rows, factors):
    for j in prange(len(p)):
        adam_row(j, p, g, j, m, v_rows, factors)


_CHUNK = 4096


@kernel
def _step(p, g, m, v, factors):
    for chunk in prange((len(p) + _CHUNK - 1) // _CHUNK):
        # Parts of their own, whose indices the compiler sees are not negative: else it would look
        # at each, and not take several entries at once.
        part = slice(chunk * _CHUNK, (chunk + 1) * _CHUNK)
        p_, g_, m_, v_ = p[part], g[part], m[part], v[part]
        for n in range(len(p_)):
            p_[n], m_[n], v_[n] = adam_entry(p_[n], g_[n], m_[n], v_[n], factors)
