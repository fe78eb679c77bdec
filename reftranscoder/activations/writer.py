"""`ActivationWriter`: pairs of activations, written batch by batch while a model runs."""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from .. import options
from ..arrays import bytes_of, check_finite, check_same_rows, to_matrix
from ..errors import FileError, NonFiniteError, OptionError, ShapeError, words
from ..options import one_of, positive_integer
from .index import DTYPES, TARGET, Index, Shard, X, has_index, read_index, shard_path, write_index
from .row_store import widened

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # Windows has none

_PARTS = (X, TARGET)
_FINITE = "Leave such rows out, of both."


class ActivationWriter:
    """Fills a folder with rows of ``x`` (N, I) and ``target`` (N, O), a batch at a time.

    `fit`, ``reftranscoder fit`` and ``rt.paired`` read the folder, also while it grows.  Whenever
    the process is killed, every batch whose `add` had returned is there, and no part of another.
    A writer of a folder that is there goes on behind its rows: ``len(writer)`` says how many.

        with rt.ActivationWriter("acts") as writer:
            for x, target in batches:
                writer.add(x, target)

    Args:
        folder: where to; it is made if it is not there.
        dtype: ``"float16"``, ``"bfloat16"`` or ``"float32"``, to which numbers are rounded, halfway
            cases to even.  By default that of the first batch, float32 for anything else.
        shard_rows: a shard that has so many rows or more is followed by a new one.

    Raises:
        FileError: the folder cannot be written, holds something else, or is being written.
        OptionError: an option that makes no sense, or another dtype than that of the folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with rt.ActivationWriter(folder) as writer:
    ...         writer.add(np.ones((2, 3)), np.ones((2, 1)))
    ...         writer.add(np.zeros((5, 3)), np.zeros((5, 1)))
    ...     rt.paired(folder)[0].shape
    (7, 3)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        dtype: str | None = None,
        shard_rows: int = 1 << 16,
    ) -> None:
        self.folder = options.path("folder", folder)
        self._dtype = None if dtype is None else one_of("dtype", dtype, DTYPES)
        self._shard_rows = positive_integer("shard_rows", shard_rows)
        self._files: list[io.FileIO] = []
        self._index: Index | None = None
        self._lock: int | None = _locked(self.folder)
        try:
            self._go_on()
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        """The rows that are complete."""
        return 0 if self._index is None else sum(shard.rows for shard in self._index.shards)

    def add(self, x: Any, target: Any) -> None:
        """Write rows of ``x`` (B, I) and ``target`` (B, O): arrays, or tensors on the CPU.

        Raises:
            ShapeError: they do not pair up, or are not as wide as the rows before.
            NonFiniteError: NaN, infinity, or a number too large for the dtype.
            FileError: they cannot be written; what was complete still is.
            OptionError: the writer is closed.
        """
        if self._lock is None:
            raise OptionError("writer", "open", "one that is closed")
        if self._dtype is None:
            self._dtype = _dtype_of(x, target)
        widths = (None, None) if self._index is None else self._index.widths
        rows = (
            _stored(x, X, "(B, I)", widths[0], self._dtype),
            _stored(target, TARGET, "(B, O)", widths[1], self._dtype),
        )
        check_same_rows(TARGET, rows[1], len(rows[0]))
        for part, name in zip(rows, _PARTS):
            if not part.shape[1]:
                raise ShapeError(name, "with a column", part.shape)
        if not len(rows[0]):
            return
        if self._index is None:
            self._index = Index(self._dtype, (rows[0].shape[1], rows[1].shape[1]), ())
        try:
            self._append(self._index, rows)
        except OSError as error:
            if isinstance(error, FileError):
                raise
            problem = f"cannot be written: {error.strerror or words(error)}"
            raise FileError(self.folder, problem) from error

    def close(self) -> None:
        """End the last shard.  What is complete is on the disk already."""
        for file in self._files:
            file.close()
        self._files = []
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None

    def __enter__(self) -> ActivationWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _go_on(self) -> None:
        """Take up a folder where its index says that it ends."""
        for part in _PARTS:
            (self.folder / part).mkdir(exist_ok=True)
        if not has_index(self.folder):
            held = [p for part in _PARTS for p in (self.folder / part).glob("*.npy")]
            if any(path != shard_path(self.folder, path.parent.name, 0) for path in held):
                problem = "holds shards that no ActivationWriter wrote"
                raise FileError(self.folder, problem, "Name another folder.")
            return
        self._index = read_index(self.folder)
        if self._dtype not in (None, self._index.dtype):
            want = f"{self._index.dtype!r}, as in {self.folder}"
            raise OptionError("dtype", want, self._dtype)
        self._dtype = self._index.dtype
        shards = self._index.shards
        for part in _PARTS:
            shard_path(self.folder, part, len(shards)).unlink(missing_ok=True)
        if shards:
            self._open(len(shards) - 1, "r+")
            for file, width in zip(self._files, self._index.widths):
                _write_header(file, self._dtype, shards[-1].rows, width)
                file.truncate(_end(file, self._dtype, shards[-1].rows, width))

    def _open(self, number: int, mode: str) -> None:
        for file in self._files:
            file.close()
        paths = [shard_path(self.folder, part, number) for part in _PARTS]
        self._files = [io.FileIO(path, mode) for path in paths]

    def _append(self, index: Index, rows: tuple[np.ndarray, np.ndarray]) -> None:
        """Append to the last shard or begin one, and count the rows when they are on the disk."""
        *before, last = index.shards or (Shard(0, (0, 0)),)
        if index.shards and last.rows >= self._shard_rows:
            before, last = list(index.shards), Shard(0, (0, 0))
        if not last.rows:
            self._open(len(before), "w+")
        total, checksums = last.rows + len(rows[0]), []
        for file, part, known in zip(self._files, rows, last.checksums):
            width = part.shape[1]
            file.seek(_end(file, index.dtype, last.rows, width))
            content = bytes_of(part).data
            checksums.append(zlib.crc32(content, known))
            while content:
                content = content[file.write(content) :]
            _write_header(file, index.dtype, total, width)
            os.fsync(file.fileno())
        shard = Shard(total, (checksums[0], checksums[1]))
        longer = index._replace(shards=(*before, shard))
        write_index(self.folder, longer)
        self._index = longer


def _locked(folder: Path) -> int:
    """A descriptor of ``folder``, made if it is not there, that no other writer has."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(os.devnull if fcntl is None else folder, os.O_RDONLY)
    except OSError as error:
        raise FileError(folder, f"cannot be written: {error.strerror}") from None
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise FileError(folder, "is being written by another ActivationWriter") from None
    return descriptor


def _dtype_of(x: Any, target: Any) -> str:
    """The narrowest dtype that holds both as they are; float32 for anything else."""
    names = {str(getattr(part, "dtype", "")).removeprefix("torch.") for part in (x, target)}
    return names.pop() if len(names) == 1 and names <= set(DTYPES) else "float32"


def _stored(value: Any, name: str, letters: str, width: int | None, dtype: str) -> np.ndarray:
    """The rows ``value`` in the dtype of the shards, refused where that cannot hold them."""
    rows = to_matrix(value, name, letters, width)
    check_finite(rows, name, _FINITE)
    with np.errstate(over="ignore", under="ignore"):
        stored = _to_bfloat16(rows) if dtype == "bfloat16" else rows.astype(DTYPES[dtype])
    finite = np.isfinite(widened(stored))
    if not finite.all():
        row, column = map(int, np.unravel_index(np.argmin(finite), finite.shape))
        hint = f"It is too large for {dtype}."
        raise NonFiniteError(name, (row, column), rows[row, column], hint)
    return np.ascontiguousarray(stored)


def _to_bfloat16(rows: np.ndarray) -> np.ndarray:
    """The upper halves of the numbers as float32, rounded to the nearest, halfway cases to even."""
    bits = rows.astype("<f4").view("<u4").astype(np.uint64)
    upper = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return upper.astype("<u2").view("V2")


def _write_header(file: io.FileIO, dtype: str, rows: int, width: int) -> None:
    """Begin ``file`` with a header, whose length does not depend on ``rows``."""
    descr = np.lib.format.dtype_to_descr(DTYPES[dtype])
    file.seek(0)
    header = {"descr": descr, "fortran_order": False, "shape": (rows, width)}
    np.lib.format.write_array_header_1_0(file, header)


def _end(file: io.FileIO, dtype: str, rows: int, width: int) -> int:
    """The byte behind row ``rows - 1``; writes a header to learn where the first one is."""
    _write_header(file, dtype, rows, width)
    return file.tell() + rows * width * DTYPES[dtype].itemsize
