"""What somebody else computed, read and checked: malformed results are refused, never judged."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from ...arrays import is_sparse, numbers, to_array, to_sparse
from ...errors import OptionError, ShapeError
from ...sparse import Sparse, to_csr
from .stage_graph import ALL_STAGES, OF_OWN

_SPARSE = ("hidden", "d_hidden", "d_pre")
_BY_ROW = ("pre", "pre_acts", "reconstruction", "d_reconstruction", "dx", *_SPARSE)


class Candidate:
    """The results that were given, by stage, as blocks of rows in float64.

    Args:
        results: stage names to arrays, whatever subset there is; ``indices`` (B, k) and ``values``
            (B, k) may stand for ``hidden``, where an index of -1 is an empty place.
        sizes: (B, I, D, O).
        skip: whether there is a skip connection.
        own: the gradients of what the activation takes that no other does.

    Raises:
        OptionError: a name that is no stage.
        ShapeError: a shape that does not fit; indices out of range or repeated within a row.
        DTypeError: complex numbers, strings, objects.
    """

    def __init__(
        self,
        results: Mapping[str, Any],
        sizes: tuple[int, int, int, int],
        skip: bool,
        own: Collection[str] = (),
    ) -> None:
        results = {name: value for name, value in results.items() if value is not None}
        self.B, self.I, self.D, self.O = sizes
        self._arrays: dict[str, np.ndarray | Sparse] = {}
        self._inactive: Sparse | None = None  # places selected by indices, with values of zero
        self._non_finite: dict[str, tuple[int, ...] | None] = {}
        if "indices" in results or "values" in results:
            if "hidden" in results or not {"indices", "values"} <= set(results):
                want = "given as indices and values, or as hidden"
                raise OptionError(
                    "hidden", want, sorted({"hidden", "indices", "values"} & set(results))
                )
            found = self._from_indices(results.pop("indices"), results.pop("values"))
            self._arrays["hidden"], self._inactive = found
        shapes = self._shapes(skip, own)
        for name, value in results.items():
            if not isinstance(name, str) or name not in shapes:
                raise OptionError("the candidate's names", f"among {', '.join(shapes)}", name)
            self._arrays[name] = self._checked(name, value, shapes[name])

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    @property
    def given(self) -> list[str]:
        """The stages that were given, in the order in which they are computed."""
        return [stage for stage in ALL_STAGES if stage in self._arrays]

    def dtype(self, name: str) -> np.dtype:
        array = self._arrays[name]
        return array.values.dtype if isinstance(array, Sparse) else array.dtype

    def whole(self, name: str) -> np.ndarray:
        """A gradient of a parameter, or the loss, as it was given."""
        return self._dense(name)

    def rows(self, name: str, rows: slice) -> np.ndarray:
        """A block of rows of a dense stage, in float64."""
        with np.errstate(over="ignore"):  # a longdouble beyond float64 is as far off as infinity
            return self._dense(name)[rows].astype(np.float64)

    def is_sparse(self, name: str) -> bool:
        return isinstance(self._arrays[name], Sparse)

    def features(self, name: str, rows: slice) -> Sparse:
        """A block of rows of ``hidden`` or its gradients at the entries that were given, in
        float64."""
        array = self._arrays[name]
        if not isinstance(array, Sparse):
            return Sparse.from_dense(self.rows(name, rows))
        return _rows_of(array, rows)

    def as_given(self, name: str) -> Sparse:
        """``hidden`` or one of its gradients as a `Sparse`, in the type that was given."""
        array = self._arrays[name]
        return array if isinstance(array, Sparse) else Sparse.from_dense(array)

    def with_stage(self, name: str, array: np.ndarray | Sparse) -> Candidate:
        """The same, with ``array``, which is of the right shape, for what was given of a stage."""
        other = copy.copy(self)
        other._arrays, other._non_finite = self._arrays | {name: array}, {}
        if name == "hidden":
            other._inactive = None
        return other

    def inactive(self, rows: slice) -> Sparse | None:
        """The places of a block of rows that ``indices`` selected, and whose ``values`` are zero.

        None where hidden was given without indices, which does not tell.
        """
        return None if self._inactive is None else _rows_of(self._inactive, rows)

    def first_non_finite(self, name: str) -> tuple[int, ...] | None:
        """The first index of NaN or infinity."""
        if name not in self._non_finite:
            self._non_finite[name] = self._find_non_finite(name)
        return self._non_finite[name]

    def _find_non_finite(self, name: str) -> tuple[int, ...] | None:
        array = self._arrays[name]
        if isinstance(array, Sparse):
            bad = np.flatnonzero(~np.isfinite(array.values))
            if not len(bad):
                return None
            return int(array.rows()[bad[0]]), int(array.indices[bad[0]])
        step = max(1, (1 << 22) // max(1, array[:1].size)) if array.ndim else 1
        for start in range(0, len(array) if array.ndim else 1, step):
            block = array[start : start + step] if array.ndim else array
            bad = ~np.isfinite(block)
            if bad.any():
                index = np.unravel_index(np.argmax(bad), block.shape)
                return tuple(int(i) + (start if axis == 0 else 0) for axis, i in enumerate(index))
        return None

    def nonzero(self, name: str) -> tuple[np.ndarray, ...]:
        """For each axis of a stage, a mask of where there is a number that is not zero."""
        array = self._arrays[name]
        found = tuple(np.zeros(length, bool) for length in array.shape)
        if isinstance(array, Sparse):
            stored = array.values != 0
            found[0][array.rows()[stored]] = True
            found[1][array.indices[stored]] = True
            return found
        step = max(1, (1 << 22) // max(1, array[:1].size)) if array.ndim else 1
        for start in range(0, len(array) if array.ndim else 0, step):
            block = array[start : start + step] != 0
            found[0][start : start + step] = block.any(axis=tuple(range(1, array.ndim)))
            if array.ndim == 2:
                found[1][:] |= block.any(axis=0)
        return found

    def part(
        self,
        rows: np.ndarray | None = None,
        features: np.ndarray | None = None,
        without: Iterable[str] = (),
    ) -> Candidate:
        """Some ``rows`` or some ``features`` of what was given, ``without`` these stages."""
        part = copy.copy(self)
        part._arrays, part._non_finite = {}, {}
        if rows is not None:
            part.B = len(rows)
        if features is not None:
            part.D = len(features)
        if self._inactive is not None:
            part._inactive = _selected(self._inactive, rows, features)
        for name, array in self._arrays.items():
            if name in without:
                continue
            if isinstance(array, Sparse):
                array = _selected(array, rows, features)
            elif name in _BY_ROW and rows is not None:
                array = array[rows]
            if features is not None and not isinstance(array, Sparse):
                if name in ("dW_dec", "dW_enc", "db_enc", *OF_OWN):
                    array = array[features]
                elif name in _BY_ROW and name not in ("reconstruction", "d_reconstruction", "dx"):
                    array = array[:, features]
            part._arrays[name] = array
        return part

    def _dense(self, name: str) -> np.ndarray:
        array = self._arrays[name]
        if isinstance(array, Sparse):
            raise AssertionError(f"{name} was given as a sparse matrix")
        return array

    def _shapes(self, skip: bool, own: Collection[str]) -> dict[str, tuple[int, ...]]:
        B, I, D, O = self.B, self.I, self.D, self.O
        rows = {"reconstruction": O, "d_reconstruction": O, "dx": I}
        shapes: dict[str, tuple[int, ...]] = {s: (B, rows.get(s, D)) for s in ALL_STAGES}
        shapes |= {"loss": (), "dW_dec": (D, O), "db_dec": (O,), "dW_enc": (D, I), "db_enc": (D,)}
        shapes["dW_skip"] = (O, I)
        if not skip:
            del shapes["dW_skip"]
        shapes |= dict.fromkeys(OF_OWN, (D,))
        return {name: shapes[name] for name in shapes if name not in OF_OWN or name in own}

    def _checked(self, name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray | Sparse:
        array: np.ndarray | Sparse
        if name in _SPARSE and is_sparse(value):
            array = to_sparse(value, name, self.D)
        else:
            array = to_array(value, name)
            if shape == () and array.size == 1:
                array = array.reshape(())
        if array.shape != shape:
            transposed = array.shape == shape[::-1] and len(shape) == 2
            hint = f"It looks transposed: pass {name}.T." if transposed else ""
            raise ShapeError(name, shape, array.shape, hint)
        return array

    def _from_indices(self, indices: Any, values: Any) -> tuple[Sparse, Sparse]:
        """hidden, and the places that were selected without being active."""
        values = to_array(values, "values")
        indices = numbers(indices, "indices")
        if indices.dtype.kind not in "iu":
            raise OptionError("indices", "whole numbers", str(indices.dtype))
        if indices.ndim != 2 or len(indices) != self.B:
            raise ShapeError("indices", (self.B, "k"), indices.shape, letters="(B, k)")
        if values.shape != indices.shape:
            raise ShapeError("values", indices.shape, values.shape, "Each index has a value.")
        outside = (indices < -1) | (indices >= self.D)
        if outside.any():
            at = tuple(int(i) for i in np.argwhere(outside)[0])
            got = f"{indices[at]} at row {at[0]}, column {at[1]}"
            raise OptionError("indices", f"from 0 to {self.D - 1}, or -1", got)
        order = np.argsort(indices, axis=1, kind="stable")
        indices = np.take_along_axis(indices, order, axis=1)
        values = np.take_along_axis(values, order, axis=1)
        repeated = (indices[:, 1:] == indices[:, :-1]) & (indices[:, 1:] >= 0)
        if repeated.any():
            row, column = np.argwhere(repeated)[0]
            got = f"{indices[row, column]} twice in row {row}"
            raise OptionError("indices", "different within a row", got)
        kept, found = indices >= 0, []
        # A matrix of ones: what stores zeros may lose them.
        for stored, held in ((values != 0, values), (values == 0, np.ones(values.shape))):
            stored = kept & stored
            starts = np.concatenate([[0], np.cumsum(stored.sum(axis=1))]).astype(np.int32)
            columns = indices[stored].astype(np.int32)
            found.append(Sparse(starts, columns, held[stored], (self.B, self.D)))
        return found[0], found[1]


def _selected(sparse: Sparse, rows: np.ndarray | None, features: np.ndarray | None) -> Sparse:
    matrix = to_csr(sparse)
    matrix = matrix if rows is None else matrix[rows]
    matrix = matrix if features is None else matrix[:, features]
    matrix.sort_indices()
    starts, indices = matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32)
    return Sparse(starts, indices, matrix.data.astype(sparse.values.dtype), matrix.shape)


def _rows_of(sparse: Sparse, rows: slice) -> Sparse:
    first, last = sparse.indptr[rows.start], sparse.indptr[rows.stop]
    return Sparse(
        sparse.indptr[rows.start : rows.stop + 1] - first,
        sparse.indices[first:last],
        sparse.values[first:last].astype(np.float64),
        (rows.stop - rows.start, sparse.shape[1]),
    )
