"""Selection; the mathematics and the conventions stand in ``reference/topk.py``."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from ..sparse import Sparse, row_starts
from .engine.jit import kernel, routine
from .engine.kernel_arrays import as_kernel_array
from .engine.quickselect import kth_largest
from .engine.work_division import row_blocks


def topk_forward(pre_acts, top_k, ties="lowest_index"):
    """Return ``hidden``, a `Sparse` (B, D): the ``top_k`` largest of each row of ``pre_acts``.

    Values are moved, not computed: exact.  Zeros are never stored.
    """
    B, D = pre_acts.shape
    blocks = [select_block(pre_acts[rows], top_k, ties) for rows in row_blocks(B, D)]
    return joined(blocks, D).astype(pre_acts.dtype)


def select_block(pre_acts, top_k, ties):
    """Return `topk_forward` of a block of rows, float64."""
    pre_acts = as_kernel_array(pre_acts, np.float64)
    B, D = pre_acts.shape
    counts = np.empty(B, np.int64)
    most = D if ties == "keep_all" else top_k
    indices, values = np.empty((B, most), np.int32), np.empty((B, most))
    _select(pre_acts, int(top_k), ties == "keep_all", counts, indices, values)
    widest = counts.max(initial=0)
    stored = np.arange(widest) < counts[:, None]
    indices, values = indices[:, :widest][stored], values[:, :widest][stored]
    return Sparse(row_starts(counts), indices, values, (B, D))


def joined(blocks, D):
    """Return the `Sparse` (B, D) of all rows of ``blocks``, a list of `Sparse`, in their order."""
    if not blocks:
        return Sparse.from_dense(np.empty((0, D)))
    counts = np.concatenate([np.diff(block.indptr) for block in blocks])
    indices = np.concatenate([block.indices for block in blocks])
    values = np.concatenate([block.values for block in blocks])
    return Sparse(row_starts(counts), indices, values, (len(counts), D))


@routine
def _kth_largest(scores, k):
    numbers = 0
    for n in range(len(scores)):
        scores[numbers] = scores[n]
        numbers += scores[n] == scores[n]
    k -= len(scores) - numbers
    if k <= 0:
        return np.nan  # above all numbers
    # First of a sample: the k-th largest of some entries is at most that of all, so that what is
    # below it need not be partitioned.  A sample of sqrt(n k) leaves about as many of the rest.
    bound = -np.inf
    for size in (int(math.sqrt(numbers * k)), numbers):
        if size >= 2 * k or size == numbers:
            left = np.int64(0)
            for n in range(size):
                scores[left] = scores[n]
                left += not scores[left] < bound
            bound = kth_largest(scores, left, k)
    return bound


@routine
def _compare(value, kth):
    """1, 0 or -1 as ``value`` ranks above, with or below ``kth``; NaN is above all numbers."""
    above = value > kth or (value != value and kth == kth)
    below = value < kth or (kth != kth and value == value)
    return int(above) - int(below)


@kernel
def _select(p, top_k, keep_all, counts, indices, values):
    B, D = p.shape
    for b in prange(B):
        scores = np.empty(D)
        positive = 0
        for d in range(D):
            # Written always, kept by counting: half the entries are positive, at random.
            scores[positive] = p[b, d]
            positive += not p[b, d] <= 0
        taking_part, zero = positive, 0
        if positive < top_k:
            # Zeros take part, though they are not stored, and negative numbers after them.
            taking_part = D
            for d in range(D):
                scores[d] = p[b, d]
                zero += p[b, d] == 0
        kth = 0.0
        if positive >= top_k or positive + zero < top_k:
            kth = _kth_largest(scores[:taking_part], top_k)

        ties = top_k
        for d in range(D):
            ties -= _compare(p[b, d], kth) > 0
        count = 0
        for d in range(D):
            if p[b, d] < kth:
                continue
            rank = _compare(p[b, d], kth)
            ties -= rank == 0
            if rank > 0 or (rank == 0 and (keep_all or ties >= 0)):
                indices[b, count] = d
                values[b, count] = p[b, d]
                count += p[b, d] != 0
        counts[b] = count
