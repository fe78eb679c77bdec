"""Other definitions that a candidate may follow, and what they make of it.

A hypothesis changes some fields of the definition.  It explains a candidate if under it no stage
is at fault; it explains some of one if the first fault comes later than before.  ``search.py``
tries them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ..judging.judge import Judge
from ..judging.known_results import KnownResults
from ..judging.verdict import StageResult, first_fault, progress_of
from ..task.candidate import Candidate
from ..task.problem import Problem
from ..task.stage_graph import ALL_STAGES
from .conditions import always
from .subsets import is_large, subsets_of


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """Another definition: ``changes`` to the fields of `Definition`, seen from ``stage`` on."""

    name: str
    meaning: str
    stage: str
    changes: Mapping[str, Any]

    def applied(self, problem: Problem) -> Problem:
        definition = dataclasses.replace(problem.definition, **self.changes)
        return problem._replace(definition=definition)


class Row(NamedTuple):
    """A row of a table of hypotheses, and the problems in which it makes sense.

    ``meaning`` may hold ``{K}``, ``{fewer}`` and ``{more}``, which stand for K, K - 1 and K + 1;
    ``changes`` may depend on the problem's sizes.
    """

    name: str
    meaning: str
    stage: str
    changes: Mapping[str, Any] | Callable[[Problem], Mapping[str, Any]]
    possible: Callable[[Problem], bool] = always

    def hypothesis(self, problem: Problem) -> Hypothesis:
        K = problem.definition.top_k
        name, meaning = (
            text.format(K=K, fewer=K - 1, more=K + 1) for text in (self.name, self.meaning)
        )
        changes = self.changes(problem) if callable(self.changes) else self.changes
        return Hypothesis(name, meaning, self.stage, changes)


def mistake(
    meaning: str,
    stage: str,
    possible: Callable[[Problem], bool] = always,
    /,
    **changes: object,
) -> Row:
    """A row whose name says all: a mistake is declared by nobody."""
    return Row(meaning, meaning, stage, changes, possible)


def possible(table: Iterable[Row], problem: Problem) -> list[Hypothesis]:
    """The rows of a table that make sense in this problem, in their order."""
    return [row.hypothesis(problem) for row in table if row.possible(problem)]


class Explained(NamedTuple):
    """What the best hypotheses make of a candidate."""

    alternatives: tuple[tuple[str, ...], ...]  # the names of each, where several do as well
    hypotheses: tuple[Hypothesis, ...]  # the first of these
    results: dict[str, StageResult]  # judged under it
    first: str  # the stage that was at fault before
    complete: bool  # nothing is at fault any more
    stages: tuple[str, ...]  # what the alternatives change first
    tied: tuple[tuple[Hypothesis, ...], ...] = ()  # all that do as well

    @property
    def name(self) -> str:
        return " or ".join(" and ".join(names) for names in self.alternatives)


def compatible(a: Hypothesis, b: Hypothesis) -> bool:
    """Whether both may hold: they change different fields."""
    return not set(a.changes) & set(b.changes)


def ordered_names(
    combination: Iterable[Hypothesis], hypotheses: Iterable[Hypothesis]
) -> tuple[str, ...]:
    """The names in a combination, in one order whichever variants of ``hypotheses`` are in it."""
    stages: dict[str, int] = {}
    for h in hypotheses:
        place = ALL_STAGES.index(h.stage)
        stages[h.name] = min(place, stages.get(h.name, place))
    return tuple(sorted({h.name for h in combination}, key=lambda n: (stages[n], n)))


def allow_rounded_copies(
    problem: Problem,
    candidate: Candidate,
    results: dict[str, StageResult],
    known: KnownResults | None = None,
) -> tuple[Problem, dict[str, StageResult]]:
    """The same, or where that explains more, with stages that were rounded to be handed over.

    Something computed in float64 and handed over in float32 is not computed from what it handed
    over.  Each stage may then have read what rounds to the one before it.  That makes no bound
    smaller, so that the other stages are judged only where it explains one at fault.
    """
    if problem.copies or first_fault(results) is None:
        return problem, results
    if is_large(problem, candidate) and not any(
        _explains_more(
            Judge(s.problem._replace(copies=True), s.candidate, s.trusted).run(), s.results
        )
        for s in subsets_of(problem, candidate, results)
    ):
        return problem, results
    relaxed = problem._replace(copies=True)
    known = known or KnownResults(problem, candidate, results)
    faults = _faults(results)
    if _faults(known.some(relaxed, faults)) == faults:
        return problem, results
    found = known.under(relaxed, results)
    if not _explains_more(found, results):
        return problem, results
    for name, before in results.items():
        if before.verdict == "convention":
            found[name] = before
        elif before.verdict == "fault" and found[name].verdict != "fault":
            text = "if the stages before were rounded only to be handed over"
            found[name] = dataclasses.replace(found[name], explanation=text)
    return relaxed, found


def _explains_more(found: Mapping[str, StageResult], results: Mapping[str, StageResult]) -> bool:
    further = progress_of(found) >= progress_of(results)
    return further and len(_faults(found)) < len(_faults(results))


def _faults(results: Mapping[str, StageResult]) -> list[str]:
    return [name for name, result in results.items() if result.verdict == "fault"]
