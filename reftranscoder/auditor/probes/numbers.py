"""The numbers of a probe: its sizes, its arrays, and what they are rounded to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...bounds import PRECISIONS
from ..task.arithmetic import rounded

#: The significant bits of bfloat16, as far down as float16 reaches.
SHORT = PRECISIONS["bfloat16"]._replace(spacing=PRECISIONS["float16"].spacing)


class Sizes(NamedTuple):
    """B rows, I input_size, D dict_size, O output_size, K top_k."""

    B: int
    I: int  # noqa: E741
    D: int
    O: int  # noqa: E741
    K: int


class Numbers(NamedTuple):
    """The arrays of a case, in float64; ``W_skip`` is dropped where there is no skip connection."""

    W_enc: np.ndarray
    b_enc: np.ndarray
    W_dec: np.ndarray
    b_dec: np.ndarray
    W_skip: np.ndarray
    x: np.ndarray
    target: np.ndarray
    l1_coeff: float = 4.0


def short(a: np.ndarray) -> np.ndarray:
    """``a`` rounded to eight significant bits, and to numbers of float16."""
    return rounded(a, SHORT)
