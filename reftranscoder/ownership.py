"""Arrays that parameters own: of one dtype, read-only, and nobody else's to write to; and those of
a state in training, which begin with a cache line."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import DTypeError, OptionError

DTYPES = tuple(dict.fromkeys(np.dtype(t).name for t in (np.float32, np.float64, np.longdouble)))


def float_dtype(dtype: Any) -> np.dtype:
    """Return ``dtype`` as one of `DTYPES`, or raise `OptionError`."""
    found: np.dtype | None
    try:
        found = np.dtype(dtype)
    except Exception:  # TypeError, or what somebody else's object raises when it is asked
        found = None
    if found is None or found.name not in DTYPES or not found.isnative:
        raise OptionError("dtype", f"one of {', '.join(DTYPES)}", dtype)
    return found


def common_dtype(arrays: dict[str, np.ndarray], given: dict[str, Any]) -> np.dtype:
    """The widest float dtype given, at least float32; whole numbers and lists do not count."""
    floats = [
        a.dtype for name, a in arrays.items() if getattr(given[name], "dtype", None) is not None
    ]
    dtype = np.result_type(np.float32, *(floats or [np.dtype(np.float64)]))
    if dtype.name not in DTYPES:
        raise DTypeError("the parameters", dtype, f"Convert them to one of {', '.join(DTYPES)}.")
    return dtype


#: The arrays that `Params` made, by id.  A read-only view of one may be shared.
_OWNED: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()


def owned(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A read-only array with the numbers of ``array`` that nobody else can write to."""
    fits = array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned
    if fits and not array.flags.writeable and (_is_ours(array) or _is_read_only_map(array)):
        return view(array)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return locked(np.array(array, dtype=dtype, order="C", copy=True, subok=False))


def locked(array: np.ndarray) -> np.ndarray:
    """A view of ``array``, which owns its memory, that cannot be made writable again."""
    array.flags.writeable = False
    _OWNED[id(array)] = array
    return view(array)


def view(array: np.ndarray) -> np.ndarray:
    """A read-only view of ``array``."""
    same = array.view(np.ndarray)
    same.flags.writeable = False
    return same


_LINE = 64  # bytes


def aligned(
    shape: tuple[int, ...], dtype: Any, new: Callable[..., np.ndarray] = np.empty
) -> np.ndarray:
    """An array, made by ``new``, that begins with a cache line: what straddles two is slower to
    load and to store."""
    dtype, size = np.dtype(dtype), math.prod(shape)
    memory = new(size + _LINE // dtype.itemsize, dtype)
    first = -memory.ctypes.data % _LINE // dtype.itemsize
    return memory[first : first + size].reshape(shape)


def aligned_copy(array: np.ndarray) -> np.ndarray:
    """A copy of ``array`` that begins with a cache line."""
    copy = aligned(array.shape, array.dtype)
    copy[...] = array
    return copy


def _is_ours(array: np.ndarray) -> bool:
    return array.base is not None and _OWNED.get(id(array.base)) is array.base


def _is_read_only_map(array: np.ndarray) -> bool:
    owner: object = array
    while isinstance(owner, np.ndarray):
        if isinstance(owner, np.memmap):
            return owner.mode == "r"
        owner = owner.base
    return False
