"""Which transcoder is meant, where a folder holds many: by the layer, by the hook, or by both.

Headers and settings are read, and no weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from .. import options
from ..errors import FileError, OptionError, shown
from .place import Place
from .published import Decisions
from .recognition import Reader, leads, look, places_at, recognised

_MOST_NAMED = 4  # of the hooks that a message lists
_LONGEST_HOOK = 200  # characters


class _Candidate(NamedTuple):
    """A transcoder that may be meant, and what its files say of where it reads and writes."""

    place: Place
    row: Reader | None
    layer: int | None
    hooks: tuple[str, ...] = ()


def one_of(
    path: Path, layer: int | None, hook: str | None, decisions: Decisions
) -> tuple[Place, Reader]:
    """The one transcoder in the folder ``path``, or that of ``layer`` and of ``hook``.

    ``hook`` is the name of one by the files themselves, or its last parts: ``mlp`` is
    ``layers.5.mlp`` too.

    Raises:
        FileError: there is none, or several, and the line names what tells them apart; or the file
            of the one that is meant is damaged.
    """
    if layer is not None:
        layer = options.integer_in("layer", layer, 0, 10_000)
    if hook is not None and (not isinstance(hook, str) or not 0 < len(hook) <= _LONGEST_HOOK):
        raise OptionError("hook", f"a name of at most {_LONGEST_HOOK} characters", hook)
    told = layer is not None or hook is not None
    places = places_at(path)
    if not told:
        rows = [(place, row) for place in places if (row := recognised(place, decisions))]
        if len(rows) > 1:
            rows = [(place, row) for place, row in rows if leads(place, row)] or rows
        if len(rows) == 1:
            return rows[0]
    found = [c for place in places if (c := _candidate(place, decisions)) is not None]
    kept = [c for c in found if layer in (None, c.layer)]
    if hook is not None:
        kept = [c for c in kept if hook in c.hooks] or [c for c in kept if _ends_with(hook, c)]
    if len(kept) > 1:
        kept = [c for c in kept if c.row is None or leads(c.place, c.row)] or kept
    if len(kept) == 1:
        place = kept[0].place
        if (row := recognised(place, decisions)) is not None:  # what is damaged is refused here
            return place, row
    if kept:
        problem = f"holds {len(kept)} transcoders{_which(layer, hook)}"
        raise FileError(path, problem, _what_differs(kept))
    problem = f"is a folder without a transcoder of a known format{_which(layer, hook)}"
    raise FileError(path, problem, _hooks_there(found) if hook is not None else "")


def _candidate(place: Place, decisions: Decisions) -> _Candidate | None:
    """What is at ``place``; None if it is of no known format."""
    try:
        row = recognised(place, decisions)
        if row is None:
            return None
        said = look(place, row, decisions)
    except FileError:  # another may be meant; by what is around it, this one may be
        return _Candidate(place, None, place.layer(), (place.folder.name,))
    hooks = dict.fromkeys(name for name in (said.hook_in, said.hook_out) if name)
    return _Candidate(place, row, said.layer, tuple(hooks))


def _ends_with(hook: str, candidate: _Candidate) -> bool:
    return any(name.endswith(f".{hook}") for name in candidate.hooks)


def _which(layer: int | None, hook: str | None) -> str:
    said = [] if layer is None else [f"layer {layer}"]
    said += [] if hook is None else [f"hook {shown(hook)}"]
    return f" for {' and '.join(said)}" if said else ""


def _what_differs(several: list[_Candidate]) -> str:
    """What to say, so that one of them is left."""
    layers = sorted({c.layer for c in several if c.layer is not None})
    if len(layers) == len(several):
        return f"Say which: layer={layers[0]} to {layers[-1]}; rt.scan lists them."
    for names in zip(*(c.hooks[:2] for c in several)):
        if len(set(names)) == len(several):
            return f"Say which: {_listed(names)}; rt.scan lists them."
    return f"Name one of them, such as {several[0].place.path}; rt.scan lists them."


def _listed(names: tuple[str, ...] | list[str]) -> str:
    said = [f"hook={shown(name)}" for name in names]
    more = len(said) - _MOST_NAMED
    return ", ".join(said[:_MOST_NAMED] + ([f"or one of {more} more"] if more > 0 else []))


def _hooks_there(found: list[_Candidate]) -> str:
    names = list(dict.fromkeys(name for c in found for name in c.hooks))
    return f"There are: {_listed(names)}." if names else "Its files name no hooks."
