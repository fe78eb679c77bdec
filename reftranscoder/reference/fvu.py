"""The fraction of the batch's variance that is unexplained::

    v                       =  sum_{b,o} (target[b, o] - mean[o])^2                       (M11)
    fvu                     =  sum_{b,o} (target[b, o] - reconstruction[b, o])^2 / v      (M12)

    d_reconstruction[b, o]  =  2 (reconstruction[b, o] - target[b, o]) / v                (M13)

with mean[o] that of the column over the rows of the batch.  It has no units: 1 is what predicting
the mean gives.  The rows of a batch share v, so that the loss of a batch is not the mean of its
rows' losses.

**Convention.** target is data, so that v passes no gradient.  Rows that are all equal, one alone
among them, have no variance: they give infinity, or NaN.

Source: EleutherAI's sparsify, ``SparseCoder.forward`` (``sparse_coder.py``, release 1.3.3).
"""

from __future__ import annotations

import numpy as np


def fvu_forward(target, reconstruction):
    """Return ``fvu``, a scalar, of ``target`` and ``reconstruction``, both (B, O) with B >= 1."""
    return np.sum((target - reconstruction) ** 2) / _variance(target)  # (M12)


def fvu_backward(target, reconstruction):
    """Return ``d_reconstruction`` (B, O)."""
    return 2 * (reconstruction - target) / _variance(target)  # (M13)


def _variance(target):
    return np.sum((target - np.mean(target, axis=0)) ** 2)  # (M11)
