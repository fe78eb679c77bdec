"""A ``.npy`` file as rows that are read when they are taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import FileError, words
from ..files.npy import read_header
from ..files.sniff import require
from .row_store import Mapped, check_float, check_shape

_REMEDIES = {
    "npz": "Save each of its arrays on its own: np.save(path, archive['name']).",
    "torch": "Read it with torch.load(path, weights_only=True), then np.save(path, x.numpy()).",
    "pickle": "It could run any code. Have whoever made it save arrays: np.save(path, x).",
}


def map_npy(path: Path, rows: int | None = None) -> Mapped:
    """The rows of ``path``; with ``rows`` its first so many, whatever follows them.

    Raises:
        FileError: no such file, or not a whole, C-ordered ``.npy`` file.
        DTypeError: it does not hold floating-point numbers.
        ShapeError: not two axes, or an empty one.
    """
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
    check_float(header.dtype, str(path))
    check_shape(header.shape, str(path))
    if rows is not None:
        if header.shape[0] < rows:
            problem = f"is short: it has {header.shape[0]} of {rows} rows"
            raise FileError(path, problem, "Make it again.")
        header = header._replace(shape=(rows, header.shape[1]))
    expected, found = start + header.nbytes, path.stat().st_size
    if found < expected or (rows is None and found > expected):
        what = "is truncated" if found < expected else "goes on after its array"
        problem = f"{what}: {expected} bytes by its header, and it has {found}"
        raise FileError(path, problem, "Make it again.")
    if header.fortran:
        raise FileError(
            path,
            "is stored column by column (Fortran order): to read a row is to read the whole file",
            "Save it again: np.save(path, np.ascontiguousarray(x)).",
        )
    array = np.asarray(np.memmap(path, header.dtype, "r", start, header.shape))
    return Mapped(path, array, start)
