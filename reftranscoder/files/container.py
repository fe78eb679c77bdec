"""Tensors by name, whatever file they lie in, or whichever files: found, and read one at a time.

A file is known by what it holds and not by its name.  A model in shards is one file more, an index
in JSON that says which shard has which tensor (as ``transformers`` writes it).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import FileError, words
from . import schema
from .npz import find_arrays
from .safetensors import find_tensors
from .sniff import WORDS, kind_of
from .stored import AGAIN, Stored
from .torch_zip import read_torch

INDEX = ".index.json"
_LARGEST_INDEX = 1_000_000  # bytes


class Container(NamedTuple):
    """What a file holds.  ``values`` is what else stands beside tensors, by name."""

    path: Path
    kind: str  # npz, safetensors or torch, as `files.sniff.kind_of` says it
    tensors: dict[str, Stored]
    values: dict[str, Any]


def open_container(path: Path) -> Container:
    """What ``path`` holds: headers and pickles alone are read, and nothing in them is executed.

    Raises:
        FileError: the file is missing, damaged, or no container of tensors.
    """
    if path.name.endswith(INDEX):
        return _of_shards(path)
    kind = kind_of(path)
    if kind not in _READERS:
        problem = f"holds no tensors by name: it is {WORDS[kind]}"
        raise FileError(path, problem, _REMEDY.get(kind, ""))
    tensors, values = _READERS[kind](path)
    return Container(path, kind, tensors, values)


def text_of(path: Path, largest: int = 1_000_000) -> str:
    """The text in a small file.

    Raises:
        FileError: it is missing, no ordinary file, longer than ``largest`` bytes, or not UTF-8.
    """
    kind_of(path)  # a folder, a device, an empty file
    try:
        with open(path, "rb") as file:
            content = file.read(largest + 1)
        if len(content) > largest:
            raise FileError(path, f"is longer than {largest:,} bytes, and no file of settings")
        return content.decode("utf-8")
    except FileError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(path, f"cannot be read: {words(error)}") from None


def json_of(path: Path) -> dict[str, Any]:
    """The JSON object in a small file.

    Raises:
        FileError: as `text_of`; or it is no JSON object.
    """
    try:
        return schema.parse(text_of(path))
    except ValueError as error:
        raise FileError(path, f"is no JSON object: {words(error)}") from None


def inside(folder: Path, name: str) -> Path:
    """The file ``name`` in ``folder``, which must lie there.

    A symbolic link may lead elsewhere in the folder, or, from ``snapshots/REVISION`` of a cache of
    the Hugging Face hub, into the ``blobs`` beside ``snapshots``: so the hub leaves files.

    Raises:
        FileError: it leads out of the folder, or in a circle, or can be no name of a file.
    """
    path = folder / name
    try:
        real, home = path.resolve(), folder.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself, a null character
        raise FileError(path, f"is no file in its folder: {words(error)}") from None
    allowed = [home]
    for parent in (folder.absolute(), *folder.absolute().parents):
        blobs = parent.parent.parent / "blobs"
        if parent.parent.name == "snapshots" and not blobs.is_symlink():
            allowed.append(blobs.resolve())
    if not any(real.is_relative_to(place) for place in allowed):
        raise FileError(path, "leads out of its folder", "Put the file itself there.")
    return path


def _of_shards(path: Path) -> Container:
    """The tensors that the index ``path`` names, each of them in the shard that it says."""
    content = json_of(path)
    listed = content.get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(n, str) for n in listed.values()):
        raise FileError(path, "its weight_map must give the name of a file for each tensor")
    shards: dict[str, Container] = {}
    for name in sorted(set(listed.values())):
        if not name or name != Path(name).name or name in (".", "..") or "\\" in name:
            raise FileError(path, f"names a file outside its folder: {words(name)}")
        if name.endswith(INDEX):
            raise FileError(path, f"names another index: {words(name)}")
        shards[name] = open_container(inside(path.parent, name))
    tensors = {}
    for tensor, name in listed.items():
        if tensor not in shards[name].tensors:
            raise FileError(path, f"says that {words(name)} has {words(tensor)}, and it has not")
        tensors[tensor] = shards[name].tensors[tensor]
    kinds = {shard.kind for shard in shards.values()}
    return Container(path, "+".join(sorted(kinds)), tensors, {})


def _npz(path: Path) -> tuple[dict[str, Stored], dict[str, Any]]:
    return find_arrays(path), {}


def _torch(path: Path) -> tuple[dict[str, Stored], dict[str, Any]]:
    content = read_torch(path)
    if not isinstance(content, dict):
        raise FileError(path, "holds no tensors by name")
    named = {name: value for name, value in content.items() if isinstance(name, str)}
    tensors = {name: value for name, value in named.items() if isinstance(value, Stored)}
    return tensors, {name: value for name, value in named.items() if name not in tensors}


_READERS: dict[str, Callable[[Path], tuple[dict[str, Stored], dict[str, Any]]]] = {
    "npz": _npz,
    "safetensors": find_tensors,
    "torch": _torch,
}
_REMEDY = {
    "pickle": "It could run any code. If you trust it, unpickle it, and save the arrays with "
    "numpy.savez.",
    "gzip": "Unpack it first: gunzip",
    "lfs": "Fetch the file itself: git lfs pull",
    "html": "Download the file itself: its raw address, not the page about it.",
    "damaged zip": AGAIN,
}
