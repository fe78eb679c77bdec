"""A run on disk, so that a killed one goes on to the same bits.

A checkpoint is an ``.npz`` file, written all or nothing and read without unpickling.  It holds the
arrays in training units, Adam's means (``m.W_enc``, ``v.W_enc``, ...), the averages and the best
arrays where the run keeps them, for how many steps each feature was ``silent``, and one text,
``meta``, which is JSON: the steps made, the log so far, everything that the result depends on
(``identity.py``), and a digest of all this.  Going on is refused where the identity differs, and
where the digest says that the file is not what was written.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..arrays import bytes_of
from ..errors import FileError, OptionError, VersionWarning, shown, words
from ..files import schema
from ..files.atomic import atomic_write
from ..files.npz import read_arrays, write_arrays
from .history import Entry
from .identity import DATA, LEFT_OUT, versions

_FORMAT, _VERSION, _META = "reftranscoder checkpoint", 3, "meta"
_REMEDY = "Delete it to begin again, or choose another name."

_WHOLE = schema.Field(schema.is_whole, "a whole number, 0 or above")
_NUMBER = schema.Field(schema.is_number, "a number")
_FIELDS = {
    "format": schema.Field(lambda value: value == _FORMAT, f"{_FORMAT!r}"),
    "version": _WHOLE,
    "versions": schema.Field(schema.is_object, "an object"),
    "identity": schema.Field(schema.is_object, "an object"),
    "t": _WHOLE,
    "losses": schema.Field(schema.is_list_of(schema.is_finite), "a list of finite numbers"),
    "entries": schema.Field(schema.is_list_of(schema.is_object), "a list of objects"),
    "digest": schema.Field(schema.is_text, "a text"),
}
_ENTRY = {
    field.name: _WHOLE if field.name in ("step", "dead") else _NUMBER
    for field in dataclasses.fields(Entry)
}


class Resumed(Protocol):
    """The state of a run: `State`, or that of several layers."""

    @property
    def t(self) -> int:
        """The steps made."""

    @property
    def dict_size(self) -> int:
        """How many features there are."""

    @property
    def measured(self) -> dict[str, np.ndarray]:
        """The arrays that are measured, by name."""

    @property
    def best(self) -> dict[str, np.ndarray]:
        """What measured best so far, by the same names, or none."""

    def named(self) -> dict[str, np.ndarray]:
        """Every array, by the name that it has in a checkpoint."""

    def go_on_from(self, t: int) -> None:
        """Say that ``t`` steps led to these arrays."""


@dataclasses.dataclass
class Checkpoint:
    """A run between two steps."""

    identity: Mapping[str, Any]  # what the result depends on, by option name
    state: Resumed
    entries: list[Entry]
    losses: list[float]  # of the steps since the last entry


def save(path: str | os.PathLike[str], run: Checkpoint) -> None:
    """Write ``path``, replacing an older checkpoint.

    Raises:
        FileError: it cannot be written; an older one survives.
    """
    meta = {
        "format": _FORMAT,
        "version": _VERSION,
        "versions": versions(),
        "identity": run.identity,
        "t": run.state.t,
        "losses": run.losses,
        "entries": [dataclasses.asdict(entry) for entry in run.entries],
    }
    arrays = run.state.named()
    text = _to_json(meta | {"digest": digest_of(meta, arrays)})
    with atomic_write(path) as file:
        write_arrays(file, {**arrays, _META: np.array(text)})


def load(path: str | os.PathLike[str], identity: Mapping[str, Any], start: Resumed) -> Checkpoint:
    """Read ``path``: the run with this ``identity`` whose first state was ``start``.

    Warns:
        VersionWarning: another version of NumPy or of this library wrote it.

    Raises:
        FileError: it is damaged, no checkpoint, or one of a run on other data.
        OptionError: it is one of a run with other options, which are named.
    """
    path = Path(path)
    meta, arrays = _read(path)
    _compare(path, json.loads(_to_json(identity)), meta["identity"])
    wanted = start.named()
    for name, like in wanted.items():
        array = arrays.get(name)
        if array is None or (array.shape, array.dtype) != (like.shape, like.dtype):
            raise FileError(path, f"is damaged: its {name} does not fit", _REMEDY)
    strange = sorted(set(arrays) - set(wanted))
    if strange:
        problem = f"is damaged: it also holds {', '.join(map(words, strange))}"
        raise FileError(path, problem, _REMEDY)
    entries = _entries(path, meta)
    _check_digest(path, meta, arrays)
    if impossible := _impossible(identity, meta, arrays):
        raise FileError(path, f"holds what no run comes to: {impossible}", _REMEDY)
    _compare_versions(path, meta["versions"])
    for name, array in wanted.items():  # the start's own, which nobody else has
        array[...] = arrays[name]
    start.go_on_from(meta["t"])
    return Checkpoint(identity, start, entries, meta["losses"])


def read_run(path: Path) -> tuple[dict[str, Any], list[Entry]]:
    """Read what ``path`` says of its run, whatever run that is, and the log.

    Raises:
        FileError: it is damaged, or no checkpoint.
    """
    meta, arrays = _read(path)
    entries = _entries(path, meta)
    _check_digest(path, meta, arrays)
    return meta, entries


def _check_digest(path: Path, meta: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    digest = meta.pop("digest")
    if digest != digest_of(meta, arrays):
        problem = "is damaged: it is not what was written, by the digest in it"
        raise FileError(path, problem, _REMEDY)


def _to_json(value: Any) -> str:
    # Seeds may hold NumPy's integers, and arrays of them.
    return json.dumps(value, default=lambda other: np.asarray(other).tolist())


def digest_of(meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Of all that a checkpoint holds: SHA-256 of the text and of each array behind its name."""
    state = hashlib.sha256(json.dumps(json.loads(_to_json(meta)), sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        state.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        state.update(bytes_of(array).data)
    return state.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The text and the arrays, if they are those of a checkpoint of this version."""
    arrays = read_arrays(path, {})
    text = arrays.pop(_META, None)
    if text is None or text.dtype.kind != "U" or text.ndim:
        raise FileError(path, "is not a checkpoint of reftranscoder", _REMEDY)
    try:
        meta = schema.parse(str(text))
    except ValueError as error:
        raise FileError(path, f"is damaged: its {_META}: {words(error)}", _REMEDY) from None
    version: Any = meta.get("version")
    if meta.get("format") == _FORMAT and schema.is_whole(version) and version != _VERSION:
        old = ", which does not know its data" if version < 2 else ""
        problem = (
            f"is of checkpoint version {version}{old}, and this reftranscoder reads {_VERSION}"
        )
        raise FileError(path, problem, _REMEDY)
    if fault := schema.fault(meta, _FIELDS):
        raise FileError(path, f"is not a checkpoint of reftranscoder: {fault}", _REMEDY)
    return meta, arrays


def _entries(path: Path, meta: Mapping[str, Any]) -> list[Entry]:
    """The log, which has a line for every ``log_every`` steps and the losses of those after it."""
    problem = next(filter(None, (schema.fault(entry, _ENTRY) for entry in meta["entries"])), None)
    if problem is None:
        steps = [entry["step"] for entry in meta["entries"]]
        if steps != sorted(set(steps)) or meta["t"] - max(steps, default=0) != len(meta["losses"]):
            problem = "it does not fit the steps made"
    if problem:
        raise FileError(path, f"is damaged: its log makes no sense: {problem}", _REMEDY)
    return [Entry(**entry) for entry in meta["entries"]]


def _impossible(
    identity: Mapping[str, Any], meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> str | None:
    """What is wrong with content whose digest is right: somebody made the digest for it."""
    t, steps, every = meta["t"], identity["steps"], identity["log_every"]
    if t > steps:
        return f"step {t} of {steps}"
    due = list(range(every, t + 1, every))
    if t == steps and t % every:
        due.append(t)
    if [entry["step"] for entry in meta["entries"]] != due:
        return f"a log that does not have a line for every {every} steps"
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            return f"{name} is not finite"
        if name.startswith("v.") and (array < 0).any():
            return f"{name}, a mean of squares, is negative"
    silent = (array for name, array in arrays.items() if name.startswith("silent"))
    if any(((array < 0) | (array > t)).any() for array in silent):
        return f"features that were silent for other than 0 to {t} steps"
    return None


def _compare(path: Path, now: Mapping[str, Any], then: Mapping[str, Any]) -> None:
    """Refuse an identity other than that of the run: the options first, then the data."""
    for name in (*now, *(name for name in LEFT_OUT if name not in now)):
        ours, theirs = (identity.get(name, LEFT_OUT.get(name)) for identity in (now, then))
        if name == "data" or ours == theirs:
            continue
        want = f"{shown(theirs)}, as in the checkpoint {path}"
        raise OptionError(name, want, ours, "Or delete the checkpoint to begin again.")
    if now["data"] != then.get("data"):
        held = then["data"] if schema.is_object(then.get("data")) else {}
        known = dict.fromkeys((*DATA, *now["data"]))
        others = [name for name in known if now["data"].get(name) != held.get(name)]
        names = " and ".join(others)
        problem = f"is of a run on other data: {names} differ{'s' if len(others) == 1 else ''}"
        raise FileError(path, problem, _REMEDY)


def _compare_versions(path: Path, then: Mapping[str, Any]) -> None:
    now = versions()
    changed = [f"{n} {words(then.get(n))}, now {now[n]}" for n in now if then.get(n) != now[n]]
    if changed:
        text = f"{path} was written with {'; '.join(changed)}: the last bits may differ."
        warnings.warn(text, VersionWarning, stacklevel=4)
