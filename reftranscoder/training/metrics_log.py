"""The log of a run as JSON lines, written while it runs: for whoever watches it, and for later.

The first line says what is trained on what, each line after it is an `Entry` with the ``seconds``
since the run began (this time and before, without what lies between), and the last says how it
ended.  A line is on its way to the disk as soon as its step is made.  JSON has no NaN and no
infinity: they are null.  A run that goes on from its checkpoint keeps the lines up to there, and
drops those of steps that it makes again.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..activations import Activations
from ..errors import FileError, words
from ..files import schema
from ..files.atomic import atomic_write
from .checkpoint import Checkpoint
from .history import Entry
from .identity import DATA, versions

FORMAT, _VERSION = "reftranscoder log", 1
_REMEDY = "Choose another name."
_NUMBERS = tuple(field.name for field in dataclasses.fields(Entry)) + ("seconds",)
_NULLABLE = schema.Field(lambda value: value is None or schema.is_number(value), "a number or null")
_WHOLE = schema.Field(schema.is_whole, "a whole number, 0 or above")
_LINE = {name: _WHOLE if name in ("step", "dead") else _NULLABLE for name in _NUMBERS}
_OBJECT = schema.Field(schema.is_object, "an object")
_HEAD = {
    "format": schema.Field(lambda value: value == FORMAT, f"{FORMAT!r}"),
    "version": schema.Field(lambda value: value == _VERSION, f"{_VERSION}"),
    "began": schema.Field(schema.is_text, "a text"),
    "versions": _OBJECT,
    "identity": _OBJECT,
    "data": _OBJECT,
}
_END = {
    "ended": schema.Field(lambda value: value in ("done", "interrupted"), "done or interrupted"),
    "steps": _WHOLE,
    "best_step": schema.Field(lambda value: value is None or schema.is_whole(value), "a step"),
    "seconds": schema.Field(schema.is_finite, "a number"),
}


class Log(NamedTuple):
    """What a log holds."""

    head: dict[str, Any]
    lines: list[dict[str, Any]]  # the fields of `Entry`, and ``seconds``
    end: dict[str, Any] | None  # None while it runs, or after a kill


class MetricsLog:
    """Writes the log of a run to ``path``; nothing, if that is None.

    Args:
        path: the file, which is replaced if it is a log.
        run: where the run begins, or goes on.
        data: what it is trained and, if there is more, measured on.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        run: Checkpoint,
        data: tuple[Activations, ...] = (),
    ) -> None:
        self._path = path
        self._began = time.monotonic()
        self._count = len(run.entries)
        if path is None:
            return
        before = read_log(path) if os.path.exists(path) and os.path.getsize(path) else None
        seconds = {line["step"]: line["seconds"] for line in before.lines} if before else {}
        lines = [_written(entry, seconds.get(entry.step, math.nan)) for entry in run.entries]
        self._before = (lines[-1]["seconds"] or 0.0) if lines else 0.0
        head = {
            "format": FORMAT,
            "version": _VERSION,
            "began": before.head["began"] if before and lines else _now(),
            "versions": versions(),
            "identity": run.identity,
            "data": {n: {"name": of.name, "shape": of.shape} for n, of in zip(DATA, data)},
        }
        with atomic_write(path) as file:
            for line in (head, *lines):
                file.write(_line(line))

    def add(self, entries: list[Entry]) -> None:
        """Write those of ``entries`` that are new.

        Raises:
            FileError: it cannot be written.
        """
        for entry in entries[self._count :]:
            self._append(_written(entry, self._seconds()))
        self._count = len(entries)

    def end(self, steps: int, best_step: int | None, done: bool) -> None:
        """Write how it ended.

        Raises:
            FileError: it cannot be written.
        """
        ended = "done" if done else "interrupted"
        line = {"ended": ended, "steps": steps, "best_step": best_step}
        self._append(line | {"seconds": self._seconds()})

    def _seconds(self) -> float:
        return 0.0 if self._path is None else self._before + time.monotonic() - self._began

    def _append(self, line: Mapping[str, Any]) -> None:
        if self._path is None:
            return
        try:
            with open(self._path, "ab") as file:
                file.write(_line(line))
        except OSError as error:
            raise FileError(self._path, f"cannot be written: {error.strerror}") from None


def read_log(path: str | os.PathLike[str]) -> Log:
    """Read the log ``path``; a last line that is cut short, of a process that was killed, is left.

    Raises:
        FileError: it cannot be read, or is no log.
    """
    try:
        text = Path(path).read_bytes().decode()
    except UnicodeDecodeError:
        raise FileError(path, "is not a log of reftranscoder", _REMEDY) from None
    except OSError as error:
        raise FileError(path, f"cannot be read: {error.strerror}") from None
    whole = text.split("\n")[:-1]
    head, *rest = [_parsed(path, n, line) for n, line in enumerate(whole, 1)] or [{}]
    if fault := schema.fault(head, _HEAD):
        raise FileError(path, f"is not a log of reftranscoder: {fault}", _REMEDY)
    end = rest.pop() if rest and "ended" in rest[-1] else None
    of_lines = [(n, schema.fault(line, _LINE)) for n, line in enumerate(rest, 2)]
    of_lines.append((len(whole), schema.fault(end, _END) if end else None))
    for n, fault in of_lines:
        if fault:
            raise FileError(path, f"is damaged in line {n}: {fault}", _REMEDY)
    for line in rest:
        line.update({name: math.nan for name, value in line.items() if value is None})
    return Log(head, rest, end)


def _parsed(path: Any, n: int, line: str) -> dict[str, Any]:
    try:
        return schema.parse(line)
    except ValueError as error:
        problem = "is not a log of reftranscoder" if n == 1 else f"is damaged in line {n}"
        raise FileError(path, f"{problem}: {words(error)}", _REMEDY) from None


def _line(line: Mapping[str, Any]) -> bytes:
    # Seeds may hold NumPy's integers, and arrays of them.
    text = json.dumps(line, default=lambda other: np.asarray(other).tolist(), allow_nan=False)
    return f"{text}\n".encode()


def _written(entry: Entry, seconds: float) -> dict[str, Any]:
    numbers = dataclasses.asdict(entry) | {"seconds": seconds}
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
