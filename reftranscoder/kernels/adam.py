"""One step of Adam, in place; the mathematics stands in ``reference/adam.py``."""

from __future__ import annotations

import math

from numba import prange

from .engine.door import as_kernel_array
from .engine.jit import kernel


def adam_step(p, g, m, v, t, lr, beta1, beta2, eps):
    """Overwrite ``p``, ``m`` and ``v``, C-contiguous arrays of any one shape, and return them.

    Every operation is made in their dtype, in the order in which the reference writes it, without
    fusing any: bit for bit what NumPy computes from arrays of that dtype.
    """
    kind = p.dtype.type
    _step(
        p.reshape(-1),
        as_kernel_array(g, p.dtype).reshape(-1),
        m.reshape(-1),
        v.reshape(-1),
        kind(beta1),
        kind(1 - beta1),
        kind(1 - beta1**t),
        kind(beta2),
        kind(1 - beta2),
        kind(1 - beta2**t),
        kind(lr),
        kind(eps),
    )
    return p, m, v


_CHUNK = 4096


@kernel
def _step(p, g, m, v, beta1, rest1, correction1, beta2, rest2, correction2, lr, eps):
    for chunk in prange((len(p) + _CHUNK - 1) // _CHUNK):
        for n in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, len(p))):
            m[n] = beta1 * m[n] + rest1 * g[n]
            v[n] = beta2 * v[n] + rest2 * (g[n] * g[n])
            p[n] -= lr * (m[n] / correction1) / (math.sqrt(v[n] / correction2) + eps)
