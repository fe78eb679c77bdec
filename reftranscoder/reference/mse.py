"""The reconstruction loss: the mean squared error over all B * O entries, without a factor 1/2::

    mse                     =  sum_{b,o} (target[b, o] - reconstruction[b, o])^2 / (B O)  (M1)

    d_reconstruction[b, o]  =  2 (reconstruction[b, o] - target[b, o]) / (B O)            (M2)

Source: Edifice, ``Interpretability.Transcoder.loss``.  Many libraries sum over o, and some halve
the sum: their loss is another number, and their gradients are these times a constant.
"""

from __future__ import annotations

import numpy as np


def mse_forward(target, reconstruction):
    """Return ``mse``, a scalar, of ``target`` and ``reconstruction``, both (B, O) with B >= 1."""
    return np.mean((target - reconstruction) ** 2)  # (M1)


def mse_backward(target, reconstruction):
    """Return ``d_reconstruction`` (B, O)."""
    return 2 * (reconstruction - target) / target.size  # (M2)
