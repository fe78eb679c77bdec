"""Sparse intervals: ``hidden``, and the gradients at its entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...sparse import Sparse, row_starts
from .interval import Interval, joined


class SparseInterval(NamedTuple):
    """``hidden``, or a gradient at its entries, for a block of rows."""

    pattern: Sparse  # (B, D); its values are not used
    entries: Interval  # (nnz,)

    def counts(self) -> np.ndarray:
        """The number of entries of each row (B, 1)."""
        return np.diff(self.pattern.indptr)[:, None]


def stacked(parts: Sequence[SparseInterval]) -> SparseInterval:
    """Sparse intervals of successive blocks of rows as one."""
    if len(parts) == 1:
        return parts[0]
    patterns = [part.pattern for part in parts]
    starts = row_starts(np.concatenate([np.diff(pattern.indptr) for pattern in patterns]))
    indices = np.concatenate([pattern.indices for pattern in patterns])
    entries = joined([part.entries for part in parts])
    shape = (len(starts) - 1, patterns[0].shape[1])
    return SparseInterval(Sparse(starts, indices, entries.value, shape), entries)


def possibly_selected(
    pre_acts: Interval, certain: np.ndarray, ambiguous: np.ndarray
) -> SparseInterval:
    """``hidden`` where it was not given: what is certain, and what may or may not be there."""
    rows, columns = np.nonzero((certain | ambiguous) & (pre_acts.value != 0))
    counts = np.bincount(rows, minlength=len(certain))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    values = pre_acts.value[rows, columns]
    pattern = Sparse(starts, columns.astype(np.int32), values, certain.shape)
    doubtful = ambiguous[rows, columns]
    if pre_acts.errors is None and not doubtful.any():
        return SparseInterval(pattern, Interval(values))
    doubt = np.where(doubtful, np.abs(values), 0.0)
    errors = pre_acts.at((rows, columns)).each(lambda e: e + doubt)
    return SparseInterval(pattern, Interval(values, errors))


def widened(given: SparseInterval, places: Sparse) -> SparseInterval:
    """``given``, and zeros at ``places`` (B, D), where it has no entries."""
    pattern = given.pattern
    row = np.concatenate([pattern.rows(), places.rows()])
    column = np.concatenate([pattern.indices, places.indices])
    order = np.lexsort((column, row))
    extra = np.zeros(len(places.indices))

    def spread(a: np.ndarray | float) -> np.ndarray:
        entries: np.ndarray = np.concatenate([np.broadcast_to(a, pattern.indices.shape), extra])
        return entries[order]

    value = spread(given.entries.value)
    counts = np.diff(pattern.indptr) + np.diff(places.indptr)
    errors = given.entries.errors and given.entries.each(spread)
    return SparseInterval(
        Sparse(row_starts(counts), column[order], value, pattern.shape), Interval(value, errors)
    )


def one_of_each(features: SparseInterval, rows: np.ndarray) -> SparseInterval:
    """``features``, of which only that in ``rows[j]`` is left of every feature j."""
    pattern, entries = features.pattern, features.entries
    row = pattern.rows()
    kept = rows[pattern.indices] == row
    starts = row_starts(np.bincount(row[kept], minlength=pattern.shape[0]))
    entries = entries.at(kept)
    left = Sparse(starts, pattern.indices[kept], entries.value, pattern.shape)
    return SparseInterval(left, entries)


def at_other_features(features: SparseInterval, where: str | int) -> SparseInterval:
    """``features``, each at another place, a key of `PLACES`; or without the one of a number."""
    pattern, entries = features.pattern, features.entries
    D, column = pattern.shape[1], pattern.indices
    if isinstance(where, int):
        left = column != where
        starts = row_starts(np.bincount(pattern.rows()[left], minlength=pattern.shape[0]))
        entries = entries.at(left)
        return SparseInterval(Sparse(starts, column[left], entries.value, pattern.shape), entries)
    if where in ("up", "down"):
        moved = (column + (1 if where == "up" else -1)) % D
    elif where.startswith("int"):
        moved = column.astype(where).astype(np.int64) % D
    else:
        moved = column % (D // int(where[2:]) if where.startswith("D/") else 1 << int(where))
    return SparseInterval(pattern._replace(indices=moved.astype(column.dtype)), entries)


def active(pre_acts: Interval) -> SparseInterval:
    """Every active feature, selected or not."""
    rows, columns = np.nonzero(pre_acts.value > 0)
    counts = np.bincount(rows, minlength=len(pre_acts.value))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    entries = pre_acts.at((rows, columns))
    shape = pre_acts.value.shape
    return SparseInterval(Sparse(starts, columns.astype(np.int32), entries.value, shape), entries)


def entries_at(sparse: Sparse, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The entries of ``sparse`` at these places; zero where none is stored."""
    keys = sparse.rows().astype(np.int64) * sparse.shape[1] + sparse.indices
    wanted = rows.astype(np.int64) * sparse.shape[1] + columns
    if not len(keys):
        return np.zeros(len(wanted))
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, sparse.values[place], 0.0)
