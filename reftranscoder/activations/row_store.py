"""Rows where they lie: what `Activations` asks for, whether they are in memory, files or chunks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DTypeError, FileError, ShapeError, words
from ..files import halves
from ..files.npy import BFLOAT16

#: Bytes between two wanted rows that are read rather than skipped: a disk reads on in less time
#: than it takes to begin anew.
_GAP = 1 << 16
_TELLS = hasattr(os, "preadv") and hasattr(os, "RWF_NOWAIT")
_LOOKED_AT = 8  # bytes of a file, to see whether it is in memory
_ADVISES = hasattr(os, "posix_fadvise")  # Linux; elsewhere rows are read when they are needed


class RowStore:
    """N rows of one width and dtype.  What is not in files has nothing to add to `take`."""

    shape: tuple[int, int]  # (N, width)
    dtype: np.dtype  # of the rows as they are stored

    def take(self, places: np.ndarray) -> np.ndarray:
        """The rows (n, width) at ``places`` (n,), in the dtype of the store, new."""
        raise NotImplementedError

    def announce(self, places: np.ndarray) -> None:
        """Be told that the rows at ``places``, ascending, will be taken soon."""

    def where(self, place: int) -> tuple[str | None, int]:
        """The file that row ``place`` is in, if it has one of its own, and its row there."""
        return None, place

    def shards(self) -> list[tuple[str, int]]:
        """The files of a folder and how many rows each has."""
        return []

    def verify(self) -> None:
        """Read all, if there is something to compare it with: what its writer wrote down."""


class InMemory(RowStore):
    """The rows of an array."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.shape = array.shape
        self.dtype = array.dtype

    def take(self, places: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """As `RowStore.take`; written to ``out`` (n, width), if that is given."""
        if out is None:
            out = np.empty((len(places), self.shape[1]), self.dtype)
        # All of them are there; "raise" would have NumPy write to an array of its own first.
        rows: np.ndarray = np.take(self._array, places, 0, out, "clip")
        return rows


class Mapped(InMemory):
    """The rows of a file, of which only those are read that are taken.

    ``array`` is its read-only memory map, whose first entry is at byte ``start``.  Pickled it is
    the place of these, to be mapped again by a process that sees the same files.
    """

    def __init__(self, path: Path, array: np.ndarray, start: int) -> None:
        super().__init__(array)
        self.path = path
        self._start = start

    def __reduce__(self) -> tuple[Any, ...]:
        return _mapped_again, (self.path.absolute(), self.dtype, self._start, self.shape)

    def announce(self, places: np.ndarray) -> None:
        """Have the system read them meanwhile, from front to back, and small gaps with them."""
        if not _ADVISES or not len(places):
            return
        width = self.dtype.itemsize * self.shape[1]
        breaks = np.flatnonzero(np.diff(places) * width > _GAP)
        firsts = places[np.concatenate([[0], breaks + 1])]
        lasts = places[np.concatenate([breaks, [len(places) - 1]])]
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError:  # gone since: the map still holds it
            return
        try:
            if _seem_read(descriptor, self._start + firsts * width):
                return
            for first, last in zip(firsts.tolist(), lasts.tolist()):
                begin, length = self._start + first * width, (last + 1 - first) * width
                os.posix_fadvise(descriptor, begin, length, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)


def _seem_read(descriptor: int, places: np.ndarray) -> bool:
    """Whether some of the bytes at ``places`` of a file, evenly spaced, are all in memory: then to
    announce the others takes longer than it spares."""
    if not _TELLS:
        return False
    byte = bytearray(1)
    try:
        for place in places[:: -(-len(places) // _LOOKED_AT)].tolist():
            if not os.preadv(descriptor, [byte], place, os.RWF_NOWAIT):
                return False  # the file ends before
    except OSError:  # it would have to wait, or this file system does not tell
        return False
    return True


def _mapped_again(path: Path, dtype: np.dtype, start: int, shape: tuple[int, int]) -> Mapped:
    try:
        array = np.memmap(path, dtype, "r", start, shape)
    except (OSError, ValueError) as error:  # none here, or a shorter one
        problem = f"is not here what it was where it was opened: {words(error)}"
        raise FileError(path, problem, "Have all processes see the same files.") from None
    return Mapped(path, np.asarray(array), start)


def widened(rows: np.ndarray) -> np.ndarray:
    """``rows`` themselves, or in half precision the float32 numbers that they are."""
    return halves.widened(rows) if halves.is_half(rows.dtype) else rows


def check_shape(shape: tuple[int, ...], name: str) -> None:
    """Refuse what is not rows of at least one number.

    Raises:
        ShapeError: not two axes, or an empty one.
    """
    if len(shape) != 2:
        hints = {1: "One row: x[None, :].", 3: "Join sequences: x.reshape(-1, x.shape[-1])."}
        raise ShapeError(name, "(any, any)", shape, hints.get(len(shape), ""), "(rows, columns)")
    if min(shape) < 1:
        raise ShapeError(name, "without an empty axis", shape)


def check_float(dtype: np.dtype, name: str) -> None:
    """Refuse what is not stored as floating-point numbers.

    Raises:
        DTypeError: another dtype.
    """
    if dtype.kind != "f" and dtype != BFLOAT16:
        hint = "Save it as float32: np.save(path, x.astype('float32'))."
        raise DTypeError(name, dtype, hint)
