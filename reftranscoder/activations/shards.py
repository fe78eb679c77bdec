"""A folder of shards: files that hold, one after the other, the rows of one long array.

Their order is that of their names, in which numbers count as numbers: ``x-2`` before ``x-10``.
Every shard is looked at when the folder is opened, so that a short or a strange one is named then.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DTypeError, FileError, ShapeError
from ..files.names import natural
from ..files.sniff import kind_of
from .npy_map import map_npy
from .row_store import Mapped, RowStore
from .tensor_map import map_tensor

SUFFIXES = (".npy", ".safetensors")


class Shards(RowStore):
    """The rows of several files, as if they were in one."""

    def __init__(self, shards: Sequence[Mapped]) -> None:
        first = shards[0]
        for shard in shards[1:]:
            if shard.dtype != first.dtype:
                hint = f"Store it as {first.path} is, {first.dtype}."
                raise DTypeError(str(shard.path), shard.dtype, hint)
            if shard.shape[1] != first.shape[1]:
                want = f"(any, {first.shape[1]})"
                hint = f"As wide as {first.path}: is it of another layer or model?"
                raise ShapeError(str(shard.path), want, shard.shape, hint)
        self._shards = tuple(shards)
        self._starts = np.cumsum([0, *(shard.shape[0] for shard in shards)])
        self.shape = (int(self._starts[-1]), first.shape[1])
        self.dtype = first.dtype

    def take(self, places: np.ndarray) -> np.ndarray:
        """As `RowStore.take`: shard after shard."""
        if len(places) and not (places[1:] >= places[:-1]).all():
            order = np.argsort(places, kind="stable")
            rows = np.empty((len(places), self.shape[1]), self.dtype)
            rows[order] = self.take(places[order])
            return rows
        edges = np.searchsorted(places, self._starts)
        wanted = np.flatnonzero(np.diff(edges)).tolist()
        if len(wanted) == 1:
            return self._shards[wanted[0]].take(places - self._starts[wanted[0]])
        rows = np.empty((len(places), self.shape[1]), self.dtype)
        for shard in wanted:
            here = slice(edges[shard], edges[shard + 1])
            self._shards[shard].take(places[here] - self._starts[shard], rows[here])
        return rows

    def announce(self, places: np.ndarray) -> None:
        """As `RowStore.announce`."""
        edges = np.searchsorted(places, self._starts)
        for shard, (first, last) in enumerate(zip(edges, edges[1:])):
            self._shards[shard].announce(places[first:last] - self._starts[shard])

    def where(self, place: int) -> tuple[str | None, int]:
        """The shard of row ``place``, and its row there."""
        shard = int(self._owners(np.array([place]))[0])
        return str(self._shards[shard].path), place - int(self._starts[shard])

    def shards(self) -> list[tuple[str, int]]:
        """As `RowStore.shards`."""
        return [(str(shard.path), shard.shape[0]) for shard in self._shards]

    def _owners(self, places: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._starts, places, side="right") - 1


def open_path(path: Path, tensor: str | None) -> RowStore:
    """The rows of a file, ``.npy`` or ``.safetensors`` whatever its name, or of a folder of them.

    Raises:
        FileError, DTypeError, ShapeError: as `map_npy` and `map_tensor`, of the first file that
            will not do; a folder without shards.
    """
    if not os.path.isdir(path):  # False, too, where a name cannot be
        return open_file(path, tensor)
    files = shard_paths(path)
    if not files:
        problem = f"is a folder that holds no shard ({' or '.join(SUFFIXES)})"
        raise FileError(path, problem, "Name a file or a folder of shards.")
    return Shards([open_file(file, tensor) for file in files])


def open_file(path: Path, tensor: str | None) -> Mapped:
    """The rows of one file.

    Raises:
        FileError, DTypeError, ShapeError: as `map_npy` and `map_tensor`.
    """
    if kind_of(path) == "safetensors":
        return map_tensor(path, tensor)
    if tensor is not None:
        raise FileError(path, f"is no .safetensors file, in which a tensor {tensor!r} could be")
    return map_npy(path)


def shard_paths(folder: Path) -> list[Path]:
    """The shards in ``folder``, in order.  Hidden files are none: they are still being written.

    Raises:
        FileError: it cannot be listed.
    """
    try:
        names = [p for p in folder.iterdir() if p.suffix in SUFFIXES and p.name[0] != "."]
    except OSError as error:
        raise FileError(folder, f"cannot be listed: {error.strerror}") from None
    return sorted(names, key=lambda path: natural(path.name))
