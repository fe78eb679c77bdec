"""A tensor of a ``.safetensors`` file as rows that are read when they are taken."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DTypeError, FileError, words
from ..files import schema
from ..files.npy import BFLOAT16
from ..files.safetensors import package
from ..files.sniff import require
from .stored import Mapped, check_shape

_DTYPES: dict[str, np.dtype] = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "BF16": BFLOAT16,
}
_AGAIN = "Make or download it again."


def map_tensor(path: Path, name: str | None) -> Mapped:
    """The rows of the tensor ``name`` of ``path``, or of the only one if it is None.

    Raises:
        FileError: no such file, a damaged one, or no such tensor; the package safetensors, which
            judges whether the file is whole, is missing.
        DTypeError: it does not hold floating-point numbers that NumPy or we can widen.
        ShapeError: not two axes, or an empty one.
    """
    require(path, "safetensors", {})
    library = package(path, "safetensors")
    try:
        with library.safe_open(path, framework="numpy") as opened:  # none overlaps or sticks out
            names = sorted(opened.keys())
        entries, start = _header(path)
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # a panic in the library's Rust is no Exception
        raise FileError(path, f"is damaged: {words(error)}", _AGAIN) from None
    chosen = _chosen(path, name, names)
    entry, label = entries[chosen], f"{path} {words(chosen)}"
    dtype = _DTYPES.get(entry["dtype"])
    if dtype is None:
        raise DTypeError(label, entry["dtype"], f"Store {', '.join(_DTYPES)}.")
    shape = tuple(entry["shape"])
    check_shape(shape, label)
    begin, end = entry["data_offsets"]
    if end - begin != dtype.itemsize * math.prod(shape):
        raise FileError(path, f"is damaged: the bytes of {words(chosen)} are not its shape", _AGAIN)
    start += begin
    return Mapped(path, np.asarray(np.memmap(path, dtype, "r", start, shape)), start)


def tensor_names(path: Path) -> list[str]:
    """The names of the tensors that the header of ``path`` lists; none if it has no header."""
    try:
        return sorted(_header(path)[0])
    except (OSError, ValueError):
        return []


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The entry of every tensor by name, and where the first one starts."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > os.fstat(file.fileno()).st_size:
            raise ValueError("its header is longer than the file")
        header = schema.parse(file.read(length).decode("utf-8"))
    header.pop("__metadata__", None)
    return header, 8 + length


def _chosen(path: Path, name: str | None, names: list[str]) -> str:
    """The ``name`` asked for, or the only one that there is."""
    held = ", ".join(map(words, names[:8])) or "none"
    if name is None and len(names) != 1:
        problem = f"holds {len(names)} tensors ({held}), and none is chosen"
        raise FileError(path, problem, "Say which: Activations(path, tensor=name).")
    if name is not None and name not in names:
        raise FileError(path, f"holds no tensor {words(name)}; its tensors: {held}")
    return names[0] if name is None else name
