"""Arrays that stay in their file: parts of a memory map, read ahead and let go of.

A map that is read from front to back is in memory once it was read, until the system wants that
memory back.  Who says what comes next and what is done with has the disk at work meanwhile, and
holds one stretch at a time, however large the file is.
"""

from __future__ import annotations

import dataclasses
import mmap
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError, words
from .stored import Checksum, Stored

#: The types that weights may have where they lie, by name.
DTYPES = ("float16", "bfloat16", "float32", "float64")
_AT_ONCE = 1 << 24  # entries of a stretch: 64 MiB in float32
_LOOKED_AT = 1 << 16  # bytes of an array that a file is known again by


def read_only_map(array: np.ndarray) -> np.memmap | None:
    """The read-only memory map that ``array`` is a part of; None if it is not part of one."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        if isinstance(owner, np.memmap) and isinstance(owner.base, mmap.mmap):
            return owner if owner.mode == "r" else None
        owner = owner.base
    return None


def place_of(array: np.ndarray) -> Stored | None:
    """Where the entries of ``array`` lie, with a checksum of the first 64 KiB of them; None if that
    is no file."""
    owner = read_only_map(array)
    if owner is None or owner.filename is None:
        return None
    start = owner.offset + array.ctypes.data - owner.ctypes.data
    held, extent = _extent(owner, array)
    first = held[extent.start : min(extent.stop, extent.start + _LOOKED_AT)]
    checksum = Checksum(start, len(first), zlib.crc32(first))
    path = Path(owner.filename)
    return Stored(path, array.dtype, array.shape, start, array.strides, checksum)


def mapped_again(place: Stored) -> np.ndarray:
    """The array at ``place``, which another process may have said.

    Raises:
        FileError: the file is not there, or not what it was.
    """
    try:
        if place.agrees():
            return place.mapped()
        found = "other bytes are there"
    except (OSError, ValueError) as error:
        found = words(error)
    problem = f"is not here what it was where it was opened: {found}"
    raise FileError(place.path, problem, "Have all processes see the same files.")


def weights_of(name: str, stored: Stored) -> np.ndarray:
    """The array called ``name`` where and as it is ``stored``.

    Raises:
        FileError: it is of another type than `DTYPES`, damaged, or not there any more.
    """
    if stored.dtype.name not in DTYPES or not stored.dtype.isnative:
        problem = f"pack=False reads {', '.join(DTYPES)}; its {name} holds {stored.dtype}"
        raise FileError(stored.path, problem, "Load it with pack=True.")
    stored.verify()
    return mapped_again(dataclasses.replace(stored, checksum=None))


def stretches(array: np.ndarray, multiple: int = 1) -> Iterator[tuple[int, np.ndarray]]:
    """Parts of the rows of ``array`` in order, each with the number of its first row.

    Each has a ``multiple`` of rows, but for the last one, and at most 2^24 entries, unless one row
    or multiple has more.  What was mapped of one is let go of when the next is asked for.
    """
    rows = len(array)
    of_row = max(array.size // max(rows, 1), 1)
    step = max(_AT_ONCE // of_row // multiple, 1) * multiple
    for first in range(0, rows, step):
        part, following = array[first : first + step], array[first + step : first + 2 * step]
        if following.flags.c_contiguous:  # or what lies between its entries would come along
            _advise(following, "MADV_WILLNEED")
        yield first, part
        let_go(part)


def let_go(array: np.ndarray) -> None:
    """Say that ``array`` is not needed for now: what was mapped of it need not stay in memory."""
    _advise(array, "MADV_DONTNEED")


def _advise(array: np.ndarray, advice: str) -> None:
    """Tell the system, where there is a way to, of the pages from the first entry to the last."""
    owner, code = read_only_map(array), getattr(mmap, advice, None)
    if owner is None or code is None or not array.size:
        return
    held, extent = _extent(owner, array)
    first = extent.start // mmap.PAGESIZE * mmap.PAGESIZE
    held.madvise(code, first, min(extent.stop, len(held)) - first)


def _extent(owner: np.memmap, array: np.ndarray) -> tuple[Any, slice]:
    """The map that ``owner`` holds, and its bytes from the first entry of ``array`` to the last."""
    last = sum((n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True))
    # A map begins at a page, which may be before the entries that NumPy shows of it.
    begin = owner.offset % mmap.ALLOCATIONGRANULARITY + array.ctypes.data - owner.ctypes.data
    return owner.base, slice(begin, begin + last + array.itemsize)
