"""`Activations`: rows that are read, and become float32, a block at a time.

Of a file only the rows that are asked for are read.  In a file of sequences of equal length, row
``r`` is the token at position ``r % sequence_length`` of sequence ``r // sequence_length``;
``drop_position`` leaves the token at that position of each sequence out (the first one's
activations are often outliers).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import options
from ..arrays import bytes_of, to_array
from ..errors import NonFiniteError, OptionError, RowError
from ..options import integer_in, positive_integer, truth
from ..ownership import float_dtype
from .dask_rows import DaskRows, is_dask
from .row_store import InMemory, RowStore, check_shape, widened
from .selection import Selection
from .shards import open_path

_BLOCK_ROWS = 4096


class Activations:
    """Rows of a file, a folder of files or an array (N, I), converted when they are read.

    ``len(a)`` and ``a.shape`` count the rows that ``rows`` and ``drop_position`` leave, and indices
    count among them; messages name the row of the file.

    Args:
        source: the path of a ``.npy`` or ``.safetensors`` file of float16, bfloat16, float32 or
            float64, or of a folder of such shards; or an array, of NumPy or of Dask.
        name: what messages call it; by default the path, or ``"activations"``.
        rows: ``"A:B"``, as in a slice: rows A to B - 1 of the file.  All by default.
        sequence_length, drop_position: both or neither; see above.
        dtype: of the rows that are returned.
        check_finite: whether every row that is read is checked for NaN and infinity.
        tensor: which one of ``.safetensors`` files that hold several.

    Raises:
        FileError: no such file, or not a whole, C-ordered one; of shards the first is named.
        DTypeError: complex numbers, strings, objects; in a file, also whole numbers; shards of
            several dtypes.
        ShapeError: not two axes, or an empty one; shards of several widths.
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
        tensor: str | None = None,
    ) -> None:
        if name is not None and not isinstance(name, str):
            raise OptionError("name", "a text, or None", name)
        if tensor is not None and not isinstance(tensor, str):
            raise OptionError("tensor", "the name of a tensor, or None", tensor)
        is_path = isinstance(source, (str, os.PathLike))
        self.name = name or (str(options.path("source", source)) if is_path else "activations")
        if is_path:
            self._stored: RowStore = open_path(options.path("source", source), tensor)
        elif isinstance(source, RowStore):
            self._stored = source
        elif is_dask(source):
            self._stored = DaskRows(source, self.name)
        else:
            array = to_array(source, self.name)
            check_shape(array.shape, self.name)
            self._stored = InMemory(array)
        self.dtype = float_dtype(dtype)
        self._check_finite = truth("check_finite", check_finite)
        stored = self._stored.shape[0]
        self._selection = Selection.of(rows, sequence_length, drop_position, stored, self.name)

    def __len__(self) -> int:
        return self._selection.count

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) as they are returned."""
        return len(self), self._stored.shape[1]

    @property
    def store(self) -> RowStore:
        """Where the rows lie."""
        return self._stored

    def in_store(self, store: RowStore) -> Activations:
        """Return the same rows, read from ``store``, which has all that `store` has."""
        return self._with(_stored=store)

    def rows(self, indices: Any) -> np.ndarray:
        """Return the rows at ``indices`` (n,), whole numbers in any order: (n, I), in `dtype`, new.

        Raises:
            RowError: an index outside ``range(-len(self), len(self))``.
            NonFiniteError: NaN or infinity, with the row and column of the file.
        """
        places = self.place(indices)
        return self._converted(self._stored.take(places), places)

    def _converted(self, stored: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The rows that are ``stored`` at ``places`` of the file, in the dtype asked for."""
        block = widened(stored)
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
        return self._selection.place(forwards)

    def announce(self, indices: np.ndarray) -> None:
        """Say that the rows at ``indices`` (n,), ascending, will be read soon: a disk can begin.

        Raises:
            RowError: as `rows`.
        """
        self._stored.announce(self.place(indices))

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
            stored = self._stored.take(places)
            if digest is not None:
                digest.update(bytes_of(stored))
            yield self._converted(stored, places)

    def described(self) -> str:
        """Return dtypes and shape as a text: what `blocks` leaves out of a digest."""
        read_as = "" if self.dtype == np.float32 else f" as {self.dtype}"
        return f"{self._stored.dtype.str} {self.shape}{read_as}"

    def read(self) -> np.ndarray:
        """Return all rows at once, in memory: (rows, I) in `dtype`."""
        result = np.empty(self.shape, self.dtype)
        start = 0
        for block in self.blocks():
            result[start : start + len(block)] = block
            start += len(block)
        return result

    def check(self) -> None:
        """Read everything once, so that what is wrong is found before the work, not within it.

        Raises:
            FileError: as `verify`.
            NonFiniteError: as `rows`.
        """
        self.verify()
        for _ in self.blocks():
            pass

    def shards(self) -> list[tuple[str, int]]:
        """Return the files of a folder, and how many rows each has, whichever of them are kept."""
        return self._stored.shards()

    def verify(self) -> None:
        """Compare shards that an `ActivationWriter` wrote with the checksums that it wrote down.

        Raises:
            FileError: a shard is not what was written.
        """
        self._stored.verify()

    def part(self, start: int, stop: int) -> Activations:
        """Return rows ``start`` to ``stop - 1`` of these, as `Activations` over the same memory."""
        start = integer_in("start", start, 0, len(self))
        stop = integer_in("stop", stop, start + 1, len(self) + 1)
        return self._with(_selection=self._selection.part(start, stop))

    def _with(self, **changed: Any) -> Activations:
        other = object.__new__(Activations)
        other.__dict__.update(self.__dict__, **changed)
        return other

    def __repr__(self) -> str:
        return f"Activations({self.name!r}, {self.shape[0]} x {self.shape[1]}, {self.dtype})"

    def _non_finite(self, row: int, column: int, value: Any) -> NonFiniteError:
        hint = "Leave such rows out."
        if np.isfinite(value):
            hint = f"It is too large for {self.dtype}."
        file, row = self._stored.where(row)
        return NonFiniteError(file or self.name, (row, column), value, hint)
