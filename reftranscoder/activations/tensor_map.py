"""A tensor of a ``.safetensors`` file as rows that are read when they are taken."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ..errors import DTypeError, FileError, words
from ..files.npy import BFLOAT16
from ..files.safetensors import check_by, package, read_header
from ..files.sniff import require
from ..files.stored import AGAIN
from .row_store import Mapped, check_shape

_DTYPES: dict[str, np.dtype] = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "BF16": BFLOAT16,
}


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
        with open(path, "rb") as file:
            places, _, first = read_header(file)
        check_by(library, path, places)
    except MemoryError:
        raise
    except Exception as error:
        raise FileError(path, f"is damaged: {words(error)}", AGAIN) from None
    chosen = _chosen(path, name, sorted(places))
    place, label = places[chosen], f"{path} {words(chosen)}"
    dtype = _DTYPES.get(place.dtype)
    if dtype is None:
        raise DTypeError(label, place.dtype, f"Store {', '.join(_DTYPES)}.")
    check_shape(place.shape, label)
    if place.stop - place.start != dtype.itemsize * math.prod(place.shape):
        raise FileError(path, f"is damaged: the bytes of {words(chosen)} are not its shape", AGAIN)
    start = first + place.start
    return Mapped(path, np.asarray(np.memmap(path, dtype, "r", start, place.shape)), start)


def tensor_names(path: Path) -> list[str]:
    """The names of the tensors that the header of ``path`` lists; none if it has no header."""
    try:
        with open(path, "rb") as file:
            return sorted(read_header(file)[0])
    except (OSError, ValueError):
        return []


def _chosen(path: Path, name: str | None, names: list[str]) -> str:
    """The ``name`` asked for, or the only one that there is."""
    held = ", ".join(map(words, names[:8])) or "none"
    if name is None and len(names) != 1:
        problem = f"holds {len(names)} tensors ({held}), and none is chosen"
        raise FileError(path, problem, "Say which: Activations(path, tensor=name).")
    if name is not None and name not in names:
        raise FileError(path, f"holds no tensor {words(name)}; its tensors: {held}")
    return names[0] if name is None else name
