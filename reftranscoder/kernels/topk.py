"""Selection; the mathematics and the conventions stand in ``reference/topk.py``."""

from __future__ import annotations

import numpy as np
from numba import prange

from ..sparse import Sparse, row_starts
from .engine.door import as_kernel_array
from .engine.jit import kernel, routine
from .engine.shares import row_blocks


def topk_forward(pre_acts, top_k, ties="lowest_index"):
    """Return ``hidden``, a `Sparse` (B, D): the ``top_k`` largest of each row of ``pre_acts`` (B, D).

    Values are moved, not computed: exact.  Zeros are never stored.
    """
    D = pre_acts.shape[1]
    blocks = [
        select_block(pre_acts[rows], top_k, ties, pre_acts.dtype)
        for rows in row_blocks(len(pre_acts), D)
    ]
    return joined(blocks, pre_acts.shape, pre_acts.dtype)


def select_block(pre_acts, top_k, ties, dtype):
    """Select in a block of rows; return counts (B,), indices (nnz,) and values (nnz,) of ``dtype``.

    A value is rounded once to ``dtype``, after it was selected; if that gives zero it is not stored.
    """
    B, D = pre_acts.shape
    counts = np.empty(B, np.int64)
    indices, values = np.empty((B, D), np.int32), np.empty((B, D), dtype)
    _select(as_kernel_array(pre_acts, np.float64), top_k, ties == "keep_all", counts, indices, values)
    widest = counts.max(initial=0)
    stored = np.arange(widest) < counts[:, None]
    return counts, indices[:, :widest][stored], values[:, :widest][stored]


def joined(blocks, shape, dtype):
    """Return the `Sparse` of ``shape`` whose rows are those of the blocks of `select_block`."""
    none = np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, dtype)
    counts, indices, values = (np.concatenate(parts) for parts in zip(none, *blocks))
    return Sparse(row_starts(counts), indices, values, shape)


@routine
def compare(value, kth):
    """1, 0 or -1: whether ``value`` ranks above, with or below ``kth``; NaN is above every number."""
    above = value > kth or (value != value and kth == kth)
    below = value < kth or (kth != kth and value == value)
    return int(above) - int(below)


@kernel
def _select(p, top_k, keep_all, counts, indices, values):
    B, D = p.shape
    for b in prange(B):
        scores = np.empty(D)
        positive = zero = 0
        for d in range(D):
            # Written always, kept by counting: half the entries are positive, at random.
            scores[positive] = p[b, d]
            positive += not p[b, d] <= 0
            zero += p[b, d] == 0
        if positive >= top_k:
            place = positive - top_k
            kth = scores[np.argpartition(scores[:positive], place)[place]]
        elif positive + zero >= top_k:
            kth = 0.0
        else:
            place = D - top_k
            kth = p[b, np.argpartition(p[b], place)[place]]

        ties = top_k
        for d in range(D):
            ties -= compare(p[b, d], kth) > 0
        count = 0
        for d in range(D):
            rank = compare(p[b, d], kth)
            ties -= rank == 0
            if rank > 0 or (rank == 0 and (keep_all or ties >= 0)):
                values[b, count] = p[b, d]
                indices[b, count] = d
                count += values[b, count] != 0
        counts[b] = count
