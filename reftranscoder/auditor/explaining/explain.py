"""Which conventions, together, make a candidate right: a search from one to many.

Conventions are tried one by one, then those that were declared, together, then in pairs.  What
explains only some of a candidate is extended: what is still at fault is searched in the same way,
so that each search has few to try, whatever the number of conventions is.

One number proves little: under some of a hundred pairs, and within the bounds of a narrow format
even under a single one, a wrong loss looks right.  Where nothing but the loss speaks for a
convention, it has to be one alone, or declared, and the loss known to one part in a thousand, or
hit to one in a hundred thousand.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ...conventions import SOURCES
from ..judging.known_results import KnownResults
from ..judging.verdict import StageResult, first_fault, progress_of, sure_fault
from ..task.candidate import Candidate
from ..task.problem import Problem
from ..task.stage_graph import ALL_STAGES
from .conventions import documented
from .hypotheses import Explained, Hypothesis, allow_rounded_copies, compatible, ordered_names
from .search import Belief, Combination, Search, applied_all
from .subsets import in_float64, is_large

_SEARCHES, _SEARCHES_IN_LARGE = 8, 3  # at most, each of singles and pairs
_CLAIMS = 64  # combinations of what was declared, at most
#: Of the loss, where it is the only evidence: how well it is known, or how near it is.
_DECISIVE, _CLOSE = 1e-3, 1e-5


class Explanation(NamedTuple):
    """What conventions make of a candidate."""

    results: dict[str, StageResult]  # judged under what explains most
    problem: Problem  # with that definition
    convention: str | None  # what explains everything
    names: tuple[str, ...]  # of all conventions in ``convention``
    explanations: tuple[str, ...]  # what explains some of it
    partly: str | None = None  # the names in that


def explain(
    problem: Problem,
    candidate: Candidate,
    results: Mapping[str, StageResult],
    progress: Callable[[int], None] | None = None,
    declared: Sequence[str] = (),
) -> Explanation:
    """Name the conventions under which a candidate with these ``results`` is right, or nearly.

    Those that were ``declared`` are tried together before any two others are.
    """
    results = dict(results)
    found = None
    if first_fault(results) is not None:
        found = _found(problem, candidate, results, progress, declared)
    if found is None:
        return Explanation(results, problem, None, (), ())
    explained, problem = found
    marked = explained.results | {explained.first: _as_convention(explained, results)}
    names = tuple(dict.fromkeys(name for names in explained.alternatives for name in names))
    if explained.complete:
        return Explanation(marked, problem, explained.name, names, ())
    some = (f"{explained.name} explains {explained.first}",)
    return Explanation(marked, problem, None, (), some, explained.name)


class _Start(NamedTuple):
    """What is known to explain some of a candidate, from where the search goes on."""

    problem: Problem
    results: dict[str, StageResult]
    chosen: Combination


def _found(
    problem: Problem,
    candidate: Candidate,
    results: dict[str, StageResult],
    progress: Callable[[int], None] | None,
    declared: Sequence[str],
) -> tuple[Explained, Problem] | None:
    """What explains everything, or else most, and the problem under it."""
    hypotheses = documented(problem, declared)
    problem = in_float64(problem)
    known = KnownResults(problem, candidate, results, lambda rows: progress and progress(0))
    waiting = [_Start(problem, results, ())]
    best: tuple[Explained, Problem] | None = None
    for _ in range(_SEARCHES_IN_LARGE if is_large(problem, candidate) else _SEARCHES):
        if not waiting:
            break
        start = waiting.pop(0)
        others = [h for h in hypotheses if all(compatible(h, c) for c in start.chosen)]
        believed = _belief(start, declared)
        search = Search(start.problem, candidate, start.results, others, progress, believed, known)
        for found in _searched(search, declared):
            whole = _extended(found, start, hypotheses, sure_fault(results))
            applied = applied_all(start.problem, found.hypotheses)
            relaxed, judged = allow_rounded_copies(applied, candidate, found.results, known)
            if first_fault(judged) is None:
                return whole._replace(results=judged, complete=True), relaxed
            if best is None or progress_of(found.results) > progress_of(best[0].results):
                best = whole, applied
            waiting += [
                _Start(applied_all(start.problem, c), search.made_by(c), start.chosen + c)
                for c in found.tied
            ]
    return best


def _searched(search: Search, declared: Sequence[str]) -> Iterator[Explained]:
    """What explains most, in the order of trust: the first that is complete ends the search."""
    single = search.best(pairs=False)
    claims = _claims(search.hypotheses, declared)
    if claims and not (single and single.complete and _are_in(single, declared)):
        claimed = search.among(claims)
        if claimed is not None and claimed.complete:
            yield claimed
    if single is not None:
        yield single
    pair = search.best(pairs=True)
    if pair is not None and pair != single:
        yield pair
    if not search.large and ALL_STAGES.index(search.first) >= ALL_STAGES.index("loss"):
        # The one number shows nothing of a half, a reduction and a penalty before all are right.
        losses = [h for h in search.hypotheses if h.stage == "loss" and h not in search.harmful]
        three = search.among([c for c in itertools.combinations(losses, 3) if _fit(c)])
        if three is not None:
            yield three


def _are_in(found: Explained, declared: Sequence[str]) -> bool:
    return all(name in declared for names in found.alternatives for name in names)


def _claims(hypotheses: Sequence[Hypothesis], declared: Sequence[str]) -> list[Combination]:
    """What was declared, two or more at once, in all variants, at most 64; all of it first."""
    names = [name for name in dict.fromkeys(declared) if any(h.name == name for h in hypotheses)]
    variants = {name: [h for h in hypotheses if h.name == name] for name in names}
    found = (
        combination
        for size in range(len(names), 1, -1)
        for some in itertools.combinations(names, size)
        for combination in itertools.product(*(variants[name] for name in some))
        if _fit(combination)
    )
    return list(itertools.islice(found, _CLAIMS))


def _fit(combination: Combination) -> bool:
    return all(compatible(a, b) for a, b in itertools.combinations(combination, 2))


def _belief(start: _Start, declared: Sequence[str]) -> Belief:
    """Whether more than a coincidence speaks for what a combination explains."""
    first = sure_fault(start.results)

    def believed(combination: Combination, results: dict[str, StageResult]) -> bool:
        if results[first].verdict == "cannot tell":
            return False  # zeros would be right as well
        explained = [
            name
            for name, before in start.results.items()
            if before.verdict == "fault" and results[name].verdict != "fault"
        ]
        if explained != ["loss"] or all(h.name in declared for h in combination):
            return True
        loss = results["loss"]
        if len(combination) > 1 or loss.bound is None or loss.want is None or loss.got is None:
            return False
        if loss.bound <= _DECISIVE * abs(loss.want):
            return True
        return abs(loss.got - loss.want) <= _CLOSE * abs(loss.want)

    return believed


def _extended(
    found: Explained, start: _Start, hypotheses: Sequence[Hypothesis], first: str
) -> Explained:
    """``found``, after what was chosen before, which explains the ``first`` stage at fault."""
    if not start.chosen:
        return found
    together = [start.chosen + combination for combination in found.tied]
    names = dict.fromkeys(ordered_names(combination, hypotheses) for combination in together)
    return found._replace(
        alternatives=tuple(names),
        hypotheses=start.chosen + found.hypotheses,
        first=first,
        tied=tuple(together),
    )


def _as_convention(found: Explained, before: Mapping[str, StageResult]) -> StageResult:
    if found.results[found.first].verdict == "not judged":
        return found.results[found.first]
    meanings = ", and ".join(dict.fromkeys(h.meaning for h in found.hypotheses))
    extra = dict(found.results[found.first].extra)
    right = found.results
    if [n for n in ALL_STAGES if before[n].verdict == "fault" != right[n].verdict] == ["loss"]:
        names = dict.fromkeys(name for some in found.alternatives for name in some)
        sources = [SOURCES[name] for name in names if name in SOURCES]
        extra["alone"] = f"{meanings} ({'; '.join(sources)})" if sources else meanings
        meanings += "; the loss alone speaks for it"
    return dataclasses.replace(
        found.results[found.first],
        verdict="convention",
        explanation=f"{found.name}: {meanings}",
        extra=extra,
    )
