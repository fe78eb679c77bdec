"""A comparison whose failure is a bug report, and arrays in every memory layout."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np

from ..arrays import to_array
from ..bounds import worst
from ..sparse import Sparse


def assert_same(
    got: Any,
    want: Any,
    bound: Any = 0.0,
    *,
    function: str = "",
    seed: object = None,
    order: str | None = None,
) -> None:
    """Raise AssertionError unless every entry of ``got`` is within ``bound`` of ``want``.

    The message can be pasted into a bug report as it is: what was computed, from which seed, the
    entry that is worst for its bound, and the versions that computed it.

    Args:
        got, want: arrays of one shape; dense, `Sparse`, of any SciPy sparse format, or tensors.
        bound: a number, or one for each entry.  0 asks for equal numbers; NaN equals NaN here.
        function: what made ``got``.
        seed: what it was made from.
        order: the memory layout of its arguments; that of ``got`` if it is not given.
    """
    dense_got, dense_want = _dense(got, "got"), _dense(want, "want")
    if dense_got.shape != dense_want.shape:
        raise AssertionError(
            f"{function or 'got'} must have the shape {dense_want.shape}; got {dense_got.shape}"
        )
    entry = worst(dense_got, dense_want, bound)
    if entry.holds:
        return
    where = "".join(f"[{i}]" for i in entry.index)
    facts = {
        "function": function or "not given",
        "index": f"{where or 'scalar'} of shape {dense_got.shape}",
        "want": repr(entry.want),
        "got": repr(entry.got),
        "error": f"{entry.error:.3g}",
        "bound": f"{entry.bound:.3g}, exceeded by a factor of {entry.ratio:.3g}",
        "dtype": f"{dense_got.dtype}, compared with {dense_want.dtype}",
        "order": order or _order(got),
        "seed": repr(seed),
        "versions": _versions(),
    }
    lines = [f"{function or 'got'} is further from what it should be than it may be"]
    raise AssertionError("\n    ".join(lines + [f"{name:<9} {facts[name]}" for name in facts]))


def layouts(array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Return an iterator of (order, array): the same values in every memory layout of NumPy."""
    yield "F", np.asfortranarray(array)
    yield "read-only", _read_only(array.copy())
    flipped = tuple(slice(None, None, -1) for _ in range(array.ndim))
    yield "negative strides", array[flipped].copy()[flipped]
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    yield "every other column", wide[..., ::2]
    memory = np.zeros(array.nbytes + 1, np.uint8)
    unaligned = memory[1:].view(array.dtype).reshape(array.shape)
    unaligned[...] = array
    yield "unaligned", unaligned
    yield "swapped bytes", array.astype(array.dtype.newbyteorder())


def _dense(value: Any, name: str) -> np.ndarray:
    if isinstance(value, Sparse):
        return value.dense()
    return to_array(value.toarray() if hasattr(value, "toarray") else value, name)


def _order(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return type(value).__name__
    flags = value.flags
    return "C" if flags.c_contiguous else "F" if flags.f_contiguous else f"strides {value.strides}"


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _versions() -> str:
    numbers = [f"{name} {version(name)}" for name in ("numpy", "numba", "scipy")]
    return ", ".join([*numbers, f"Python {platform.python_version()} on {platform.machine()}"])
