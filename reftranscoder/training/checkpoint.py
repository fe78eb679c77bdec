"""A run on disk, so that a killed one goes on to the same bits.

A checkpoint is an ``.npz`` file, written all or nothing and read without unpickling.  It holds the
arrays in training units, Adam's means (``m.W_enc``, ``v.W_enc``, ...), and one text, ``meta``,
which is JSON: the steps made, the log so far, and everything that the result depends on.  Going on
is refused where any of that differs.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError, OptionError
from ..files.atomic import atomic_write, write_arrays
from ..files.sniff import require
from .adam import State
from .history import Entry

_FORMAT, _VERSION, _META = "reftranscoder checkpoint", 1, "meta"
_GROUPS = ("arrays", "m", "v")
_REMEDY = "Delete it to begin again, or choose another name."


@dataclasses.dataclass
class Checkpoint:
    """A run between two steps."""

    identity: Mapping[str, Any]  # what the result depends on, by option name
    state: State
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
        "identity": run.identity,
        "t": run.state.t,
        "losses": run.losses,
        "entries": [dataclasses.asdict(entry) for entry in run.entries],
    }
    groups = (getattr(run.state, group) for group in _GROUPS)
    arrays = {
        f"{group}.{name}": array
        for group, named in zip(_GROUPS, groups)
        for name, array in named.items()
    }
    with atomic_write(path) as file:
        write_arrays(file, {**arrays, _META: np.array(_to_json(meta))})


def load(path: str | os.PathLike[str], identity: Mapping[str, Any], start: State) -> Checkpoint:
    """Read ``path``: the run with this ``identity`` whose first state was ``start``.

    Raises:
        FileError: it is damaged, no checkpoint, or one of a run on other data.
        OptionError: it is one of a run with other options, which are named.
    """
    path = Path(path)
    meta, arrays = _read(path)
    _compare(path, json.loads(_to_json(identity)), meta["identity"])
    state = State(start.config, *({} for _ in _GROUPS), t=meta["t"])
    for group in _GROUPS:
        for name, like in start.arrays.items():
            array = arrays.pop(f"{group}.{name}", None)
            if array is None or (array.shape, array.dtype) != (like.shape, like.dtype):
                raise FileError(path, f"is damaged: its {group}.{name} does not fit", _REMEDY)
            getattr(state, group)[name] = np.ascontiguousarray(array)
    if arrays:
        raise FileError(path, f"is damaged: it also holds {', '.join(sorted(arrays))}", _REMEDY)
    try:
        entries = [Entry(**entry) for entry in meta["entries"]]
    except TypeError:
        raise FileError(path, "is damaged: its log makes no sense", _REMEDY) from None
    return Checkpoint(identity, state, entries, meta["losses"])


def _to_json(value: Any) -> str:
    # Seeds may hold NumPy's integers, and arrays of them.
    return json.dumps(value, default=lambda other: np.asarray(other).tolist())


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    require(path, "npz", {})
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = json.loads(str(arrays.pop(_META)))
        if meta["format"] != _FORMAT:
            raise KeyError
        wanted = {"identity": dict, "t": int, "losses": list, "entries": list}
        if any(not isinstance(meta[name], kind) for name, kind in wanted.items()):
            raise KeyError
    except (KeyError, TypeError):  # another archive, or another text
        raise FileError(path, "is not a checkpoint of reftranscoder", _REMEDY) from None
    except Exception as error:  # whatever zipfile, json and NumPy stumble over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileError(path, f"is damaged: {reason}", _REMEDY) from error
    if meta["version"] != _VERSION:
        problem = f"is of checkpoint version {meta['version']}; this reftranscoder reads {_VERSION}"
        raise FileError(path, problem, _REMEDY)
    return meta, arrays


def _compare(path: Path, now: Mapping[str, Any], then: Mapping[str, Any]) -> None:
    for name in now:
        if now[name] == then.get(name):
            continue
        if name == "data":
            raise FileError(path, "is of a run on other data", _REMEDY)
        want = f"{then.get(name)!r}, as in the checkpoint {path}"
        raise OptionError(name, want, now[name], "Or delete the checkpoint to begin again.")
