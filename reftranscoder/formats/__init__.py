"""Transcoders in files: our own formats, and those of the libraries that publish transcoders.

Ours are two rows of `FORMATS`, known by their suffixes; those of others are the rows of
``recognition.READERS``, one module each, known by what is in them.  What is read and written is a
`Model`: the options and the arrays of a transcoder, which `reftranscoder.load` and
``Transcoder.save`` make one of, and take from one.

Reading a file never executes it, whatever the file holds.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from .. import options
from ..errors import FileError, words
from ..files.container import Container
from ..files.sniff import kind_of
from .choosing import one_of
from .cross_layer import CrossLayerPublished, cross_layer_model_of
from .native import FORMAT as OURS
from .native import META, AnyModel, CrossLayerModel, Model, layers_left_there
from .origin import Origin
from .place import Place
from .published import Decisions, model_of
from .recognition import Found, Reader, found_at, leads, places_at, publish, recognised

__all__ = [
    "AnyModel",
    "CrossLayerModel",
    "Decisions",
    "FORMATS",
    "Format",
    "Found",
    "Model",
    "OURS",
    "Origin",
    "format_of",
    "load",
    "save",
    "scan",
]


class Format(NamedTuple):
    """A suffix, and the module that has ``load(path, pack)``, ``save(model, path, *, force)``."""

    suffix: str
    module: str  # a name, so that reading the table imports nothing


FORMATS = (
    Format(".npz", "npz"),
    Format(".safetensors", "safetensors"),
)


def save(model: AnyModel, path: str | os.PathLike[str], *, force: bool = True) -> None:
    """Write ``model`` to ``path``, in the format that its suffix names, all or nothing.

    Raises:
        FileError: an unknown suffix; a file that cannot be written, which leaves an existing one as
            it was; with ``force=False``, a file that exists.
    """
    path = options.path("path", path)
    _module(format_of(path)).save(model, path, force=force)


def load(
    path: str | os.PathLike[str],
    *,
    layer: int | None = None,
    hook: str | None = None,
    decisions: Decisions | None = None,
    pack: bool = True,
) -> AnyModel:
    """Read the model in ``path``: a file, or a folder as a library or the hub leaves it.

    ``layer`` and ``hook`` say which, where a folder holds several; ``decisions`` what a file leaves
    open.  Without ``pack`` weights stay in their file.

    Raises:
        FileError: the file is missing, damaged, of no known format, or holds no transcoder, or one
            that ours cannot be; or it leaves open which, and was not told.
    """
    path = options.path("path", path)
    decisions = Decisions() if decisions is None else decisions
    if os.path.isdir(path):  # False, too, where a name cannot be
        return _published(*one_of(path, layer, hook, decisions), decisions, pack)
    kind = kind_of(path)  # a missing file is missing whatever it is called
    for name, value in {"layer": layer, "hook": hook}.items():
        if value is not None:
            problem = f"is one file, and a {name} is one of a folder of many"
            raise FileError(path, problem, f"Leave {name} out.")
    if kind == "pickle":
        problem = "this is a Python pickle, which can run any code when read"
        remedy = "If you trust it, unpickle it yourself, then Transcoder.from_arrays."
        raise FileError(path, problem, remedy)
    if (place := _foreign(path, kind, decisions)) is not None:
        if (row := recognised(place, decisions)) is not None:
            return _published(place, row, decisions, pack)
        if kind == "torch":
            held = ", ".join(map(words, sorted(place.container().tensors)[:8])) or "no tensors"
            problem = f"this is a PyTorch file of no known format: it holds {held}"
            remedy = "Read it with torch.load(path, weights_only=True): Transcoder.from_arrays."
            raise FileError(path, problem, remedy)
    if decisions.given or decisions.format:
        problem = "is no file of another library's that leaves anything open"
        raise FileError(path, problem, "Load it without options.")
    read: AnyModel = _module(format_of(path)).load(path, pack)
    return read._replace(origin=_own_origin(path, read))


def scan(root: str | os.PathLike[str]) -> list[Found]:
    """The transcoders of others' formats in ``root``, a folder or a file, by their headers alone.

    Raises:
        FileError: ``root`` is missing, or a file in it is damaged or not what its name says.
    """
    root = options.path("root", root)
    if not os.path.isdir(root):
        kind_of(root)
    decisions, found = Decisions(), []
    for place in places_at(root):
        row = recognised(place, decisions)
        if row is not None and leads(place, row):
            found.append(found_at(place, row, decisions))
    return sorted(found, key=lambda f: (f.layer is None, f.layer or 0, str(f.path)))


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


def _published(place: Place, row: Reader, decisions: Decisions, pack: bool) -> AnyModel:
    published = publish(place, row, decisions)
    if not isinstance(published, CrossLayerPublished):
        return model_of(published, row.name, pack)
    if not pack:
        raise layers_left_there(place.path)
    return cross_layer_model_of(published, row.name)


def _foreign(path: Path, kind: str, decisions: Decisions) -> Place | None:
    """The place of a file that may be another library's; None where it is ours, or no container."""
    if kind not in ("npz", "safetensors", "torch") and not path.name.endswith(".index.json"):
        return None
    place = places_at(path)[0]
    try:
        container = place.container()
    except FileError:
        if kind == "torch" or decisions.format or path.name.endswith(".index.json"):
            raise
        return None  # our own reader says what is wrong with it
    return None if _is_ours(container) else place


def _is_ours(container: Container) -> bool:
    """Whether anything in the file says that we wrote it, so that damage to one word hides none."""
    texts = (text for text in container.values.values() if isinstance(text, str))
    marked = META in container.tensors or META in container.values
    return marked or any(f'"{OURS}"' in text for text in texts)


def _own_origin(path: Path, model: AnyModel) -> Origin:
    cross_layer = "cross-layer " if isinstance(model, CrossLayerModel) else ""
    return Origin(
        format=OURS,
        variant=f"{cross_layer}{model.config.activation}",
        path=str(path),
        dtype=model.config.dtype,
    )


def _module(row: Format) -> ModuleType:
    return importlib.import_module(f".{row.module}", __name__)
