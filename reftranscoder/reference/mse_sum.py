"""The squared error summed over outputs, and averaged over rows: O times `mse_forward`'s::

    mse_sum                 =  sum_{b,o} (target[b, o] - reconstruction[b, o])^2 / B      (M3)

    d_reconstruction[b, o]  =  2 (reconstruction[b, o] - target[b, o]) / B                (M4)

Source: SAELens, ``mse_loss_fn`` (``saes/sae.py``, release 6.54.12); dictionary_learning 0.1.0,
``trainers/jumprelu.py``; Rajamanoharan et al. (2024), "Jumping Ahead", equation 5.
"""

from __future__ import annotations

import numpy as np


def mse_sum_forward(target, reconstruction):
    """Return ``mse_sum``, a scalar, of ``target`` and ``reconstruction``, both (B, O), B >= 1."""
    return np.sum((target - reconstruction) ** 2) / len(target)  # (M3)


def mse_sum_backward(target, reconstruction):
    """Return ``d_reconstruction`` (B, O)."""
    return 2 * (reconstruction - target) / len(target)  # (M4)
