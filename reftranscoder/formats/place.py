"""What somebody points at: a file, or a folder and what lies in it."""

from __future__ import annotations

import fnmatch
import os
import re
from pathlib import Path
from typing import Any

from ..errors import FileError
from ..files.container import INDEX, Container, inside, json_of, open_container, text_of
from ..files.names import natural

_MOST_ENTRIES = 100_000
#: What says which layer of a language model: layers.10, layer_10, blocks.10, L10.
_LAYER = re.compile(r"(?:^|[^a-z])(?:layers?|blocks?|h)[._-]?(\d{1,4})(?:\D|$)", re.IGNORECASE)


class Place:
    """A file with weights, the folder in which it lies, and the settings beside it."""

    def __init__(self, path: Path, folder: Path, names: frozenset[str]) -> None:
        self.path, self.folder, self.names = path, folder, names
        self.named = False  # whether its format was told
        self._container: Container | None = None

    def container(self) -> Container:
        """The tensors in the file, found once."""
        if self._container is None:
            self._container = open_container(self.path)
        return self._container

    def settings(self, name: str) -> dict[str, Any]:
        """The JSON object in the file ``name`` beside the weights; empty if there is none."""
        return json_of(inside(self.folder, name)) if name in self.names else {}

    def text(self, name: str) -> str:
        """The text in the file ``name`` beside the weights; empty if there is none."""
        return text_of(inside(self.folder, name)) if name in self.names else ""

    def layer(self) -> int | None:
        """The layer that the name of the file, or of a folder above it, says; the nearest wins."""
        for part in [self.path.name, *(self.folder.absolute().parts[::-1][:4])]:
            if (found := layer_in(part)) is not None:
                return found
        return None


def layer_in(name: str) -> int | None:
    """The layer that the name of a file, a folder or a hook says; None if it says none."""
    found = _LAYER.search(name)
    return int(found[1]) if found else None


def names_in(folder: Path) -> frozenset[str]:
    """The names of what lies in ``folder``.

    Raises:
        FileError: it cannot be listed, or holds too much.
    """
    try:
        names = frozenset(os.listdir(folder))
    except OSError as error:
        raise FileError(folder, f"cannot be listed: {error.strerror}") from None
    if len(names) > _MOST_ENTRIES:
        raise FileError(folder, f"holds {len(names):,} files", "Name the one to read.")
    return names


def matching(names: frozenset[str], pattern: str) -> list[str]:
    """Those of ``names`` that ``pattern`` describes, or whose shards an index of it lists."""
    found = [name for name in names if fnmatch.fnmatchcase(name.removesuffix(INDEX), pattern)]
    return sorted(found, key=natural)
