"""``.safetensors`` files: a header that we and the library check, and tensors by name.

The header is JSON: names, dtypes, shapes and places.  It is looked at as a whole before a tensor is
read, so that a dtype which NumPy lacks, or a name given twice, is a line and not a traceback.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..errors import FileError, words
from . import schema
from .sniff import require
from .stored import AGAIN, Stored, extension_dtype, row_major

FLOATS = ("F64", "F32", "F16", "BF16")
_EXTENSIONS = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
NUMBERS = (*FLOATS, *("I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"))

_DTYPES = {"BOOL": "?"} | {
    f"{letter}{bits}": f"<{letter.lower()}{bits // 8}"
    for letter, sizes in (("F", (16, 32, 64)), ("I", (8, 16, 32, 64)), ("U", (8, 16, 32, 64)))
    for bits in sizes
}
_METADATA = "__metadata__"
_LONGEST_HEADER = 1_000_000  # bytes: 8,000 tensors, read in half a second

_ENTRY = {
    "dtype": schema.Field(schema.is_text, "a text"),
    "shape": schema.Field(schema.is_list_of(schema.is_whole), "a list of sizes"),
    "data_offsets": schema.Field(
        lambda v: schema.is_list_of(schema.is_whole)(v) and len(v) == 2, "two places in the file"
    ),
}


class Place(NamedTuple):
    """Where a tensor is, and what."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class Contents(NamedTuple):
    """What `read_tensors` found: arrays, and texts."""

    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]


def read_tensors(path: Path, remedies: Mapping[str, str], dtypes: tuple[str, ...]) -> Contents:
    """The tensors in ``path`` by name, each a new array, and the texts of its ``__metadata__``.

    ``dtypes`` are those that may occur, of `NUMBERS`; ``remedies`` as in `files.sniff.require`.

    Raises:
        FileError: the file is missing, of another kind, damaged, or holds another dtype; the
            package safetensors is missing, or for bfloat16 the package ml_dtypes.
    """
    require(path, "safetensors", remedies)
    library = package(path, "safetensors")
    try:
        with open(path, "rb") as file:
            places, metadata, start = read_header(file)
            for name, place in places.items():
                _check_dtype(path, name, place.dtype, dtypes)
            check_by(library, path, places)
            tensors = {n: _tensor(path, file, start, place) for n, place in places.items()}
    except FileError:
        raise
    except MemoryError:
        raise FileError(path, "does not fit into the memory that is free") from None
    except Exception as error:  # whatever the library stumbles over, the file is at fault
        raise FileError(path, f"is damaged: {words(error)}", AGAIN) from error
    return Contents(tensors, metadata)


def find_tensors(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """The tensors in ``path`` by name, found and not read, and the texts of its ``__metadata__``.

    The header alone is read, and the package safetensors is not needed.

    Raises:
        FileError: the file is damaged, or holds numbers of a type that is not read here; or one
            that NumPy lacks, and the package ml_dtypes is missing.
    """
    try:
        with open(path, "rb") as file:
            places, metadata, start = read_header(file)
            _check_filled(places, file.seek(0, os.SEEK_END) - start)
        return {n: _found(path, n, start, place) for n, place in places.items()}, metadata
    except FileError:
        raise
    except (OSError, ValueError) as error:
        raise FileError(path, f"is damaged: {words(error)}", AGAIN) from None


def tensors_as_bytes(
    path: Path, arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> bytes:
    """What a file with these arrays and texts holds.

    Raises:
        FileError: the package safetensors is missing.
    """
    library = package(path, "safetensors.numpy")
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    content: bytes = library.save(contiguous, None if metadata is None else dict(metadata))
    return content


def package(path: Path, name: str) -> ModuleType:
    """The module ``name`` of an optional package that the file ``path`` needs.

    Raises:
        FileError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        missing = name.partition(".")[0]
        problem = f"this file needs the package {missing}, which is not installed"
        hint = 'Install it, pip install "reftranscoder[formats]", or use .npz.'
        raise FileError(path, problem, hint) from None


def read_header(file: BufferedReader) -> tuple[dict[str, Place], dict[str, str], int]:
    """The tensors and texts by name, and where the first tensor starts.

    Raises:
        ValueError: it makes no sense.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, _LONGEST_HEADER):
        raise ValueError(f"its header has {length} bytes by its first eight")
    header = schema.parse(file.read(length).decode("utf-8"))
    metadata = header.pop(_METADATA, {})
    if not schema.is_object(metadata) or not all(map(schema.is_text, metadata.values())):
        raise ValueError(f"its {_METADATA} must hold texts by name")
    places = {}
    for name, entry in header.items():
        problem = schema.fault(entry, _ENTRY) if schema.is_object(entry) else "it is no object"
        if problem:
            raise ValueError(f"its tensor {words(name)}: {problem}")
        places[name] = Place(entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"])
    return places, metadata, 8 + length


def _check_dtype(path: Path, name: str, dtype: str, dtypes: tuple[str, ...]) -> None:
    if dtype not in dtypes:
        problem = f"{words(name)} must hold one of {', '.join(dtypes)}; it holds {words(dtype)}"
        raise FileError(path, problem, "Convert it first.")
    if dtype == "BF16":
        package(path, "ml_dtypes")


def _check_filled(places: Mapping[str, Place], size: int) -> None:
    """Refuse tensors that overlap, leave gaps or do not end where the file does."""
    end = 0
    for start, stop in sorted((place.start, place.stop) for place in places.values()):
        if start != end or stop < start:
            raise ValueError(f"a tensor begins at byte {start}, and the one before ends at {end}")
        end = stop
    if end != size:
        raise ValueError(f"its tensors have {end} bytes by its header, and {size} follow it")


def _found(path: Path, name: str, start: int, place: Place) -> Stored:
    if place.dtype in _EXTENSIONS:
        dtype = extension_dtype(path, _EXTENSIONS[place.dtype])
    elif place.dtype in _DTYPES:
        dtype = np.dtype(_DTYPES[place.dtype])
    else:
        raise FileError(path, f"its {words(name)} holds {words(place.dtype)}", "Convert it first.")
    if dtype.itemsize * math.prod(place.shape) != place.stop - place.start:
        raise ValueError(f"its {words(name)} has another number of bytes than its shape says")
    strides = row_major(place.shape, dtype.itemsize)
    return Stored(path, dtype, place.shape, start + place.start, strides)


def check_by(library: ModuleType, path: Path, places: Mapping[str, Place]) -> None:
    """Refuse what the library refuses: tensors that overlap, leave gaps or end outside the file.

    Raises:
        ValueError: with its reason.
    """
    try:
        with library.safe_open(path, framework="numpy") as opened:
            if set(opened.keys()) != set(places):
                raise ValueError("its tensors are not those of its header")
    except (KeyboardInterrupt, Exception):
        raise
    except BaseException as error:  # a panic in the library's Rust, which is no Exception
        raise ValueError(words(error)) from None


def _tensor(path: Path, file: BufferedReader, start: int, place: Place) -> np.ndarray:
    if place.dtype == "BF16":
        dtype = np.dtype(package(path, "ml_dtypes").bfloat16)
    else:
        dtype = np.dtype(_DTYPES[place.dtype])
    nbytes = dtype.itemsize * math.prod(place.shape)
    if nbytes != place.stop - place.start:
        raise ValueError(f"a tensor of {nbytes} bytes by its shape has another number")
    array = np.empty(place.shape, dtype)
    file.seek(start + place.start)
    if nbytes and file.readinto(array.reshape(-1).view(np.uint8).data) != nbytes:
        raise ValueError("it ends early")
    return array
