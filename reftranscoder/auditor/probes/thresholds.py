"""Thresholds for the cases of the probe set: on either side of what they are compared with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...bounds import PRECISIONS, Precision
from ...params import JumpReLU, Own
from ..task.arithmetic import quantum, representable, rounded
from .numbers import SHORT, Numbers


def at_activations(numbers: Numbers, to: Precision | None = None) -> JumpReLU:
    """Thresholds that are activations of some row, or one number of a format to either side.

    Feature j has that of row j mod B.  At its threshold it is inactive, and active one number
    above; where pre is a sum that no format rounds, nothing else is right.  Every sixth threshold
    is negative, zero or the smallest number there is, which say no more than that pre is positive.

    The format is ``to``, or a short one in which all other ``numbers`` are.
    """
    if to is None:
        to = SHORT if representable(numbers.b_dec, SHORT) else PRECISIONS["bfloat16"]
    place = np.arange(len(numbers.b_enc))
    pre = rounded(_pre_of_rows(numbers, place), to)
    beside = [pre, pre - quantum(pre, to), pre + quantum(pre, to), rounded(pre / 2, to), pre]
    others = np.array([-1, 0, to.spacing])[place // 6 % 3]
    theta = np.choose(place % 6, [*beside, others])
    return JumpReLU(theta.astype(np.float32))


def _pre_of_rows(numbers: Numbers, rows: np.ndarray) -> np.ndarray:
    """pre (D,) of feature j in the row ``rows[j]`` of those that are finite; 0 where it is not."""
    finite = np.flatnonzero(np.isfinite(numbers.x).all(axis=1))
    if not len(finite):
        return np.zeros(len(numbers.b_enc))
    of_row = numbers.x[finite[rows % len(finite)]].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        pre = np.einsum("di,di->d", of_row, numbers.W_enc) + numbers.b_enc
    kept: np.ndarray = np.where(np.abs(pre) < np.finfo(np.float32).max, pre, 0)
    return kept


def below_activations(W_enc: np.ndarray) -> JumpReLU:
    """Thresholds at an eighth of the entries of W_enc (D, I), which all have one size in a row.

    For `every_feature`, whose features are active far above that.
    """
    return JumpReLU(np.abs(W_enc[:, 0]) / 8)


#: For each activation that takes more than others do: what it takes where its numbers are on either
#: side of what they are compared with, and where every feature is active.
MAKERS: dict[str, tuple[Callable[[Numbers, Precision | None], Own], Callable[[np.ndarray], Own]]]
MAKERS = {"jumprelu": (at_activations, below_activations)}
