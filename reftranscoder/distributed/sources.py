"""Rows where they lie in a cluster, and the tasks that read them there.

Of files every worker reads its own even share of the rows, through a map of its own: they must see
the same files.  An array in the client's memory is sent once, a share to each worker.  The chunks
of a Dask array are computed once and kept by the workers that did so; a chunk that is lost is
computed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..activations import Activations
from ..activations.dask_rows import DaskRows
from ..activations.row_store import InMemory, Mapped, RowStore
from ..arrays import spread_non_finite
from ..errors import ClusterError, ShapeError
from ..training.scaling import column_sums


class Share(NamedTuple):
    """Consecutive rows, and where they are read."""

    first: int
    held: Any  # a future, of `Activations` or of a chunk
    rows_before: int  # what is taken from an index to find its row in ``held``
    worker: str | None  # None: wherever Dask has it


class ChunkRows(RowStore):
    """The rows of a Dask array in the memory of the workers: only those taken are sent."""

    def __init__(self, client: Any, rows: DaskRows, name: str) -> None:
        self.shape, self.dtype = rows.shape, rows.dtype
        array = rows.array
        self._client, self._name = client, name
        self._starts = np.cumsum([0, *array.chunks[0]])
        self._chunks = client.compute(list(array.to_delayed().ravel()))

    def shares(self) -> list[Share]:
        """The chunks."""
        starts = self._starts[:-1].tolist()
        return [Share(s, chunk, s, None) for s, chunk in zip(starts, self._chunks)]

    def take(self, places: np.ndarray) -> np.ndarray:
        """As `RowStore.take`: each chunk's are taken where it is."""
        rows = np.empty((len(places), self.shape[1]), self.dtype)
        owners = np.searchsorted(self._starts, places, side="right") - 1
        found = {}
        for n in np.unique(owners).tolist():
            here = np.flatnonzero(owners == n)
            local = places[here] - self._starts[n]
            want = int(self._starts[n + 1] - self._starts[n]), self.shape[1]
            task = self._client.submit(
                take, self._chunks[n], local, want, f"{self._name}, chunk {n}", pure=False
            )
            found[n] = here, task
        for here, task in found.values():
            rows[here] = task.result()
        return rows


def take(chunk: Any, places: np.ndarray, want: tuple[int, int], name: str) -> np.ndarray:
    """Rows ``places`` of ``chunk``, if it is of the shape that its array promises."""
    array = np.asarray(chunk)
    if array.shape != want:
        raise ShapeError(name, want, array.shape)
    rows: np.ndarray = array[places]
    return rows


def read(held: Any, rows: np.ndarray, scale: Any, spread: bool) -> np.ndarray:
    """Rows ``rows`` of ``held``, divided by ``scale`` as ``training/batches.py`` does it."""
    if not isinstance(held, Activations):
        held = Activations(held, dtype=scale.dtype)
    with np.errstate(over="ignore", under="ignore"):
        block = held.rows(rows).astype(scale.dtype, copy=False) / scale
    return spread_non_finite(block) if spread else block


def block_sums(held: Any, firsts: Any, size: int, stop: int) -> list[Any]:
    """`column_sums` of the blocks of ``size`` rows that begin at ``firsts`` and end at ``stop``."""
    return [column_sums(held.rows(np.arange(f, min(f + size, stop)))) for f in firsts]


def opened(client: Any, data: Activations) -> Activations:
    """``data``, if of a Dask array then with its chunks in the memory of the workers."""
    if isinstance(data.store, DaskRows):
        return data.in_store(ChunkRows(client, data.store, data.name))
    return data


def is_in_files(data: Activations) -> bool:
    """Whether every process that sees the files can read the rows."""
    is_array = isinstance(data.store, InMemory) and not isinstance(data.store, Mapped)
    return not is_array and not isinstance(data.store, ChunkRows)


class Source:
    """``data``, x or target, shared out among ``workers``."""

    def __init__(self, client: Any, data: Activations, workers: list[str]) -> None:
        self._data = data
        self._chunked = isinstance(data.store, ChunkRows)
        if isinstance(data.store, ChunkRows):
            self._shares = data.store.shares()
            return
        edges = [len(data) * n // len(workers) for n in range(len(workers) + 1)]
        files = is_in_files(data)
        self._shares = []
        for first, stop, worker in zip(edges, edges[1:], workers):
            if first < stop:
                held = scattered(client, data if files else _copied(data, first, stop), worker)
                self._shares.append(Share(first, held, 0 if files else first, worker))

    def pieces(self, rows: np.ndarray) -> Iterator[tuple[Share, np.ndarray]]:
        """What is to be read, and from which share, of ``rows``, which ascend."""
        places = self._data.place(rows) if self._chunked else rows
        edges = np.searchsorted(places, [share.first for share in self._shares])
        for share, first, stop in zip(self._shares, edges, [*edges[1:], len(places)]):
            if first < stop:
                yield share, places[first:stop] - share.rows_before


def _copied(data: Activations, first: int, stop: int) -> Activations:
    """Rows ``first`` to ``stop - 1`` of ``data``, without the others."""
    return Activations(data.part(first, stop).read(), data.name, dtype=data.dtype)


def scattered(client: Any, value: Any, worker: str) -> Any:
    """A future of ``value`` in the memory of ``worker``."""
    try:
        return client.scatter([value], workers=[worker], hash=False)[0]
    except (OSError, TimeoutError, KeyError, ValueError) as error:
        raise ClusterError(f"{worker} does not take its share: {error}") from error
