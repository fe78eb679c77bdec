"""Transcoders in files.  Each format is one module here and one row of `FORMATS`.

What is read and written is a `Model`: the options and the arrays of a transcoder, which
`reftranscoder.load` and ``Transcoder.save`` make one of, and take from one.

Reading a file never executes it, whatever the file holds.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from .. import options
from ..errors import FileError
from ..files.sniff import kind_of
from .native import Model

__all__ = ["FORMATS", "Format", "Model", "format_of", "load", "save"]


class Format(NamedTuple):
    """A suffix, and the module that has ``load(path)`` and ``save(model, path, *, force)``."""

    suffix: str
    module: str  # a name, so that reading the table imports nothing


FORMATS = (
    Format(".npz", "npz"),
    Format(".safetensors", "safetensors"),
)

_PICKLES = {
    "torch": (
        "PyTorch",
        "Read it with torch.load(path, weights_only=True), then Transcoder.from_arrays.",
    ),
    "pickle": ("Python", "If you trust it, unpickle it yourself, then Transcoder.from_arrays."),
}


def save(model: Model, path: str | os.PathLike[str], *, force: bool = True) -> None:
    """Write ``model`` to ``path``, in the format that its suffix names, all or nothing.

    Raises:
        FileError: an unknown suffix; a file that cannot be written, which leaves an existing one as
            it was; with ``force=False``, a file that exists.
    """
    path = options.path("path", path)
    _module(format_of(path)).save(model, path, force=force)


def load(path: str | os.PathLike[str]) -> Model:
    """Read the model in ``path``, in the format that its suffix names.

    Raises:
        FileError: the file is missing, damaged, of another format, or holds no transcoder.
    """
    path = options.path("path", path)
    kind = kind_of(path)  # a missing file is missing whatever it is called
    if kind in _PICKLES:
        name, remedy = _PICKLES[kind]
        raise FileError(path, f"this is a {name} pickle, which can run any code when read", remedy)
    model: Model = _module(format_of(path)).load(path)
    return model


def format_of(path: str | os.PathLike[str]) -> Format:
    """The row of `FORMATS` for ``path``, by its suffix alone.

    Raises:
        FileError: no format has this suffix.
    """
    suffix = Path(path).suffix.lower()
    for row in FORMATS:
        if row.suffix == suffix:
            return row
    known = ", ".join(row.suffix for row in FORMATS)
    raise FileError(path, f"no format is known by the suffix {suffix!r}", f"Known: {known}.")


def _module(row: Format) -> ModuleType:
    return importlib.import_module(f".{row.module}", __name__)
