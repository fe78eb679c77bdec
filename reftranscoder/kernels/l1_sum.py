"""The absolute activations summed over features, on stored entries alone; the mathematics stands in
``reference/l1_sum.py``."""

from __future__ import annotations

import numpy as np

from .l1 import row_sums
from .mse import in_order


def l1_sum_forward(hidden, l1_coeff):
    """Return ``l1_sum``, a float64 scalar, of ``hidden``, a `Sparse` (B, D) with B >= 1.

    The sums are those of `l1_forward`, in the same order, and so is their bound.
    """
    return np.float64(l1_coeff) * (in_order(row_sums(hidden)) / hidden.shape[0])


def l1_sum_backward(hidden, l1_coeff):
    """Return this loss's share of ``d_hidden``, a `Sparse` with the entries of ``hidden``.

    One rounding to float64, one to the dtype of ``hidden``.
    """
    slope = np.float64(l1_coeff) / hidden.shape[0]
    with np.errstate(over="ignore", under="ignore"):
        return hidden.with_values((np.sign(hidden.values) * slope).astype(hidden.values.dtype))
