"""From one candidate on one batch to its report: judged, and what is wrong named.

A judged batch goes through `STEPS` once, in that order.  Each takes the batch, which nothing
changes any more, and what was found so far, and returns what is found now; the report says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ..errors import Error
from .cross_checks import data_coverage, exact_sums, fingerprint, non_finite_rows
from .cross_checks.exercised import Masks, exercised
from .explaining import hypotheses, known_faults
from .explaining.explain import explain
from .judged_batch import JudgedBatch, allow_flush_to_zero, judge_batch
from .judging.verdict import StageResult, suspects
from .reporting.exercised import counted
from .reporting.report import Report
from .task.arithmetic import Arithmetic
from .task.case import Answer, Case
from .task.problem import Problem
from .task.stage_graph import ALL_STAGES, parents_of


class Findings(NamedTuple):
    """What was found in a judged batch so far."""

    results: dict[str, StageResult]
    problem: Problem  # with the definition under which these were judged
    convention: str | None = None  # what explains everything
    names: tuple[str, ...] = ()  # of all conventions in ``convention``
    explanations: tuple[str, ...] = ()  # what explains some of it
    partly: str | None = None  # the names in that
    arithmetic: str | None = None  # what the errors of pre look like
    unseen: tuple[str, ...] = ()  # terms that are too small to show
    coverage: tuple[str, ...] = ()  # what sort of rows the data lack
    exercised: Masks | None = None  # which features and columns they exercised


Step = Callable[[JudgedBatch, Findings], Findings]


def allow_rounded_copies(judged: JudgedBatch, found: Findings) -> Findings:
    """Stages may have been rounded only to be handed over."""
    problem, results = hypotheses.allow_rounded_copies(
        found.problem, judged.candidate, found.results
    )
    return found._replace(problem=problem, results=results)


def explain_by_conventions(judged: JudgedBatch, found: Findings) -> Findings:
    """Another definition that libraries document may explain what is wrong, or some of it."""
    explanation = explain(
        found.problem, judged.candidate, found.results, judged.progress, judged.accepted
    )
    return found._replace(**explanation._asdict())


def name_fault(judged: JudgedBatch, found: Findings) -> Findings:
    """What no convention explains may be a mistake that has a name."""
    results = known_faults.name_fault(
        found.problem, judged.candidate, found.results, judged.progress
    )
    return found._replace(results=results)


def explain_zero(judged: JudgedBatch, found: Findings) -> Findings:
    """Where a correct result is zero, say why."""
    return found._replace(
        results=known_faults.explain_zero(found.problem, judged.candidate, found.results)
    )


def judge_arithmetic(judged: JudgedBatch, found: Findings) -> Findings:
    """The errors of pre may tell of a coarser arithmetic than the one declared: a fault."""
    marks = None
    if len(judged.left):
        marks = fingerprint.fingerprint(found.problem, judged.candidate)
    if marks is None:
        return found
    results = fingerprint.judge_arithmetic(marks, judged.declared, found.results)
    found = found._replace(results=results, arithmetic=marks.sentence(judged.declared))
    if results["pre"].verdict == "fault":
        found = found._replace(convention=None, names=())
    return found


def advise(judged: JudgedBatch, found: Findings) -> Findings:
    """What these data do not show, and what sort of rows they lack."""
    if not len(judged.left):
        return found
    terms = data_coverage.applicable_terms(found.problem, judged.candidate)
    terms = data_coverage.unseen_terms(found.problem, judged.candidate, found.results, terms)
    warnings = data_coverage.warnings_for(judged.problem)
    unseen = data_coverage.unseen_sentences(terms, found.problem)
    return found._replace(
        unseen=(*unseen, *(f"{name} was given, and is not judged" for name in judged.unjudged)),
        coverage=tuple(data_coverage.WARNINGS[key] for key in warnings),
    )


def find_exercised(judged: JudgedBatch, found: Findings) -> Findings:
    """Which features and columns these data exercised."""
    if not len(judged.left):
        return found
    masks = exercised(judged.case, found.problem, judged.candidate, found.results)
    return found._replace(exercised=masks)


def judge_non_finite_rows(judged: JudgedBatch, found: Findings) -> Findings:
    """The rows that hold NaN or infinity, which nobody looked at yet: none may come out finite."""
    if judged.whole is None:
        return found
    results, lost = non_finite_rows.judge_non_finite_rows(
        found.results, *judged.whole, judged.left, judged.refused
    )
    found = found._replace(results=results)
    return found._replace(convention=None, names=()) if lost else found  # no convention loses them


def require_exact(judged: JudgedBatch, found: Findings) -> Findings:
    """Where every sum is exact, no rounding explains a difference.

    Under another definition other sums are.
    """
    if found.convention or found.partly:
        return found
    results = exact_sums.require_exact(
        found.results, judged.case, judged.problem.arithmetic, judged.accepted
    )
    return found._replace(results=results)


#: What is made of a judged batch, in this order.
STEPS: tuple[Step, ...] = (
    allow_rounded_copies,
    explain_by_conventions,
    name_fault,
    explain_zero,
    judge_arithmetic,
    advise,
    find_exercised,
    judge_non_finite_rows,
    require_exact,
)


def report_of(judged: JudgedBatch, steps: Sequence[Step] = STEPS) -> Report:
    """The report on a judged batch, once it went through these ``steps``."""
    found = Findings(judged.results, judged.problem)
    for step in steps:
        found = step(judged, found)
    return Report(
        stages=found.results,
        declared=judged.declared,
        arithmetic=found.arithmetic,
        convention=found.convention,
        explaining=found.names,
        accepted=judged.accepted,
        explanations=found.explanations,
        partly=found.partly,
        unseen=found.unseen,
        coverage=found.coverage,
        exercised=counted([found.exercised or {}]),
        suspects=suspects(found.results, parents_of(found.problem.definition)),
        refused=tuple(judged.refused.tolist()),
    )


def judge_case(
    case: Case,
    answer: Answer,
    arithmetic: dict[str, Arithmetic],
    declared: str,
    accepted: tuple[str, ...],
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Judge the answer to one case, with all that can be said about it."""
    if answer.refused:
        return report_of_refusal(case, declared, accepted)
    return report_of(judge_answer(case, answer, arithmetic, declared, accepted, progress))


def judge_answer(
    case: Case,
    answer: Answer,
    arithmetic: dict[str, Arithmetic],
    declared: str,
    accepted: tuple[str, ...],
    progress: Callable[[int], None] | None = None,
) -> JudgedBatch:
    """The answer to a case, judged; what is wrong with its form is said with the case's name."""
    with _named(case):
        judged = judge_batch(answer.results or {}, case, arithmetic, declared, accepted, progress)
    return allow_flush_to_zero(judged)


def report_of_refusal(case: Case, declared: str, accepted: tuple[str, ...]) -> Report:
    """The report of a case whose input was refused, as it may be where a row is not finite."""
    nothing = {name: StageResult(name, "not given") for name in ALL_STAGES}
    rows = tuple(case.non_finite.tolist())
    return Report(stages=nothing, declared=declared, accepted=accepted, refused=rows)


@contextlib.contextmanager
def _named(case: Case) -> Iterator[None]:
    """Put the name of the case in front of what is wrong with its results."""
    try:
        yield
    except Error as error:
        error.say_where(case.name)
        raise
