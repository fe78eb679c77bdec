"""How many features and columns the data exercised, and the sentences about those they did not.

What that means is said in `cross_checks/exercised.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

_SHOWN = 8  # numbers of features and columns that a report names

_AXES = ("features", "input columns", "output columns")

#: The parameters that a stage reads.
_READS = {
    ("pre", "features"): ("W_enc", "b_enc"),
    ("pre", "input columns"): ("W_enc",),
    ("pre_acts", "features"): ("W_enc", "b_enc"),
    ("hidden", "features"): ("W_enc", "b_enc"),
    ("reconstruction", "features"): ("W_dec",),
    ("reconstruction", "input columns"): ("W_skip",),
    ("reconstruction", "output columns"): ("W_dec", "b_dec"),
}


class Exercised(NamedTuple):
    """Of one stage: how many of its features, or columns, the data exercised."""

    stage: str
    what: str  # "features", "input columns" or "output columns"
    exercised: int
    total: int
    missing: tuple[int, ...]  # the numbers of the first of those that were not


def counted(masks: Iterable[Mapping[tuple[str, str], np.ndarray]]) -> tuple[Exercised, ...]:
    """The numbers of each kind of transcoder, added up; its masks are by stage and axis."""
    found: dict[tuple[str, str], Exercised] = {}
    for kind in masks:
        for key, mask in kind.items():
            before = found.get(key, Exercised(*key, 0, 0, ()))
            missing = tuple(np.flatnonzero(~mask)[:_SHOWN].tolist())
            found[key] = Exercised(
                *key,
                before.exercised + int(mask.sum()),
                before.total + len(mask),
                tuple(sorted({*before.missing, *missing}))[:_SHOWN],
            )
    return tuple(found.values())


def missing_sentences(exercised: Iterable[Exercised]) -> tuple[str, ...]:
    """A sentence about the features that were not exercised, one about either sort of columns."""
    judged = list(exercised)
    found = {what: [one for one in judged if one.what == what] for what in _AXES}
    return tuple(_sentence(w, found[w]) for w in _AXES if any(map(_lacks, found[w])))


def _lacks(one: Exercised) -> bool:
    return one.exercised < one.total


def _sentence(what: str, judged: list[Exercised]) -> str:
    stages = [one for one in judged if _lacks(one)]
    least, most = (f(one.total - one.exercised for one in stages) for f in (min, max))
    worst = next(one for one in stages if one.total - one.exercised == most)
    number = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    listed = ", ".join(map(str, worst.missing)) + (", ..." if most > len(worst.missing) else "")
    there = ", ".join(one.stage for one in stages)
    arrays = dict.fromkeys(a for one in stages for a in _arrays(one.stage, what))
    for one in judged:
        if one.stage == "pre" and not _lacks(one):  # which tells all of them
            arrays = {a: None for a in arrays if a not in ("W_enc", "b_enc")}
    verb = "was" if most == 1 else "were"
    part = "rows" if what == "features" else "part"
    known = f": nothing is known about their {part} of {', '.join(arrays)}" if arrays else ""
    return f"{number} of {worst.total:,} {what} ({listed}) {verb} not exercised at {there}{known}."


def _arrays(stage: str, what: str) -> tuple[str, ...]:
    own = (stage,) if stage.startswith(("dW", "db")) else ()
    return _READS.get((stage, what), own)
