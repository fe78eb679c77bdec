"""The mean squared error, each row over the norm of its target::

    n[b]                    =  sqrt(sum_o target[b, o]^2)                                 (M5)
    mse_over_norm           =  sum_{b,o} (target[b, o] - reconstruction[b, o])^2
                               / (n[b] B O)                                               (M6)

    d_reconstruction[b, o]  =  2 (reconstruction[b, o] - target[b, o]) / (n[b] B O)       (M7)

It is the norm that divides, not its square, so that the loss has the units of the target.

**Convention.** target is data, so that n passes no gradient.  A row of zeros has no norm to divide
by: it gives infinity, or NaN.

Source: Dunefsky et al. (2024), in their code, transcoder_circuits, ``sparse_autoencoder.py``.
"""

from __future__ import annotations

import numpy as np


def mse_over_norm_forward(target, reconstruction):
    """Return ``mse_over_norm``, a scalar, of ``target`` and ``reconstruction`` (B, O), B >= 1."""
    return np.mean((target - reconstruction) ** 2 / _norms(target))  # (M6)


def mse_over_norm_backward(target, reconstruction):
    """Return ``d_reconstruction`` (B, O)."""
    return 2 * (reconstruction - target) / (_norms(target) * target.size)  # (M7)


def _norms(target):
    return np.sqrt(np.sum(target * target, axis=1, keepdims=True))  # (M5)
