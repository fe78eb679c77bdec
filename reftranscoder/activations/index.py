"""What an `ActivationWriter` writes down beside its shards, and how a pair is opened by it.

A folder holds ``x/00000.npy``, ``target/00000.npy`` and so on, and ``index.json``: of each shard
how many rows of both are complete, and CRC-32 of their bytes.  A batch is appended to both shards,
which are flushed to the disk, and only then does a new index take the place of the old.  So the
rows that the index counts are there, whatever was killed; what follows them in a shard is the
beginning of a batch that was not finished, and is not looked at.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..arrays import bytes_of
from ..errors import FileError, words
from ..files import schema
from ..files.atomic import atomic_write
from ..files.npy import BFLOAT16
from .npy_map import map_npy
from .row_store import Mapped
from .shards import Shards

X, TARGET = "x", "target"
DTYPES = {
    "float16": np.dtype("<f2"),
    "bfloat16": BFLOAT16,
    "float32": np.dtype("<f4"),
}

_NAME = "index.json"
_FORMAT, _VERSION = "reftranscoder activations", 1
_BLOCK_BYTES = 1 << 24
_WHOLE = schema.Field(schema.is_whole, "a whole number, 0 or above")
_FIELDS = {
    "format": schema.Field(lambda value: value == _FORMAT, f"{_FORMAT!r}"),
    "version": schema.Field(lambda value: value == _VERSION, f"{_VERSION}"),
    "dtype": schema.Field(lambda value: value in list(DTYPES), f"one of {', '.join(DTYPES)}"),
    "widths": schema.Field(
        lambda v: schema.is_list_of(schema.is_whole)(v) and len(v) == 2 and min(v) > 0,
        "two whole numbers above 0",
    ),
    "shards": schema.Field(schema.is_list_of(schema.is_object), "a list of objects"),
}
_SHARD = {"rows": _WHOLE, X: _WHOLE, TARGET: _WHOLE}


class Shard(NamedTuple):
    """What the index says of a pair of shards."""

    rows: int
    checksums: tuple[int, int]  # CRC-32 of the rows of x, and of those of target


class Index(NamedTuple):
    """What the index says."""

    dtype: str  # a key of `DTYPES`
    widths: tuple[int, int]  # of a row of x, and of target
    shards: tuple[Shard, ...]


def has_index(folder: Path) -> bool:
    """Whether an `ActivationWriter` has begun to fill ``folder``."""
    return os.path.isfile(folder / _NAME)


def shard_path(folder: Path, part: str, number: int) -> Path:
    """The file of shard ``number`` of ``part``, `X` or `TARGET`."""
    return folder / part / f"{number:05d}.npy"


def write_index(folder: Path, index: Index) -> None:
    """Replace the index of ``folder``, all or nothing.

    Raises:
        FileError: it cannot be written.
    """
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "dtype": index.dtype,
        "widths": index.widths,
        "shards": [
            {"rows": shard.rows, X: shard.checksums[0], TARGET: shard.checksums[1]}
            for shard in index.shards
        ],
    }
    with atomic_write(folder / _NAME) as file:
        file.write(json.dumps(content).encode())


def read_index(folder: Path) -> Index:
    """The index of ``folder``.

    Raises:
        FileError: it makes no sense.
    """
    path = folder / _NAME
    try:
        content = schema.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(path, f"cannot be read: {words(error)}") from None
    problem = schema.fault(content, _FIELDS)
    shards: Any = [] if problem else content["shards"]
    problem = problem or next(filter(None, (schema.fault(s, _SHARD) for s in shards)), None)
    if problem:
        raise FileError(path, f"is not the index of an ActivationWriter: {problem}")
    listed = tuple(Shard(s["rows"], (s[X], s[TARGET])) for s in shards)
    return Index(content["dtype"], tuple(content["widths"]), listed)


class Written(Shards):
    """Shards with the checksums of their rows."""

    def __init__(self, shards: Sequence[Mapped], checksums: Sequence[int]) -> None:
        super().__init__(shards)
        self._written = tuple(zip(shards, checksums, strict=True))

    def verify(self) -> None:
        """Read every shard, and compare.

        Raises:
            FileError: a shard is not what was written.
        """
        for shard, written in self._written:
            found, step = 0, max(1, _BLOCK_BYTES // (self.dtype.itemsize * self.shape[1]))
            for start in range(0, shard.shape[0], step):
                stop = min(start + step, shard.shape[0])
                rows = shard.take(np.arange(start, stop))
                found = zlib.crc32(bytes_of(rows).data, found)
            if found != written:
                problem = "is damaged: it is not what was written, by the checksum in the index"
                raise FileError(shard.path, problem, "Make it again, or leave it out.")


def open_pair(folder: Path) -> tuple[Written, Written]:
    """The complete rows of ``x`` and ``target`` in ``folder``.

    Raises:
        FileError: the index makes no sense or counts no row; a shard is missing, short, or longer
            than the index says though another follows; or is not of its dtype and width.
    """
    index = read_index(folder)
    if not index.shards:
        raise FileError(folder, "holds no complete batch yet")
    x, target = (_open_part(folder, index, number) for number in range(2))
    return x, target


def _open_part(folder: Path, index: Index, part: int) -> Written:
    shards = []
    for number, shard in enumerate(index.shards):
        path = shard_path(folder, (X, TARGET)[part], number)
        mapped = map_npy(path, shard.rows)
        want = (DTYPES[index.dtype], index.widths[part])
        if (mapped.dtype, mapped.shape[1]) != want:
            problem = f"holds rows of {mapped.shape[1]} {mapped.dtype}, not of {want[1]} {want[0]}"
            raise FileError(path, problem, "Make it again.")
        shards.append(mapped)
    return Written(shards, [shard.checksums[part] for shard in index.shards])
