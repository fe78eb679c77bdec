"""Encoder and selection together, block by block: no (B, D) array is ever made.

The mathematics stands in ``reference/affine.py``, ``relu.py`` and ``topk.py``.
"""

from __future__ import annotations

import numpy as np

from .affine import affine_block
from .engine.work_division import row_blocks
from .topk import joined, select_block

#: name -> how many of a row's D rectified activations are kept, at most.
ACTIVATIONS = {"topk": lambda top_k, D: top_k, "relu": lambda top_k, D: D}


def encode_forward(x, W_enc, b_enc, *, top_k, activation="topk", ties="lowest_index"):
    """Return ``hidden``, a `Sparse` (B, D) of ``x`` (B, I) under ``W_enc`` (D, I), ``b_enc`` (D,).

    Selection (sign, order, ties) is decided on p, the float64 sums of `affine_forward`; a kept
    value is p rounded once to the dtype of ``x``, and is not stored where that is zero.  So a
    value is within u |p| + (I + 1) 2^-53 of the sum of absolute terms, and a row depends on that
    row alone.
    """
    D, I = W_enc.shape
    kept = ACTIVATIONS[activation](top_k, D)
    blocks = []
    pre_acts = np.empty((0, D))
    for rows in row_blocks(len(x), D, I):
        size = rows.stop - rows.start
        if len(pre_acts) < size:
            pre_acts = np.empty((size, D))
        affine_block(x[rows], W_enc, b_enc, True, pre_acts[:size])
        blocks.append(select_block(pre_acts[:size], kept, ties).astype(x.dtype))
    return joined(blocks, D).astype(x.dtype)
