"""Mistakes that have a name: the verdict stays a fault, and the name says what to look for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from ..judging.verdict import StageResult, first_fault
from ..task.candidate import Candidate
from ..task.problem import Problem
from .estimated_faults import PROPOSALS
from .evidence import Evidence
from .forward_faults import FORWARD_FAULTS
from .gradient_faults import GRADIENT_FAULTS
from .hypotheses import Hypothesis, possible
from .misplaced import features_at_other_places
from .search import Search, better
from .selections import SELECTION_PROPOSALS

_SUBNORMALS = 64  # spacings at 0 that count as 0


def known_faults(problem: Problem) -> list[Hypothesis]:
    """The mistakes that a transcoder with these options and sizes can have."""
    found = possible((*FORWARD_FAULTS, *GRADIENT_FAULTS), problem)
    return [h for h in found if not h.applied(problem).undefined]


def name_fault(
    problem: Problem,
    candidate: Candidate,
    results: Mapping[str, StageResult],
    progress: Callable[[int], None] | None = None,
) -> dict[str, StageResult]:
    """``results``, with the mistake that accounts for the first fault in its explanation."""
    results = dict(results)
    first = first_fault(results)
    if first is None or "not finite" in results[first].explanation:
        return results
    unit = problem.arithmetic[first].store.unit
    hypotheses = [h for h in known_faults(problem) if not _is_excluded(h, results[first], unit)]
    search = Search(problem, candidate, results, hypotheses, progress)
    found = search.best(pairs=False)
    for propose in (*PROPOSALS, *SELECTION_PROPOSALS, features_at_other_places):
        for proposed in propose(_evidence(search)):
            if found is not None and found.complete:
                break
            found = better(search.more(proposed), found)
    if found is None:
        return results
    what = f"as if {found.name}" if len(found.alternatives) > 1 else found.name
    before = results[first].explanation
    explanation = f"{what} ({before})" if before else what
    extra = results[first].extra | {"made": found.stages}
    results[first] = dataclasses.replace(results[first], explanation=explanation, extra=extra)
    return results


def _evidence(search: Search) -> Evidence:
    """Everything; of a large candidate, the part that has the stage at fault."""
    faults = [name for name, result in search.results.items() if result.verdict == "fault"]
    for part in search.subsets:
        if part.results[search.first].verdict == "fault":
            given = part.problem, part.candidate, part.results, search.first
            return Evidence(*given, tuple(n for n in faults if n not in part.candidate))
    return Evidence(search.problem, search.candidate, search.results, search.first)


def _is_excluded(hypothesis: Hypothesis, result: StageResult, unit: float) -> bool:
    """Whether a hypothesis that multiplies this stage, and no more, fails at its worst entry."""
    if set(hypothesis.changes) != {"factors"} or hypothesis.stage != result.stage:
        return False
    if result.got is None or result.want is None or result.bound is None:
        return False
    factor = dict(hypothesis.changes["factors"])[result.stage]
    rounding = 4 * unit * abs(result.got)  # of the product
    error = abs(result.got - factor * result.want)
    return bool(error > 1.001 * abs(factor) * result.bound + rounding)


def explain_zero(
    problem: Problem, candidate: Candidate, results: Mapping[str, StageResult]
) -> dict[str, StageResult]:
    """``results``, where the first fault says why it should be 0, if it should be nothing else."""
    results = dict(results)
    first = first_fault(results)
    if first is None:
        return results
    worst = results[first]
    if not worst.index or worst.got is None or worst.bound is None or worst.want != 0:
        return results
    least = _SUBNORMALS * problem.arithmetic[first].store.spacing
    if worst.bound > min(least, abs(worst.got) / _SUBNORMALS):
        return results
    extra = worst.extra | {"zero": _why_zero(candidate, first, worst.index)}
    results[first] = dataclasses.replace(worst, extra=extra)
    return results


def _why_zero(candidate: Candidate, stage: str, index: tuple[int, ...]) -> str:
    """The reason why a correct result is 0 there, as far as the candidate's features tell it."""
    if stage in ("dW_dec", "dW_enc", "db_enc"):
        rows, feature, there = None, index[0], "{} in no"
    elif stage in ("d_hidden", "d_pre"):
        rows, feature, there = np.array(index[:1]), index[1], "not {} in that"
    else:
        return ""
    part = candidate.part(rows, np.array([feature]))
    found = {
        name: bool((part.features(name, slice(0, part.B)).values > 0).any())
        for name in ("hidden", "pre_acts", "pre")
        if name in candidate
    }
    if not found or found.get("hidden", any(found.values())):
        return ""
    what = "selected" if any(found.values()) else "active"
    return f"feature {feature} is {there.format(what)} row"
