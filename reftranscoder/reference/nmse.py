"""The squared error of each row as a fraction of the squares of its target, averaged over rows::

    s[b]                    =  sum_o target[b, o]^2                                       (M8)
    nmse                    =  sum_{b,o} (target[b, o] - reconstruction[b, o])^2
                               / (s[b] B)                                                 (M9)

    d_reconstruction[b, o]  =  2 (reconstruction[b, o] - target[b, o]) / (s[b] B)         (M10)

It has no units: 1 is what a reconstruction of zeros gives.

**Convention.** target is data, so that s passes no gradient.  A row of zeros gives infinity, or
NaN.

Source: Gao et al. (2024), "Scaling and evaluating sparse autoencoders", in their code, OpenAI's
sparse_autoencoder, ``normalized_mean_squared_error`` (``loss.py``).
"""

from __future__ import annotations

import numpy as np


def nmse_forward(target, reconstruction):
    """Return ``nmse``, a scalar, of ``target`` and ``reconstruction``, both (B, O) with B >= 1."""
    return np.sum((target - reconstruction) ** 2 / _squares(target)) / len(target)  # (M9)


def nmse_backward(target, reconstruction):
    """Return ``d_reconstruction`` (B, O)."""
    return 2 * (reconstruction - target) / (_squares(target) * len(target))  # (M10)


def _squares(target):
    return np.sum(target * target, axis=1, keepdims=True)  # (M8)
