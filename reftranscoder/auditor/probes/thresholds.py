"""Thresholds for the cases of the probe set: on either side of what they are compared with."""

from __future__ import annotations

import numpy as np

from ...params import JumpReLU
from .numbers import Numbers

_SMALLEST = np.float32(2.0**-149)


def at_activations(numbers: Numbers) -> JumpReLU:
    """Thresholds that are activations of some row, or one number of float32 to either side.

    Feature j has that of row j mod B.  At its threshold it is inactive, and active one number
    above; where pre is a sum that no format rounds, nothing else is right.  Every sixth threshold
    is negative, zero or the smallest number there is, which say no more than that pre is positive.
    """
    rows = np.flatnonzero(np.isfinite(numbers.x).all(axis=1))
    place = np.arange(len(numbers.b_enc))
    of_row = numbers.x[rows[place % len(rows)]] if len(rows) else np.zeros_like(numbers.W_enc)
    with np.errstate(over="ignore", invalid="ignore"):
        pre = np.einsum("di,di->d", of_row, numbers.W_enc) + numbers.b_enc
        pre = np.where(np.isfinite(pre), pre, 0).astype(np.float32)
    beside = [pre, np.nextafter(pre, -np.inf), np.nextafter(pre, np.inf), pre / 2, pre]
    others = np.array([-1, 0, _SMALLEST], np.float32)[place // 6 % 3]
    theta = np.choose(place % 6, [*(a.astype(np.float32) for a in beside), others])
    return JumpReLU(theta.astype(np.float32))


def below_activations(W_enc: np.ndarray) -> JumpReLU:
    """Thresholds at an eighth of the entries of W_enc (D, I), which all have one size in a row.

    For `every_feature`, whose features are active far above that.
    """
    return JumpReLU(np.abs(W_enc[:, 0]) / 8)
