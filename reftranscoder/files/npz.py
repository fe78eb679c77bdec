"""``.npz`` archives of ours: arrays by name, stored as they are, read and written.

What is read takes as much memory as the file has bytes: a member is one array, stored and not
compressed, whose header agrees with the member's size before an entry is read.  A pickle is
neither written nor read.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import FileError, words
from .archive import first_byte, members
from .npy import BFLOAT16, Header, read_header
from .sniff import require
from .stored import AGAIN, Checksum, Stored, row_major

_CHUNK = 1 << 20
_MOST_ARRAYS = 1_000  # NumPy takes a fifth of a millisecond for a header
_KINDS = "biufcUS"  # truth values, numbers and texts; not records, dates and objects
_PICKLED = (
    "If you trust it, read it with np.load(path, allow_pickle=True) and save the arrays again, "
    "each as .astype('float32')."
)
_WITHOUT_MEANING = "NumPy has no bfloat16: save it as .astype('float32'), which is exact."


def read_arrays(path: Path, remedies: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The arrays in ``path`` by name, each a new one.

    ``remedies`` says what to do with a file of another kind, as in `files.sniff.require`.

    Raises:
        FileError: the file is missing, of another kind, damaged, or an archive that is not one
            stored array under each name.
    """
    require(path, "npz", remedies)
    try:
        with open(path, "rb") as file:
            listed = members(file)
            _check_table(path, listed, file.seek(0, 2))
            with zipfile.ZipFile(file) as archive:
                # All headers first: nothing is allocated for a file that is refused.
                headers = [_header(path, archive, member) for member in listed]
                return {
                    _name(member): _entries(archive, member, header)
                    for member, header in zip(listed, headers, strict=True)
                }
    except FileError:
        raise
    except MemoryError:
        raise FileError(path, "does not fit into the memory that is free") from None
    except Exception as error:  # whatever zipfile stumbles over, the file is at fault
        reason = words(error) or type(error).__name__
        raise FileError(path, f"is damaged: {reason}", AGAIN) from error


def find_arrays(path: Path) -> dict[str, Stored]:
    """The arrays in ``path`` by name, found and not read.

    Raises:
        FileError: as `read_arrays`; but a checksum is compared only when an array is read.
    """
    try:
        with open(path, "rb") as file:
            listed = members(file)
            _check_table(path, listed, file.seek(0, 2))
            with zipfile.ZipFile(file) as archive:
                return {_name(m): _found(path, file, archive, m) for m in listed}
    except FileError:
        raise
    except Exception as error:  # whatever zipfile stumbles over, the file is at fault
        raise FileError(path, f"is damaged: {words(error).rstrip('.')}", AGAIN) from error


def write_arrays(file: BinaryIO, arrays: Mapping[str, Any]) -> None:
    """Write an uncompressed ``.npz`` archive: one member an array, no pickle, no date.

    `numpy.savez` of NumPy 2.0 leaves a full disk to be found out by the garbage collector.

    Raises:
        OSError: the file cannot be written.
        ValueError: an array of objects.
    """
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _check_table(path: Path, listed: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse a table that promises other than one stored array under each name."""
    if len(listed) > _MOST_ARRAYS:
        raise FileError(path, f"holds {len(listed):,} arrays, and is no transcoder")
    seen = set()
    for member in listed:
        name = _name(member)
        if name in seen:
            raise FileError(path, f"is damaged: it holds {words(name)} twice", AGAIN)
        seen.add(name)
        if member.flag_bits & 0x1:
            raise FileError(path, f"its {words(name)} is encrypted", "Save it without a password.")
        if member.compress_type != zipfile.ZIP_STORED:
            hint = "Save it uncompressed, with numpy.savez."
            raise FileError(path, f"its {words(name)} is compressed", hint)
    if sum(member.file_size for member in listed) > size:
        raise FileError(path, "is damaged: its members are larger than the file", AGAIN)


def _header(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Header:
    """The header of one member, which agrees with the member's size."""
    name = words(_name(member))
    try:
        with archive.open(member) as file:
            header = read_header(file)
            expected = file.tell() + header.nbytes
    except ValueError as error:
        problem = f"is damaged: its {name} is no array: {words(error)}"
        raise FileError(path, problem, AGAIN) from None
    if header.dtype.hasobject:
        problem = f"is damaged, or unsafe: {name} holds pickled objects, which could run any code"
        raise FileError(path, problem, _PICKLED)
    if header.dtype == BFLOAT16:
        raise FileError(path, f"its {name} is of dtype {header.dtype}", _WITHOUT_MEANING)
    if header.dtype.kind not in _KINDS:
        raise FileError(path, f"its {name} holds {header.dtype}", "Save numbers or text.")
    if expected != member.file_size or not header.dtype.itemsize:
        problem = f"is damaged: {name} has {member.file_size} bytes, and {expected} by its shape"
        raise FileError(path, problem, AGAIN)
    return header


def _found(path: Path, file: BinaryIO, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Stored:
    header = _header(path, archive, member)
    start = first_byte(file, member)
    strides = row_major(header.shape[:: -1 if header.fortran else 1], header.dtype.itemsize)
    return Stored(
        path=path,
        dtype=header.dtype,
        shape=header.shape,
        start=start + member.file_size - header.nbytes,
        strides=strides[::-1] if header.fortran else strides,
        checksum=Checksum(start, member.file_size, member.CRC),
    )


def _entries(archive: zipfile.ZipFile, member: zipfile.ZipInfo, header: Header) -> np.ndarray:
    """The array; its checksum is compared on the way."""
    shape = header.shape[::-1] if header.fortran else header.shape
    array = np.empty(shape, header.dtype)
    entries = array.reshape(-1).view(np.uint8).data if array.nbytes else memoryview(b"")
    with archive.open(member) as file:
        read_header(file)
        start = 0
        while chunk := file.read(_CHUNK):
            entries[start : start + len(chunk)] = chunk
            start += len(chunk)
    if start != len(entries):
        raise ValueError(f"{_name(member)} ends early")
    return array.T if header.fortran else array
