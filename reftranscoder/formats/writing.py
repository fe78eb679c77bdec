"""Transcoders written as other libraries read them, each format a row of `WRITERS`.

What is written is read again by the format's own reader and compared, so that a format which cannot
say what a transcoder is, is found out before anybody relies on the file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import FileError
from ..files.atomic import atomic_write
from ..files.npz import write_arrays
from ..files.safetensors import tensors_as_bytes
from . import describing
from .describing import CannotSay, Files
from .native import AnyModel, arrays_of

WRITERS: dict[str, Callable[[AnyModel], Files]] = {
    "sparsify": describing.sparsify,
    "saelens": describing.saelens,
    "gemma_scope": describing.gemma_scope,
    "gemma_scope_2": describing.gemma_scope_2,
    "circuit_tracer": describing.circuit_tracer,
    "circuit_tracer_clt": describing.circuit_tracer_clt,
}


def write(model: AnyModel, folder: Path, name: str, *, force: bool) -> Path:
    """Write ``model`` into ``folder``, which is made if it is not there, in the format ``name``.

    Returns:
        The file with the weights, or the first of them.

    Raises:
        FileError: the format cannot say what ``model`` is, which the line names; or a file cannot
            be written, or exists and ``force`` is False.
    """
    if folder.exists() and not folder.is_dir():
        raise FileError(folder, f"is a file, and format {name} is a folder", "Name a folder.")
    try:
        files = WRITERS[name](model)
    except CannotSay as loss:
        problem = f"format {name} cannot say {loss}"
        raise FileError(folder, problem, "Save it in our own format.") from None
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise FileError(folder, f"cannot be made: {error.strerror}") from None
    for file, content in files.items():
        with atomic_write(folder / file, force=force) as opened:
            if isinstance(content, str):
                opened.write(content.encode())
            elif file.endswith(".npz"):
                write_arrays(opened, content)
            else:
                opened.write(tensors_as_bytes(folder / file, content))
    return folder / next(iter(files))


def difference(model: AnyModel, read: AnyModel) -> str | None:
    """What of ``read`` is not as in ``model``, whose stages then are not all equal; None if equal.

    Equal options and arrays of equal bits make every stage equal.
    """
    if model.config != read.config:
        return f"options: {model.config} is read as {read.config}"
    arrays, others = arrays_of(model), arrays_of(read)
    for name, array in arrays.items():
        if name not in others or array.tobytes() != others[name].tobytes():
            return name
    return None if arrays.keys() == others.keys() else "which arrays there are"
