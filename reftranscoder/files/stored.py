"""An array as it lies in a file: found, but not read until it is asked for.

A file says of each array its dtype, shape and place; what it says is checked against the size of
the file before anything is allocated, and entries are then mapped, or converted a block at a time,
so that an array is in memory once whatever its type and order are in the file.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import FileError
from .halves import is_half, widened

AGAIN = "Make or download it again."
#: Number types that NumPy lacks, by the names that ml_dtypes has for them.
EXTENSIONS = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
_BLOCK = 1 << 22  # bytes that are converted at a time


class Checksum(NamedTuple):
    """The CRC-32 of ``size`` bytes from ``start``, kept by the file or by who looked at it."""

    start: int
    size: int
    crc: int


@dataclasses.dataclass(frozen=True)
class Stored:
    """Where the entries of an array are, and what they are.

    ``strides`` are in bytes, as NumPy has them, and none is negative.
    """

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int  # the byte of the first entry
    strides: tuple[int, ...]
    checksum: Checksum | None = None

    @property
    def size(self) -> int:
        """How many entries it has."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether its entries are floating-point numbers."""
        return self.dtype.kind == "f" or self.dtype.name in EXTENSIONS

    @property
    def transposed(self) -> Stored:
        """The same with its axes in the other order."""
        return dataclasses.replace(self, shape=self.shape[::-1], strides=self.strides[::-1])

    def whole(self) -> int | None:
        """The number above 0 that it is; None where it is several, or none that is whole."""
        if self.shape:
            return None
        number = self.read().item()
        fits = isinstance(number, int | float) and 0 < number < 2**53 and number == int(number)
        return int(number) if fits else None

    def read(self) -> np.ndarray:
        """The entries, read-only: mapped where they lie as NumPy has them, else a new array.

        float16, bfloat16 and float8 are widened to float32, which is exact.

        Raises:
            FileError: the file is shorter than it was, or not what its checksum says.
        """
        self.verify()
        wide = self._wide()
        try:
            if not self.size:
                return np.empty(self.shape, wide)
            if self.dtype == wide and self.strides == row_major(self.shape, wide.itemsize):
                mapped = self._mapped(self.start, self.shape)
                if mapped.flags.aligned:
                    return mapped
            return self._converted(wide)
        except MemoryError:
            raise FileError(self.path, "does not fit into the memory that is free") from None
        except (OSError, ValueError, TypeError) as error:
            raise FileError(self.path, f"cannot be read: {error}", AGAIN) from None

    def mapped(self) -> np.ndarray:
        """The entries where and as they lie, a read-only map.

        Raises:
            OSError, ValueError: the file is not there, or shorter than it was.
        """
        mapped = self._mapped(self.start, self.shape)
        mapped.flags.writeable = False
        return mapped

    def _wide(self) -> np.dtype:
        if not self.is_float:
            return self.dtype.newbyteorder("=")
        return np.result_type(np.float32, self.dtype.newbyteorder("="))

    def _mapped(self, start: int, shape: tuple[int, ...]) -> np.ndarray:
        """A part of the array that begins at ``start``, over a map of no more than its bytes."""
        last = sum((n - 1) * stride for n, stride in zip(shape, self.strides, strict=True))
        span = last + self.dtype.itemsize
        raw = np.memmap(self.path, np.uint8, "r", start, (span,))
        return np.ndarray(shape, self.dtype, raw, 0, self.strides)

    def _converted(self, wide: np.dtype) -> np.ndarray:
        """A new array in rows, filled along the axis that moves slowest in the file."""
        array = np.empty(self.shape, wide)
        if not self.shape:
            array[()] = self._mapped(self.start, ())
            return array
        axis = max(range(len(self.shape)), key=lambda a: self.strides[a])
        length = self.shape[axis]
        step = max(1, _BLOCK * length // (self.size * self.dtype.itemsize))
        for first in range(0, length, step):
            count = min(step, length - first)
            part = (*self.shape[:axis], count, *self.shape[axis + 1 :])
            where = (slice(None),) * axis + (slice(first, first + count),)
            entries = self._mapped(self.start + first * self.strides[axis], part)
            if is_half(self.dtype) and wide == np.float32:
                widened(entries, array[where])
            else:
                array[where] = entries
        return array

    def verify(self) -> None:
        """Compare the checksum of the bytes around the entries, if there is one.

        Raises:
            FileError: they do not agree.
        """
        if not self.agrees():
            raise FileError(self.path, "is damaged: a checksum in it does not agree", AGAIN)

    def agrees(self) -> bool:
        """Whether the bytes around the entries have their checksum, if there is one."""
        if self.checksum is None:
            return True
        start, left, expected = self.checksum
        crc = 0
        with open(self.path, "rb") as file:
            file.seek(start)
            while left and (block := file.read(min(left, _BLOCK))):
                crc = zlib.crc32(block, crc)
                left -= len(block)
        return not left and crc == expected


def row_major(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """The strides, in bytes, of an array whose last axis moves fastest."""
    strides = [itemsize]
    for size in shape[:0:-1]:
        strides.append(strides[-1] * size)
    return tuple(strides[::-1]) if shape else ()


def extension_dtype(path: Path, name: str) -> np.dtype:
    """The dtype of ml_dtypes called ``name``, one of `EXTENSIONS`.

    Raises:
        FileError: the package is not installed, or has no such type.
    """
    try:
        found: np.dtype = np.dtype(getattr(importlib.import_module("ml_dtypes"), name))
        return found
    except (ImportError, AttributeError):
        problem = f"its {name} needs the package ml_dtypes, which is not installed"
        hint = 'Install it: pip install "reftranscoder[formats]"'
        raise FileError(path, problem, hint) from None
