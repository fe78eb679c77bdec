"""What a file really is, by its first bytes: so that a wrong one is called by its name.

Nothing is read beyond the beginning, and for an archive its table of contents.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from ..errors import FileError
from .archive import members

#: Each kind of file, in words.
WORDS = {
    "npy": "a NumPy .npy file",
    "npz": "a NumPy .npz archive",
    "safetensors": "a safetensors file",
    "torch": "a PyTorch pickle",
    "pickle": "a Python pickle",
    "zip": "a zip archive",
    "damaged zip": "a truncated or damaged archive",
    "hdf5": "an HDF5 file",
    "gguf": "a GGUF file",
    "gzip": "a gzip file",
    "lfs": "a Git LFS pointer in place of the file",
    "html": "a web page",
    "unknown": "a file of unknown format",
}

_LONGEST_HEADER = 100_000_000  # what the safetensors library accepts

_BEGINNINGS = {
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19": "torch",  # before PyTorch 1.6
    b"\x80\x02": "pickle",
    b"\x80\x03": "pickle",
    b"\x80\x04": "pickle",
    b"\x80\x05": "pickle",
    b"\x89HDF": "hdf5",
    b"GGUF": "gguf",
    b"\x1f\x8b": "gzip",
    b"version https://git-lfs": "lfs",
    b"<!DOCTYPE": "html",
    b"<!doctype": "html",
    b"<html": "html",
}

_REMEDIES = {
    "lfs": "Fetch the file itself: git lfs pull",
    "html": "Download the file itself: its raw address, not the page about it.",
    "gzip": "Unpack it first: gunzip",
    "damaged zip": "Make or download it again.",
    "torch": "It could run any code. Read it with torch.load(path, weights_only=True), and save "
    "the arrays with numpy.savez.",
    "pickle": "It could run any code. If you trust it, unpickle it, and save the arrays with "
    "numpy.savez.",
}


def kind_of(path: str | os.PathLike[str]) -> str:
    """Return one of ``npy npz safetensors torch pickle zip hdf5 ...``, or ``"unknown"``.

    Raises:
        FileError: there is no such file, or it is a folder, a device, empty or not to be read.
    """
    path = Path(path)
    beginning = b""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            with open(path, "rb") as file:
                beginning = file.read(64)
    except FileNotFoundError:
        raise FileError(path, "there is no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise FileError(path, f"cannot be read: {reason}") from None
    if stat.S_ISDIR(mode):
        raise FileError(path, "is a folder", "Name a file in it.")
    if not stat.S_ISREG(mode):
        raise FileError(path, "is not an ordinary file")
    if not beginning:
        raise FileError(path, "is empty", "Make or download it again.")
    # The length of the header in 8 bytes, and then the header, which is a JSON object.
    if beginning[8:9] == b"{" and int.from_bytes(beginning[:8], "little") <= _LONGEST_HEADER:
        return "safetensors"
    for start, kind in _BEGINNINGS.items():
        if beginning.startswith(start):
            return _archive(path) if kind == "zip" else kind
    return "unknown"


def require(path: str | os.PathLike[str], kind: str, remedies: Mapping[str, str]) -> None:
    """Refuse a file that is not of ``kind``, saying what it is and, by ``remedies``, what to do.

    Raises:
        FileError: as `kind_of`; or the file is something else.
    """
    found = kind_of(path)
    if found != kind:
        remedy = remedies.get(found) or _REMEDIES.get(found, "")
        raise FileError(path, f"this is {WORDS[found]}, not {WORDS[kind]}", remedy)


def _archive(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            names = [member.filename for member in members(file)]
    except (OSError, ValueError):
        return "damaged zip"
    if any(name.endswith("data.pkl") for name in names):
        return "torch"
    return "npz" if names and all(name.endswith(".npy") for name in names) else "zip"
