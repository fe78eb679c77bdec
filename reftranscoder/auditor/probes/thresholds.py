"""Thresholds for the cases of the probe set: on either side of what they are compared with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...bounds import PRECISIONS, Precision
from ...params import Gated, JumpReLU, Own
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


def gates_at_activations(numbers: Numbers, to: Precision | None = None) -> Gated:
    """Gates that are 0 in some row, or one number to either side of it, and magnitudes too.

    Feature j has its gate at 0 in row j mod B where j mod 4 is 0, one number to either side where
    it is 1 or 2, and open where it is 3.  The strengths are 1 of every feature whose j mod 3 is 0,
    of which every other one has a magnitude of 0 in the row after.
    """
    place = np.arange(len(numbers.b_enc))
    to = to or (SHORT if representable(numbers.b_dec, SHORT) else PRECISIONS["bfloat16"])
    pre = rounded(_pre_of_rows(numbers, place), to)
    step = quantum(pre, to)
    b_gate = np.choose(place % 4, [-pre, step - pre, -pre - step, 4 * np.abs(pre) + step])
    r_mag = np.where(place % 3 == 0, 0.0, (place % 7 - 3) / 4)
    weak = rounded(-_pre_of_rows(numbers, place + 1), to)
    b_mag = np.where(place % 6 == 0, weak, np.where(place % 5 == 1, 0.0, rounded(pre / 4, to)))
    arrays = (rounded(b_gate, to), b_mag, r_mag)
    b_gate, b_mag, r_mag = (a.astype(np.float32) for a in arrays)
    return Gated(b_gate, b_mag, r_mag)


def open_gates(W_enc: np.ndarray) -> Gated:
    """Gates and magnitudes an eighth of the entries of W_enc (D, I) below pre, and two strengths.

    For `every_feature`, whose features are active far above that.
    """
    below = np.abs(W_enc[:, 0]) / 8
    r_mag = np.where(np.arange(len(below)) % 2, 0.0, 0.5).astype(below.dtype)
    return Gated(-below, -below, r_mag)


#: For each activation that takes more than others do: what it takes where its numbers are on either
#: side of what they are compared with, and where every feature is active.
MAKERS: dict[str, tuple[Callable[[Numbers, Precision | None], Own], Callable[[np.ndarray], Own]]]
MAKERS = {
    "jumprelu": (at_activations, below_activations),
    "gated": (gates_at_activations, open_gates),
}
