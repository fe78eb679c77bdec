"""A number that a mistake multiplies by, estimated by one division; whoever asks has it judged.

Let g be what a candidate gave of a stage, w what it should have given, to within b.  If a part p of
w counts c times, g = w - p + c p, up to b.  For several parts, the least squares solution of that,
with every entry divided by its b, estimates the c (Gauss-Markov).  An estimate proves nothing: it
is a hypothesis worth judging where no entry is further off than its bound, and enough of them show
the part at all.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..intervals.interval import Interval
from ..judging.judge import Judge
from ..judging.verdict import Index, Tally
from ..task.candidate import Candidate
from ..task.problem import Problem

_ENTRIES = 8  # in which a part shows, at least: as many as no coincidence explains
_SHOWS = 16.0  # bounds that a part is above where it shows
_PRECISE = 0.05  # how well a number has to be known before it is told
_SLACK = 2.0  # of bounds: judging them is for others


class Entries(NamedTuple):
    """A stage as a candidate gave it, beside what it should be and how far off it may be."""

    got: np.ndarray
    want: np.ndarray
    bound: np.ndarray


class _Collected(Tally):
    """Keeps what it compares."""

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.parts: list[tuple[np.ndarray, ...]] = []

    def add(self, got: np.ndarray, want: Interval, index: Index) -> None:
        super().add(got, want, index)
        bound = np.broadcast_to(want.error(0), want.value.shape)
        arrays = got, want.value, bound
        self.parts.append(tuple(np.asarray(a, np.float64).ravel() for a in arrays))


def entries_of(problem: Problem, candidate: Candidate, stage: str) -> Entries:
    """All entries of a ``stage`` that was given, and what they should be under a definition."""
    judge = Judge(problem, candidate, frozenset(candidate.given) - {stage})
    collected = judge.comparison.tallies[stage] = _Collected(stage)
    judge.run()
    if not collected.parts:
        return Entries(*(np.zeros(0),) * 3)
    got, want, bound = (np.concatenate(arrays) for arrays in zip(*collected.parts))
    # What is known exactly is rounded, too, once something multiplies it.
    store = problem.arithmetic[stage].store
    bound = bound + 2 * store.unit * np.abs(want) + store.spacing
    return Entries(got, want, bound)


def fewest_parts(entries: Entries, parts: Mapping[str, np.ndarray]) -> list[dict[str, float]]:
    """How many times parts count, for the fewest of them that explain all: the rest counts once."""
    parts = {name: part for name, part in parts.items() if part.any()}
    for size in range(1, len(parts) + 1):
        chosen = itertools.combinations(parts, size)
        found = [e for some in chosen if (e := estimate(entries, parts, some)) is not None]
        if found:
            return found
    return []


def estimate(
    entries: Entries, parts: Mapping[str, np.ndarray], names: Sequence[str]
) -> dict[str, float] | None:
    """How many times the parts with these ``names`` count, or None where that explains nothing."""
    got, want, bound = entries
    with np.errstate(over="ignore"):  # what is exactly known, and off, is infinitely far off
        columns = [parts[name] / bound for name in names]
        rest = (got - want + sum(parts[name] for name in names)) / bound
    if not all(np.count_nonzero(np.abs(column) > _SHOWS) >= _ENTRIES for column in columns):
        return None
    A = np.stack(columns, axis=1)
    if not (np.isfinite(A).all() and np.isfinite(rest).all()):
        return None
    solution, _, rank, _ = np.linalg.lstsq(A, rest, rcond=None)
    if rank < len(names) or not np.isfinite(solution).all():
        return None
    most = max(1.0, float(np.abs(solution).max()))
    if not (np.abs(A @ solution - rest) <= _SLACK * most).all():
        return None
    known_to = [1 / float(np.abs(column).max()) for column in columns]
    if any(most * error > _PRECISE * max(abs(c), 1) for c, error in zip(solution, known_to)):
        return None
    return {n: _plain(float(c), error) for n, c, error in zip(names, solution, known_to)}


def _plain(c: float, error: float) -> float:
    """The whole number, or one over a whole number, that c may be; or c itself."""
    if abs(c) <= error:
        return 0.0
    for nearest in (float(round(c)), 1 / round(1 / c) if abs(c) < 1 else c):
        if nearest not in (0.0, 1.0) and abs(c - nearest) <= error * abs(c):
            return nearest
    return c


def times_of(c: float) -> str:
    """What counts c times, in words that follow "is" or "are"."""
    words = {0.0: "left out", 0.5: "half of what it should be", 2.0: "twice what it should be"}
    words[-1.0] = "of the wrong sign"
    if c in words:
        return words[c]
    return f"{c:.4g} times what it should be"


def differences(
    problem: Problem, candidate: Candidate, stage: str, without: Mapping[str, Mapping[str, Any]]
) -> tuple[Entries, dict[str, np.ndarray]]:
    """A stage's entries, and those parts of them that are lost under other definitions.

    ``without`` has, for each part, the changes to the definition under which it does not count.
    """
    entries = entries_of(problem, candidate, stage)
    parts = {}
    for name, changes in without.items():
        definition = dataclasses.replace(problem.definition, **changes)
        less = entries_of(problem._replace(definition=definition), candidate, stage)
        parts[name] = entries.want - less.want
    return entries, parts
