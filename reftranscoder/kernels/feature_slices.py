"""A transcoder whose features are divided: what each slice computes, and how the whole is chosen.

Feature j competes with others only where the K largest of a row are chosen.  Those of a slice that
are among the K largest of the row are among the K largest of the slice; so each slice names its
candidates, with the float64 p that `encode_forward` decides on, and the choice among these is the
choice among all, ties included: they stand in the order of the features.
"""

from __future__ import annotations

import numpy as np

from ..sparse import Sparse, row_starts
from .engine.sparse_loops import entry_dots
from .topk import topk_forward

#: The activations in which the features of a row compete, whatever slice they are in.
COMPETING = ("topk", "abstopk")


def with_sums(hidden, x, W_enc, b_enc):
    """Return ``hidden``, a `Sparse` (B, D) of ``x`` (B, I), with the p that its values are rounded
    from: `affine_forward` at its entries, float64."""
    sums = entry_dots(hidden, x, W_enc, stored=np.float64)
    return hidden.with_values(sums + b_enc[hidden.indices])


def side_by_side(slices):
    """Return the `Sparse` (B, D) of ``slices``, each (B, n) of the next n features."""
    counts = np.stack([np.diff(part.indptr) for part in slices], axis=1)
    starts = row_starts(counts.reshape(-1))
    indices = np.empty(starts[-1], np.int32)
    values = np.empty(starts[-1], slices[0].values.dtype)
    first = 0
    for number, part in enumerate(slices):
        rows = part.rows()
        place = np.arange(len(rows)) - part.indptr[rows] + starts[rows * len(slices) + number]
        indices[place], values[place] = part.indices + np.int32(first), part.values
        first += part.shape[1]
    return Sparse(starts[:: len(slices)], indices, values, (len(counts), first))


def choose(candidates, top_k, activation, ties):
    """Return what is kept of ``candidates``, a `Sparse` (B, D) of p in float64."""
    if activation not in COMPETING:
        return candidates
    starts, rows = candidates.indptr, candidates.rows()
    widest = int(np.diff(starts).max(initial=0))
    dense = np.zeros((candidates.shape[0], max(widest, top_k)))
    dense[rows, np.arange(len(rows)) - starts[rows]] = np.abs(candidates.values)
    kept = topk_forward(dense, top_k, ties)
    entries = starts[kept.rows()] + kept.indices
    chosen = candidates.indices[entries], candidates.values[entries]
    return Sparse(kept.indptr, *chosen, candidates.shape)


def columns(matrix, first, stop):
    """Return columns ``first`` to ``stop - 1`` of a `Sparse` (B, D)."""
    inside = (matrix.indices >= first) & (matrix.indices < stop)
    part = matrix.only(inside)
    shape = (matrix.shape[0], stop - first)
    return part._replace(indices=part.indices - np.int32(first), shape=shape)
