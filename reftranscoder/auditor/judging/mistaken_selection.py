"""Selections by another rule than the K largest of each row, judged by what the boxes allow.

Some are what another activation does, and any may be a mistake.

`selection` says what boxes are.  Every rule here is that of some K largest among other numbers, or
of other sets of them; where it needs all rows at once, and is given a block of them, no row is
right.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...sparse import Sparse, row_starts
from ..task.definition import Definition
from .selection import Members, NearTie, breaches, near_ties, selection

#: The selections by absolute value, which read pre and not pre_acts.
MAGNITUDES = ("magnitudes", "signed magnitudes")


class Boxes(NamedTuple):
    """What a selection compares (rows, D), and how far off it may be."""

    value: np.ndarray
    lo: np.ndarray
    hi: np.ndarray


def mistaken_rows(
    boxes: Boxes, signed: Boxes | None, mask: np.ndarray, definition: Definition, B: int
) -> np.ndarray:
    """The rows whose selection, ``mask`` (rows, D), is not the mistaken one of the definition.

    ``signed`` is pre, where a rule reads that; ``B`` is the number of rows of the whole batch.
    """
    K, kind = definition.top_k, definition.selects or definition.across
    every = np.arange(len(mask))
    if kind == "groups":
        if mask.shape[1] % K:
            return every
        rows = _breached(boxes, mask, (len(mask) * K, -1), 1, definition)
        return np.unique(rows // K)
    if kind in MAGNITUDES:
        return _by_magnitude(signed or boxes, mask, definition)
    if kind == "no padding":
        few = (boxes.value > 0).sum(axis=1) < K
        own, lo, hi = (a.copy() for a in boxes)
        own[few, 0], lo[few, 0], hi[few, 0] = 0.0, 0.0, 0.0
        return _breached(Boxes(own, lo, hi), mask, mask.shape, K, definition)
    if len(mask) < B:
        return every
    if kind == "batch":
        return every if len(_breached(boxes, mask, (1, -1), K * B, definition)) else every[:0]
    if kind == "columns":
        turned = Boxes(*(np.ascontiguousarray(a.T) for a in boxes))
        wrong = _breached(turned, mask.T, mask.T.shape, K, definition)
        return every if len(wrong) else every[:0]
    step = {"row before": 1, "row after": -1}[kind]
    selected = np.roll(selection(boxes.value, K, definition.ties), step, axis=0)
    wrong_rows: np.ndarray = np.flatnonzero((mask != (selected & (boxes.value > 0))).any(axis=1))
    return wrong_rows


def other_ties(
    boxes: Boxes, error: np.ndarray, mask: np.ndarray, definition: Definition
) -> list[NearTie]:
    """The rows in which ``mask`` (rows, D) is another selection than the reference's.

    Only of an activation's own rule; ``boxes`` are then of what the candidate compared, or of what
    it may have compared, each within ``error`` (rows, D).
    """
    value: np.ndarray = boxes.value
    K, shape = definition.top_k, mask.shape
    across = {"groups": (len(mask) * K, -1), "batch": (1, -1)}
    form = across.get(definition.selects or definition.across, shape)
    kept = {"groups": 1, "batch": len(mask) * K}.get(definition.selects or definition.across, K)
    if definition.selects in MAGNITUDES:
        value = np.abs(value)
    value, error, mask = value.reshape(form), error.reshape(form), mask.reshape(form)
    reference = selection(value, kept, definition.ties)
    found = []
    for tie in near_ties(value, error, mask, reference):
        first = tie.row * value.shape[1]  # of the whole, laid out as one row
        inside, outside = (
            np.divmod(first + np.array(j, int), shape[1]) for j in (tie.selected, tie.left_out)
        )
        for row in np.union1d(inside[0], outside[0]).tolist():
            selected, left_out = (tuple(j[b == row].tolist()) for b, j in (inside, outside))
            found.append(NearTie(row, selected, left_out, tie.gap, tie.bound))
    return found


def _breached(
    boxes: Boxes, mask: np.ndarray, shape: tuple[int, int], K: int, definition: Definition
) -> np.ndarray:
    """The rows, once all is in this ``shape``, in which ``mask`` is not among the K largest."""
    value, lo, hi, mask = (a.reshape(shape) for a in (*boxes, mask))
    members = Members(*np.nonzero(mask))
    found = {breach.row for breach in breaches(lo, hi, members, K, definition.ties)}
    same = {breach.row for breach in breaches(value, value, members, K, definition.ties)}
    return np.array(sorted(found & same), int)


def _by_magnitude(signed: Boxes, mask: np.ndarray, definition: Definition) -> np.ndarray:
    """With "magnitudes" the negative ones that were selected are not to be seen: the largest."""
    K, (value, lo, hi) = definition.top_k, signed
    radius = np.maximum(hi - value, value - lo)
    size = np.abs(value)
    boxes = Boxes(size, np.maximum(size - radius, 0), size + radius)
    if definition.selects == "magnitudes":
        negative = np.where((value < 0) & ~mask, size, -1.0)
        order = np.argsort(-negative, axis=1, kind="stable")
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.broadcast_to(np.arange(mask.shape[1]), mask.shape), 1)
        missing = K - mask.sum(axis=1, keepdims=True)
        mask = mask | ((rank < missing) & (negative > 0))
    return _breached(boxes, mask, mask.shape, K, definition)


def unmoved(given: Sparse, own: np.ndarray, ranks: np.ndarray, definition: Definition) -> Sparse:
    """``given`` (rows, D) with every value back at the feature that it was selected from.

    ``own`` (rows, D) is what it holds there, and ``ranks`` is what the selection compares.
    """
    row, column, value = given.rows(), given.indices.astype(np.int64), given.values
    rows, D = given.shape
    kind, K = definition.moved, definition.top_k
    if kind in ("up", "down"):
        step, edge = (1, D - 1) if kind == "up" else (-1, 0)
        column = (column - step) % D
        # What would be beyond the last feature, or before the first, may be lost.
        there = np.isin(np.arange(rows), row[column == edge])
        lost = np.flatnonzero(selection(ranks, K, definition.ties)[:, edge] & ~there)
        row = np.concatenate([row, lost])
        column = np.concatenate([column, np.full(len(lost), edge)])
        value = np.concatenate([value, own[lost, edge]])
    elif kind == "anywhere":
        selected = selection(ranks, K, definition.ties)
        same = np.bincount(row, minlength=rows) == selected.sum(axis=1)
        for b in np.flatnonzero(same):
            places, features = row == b, np.flatnonzero(selected[b])
            order = np.empty(len(features), int)
            order[np.argsort(value[places], kind="stable")] = np.argsort(own[b, features])
            column[places] = features[order]
    else:
        period = 1 << int(kind)
        best = np.abs(own[row, column] - value)
        for source in range(period, D, period):
            beyond = np.minimum(given.indices + source, D - 1)
            error = np.abs(own[row, beyond] - value)
            nearer = (given.indices + source < D) & (error < best)
            column, best = np.where(nearer, beyond, column), np.where(nearer, error, best)
    order = np.lexsort((column, row))
    starts = row_starts(np.bincount(row, minlength=rows))
    return Sparse(starts, column[order].astype(np.int32), value[order], given.shape)
