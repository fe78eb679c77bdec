"""The table of other people's formats, and which of them a file or a folder is.

In a folder a format is known by the names of its files, and then by the tensors in them; a file
that is pointed at, by its tensors alone.  Headers are read, and no weights.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ..errors import FileError, words
from ..files.container import inside, text_of
from .cross_layer import CrossLayerPublished
from .place import Place, matching, names_in
from .published import QUIET, Decisions, Published, check_shapes

_DEEPEST = 5
_MOST_FOLDERS = 2000
#: Of what a file may leave open, one answer: those that headers tell are the same for another.
_EITHER: dict[str, Any] = {"apply_b_dec_to_input": False, "top_k": 1, "W_dec_rows": "feature"}


class Reader(NamedTuple):
    """A format: the files that it leaves in a folder, and the module with ``recognises`` and
    ``read``."""

    name: str
    files: tuple[str, ...]
    module: str  # a name, so that reading the table imports nothing


READERS = (
    Reader("sparsify", ("sae.safetensors",), "sparsify"),
    Reader("saelens", ("sae_weights.safetensors",), "sae_lens"),
    Reader("gemma_scope", ("params.npz",), "gemma_scope"),
    Reader("gemma_scope_2", ("params.safetensors",), "gemma_scope_2"),
    Reader("clt_training", ("sae.safetensors",), "clt_training"),
    Reader("circuit_tracer", ("layer_*.safetensors",), "circuit_tracer"),
    Reader("circuit_tracer_clt", ("W_enc_0.safetensors",), "circuit_tracer_clt"),
    Reader("crosslayer_coding", ("clt_checkpoint_*.safetensors",), "crosslayer_coding"),
    Reader("llama_scope", ("final.safetensors",), "llama_scope"),
    Reader("dictionary_learning", ("ae.pt", "ae_*.pt"), "dictionary_learning"),
    Reader("openai", ("[0-9]*.pt",), "openai"),
    Reader("transcoder_circuits", ("*sparse_autoencoder_*.pt",), "transcoder_circuits"),
    Reader("edifice", ("edifice.*",), "edifice"),
)


class Found(NamedTuple):
    """A transcoder in a file: where, of which format, and what its header says of it."""

    path: Path
    format: str
    variant: str
    layer: int | None
    input_size: int
    dict_size: int
    output_size: int
    dtype: str
    hook_in: str | None = None
    hook_out: str | None = None


def recognised(place: Place, decisions: Decisions) -> Reader | None:
    """The format of the file at ``place``; None if it is of none that is known here.

    Raises:
        FileError: it could be of several, or is not what ``decisions`` says, or is damaged.
    """
    place.named = decisions.format is not None
    rows = [
        row
        for row in READERS
        if decisions.format in (None, row.name) and _module(row).recognises(place)
    ]
    if len(rows) > 1:
        names = " or ".join(f"format={row.name!r}" for row in rows)
        raise FileError(place.path, "could be of several formats", f"Say which: {names}.")
    if decisions.format is not None and not rows:
        held = ", ".join(map(words, sorted(place.container().tensors)[:8])) or "no tensors"
        raise FileError(place.path, f"is not of format {decisions.format!r}: it holds {held}")
    return rows[0] if rows else None


@QUIET
def publish(place: Place, row: Reader, decisions: Decisions) -> Published | CrossLayerPublished:
    """What the reader ``row`` finds at ``place``.

    Raises:
        FileError: as the reader.
    """
    module = _module(row)
    unused = [name for name in decisions.given if name not in module.DECIDED]
    if unused:
        problem = f"is of format {row.name!r}, in which {', '.join(unused)} is not left open"
        raise FileError(place.path, problem, "Leave it out.")
    published: Published | CrossLayerPublished = module.read(place, decisions)
    return published


def look(place: Place, row: Reader, decisions: Decisions) -> Published | CrossLayerPublished:
    """What the reader ``row`` finds at ``place``, whatever the file leaves open: to list, not to
    load.

    Raises:
        FileError: as the reader, but for what is left open.
    """
    open_here = _module(row).DECIDED
    for answers in ({}, _EITHER, _EITHER | {"activation": "topk"}):
        free = {n: v for n, v in answers.items() if n in open_here and n not in decisions.given}
        try:
            return publish(place, row, dataclasses.replace(decisions, **free))
        except FileError as error:
            refused = error
    raise refused


def places_at(path: Path) -> list[Place]:
    """The files with weights at ``path``, a file or a folder, that the table knows by name.

    A folder is searched to a depth of a few; links to other folders are not followed.  Of a cache
    of the Hugging Face hub it is the revision that ``refs/main`` names.

    Raises:
        FileError: a folder cannot be listed, holds too much, or a file leads out of it.
    """
    if not os.path.isdir(path):
        folder = path.parent
        return [Place(path, folder, names_in(folder))]
    return [
        Place(inside(folder, name), folder, names)
        for folder, names in _folders(_revision(path))
        for name in _weights(names)
    ]


def leads(place: Place, row: Reader) -> bool:
    """Whether ``place`` is no mere part of what is read with another."""
    module = _module(row)
    return not hasattr(module, "leads") or bool(module.leads(place))


def found_at(place: Place, row: Reader, decisions: Decisions) -> Found:
    """What the header at ``place`` says.

    Raises:
        FileError: as `look`; or the shapes do not fit each other.
    """
    published = look(place, row, decisions)
    if isinstance(published, CrossLayerPublished):
        published.check_shapes()
    else:
        check_shapes(published)
    I, D, O = published.sizes
    hooks = published.hook_in, published.hook_out
    return Found(
        place.path, row.name, published.variant, published.layer, I, D, O, published.dtype, *hooks
    )


def _weights(names: frozenset[str]) -> list[str]:
    patterns = [pattern for row in READERS for pattern in row.files]
    return list(dict.fromkeys(name for p in patterns for name in matching(names, p)))


def _folders(root: Path) -> Iterator[tuple[Path, frozenset[str]]]:
    """``root`` and the folders in it, each with the names in it, in order."""
    waiting, seen = [(root, 0)], 0
    while waiting:
        folder, depth = waiting.pop()
        seen += 1
        if seen > _MOST_FOLDERS:
            raise FileError(root, f"holds more than {_MOST_FOLDERS:,} folders", "Name one of them.")
        names = names_in(folder)
        yield folder, names
        if depth < _DEEPEST:
            with os.scandir(folder) as entries:
                below = [e.path for e in entries if e.is_dir(follow_symlinks=False)]
            below = matching(frozenset(map(os.path.basename, below)), "*")
            waiting += [(folder / name, depth + 1) for name in below[::-1] if name[0] != "."]


def _revision(path: Path) -> Path:
    """``path``, or the revision in it where it is a cache of the Hugging Face hub."""
    main = path / "refs" / "main"
    if not (path / "snapshots").is_dir() or not main.is_file():
        return path
    revision = text_of(inside(path, "refs/main"), 1000).strip()
    if not revision.isalnum() or not (path / "snapshots" / revision).is_dir():
        raise FileError(path, "is a cache of the hub without the revision that refs/main names")
    return inside(path, f"snapshots/{revision}")


def _module(row: Reader) -> ModuleType:
    return importlib.import_module(f".{row.module}", __package__)
