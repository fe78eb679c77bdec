"""Activations on disk or in memory, read a block at a time: what a transcoder is trained on.

A ``.npy`` file (N, I) is memory-mapped: only the rows that are asked for are read, and become
float32 on the way.  In a file of sequences of equal length, row ``r`` is the token at position
``r % sequence_length`` of sequence ``r // sequence_length``; ``drop_position`` leaves the token at
that position of each sequence out (the first one's activations are often outliers).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import options
from .arrays import bytes_of, to_array
from .errors import DTypeError, FileError, NonFiniteError, OptionError, RowError, ShapeError, words
from .files.npy import BFLOAT16, read_header
from .files.sniff import require
from .options import integer_in, positive_integer, truth
from .ownership import float_dtype

_BLOCK_ROWS = 4096


class Activations:
    """Rows of a ``.npy`` file or of an array (N, I), converted when they are read.

    ``len(a)`` and ``a.shape`` count the rows that ``rows`` and ``drop_position`` leave, and indices
    count among them; messages name the row of the file.

    Args:
        source: the path of a ``.npy`` file of float16, bfloat16, float32 or float64; or an array.
        name: what messages call it; by default the path, or ``"activations"``.
        rows: ``"A:B"``, as in a slice: rows A to B - 1 of the file.  All by default.
        sequence_length, drop_position: both or neither; see above.
        dtype: of the rows that are returned.
        check_finite: whether every row that is read is checked for NaN and infinity.

    Raises:
        FileError: no such file, or not a whole, C-ordered ``.npy`` file.
        DTypeError: complex numbers, strings, objects; in a file, also whole numbers.
        ShapeError: not two axes, or an empty one.
        OptionError: rows outside the file, or an option that makes no sense.

    >>> a = rt.Activations(np.arange(12.0).reshape(6, 2), rows="1:5")
    >>> a
    Activations('activations', 4 x 2, float32)
    >>> a.rows([0, -1])
    array([[2., 3.],
           [8., 9.]], dtype=float32)
    """

    def __init__(
        self,
        source: Any,
        name: str | None = None,
        *,
        rows: str | slice | None = None,
        sequence_length: int | None = None,
        drop_position: int | None = None,
        dtype: Any = "float32",
        check_finite: bool = True,
    ) -> None:
        if name is not None and not isinstance(name, str):
            raise OptionError("name", "a text, or None", name)
        if isinstance(source, (str, os.PathLike)):
            path = options.path("source", source)
            self.name = name or str(path)
            self._array = _open(path)
        else:
            self.name = name or "activations"
            self._array = to_array(source, self.name)
        _check_shape(self._array.shape, self.name)
        self.dtype = float_dtype(dtype)
        self._check_finite = truth("check_finite", check_finite)
        self._period, self._dropped = _dropping(sequence_length, drop_position)
        first, last = _bounds(rows, len(self._array), self.name)
        self._first = self._kept_before(first)
        self._count = self._kept_before(last) - self._first
        if not self._count:
            raise OptionError("rows", "a range that holds a row", rows)

    def __len__(self) -> int:
        return self._count

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) as they are returned."""
        return len(self), self._array.shape[1]

    def rows(self, indices: Any) -> np.ndarray:
        """Return the rows at ``indices`` (n,), whole numbers in any order: (n, I), in `dtype`, new.

        Raises:
            RowError: an index outside ``range(-len(self), len(self))``.
            NonFiniteError: NaN or infinity, with the row and column of the file.
        """
        places = self.place(indices)
        return self._converted(self._array[places], places)

    def _converted(self, stored: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The rows that are ``stored`` at ``places`` of the file, in the dtype asked for."""
        block = _widened(stored)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            result = block.astype(self.dtype, order="C", copy=False)
        if self._check_finite:
            finite = np.isfinite(result)
            if not finite.all():
                at = np.unravel_index(np.argmin(finite), result.shape)
                raise self._non_finite(int(places[at[0]]), int(at[1]), block[at])
        return result

    def place(self, indices: Any) -> np.ndarray:
        """Return the rows of the file (n,) where the rows at ``indices`` (n,) are.

        Raises:
            RowError: as `rows`.
        """
        try:
            indices = np.atleast_1d(np.asarray(indices))
        except Exception:  # a ragged list, or somebody else's __array__
            raise RowError(self.name, "indices must be whole numbers in one axis") from None
        if indices.size == 0:
            return np.empty(0, np.intp)
        if indices.dtype.kind not in "iu" or indices.ndim != 1:
            raise RowError(self.name, "indices must be whole numbers in one axis")
        if indices.min() < -len(self) or indices.max() >= len(self):
            raise RowError(self.name, f"an index is outside its {len(self)} rows")
        forwards = np.where(indices < 0, indices + len(self), indices).astype(np.intp)
        kept: np.ndarray = self._first + forwards
        if self._period is None or self._dropped is None:
            return kept
        # Each sequence keeps one row less than it has; from drop_position on, rows move up by one.
        sequence, position = np.divmod(kept, self._period - 1)
        places: np.ndarray = sequence * self._period + position + (position >= self._dropped)
        return places

    def blocks(self, size: int = _BLOCK_ROWS, digest: Any = None) -> Iterator[np.ndarray]:
        """All rows in order, ``size`` at a time.

        ``digest``, an object of `hashlib`, is fed the rows on the way: their bytes as they are
        stored, so that it does not depend on ``size`` or on the dtype that is returned.

        Returns:
            An iterator of arrays (``size``, I) in `dtype`, of which the last may have fewer rows.
        """
        size = positive_integer("size", size)
        for start in range(0, len(self), size):
            places = self.place(np.arange(start, min(start + size, len(self))))
            stored = self._array[places]
            if digest is not None:
                digest.update(bytes_of(stored))
            yield self._converted(stored, places)

    def described(self) -> str:
        """Return stored dtype and shape as a text: what `blocks` leaves out of a digest."""
        return f"{self._array.dtype.str} {self.shape}"

    def read(self) -> np.ndarray:
        """Return all rows at once, in memory: (rows, I) in `dtype`."""
        result = np.empty(self.shape, self.dtype)
        start = 0
        for block in self.blocks():
            result[start : start + len(block)] = block
            start += len(block)
        return result

    def check(self) -> None:
        """Read everything once, so that NaN and infinity are found before the work, not within it.

        Raises:
            NonFiniteError: as `rows`.
        """
        for _ in self.blocks():
            pass

    def part(self, start: int, stop: int) -> Activations:
        """Return rows ``start`` to ``stop - 1`` of these, as `Activations` over the same memory."""
        start = integer_in("start", start, 0, len(self))
        stop = integer_in("stop", stop, start + 1, len(self) + 1)
        part = object.__new__(Activations)
        part.__dict__.update(self.__dict__)
        part._first, part._count = self._first + start, stop - start
        return part

    def __repr__(self) -> str:
        return f"Activations({self.name!r}, {self.shape[0]} x {self.shape[1]}, {self.dtype})"

    def _kept_before(self, row: int) -> int:
        """How many rows before ``row`` of the file are kept."""
        if self._period is None or self._dropped is None:
            return row
        return row - (row + self._period - 1 - self._dropped) // self._period

    def _non_finite(self, row: int, column: int, value: Any) -> NonFiniteError:
        hint = "Leave such rows out."
        if np.isfinite(value):
            hint = f"It is too large for {self.dtype}."
        return NonFiniteError(self.name, (row, column), value, hint)


def paired(
    x: Any,
    target: Any,
    *,
    rows: str | slice | None = None,
    sequence_length: int | None = None,
    drop_position: int | None = None,
    dtype: Any = "float32",
    check_finite: bool = True,
) -> tuple[Activations, Activations]:
    """``x`` (N, I) and ``target`` (N, O), whose rows belong together, as `Activations`.

    Each is a path or an array and takes these options (see `Activations`); what is `Activations`
    already keeps its own.

    Returns:
        Both as `Activations`, of as many rows.

    Raises:
        ShapeError: they do not have the same number of rows.
        Error: as `Activations`.
    """
    if not isinstance(x, Activations) and not isinstance(target, Activations):
        # Whole files first: a range of rows could hide that they do not belong together.
        _check_pair(_opened(x, "x"), _opened(target, "target"))
    options: dict[str, Any] = {
        "rows": rows,
        "sequence_length": sequence_length,
        "drop_position": drop_position,
        "dtype": dtype,
        "check_finite": check_finite,
    }
    pair = _opened(x, "x", **options), _opened(target, "target", **options)
    _check_pair(*pair)
    return pair


def _opened(source: Any, name: str, **options: Any) -> Activations:
    if isinstance(source, Activations):
        return source
    is_path = isinstance(source, (str, os.PathLike))
    return Activations(source, None if is_path else name, **options)


def _check_pair(x: Activations, target: Activations) -> None:
    if len(x) != len(target):
        want = (len(x), target.shape[1])
        hint = f"Its rows must pair up with the {len(x)} of {x.name}."
        if target.shape[1] == len(x):
            hint = "It looks transposed: np.save(path, target.T.copy())."
        elif x.shape[1] == len(target):
            hint = f"{x.name} {x.shape} looks transposed: np.save(path, x.T.copy())."
        raise ShapeError(target.name, want, target.shape, hint)


_REMEDIES = {
    "npz": "Save each of its arrays on its own: np.save(path, archive['name']).",
    "torch": "Read it with torch.load(path, weights_only=True), then np.save(path, x.numpy()).",
    "pickle": "It could run any code. Have whoever made it save arrays: np.save(path, x).",
    "safetensors": "Save each of its arrays on its own: np.save(path, x).",
}


def _open(path: Path) -> np.ndarray:
    """The read-only memory map of a ``.npy`` file."""
    require(path, "npy", _REMEDIES)
    try:
        with open(path, "rb") as file:
            header, start = read_header(file), file.tell()
    except (OSError, ValueError) as error:
        problem = f"its header makes no sense: {words(error)}"
        raise FileError(path, problem, "Make it again.") from None
    if header.dtype.hasobject:
        raise FileError(
            path,
            "holds pickled objects, which could run any code",
            "If you trust it: np.save(path, np.load(path, allow_pickle=True).astype('float32')).",
        )
    if header.dtype.kind != "f" and header.dtype != BFLOAT16:
        hint = "Save it as float32: np.save(path, x.astype('float32'))."
        raise DTypeError(str(path), header.dtype, hint)
    _check_shape(header.shape, str(path))
    expected, found = start + header.nbytes, path.stat().st_size
    if found != expected:
        what = "is truncated" if found < expected else "goes on after its array"
        problem = f"{what}: {expected} bytes by its header, and it has {found}"
        raise FileError(path, problem, "Make it again.")
    if header.fortran:
        raise FileError(
            path,
            "is stored column by column (Fortran order): to read a row is to read the whole file",
            "Save it again: np.save(path, np.ascontiguousarray(x)).",
        )
    return np.asarray(np.memmap(path, header.dtype, "r", start, header.shape))


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    if len(shape) != 2:
        hints = {1: "One row: x[None, :].", 3: "Join sequences: x.reshape(-1, x.shape[-1])."}
        raise ShapeError(name, "(any, any)", shape, hints.get(len(shape), ""), "(rows, columns)")
    if min(shape) < 1:
        raise ShapeError(name, "without an empty axis", shape)


def _widened(block: np.ndarray) -> np.ndarray:
    """``block`` itself, or its bfloat16 as the float32 whose upper half they are."""
    if block.dtype != BFLOAT16:
        return block
    return (block.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _bounds(rows: str | slice | None, count: int, name: str) -> tuple[int, int]:
    """The first row and the one after the last of ``"A:B"``."""
    want = f"'A:B', a range within the {count} rows of {name}"
    if isinstance(rows, str):
        match = re.fullmatch(r"\s*(-?\d{1,18})?\s*:\s*(-?\d{1,18})?\s*", rows)
        if match is None:
            raise OptionError("rows", want, rows)
        rows = slice(*(None if text is None else int(text) for text in match.groups()))
    elif rows is None:
        rows = slice(None)
    if not isinstance(rows, slice) or rows.step not in (None, 1):
        raise OptionError("rows", want, rows)
    edges = (edge for edge in (rows.start, rows.stop) if edge is not None)
    if not all(isinstance(edge, (int, np.integer)) for edge in edges):
        raise OptionError("rows", want, rows)
    first = 0 if rows.start is None else rows.start
    last = count if rows.stop is None else rows.stop
    first, last = (edge + count if edge < 0 else edge for edge in (first, last))
    if not 0 <= first < last <= count:
        raise OptionError("rows", want, f"{first}:{last}")
    return first, last


def _dropping(length: int | None, position: int | None) -> tuple[int | None, int | None]:
    if length is None and position is None:
        return None, None
    if length is None or position is None:
        name = "sequence_length" if length is None else "drop_position"
        raise OptionError(name, "given together with the other of the two", None)
    length = positive_integer("sequence_length", length)
    if length == 1:
        raise OptionError("sequence_length", "at least 2: a row of each is dropped", length)
    return length, integer_in("drop_position", position, 0, length)
