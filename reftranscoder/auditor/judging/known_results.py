"""One candidate under many definitions: a stage is judged again only where they differ for it.

What a stage ought to be depends on what it reads, which the candidate gave, and on some fields of
the definition (`stage_graph.FIELDS`).  Where the candidate did not give what it reads, those fields
count that this depends on, too.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping

from ..task.candidate import Candidate
from ..task.definition import Definition
from ..task.problem import Problem
from ..task.stage_graph import ALL_STAGES, parents_of, said_of
from .intermediates import Intermediates, Recalled
from .judge import Judge
from .verdict import StageResult

_READ_EXACTLY = ("pre", "pre_acts", "hidden")  # whatever was rounded to be handed over


class KnownResults:
    """The results of one candidate's stages, by what the definition says of each.

    ``results`` are those under ``problem``; the stages that are trusted in them are trusted under
    every definition.  ``progress`` is called after each block of rows.
    """

    def __init__(
        self,
        problem: Problem,
        candidate: Candidate,
        results: Mapping[str, StageResult],
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._candidate, self._progress = candidate, progress
        self._trusted = {name for name, result in results.items() if result.verdict == "trusted"}
        self._results: dict[Hashable, StageResult] = {}
        self._intermediates = Intermediates()
        self._asked: dict[tuple[Definition, bool], dict[str, Hashable]] = {}
        for name, key in self._keys(problem).items():
            self._results[key] = results[name]

    def under(
        self,
        problem: Problem,
        before: Mapping[str, StageResult],
        start: int = 0,
        stop: int = len(ALL_STAGES),
    ) -> dict[str, StageResult]:
        """Every stage's result under another definition, from ``ALL_STAGES[start]`` on.

        Those ``before`` stay as they are.  From ``ALL_STAGES[stop]`` on nothing is judged: no stage
        counts as given there.
        """
        results = {name: StageResult(name, "not given") for name in ALL_STAGES[stop:]}
        results |= {name: before[name] for name in ALL_STAGES[:stop]}
        results |= self.some(problem, ALL_STAGES[start:stop])
        return {name: results[name] for name in ALL_STAGES}

    def some(self, problem: Problem, stages: Iterable[str]) -> dict[str, StageResult]:
        """The results of those of ``stages`` that were given and are not trusted."""
        keys = self._keys(problem)
        given = [name for name in stages if name in self._candidate and name not in self._trusted]
        unknown = {name for name in given if keys[name] not in self._results}
        if unknown:
            trusted = frozenset(self._candidate.given) - unknown
            recalled = Recalled(self._intermediates, keys)
            found = Judge(problem, self._candidate, trusted, recalled).run(self._progress)
            self._results |= {keys[name]: found[name] for name in unknown}
        return {name: self._results[keys[name]] for name in given}

    def _keys(self, problem: Problem) -> dict[str, Hashable]:
        """For each stage, all that its result depends on."""
        asked = problem.definition, problem.copies
        if asked not in self._asked:
            self._asked[asked] = self._make_keys(problem)
        return self._asked[asked]

    def _make_keys(self, problem: Problem) -> dict[str, Hashable]:
        definition, undefined = problem.definition, frozenset(problem.undefined)
        said: dict[str, tuple[Hashable, ...]] = {}  # of the stage and what is not given before it
        upstream: dict[str, set[str]] = {}  # the stage and all before it
        keys: dict[str, Hashable] = {}
        for name, parents in parents_of(definition).items():
            upstream[name] = {name}.union(*(upstream[parent] for parent in parents))
            hidden = [said[parent] for parent in parents if parent not in self._candidate]
            said[name] = (said_of(name, definition), *hidden)
            copies = problem.copies and name not in _READ_EXACTLY
            keys[name] = name, said[name], undefined & upstream[name], copies
        return keys
