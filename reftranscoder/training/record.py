"""What a run left behind of itself, in its log or in its checkpoint, for whoever shows it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import FileError
from ..files.archive import members
from .checkpoint import read_run
from .history import Entry
from .metrics_log import FORMAT, read_log


class Record(NamedTuple):
    """A run by what was measured of it."""

    path: str
    kind: str  # "log" or "checkpoint"
    identity: dict[str, Any]  # the options, by name
    entries: tuple[Entry, ...]
    seconds: tuple[float, ...]  # since the run began, at each entry; none in a checkpoint
    data: dict[str, Any]  # names and shapes of the rows; none in a checkpoint
    began: str | None  # date and time
    steps: int  # made
    ended: str | None  # "done" or "interrupted"; None while it runs, after a kill, or if unknown
    total_seconds: float | None

    @property
    def steps_asked_for(self) -> int | None:
        """How many there were to be."""
        steps = self.identity.get("steps")
        return steps if isinstance(steps, int) else None


def is_record(path: str | os.PathLike[str]) -> bool:
    """Whether the file ``path`` begins as a log does, or holds what only checkpoints hold."""
    try:
        with open(path, "rb") as file:
            start = file.read(64)
            if not start.startswith(b"PK"):
                return FORMAT.encode() in start
            return {"meta.npy", "silent.npy"} <= {member.filename for member in members(file)}
    except (OSError, ValueError):
        return False


def read_record(path: str | os.PathLike[str]) -> Record:
    """Read the log or the checkpoint ``path``.

    Raises:
        FileError: it cannot be read, or is neither.
    """
    try:
        with open(path, "rb") as file:
            is_archive = file.read(2) == b"PK"
    except OSError as error:
        raise FileError(path, f"cannot be read: {error.strerror}") from None
    if is_archive:
        meta, entries = read_run(Path(path))
        run = meta["identity"], tuple(entries)
        return Record(str(path), "checkpoint", *run, (), {}, None, meta["t"], None, None)
    head, lines, end = read_log(path)
    names = [field.name for field in dataclasses.fields(Entry)]
    entries = [Entry(**{name: line[name] for name in names}) for line in lines]
    seconds = tuple(line["seconds"] for line in lines)
    return Record(
        path=str(path),
        kind="log",
        identity=head["identity"],
        entries=tuple(entries),
        seconds=seconds,
        data=head["data"],
        began=head["began"],
        steps=end["steps"] if end else max((entry.step for entry in entries), default=0),
        ended=end["ended"] if end else None,
        total_seconds=end["seconds"] if end else seconds[-1] if seconds else None,
    )
