"""The rows of a Dask array, computed chunk by chunk.  Dask is never imported: the array brings it.

A chunk is computed as a whole, whichever of its rows are taken.  So what is announced is computed
once and kept until the next announcement: batches of random rows would otherwise compute every
chunk for each of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import DTypeError, Error, FileError, ShapeError, words
from .row_store import RowStore, check_float, check_shape


def is_dask(source: object) -> bool:
    """Whether ``source`` is a Dask array, by what it can do."""
    return all(hasattr(source, name) for name in ("__dask_graph__", "chunks", "blocks", "dtype"))


class DaskRows(RowStore):
    """The rows of ``array``, whose chunks along the rows have known sizes."""

    def __init__(self, array: Any, name: str) -> None:
        check_shape(array.shape, name)
        if array.dtype.kind in "iu":
            array = array.astype(np.float64)
        elif array.dtype.name == "bfloat16":  # of ml_dtypes; exact
            array = array.astype(np.float32)
        check_float(np.dtype(array.dtype), name)
        if any(math.isnan(size) for size in array.shape):
            hint = f"Find them out: {name}.compute_chunk_sizes()."
            raise ShapeError(name, "of known size", array.shape, hint)
        if len(array.chunks[1]) > 1:
            array = array.rechunk({1: -1})
        self._array = array
        self._name = name
        self._starts = np.cumsum([0, *array.chunks[0]])
        self._kept: tuple[np.ndarray, np.ndarray] | None = None
        self.shape = (int(array.shape[0]), int(array.shape[1]))
        self.dtype = np.dtype(array.dtype)

    @property
    def array(self) -> Any:
        """The Dask array, of one chunk along the columns."""
        return self._array

    def take(self, places: np.ndarray) -> np.ndarray:
        """As `RowStore.take`: out of what is kept, or of the chunks."""
        if self._kept is not None and len(places):
            known, rows = self._kept
            at = np.minimum(np.searchsorted(known, places), len(known) - 1)
            if (known[at] == places).all():
                found: np.ndarray = rows[at]
                return found
        return self._computed(places)

    def announce(self, places: np.ndarray) -> None:
        """Compute them now, and keep them."""
        self._kept = None
        if len(places):
            self._kept = places, self._computed(places)

    def _computed(self, places: np.ndarray) -> np.ndarray:
        rows = np.empty((len(places), self.shape[1]), self.dtype)
        owners = np.searchsorted(self._starts, places, side="right") - 1
        for chunk in np.unique(owners).tolist():
            here = np.flatnonzero(owners == chunk)
            rows[here] = self._chunk(chunk)[places[here] - self._starts[chunk]]
        return rows

    def _chunk(self, number: int) -> np.ndarray:
        want = (int(self._array.chunks[0][number]), self.shape[1])
        try:
            chunk = np.asarray(self._array.blocks[number].compute())
        except (Error, MemoryError):
            raise
        except Exception as error:  # whatever stands in the graph
            raise FileError(self._name, f"chunk {number} fails: {words(error)}") from error
        if chunk.shape != want:
            raise ShapeError(f"{self._name}, chunk {number}", want, chunk.shape)
        if chunk.dtype != self.dtype:
            hint = f"Its array promises {self.dtype}."
            raise DTypeError(f"{self._name}, chunk {number}", chunk.dtype, hint)
        return chunk
