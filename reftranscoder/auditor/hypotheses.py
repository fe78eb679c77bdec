"""Which other definition makes right what the default calls wrong: a search over short lists.

A hypothesis changes some fields of the definition.  It explains a candidate if under it no stage
is at fault; it explains a part if the first fault comes later than before.  Hypotheses are tried
one by one and then in pairs, first on few rows, where the stages that belong to rows are seen, then
on few features, for the gradients of parameters, which sum over all rows; what is left is confirmed
on everything.  Stages before the first one that a hypothesis changes are not judged again.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..params import Params
from .arithmetic import STAGES
from .candidate import Candidate
from .judge import Judge, Problem
from .verdict import StageResult

_ROWS = 64
_FEATURES = 64
_SMALL = 1 << 27  # B I D up to which everything is tried on everything
_CONFIRMED = 6  # full runs that a large audit may take

_SUMS = ("loss", "dW_dec", "db_dec", "dW_skip", "dW_enc", "db_enc")
_BY_FEATURE = ("dW_dec", "dW_enc", "db_enc")


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """Another definition: ``changes`` to the fields of `Definition`, seen from ``stage`` on."""

    name: str
    meaning: str
    stage: str
    changes: Mapping[str, object]

    def applied(self, problem: Problem) -> Problem:
        definition = dataclasses.replace(problem.definition, **self.changes)
        return problem._replace(definition=definition)


class Explained(NamedTuple):
    """What the best hypotheses make of a candidate."""

    alternatives: tuple[tuple[str, ...], ...]  # the names of each, where several do as well
    hypotheses: tuple[Hypothesis, ...]  # the first of these
    results: dict[str, StageResult]  # judged under it
    first: str  # the stage that was at fault before
    complete: bool  # nothing is at fault any more

    @property
    def name(self) -> str:
        return " or ".join(" and ".join(names) for names in self.alternatives)


def first_fault(results: Mapping[str, StageResult]) -> str | None:
    """The first stage at fault, or None."""
    return next((name for name in STAGES if results[name].verdict == "fault"), None)


def search(
    problem: Problem,
    candidate: Candidate,
    results: dict[str, StageResult],
    hypotheses: Sequence[Hypothesis],
    pairs: bool = True,
) -> Explained | None:
    """The hypotheses that explain most of a candidate with ``results``, or None."""
    first = first_fault(results)
    if first is None:
        return None
    trial = _Trial(problem, candidate, results, first)
    relevant = [(h,) for h in hypotheses if _reaches(h.stage, first)]
    singles = trial.best(relevant)
    if pairs and (singles is None or not singles.complete):
        harmless = [(h,) for h in hypotheses if h not in trial.harmful]
        helpful = [] if singles is None else [(h,) for h in trial.helpful]
        found = trial.best(_joined(helpful, harmless))
        if found is None:
            relevant = [pair for pair in relevant if pair in harmless]
            found = trial.best(_joined(relevant, relevant))
        singles = _better(found, singles)
    return singles


def _reaches(stage: str, first: str) -> bool:
    return STAGES.index(stage) <= STAGES.index(first)


def _joined(some, others) -> list[tuple[Hypothesis, ...]]:
    pairs = []
    for (a,), (b,) in itertools.product(some, others):
        a, b = sorted((a, b), key=lambda h: (STAGES.index(h.stage), h.name))
        if not set(a.changes) & set(b.changes) and (a, b) not in pairs:
            pairs.append((a, b))
    return pairs


def if_copies(
    problem: Problem, candidate: Candidate, results: dict[str, StageResult]
) -> tuple[Problem, dict[str, StageResult]]:
    """The same, or where that explains more, with stages that were rounded to be handed over.

    Something computed in float64 and handed over in float32 is not computed from what it handed
    over.  Each stage may then have read what rounds to the one before it.
    """
    if problem.copies or first_fault(results) in (None, "pre", "pre_acts", "hidden"):
        return problem, results
    relaxed = problem._replace(copies=True)
    found = Judge(relaxed, candidate).run()
    if _progress(found) < _progress(results) or len(_faults(found)) >= len(_faults(results)):
        return problem, results
    for name, before in results.items():
        if before.verdict == "convention":
            found[name] = before
        elif before.verdict == "fault" and found[name].verdict != "fault":
            text = "if the stages before were rounded only to be handed over"
            found[name] = dataclasses.replace(found[name], explanation=text)
    return relaxed, found


def _faults(results: Mapping[str, StageResult]) -> list[str]:
    return [name for name, result in results.items() if result.verdict == "fault"]


def _better(a: Explained | None, b: Explained | None) -> Explained | None:
    if a is None or b is None:
        return a or b
    return a if _progress(a.results) > _progress(b.results) else b


def _progress(results: Mapping[str, StageResult]) -> int:
    """How far the first fault is down the list of stages."""
    first = first_fault(results)
    return len(STAGES) if first is None else STAGES.index(first)


class _Trial:
    """Tries hypotheses on a candidate, cheaply first."""

    def __init__(
        self,
        problem: Problem,
        candidate: Candidate,
        results: dict[str, StageResult],
        first: str,
    ) -> None:
        self.problem, self.candidate, self.results = problem, candidate, results
        self.first = first
        self.helpful: list[Hypothesis] = []
        self.harmful: list[Hypothesis] = []  # each alone spoils a stage that was right
        self.large = problem.x.size * candidate.D > _SMALL
        parts = (_some_rows, _some_features, _the_loss) if self.large else (_up_to_first,)
        self.parts = [p for p in (f(problem, candidate, results) for f in parts) if p]

    def best(self, combinations: list[tuple[Hypothesis, ...]]) -> Explained | None:
        """The combinations that come furthest, if that is further than without any."""
        left = combinations
        for part in self.parts:
            left = self._screened(left, part)
        if self.large:
            left = left[:_CONFIRMED]
        start = STAGES.index(self.first)
        scored = []
        for combination in left:
            results = self._judged(combination, self.problem, self.candidate, self.results)
            if _progress(results) < start and len(combination) == 1:
                self.harmful += combination
            if _progress(results) > start:
                scored.append((_progress(results), combination, results))
                self.helpful += [h for h in combination if h not in self.helpful]
        if not scored:
            return None
        most = max(score for score, _, _ in scored)
        winners = [(c, r) for score, c, r in scored if score == most]
        names = dict.fromkeys(tuple(h.name for h in c) for c, _ in winners)
        combination, results = winners[0]
        return Explained(tuple(names), combination, results, self.first, most == len(STAGES))

    def _screened(self, combinations: list, part: _Part) -> list:
        """Those that come further than the default on a part, or if it is clean spoil nothing."""
        first = first_fault(part.results)
        least = STAGES.index(first) + 1 if first else len(STAGES)
        scored = []
        for combination in combinations:
            if any(part.blind & set(h.changes) for h in combination):
                scored.append((0, combination))
                continue
            progress = _progress(self._judged(combination, *part[:3]))
            if progress < STAGES.index(self.first) and len(combination) == 1:
                self.harmful += combination
            if progress >= least:
                scored.append((progress, combination))
        scored.sort(key=lambda pair: -pair[0])
        return [combination for _, combination in scored]

    def _judged(self, combination, problem, candidate, results) -> dict[str, StageResult]:
        start = min(STAGES.index(h.stage) for h in combination)
        trusted = {name for name in candidate.given if STAGES.index(name) < start}
        trusted |= {n for n in candidate.given if results[n].verdict == "trusted"}
        for hypothesis in combination:
            problem = hypothesis.applied(problem)
        found = Judge(problem, candidate, frozenset(trusted)).run()
        return found | {name: results[name] for name in trusted}


class _Part(NamedTuple):
    """Some rows or features of a candidate, and what the default finds there."""

    problem: Problem
    candidate: Candidate
    results: dict[str, StageResult]
    blind: frozenset[str]  # fields of `Definition` that cannot be judged on this part


def _judged_part(problem: Problem, candidate: Candidate, trusted=(), blind=()) -> _Part:
    trusted = frozenset(trusted) & set(candidate.given)
    results = Judge(problem, candidate, trusted).run()
    results |= {name: StageResult(name, "trusted") for name in trusted}
    return _Part(problem, candidate, results, frozenset(blind))


def _some_rows(problem: Problem, candidate: Candidate, results) -> _Part:
    """A few rows; sums over rows are left out."""
    first = first_fault(results)
    rows = np.linspace(0, candidate.B - 1, min(_ROWS - 1, candidate.B)).astype(int)
    if first not in _SUMS and results[first].index:
        rows = np.append(rows, results[first].index[0])
    rows = np.unique(rows)
    target = None if problem.target is None else problem.target[rows]
    part = problem._replace(x=problem.x[rows], target=target, part_of=problem)
    return _judged_part(part, candidate.part(rows=rows, without=_SUMS))


def _some_features(problem: Problem, candidate: Candidate, results) -> _Part | None:
    """A few features in all rows, where hidden and what follows it are known."""
    given = set(candidate.given)
    if "hidden" not in given or not {"reconstruction", "d_reconstruction"} & given:
        return None
    blamed = [results[n].index[0] for n in _BY_FEATURE if results[n].index]
    features = np.linspace(0, candidate.D - 1, min(_FEATURES, candidate.D)).astype(int)
    features = np.union1d(features, blamed).astype(int)
    params = problem.params
    rows = (params.W_enc[features], params.b_enc[features], params.W_dec[features])
    smaller = problem._replace(params=Params(*rows, params.b_dec, params.W_skip), part_of=problem)
    part = candidate.part(features=features, without=("pre", "pre_acts", "loss", "dx"))
    # Whatever needs all features at once.
    blind = ("input", "skip_input", "W_enc", "W_dec", "mask", "ties", "top_k", "rectified")
    return _judged_part(smaller, part, ("hidden", "reconstruction"), blind)


def _the_loss(problem: Problem, candidate: Candidate, results) -> _Part | None:
    """The loss alone, where what it adds up is known."""
    needed = {"hidden", "reconstruction", "loss"}
    if not needed <= set(candidate.given):
        return None
    part = candidate.part(without=set(STAGES) - needed)
    blind = ("ties", "top_k", "rectified", "input", "norms", "W_enc", "W_dec", "W_skip", "b_dec")
    return _judged_part(problem, part, ("hidden", "reconstruction"), blind)


def _up_to_first(problem: Problem, candidate: Candidate, results) -> _Part:
    """Everything up to the first stage at fault."""
    later = STAGES[STAGES.index(first_fault(results)) + 1 :]
    part = candidate.part(without=later)
    without = {name: StageResult(name, "not given") for name in later}
    return _Part(problem, part, {**results, **without}, frozenset())
