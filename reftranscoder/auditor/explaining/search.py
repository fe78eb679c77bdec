"""Which other definition makes right what the default calls wrong: a search over short lists."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

from ..judging.known_results import KnownResults
from ..judging.verdict import StageResult, first_fault, progress_of, sure_fault
from ..task.candidate import Candidate
from ..task.problem import Problem
from ..task.stage_graph import ALL_STAGES, FIELDS
from .hypotheses import Explained, Hypothesis, compatible, ordered_names
from .subsets import Subset, in_float64, is_large, subsets_of, worst_part

_CONFIRMED = 2  # full runs that a large audit may take

#: Mistakes that make a stage read others, or another part of them.
_ELSEWHERE = {"mask", "flipped", "read_at"}

Combination = tuple[Hypothesis, ...]
Belief = Callable[[Combination, dict[str, StageResult]], bool]


class Search:
    """Tries hypotheses on a candidate with ``results``, one of which is a fault.

    They are tried one by one and then in pairs; on a large candidate first on subsets of it, and
    what is left is confirmed on everything.  Stages before the first one that a hypothesis changes
    are not judged again, nor are those that it says nothing else of; and nothing is judged after
    the first fault until that is explained.  ``known`` is what is known of the candidate from
    another search.  ``believed(combination, results)`` says whether what a combination makes
    of everything may be more than a coincidence.  ``progress(0)`` is called after each block: it
    may take seconds, and does no new rows.
    """

    def __init__(
        self,
        problem: Problem,
        candidate: Candidate,
        results: dict[str, StageResult],
        hypotheses: Sequence[Hypothesis],
        progress: Callable[[int], None] | None = None,
        believed: Belief = lambda combination, results: True,
        known: KnownResults | None = None,
    ) -> None:
        self.candidate, self.results, self.believed = candidate, results, believed
        self.hypotheses, self.progress = hypotheses, progress
        self.first = sure_fault(results)
        self.helpful: list[Hypothesis] = []
        self.harmful: list[Hypothesis] = []  # each alone spoils a stage that was right
        self.large = is_large(problem, candidate)
        # Once in float64, and not in every run.
        self.problem = in_float64(problem)
        self.known = known or KnownResults(self.problem, candidate, results, self._at_work)
        given = self.problem, candidate, results, self._at_work
        self.subsets = subsets_of(*given) if self.large else []
        self.worst = None if self.large else worst_part(*given)

    def best(self, pairs: bool) -> Explained | None:
        """What explains most, or None; with or without ``pairs`` of hypotheses."""
        first = ALL_STAGES.index(self.first)
        singly: list[Combination] = [(h,) for h in self.hypotheses]
        relevant = [single for single in singly if ALL_STAGES.index(single[0].stage) <= first]
        if not pairs:
            # The subset that has the fault leaves the fewest.
            subsets = sorted(self.subsets, key=lambda subset: self.first not in subset.candidate)
            return self._best(relevant, subsets)
        # In the order of stages, which tells what does harm in any pair.
        singles = self._best(relevant, self.subsets)
        if singles is not None and singles.complete:
            return singles
        harmless = [single for single in singly if single[0] not in self.harmful]
        helpful: list[Combination] = [] if singles is None else [(h,) for h in self.helpful]
        found = self._best(_joined(helpful, harmless), self.subsets)
        if found is None or not found.complete:
            # What helps alone may do so by accident.
            relevant = [single for single in relevant if single in harmless]
            found = better(self._best(_joined(relevant, relevant), self.subsets), found)
        return better(found, singles)

    def among(self, combinations: list[Combination]) -> Explained | None:
        """What explains most among these ``combinations``, or None."""
        return self._best(combinations, self.subsets)

    def more(self, hypotheses: Iterable[Hypothesis]) -> Explained | None:
        """What explains most among ``hypotheses`` that were not known before, or None."""
        new = list(hypotheses)
        self.hypotheses = [*self.hypotheses, *new]
        first = ALL_STAGES.index(self.first)
        return self.among([(h,) for h in new if ALL_STAGES.index(h.stage) <= first])

    def made_by(self, combination: Combination) -> dict[str, StageResult]:
        """What a combination makes of everything."""
        return self._judged(combination)

    def _best(self, combinations: list[Combination], subsets: list[Subset]) -> Explained | None:
        """The combinations that come furthest, if that is further than without any."""
        left = combinations
        if self.large:
            # What no subset can show would have to be tried on everything.
            left = [combination for combination in left if self._shown(combination)]
        for subset in subsets:
            left = self._screened(left, subset)
        left = left[:_CONFIRMED] if self.large else [c for c in left if self._comes_further(c)]
        start = ALL_STAGES.index(self.first)
        scored = []
        for combination in left:
            results = self._judged(combination)
            self._note_harm(combination, results)
            if progress_of(results) > start and self.believed(combination, results):
                scored.append((progress_of(results), combination, results))
                self.helpful += [h for h in combination if h not in self.helpful]
        if not scored:
            return None
        most = max(score for score, _, _ in scored)
        winners = [(c, r) for score, c, r in scored if score == most]
        names = dict.fromkeys(self._names(c) for c, _ in winners)
        changed = {min((h.stage for h in c), key=ALL_STAGES.index) for c, _ in winners}
        stages = tuple(sorted(changed, key=ALL_STAGES.index))
        whole, tied = most == len(ALL_STAGES), tuple(c for c, _ in winners)
        return Explained(tuple(names), *winners[0], self.first, whole, stages, tied)

    def _names(self, combination: Combination) -> tuple[str, ...]:
        return ordered_names(combination, self.hypotheses)

    def _at_work(self, rows: int) -> None:
        """After each block: ``rows`` of them are done once more, which counts for nothing."""
        if self.progress is not None:
            self.progress(0)

    def _shown(self, combination: Combination) -> bool:
        """Whether a subset has the stage at fault, and shows all that is changed."""
        changes = {field for hypothesis in combination for field in hypothesis.changes}
        seeing = [subset for subset in self.subsets if self.first in subset.candidate]
        return any(not subset.blind & changes for subset in seeing)

    def _comes_further(self, combination: Combination) -> bool:
        """Whether nothing is at fault any more up to the first fault, which is looked at first.

        And of that, the part that has its worst entry.
        """
        first = ALL_STAGES.index(self.first)
        if min(ALL_STAGES.index(h.stage) for h in combination) > first:
            return False
        changes = {field for hypothesis in combination for field in hypothesis.changes}
        parts: list[Subset | Search] = [self]
        read = _ELSEWHERE | {*FIELDS[self.first]}
        if self.worst and not self.worst.blind & changes & read:
            parts.insert(0, self.worst)
        for part in parts:
            problem = applied_all(part.problem, combination)
            if first_fault(part.known.some(problem, [self.first])):
                return False
        results = self._judged(combination, stop=first + 1)
        self._note_harm(combination, results)
        return first_fault(results) is None

    def _screened(self, combinations: list[Combination], subset: Subset) -> list[Combination]:
        """Those that come further than the default on a subset, or if that comes as far as the
        stage at fault spoil nothing before it."""
        first = first_fault(subset.results) or self.first
        least = 1 + min(ALL_STAGES.index(first), ALL_STAGES.index(self.first))
        scored = []
        for combination in combinations:
            if any(subset.blind & set(h.changes) for h in combination):
                scored.append((0, combination))
                continue
            results = self._judged(combination, subset)
            self._note_harm(combination, results)
            progress = progress_of(results)
            if progress >= least:
                scored.append((progress, combination))
        scored.sort(key=lambda pair: -pair[0])
        return [combination for _, combination in scored]

    def _note_harm(self, combination: Combination, results: dict[str, StageResult]) -> None:
        """A single one that spoils what was right; but the loss may be right by accident."""
        spoiled = first_fault(results)
        early = progress_of(results) < ALL_STAGES.index(self.first)
        if early and spoiled != "loss" and len(combination) == 1:
            self.harmful += combination

    def _judged(
        self, combination: Combination, subset: Subset | None = None, stop: int = len(ALL_STAGES)
    ) -> dict[str, StageResult]:
        """What a combination makes of a subset, or of everything, before ``ALL_STAGES[stop]``."""
        on = subset or self
        start = min(ALL_STAGES.index(h.stage) for h in combination)
        return on.known.under(applied_all(on.problem, combination), on.results, start, stop)


def applied_all(problem: Problem, combination: Combination) -> Problem:
    """Return ``problem`` with every hypothesis of ``combination`` applied."""
    for hypothesis in combination:
        problem = hypothesis.applied(problem)
    return problem


def _joined(some: Iterable[Combination], others: Iterable[Combination]) -> list[Combination]:
    pairs: dict[tuple[int, int], Combination] = {}
    for (a,), (b,) in itertools.product(some, others):
        a, b = sorted((a, b), key=lambda h: (ALL_STAGES.index(h.stage), h.name))
        if compatible(a, b):
            pairs.setdefault((id(a), id(b)), (a, b))
    return list(pairs.values())


def better(a: Explained | None, b: Explained | None) -> Explained | None:
    """Whichever explains more; ``b`` where both do as much."""
    if a is None or b is None:
        return a or b
    return a if progress_of(a.results) > progress_of(b.results) else b
