"""Many small audits of one implementation: judged first, named where that tells something new."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..errors import Error, OptionError
from .cross_checks.data_coverage import (
    WARNINGS,
    applicable_terms,
    unseen_sentences,
    unseen_terms,
    warnings_for,
)
from .cross_checks.exact_sums import require_exact
from .explaining.explain import Named, explain
from .explaining.hypotheses import allow_rounded_copies
from .judging.judge import Judge
from .judging.verdict import StageResult, first_fault, progress_of
from .one_case import JudgedBatch, conclude, judge_batch, report_of
from .reporting.merged_report import Reports
from .reporting.report import Report
from .task.arithmetic import Arithmetic
from .task.case import Answer, Case
from .task.stage_graph import STAGES

_SEARCHES = 3  # cases in which a name for what is wrong is searched
_LARGE = 1 << 20  # numbers in W_enc, above which one case has to show what there is to see


def answer_of(function: Callable, case: Case) -> Answer:
    """What ``function(params, x, target)`` makes of a case; an exception refuses NaN."""
    try:
        results = function(case.params, case.x, case.target)
    except Exception:
        if not len(case.non_finite):
            raise
        return Answer(None, "refused", refused=True)
    if not isinstance(results, Mapping):
        what, want = f"the results of {case.name}", "a mapping from stages to arrays"
        raise OptionError(what, want, type(results).__name__)
    return Answer(results)


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
        return _refusal(case, declared, accepted)
    given = case.x, case.target, case.l1_coeff
    with _naming(case):
        judged = judge_batch(answer.results or {}, case.transcoder, *given, arithmetic, progress)
    judged = allow_flush_to_zero(case, judged)
    report = conclude(judged, declared, accepted, progress=progress)
    return require_exact(report, case, arithmetic)


class _Known(NamedTuple):
    """A convention that explained one case, or some of it, to be tried on the others."""

    case: str
    changes: dict[str, Any]  # of the fields of `Definition`
    convention: str
    names: tuple[str, ...]


def judge_cases(
    answers: Iterable[tuple[Case, Answer]],
    arithmetic: dict[str, Arithmetic],
    declared: str,
    accepted: tuple[str, ...],
    progress: Callable[[int], None] | None = None,
) -> Reports:
    """Judge the answer to every case.

    Cases with numbers that the arithmetic cannot hold are skipped.

    Raises:
        ShapeError, OptionError, DTypeError: malformed results, in a message that names the case.
    """
    batches: dict[str, tuple[Case, JudgedBatch]] = {}
    reports: dict[str, Report] = {}
    skipped, decisive = {}, {}
    for case, answer in answers:
        decisive[case.name] = case.decisive
        if answer.refused:
            reports[case.name] = _refusal(case, declared, accepted)
        elif answer.results is None:
            skipped[case.name] = answer.why
        elif not case.is_held_by(arithmetic):
            skipped[case.name] = f"{declared} does not hold its numbers"
        else:
            with _naming(case):
                judged = judge_batch(
                    answer.results, case.transcoder, case.x, case.target, case.l1_coeff, arithmetic
                )
            batches[case.name] = case, allow_flush_to_zero(case, judged)
            reports[case.name] = _refusal(case, declared, accepted)  # keeps the order
        if progress is not None:
            progress(len(case.x))
    known: list[_Known] = []
    searched: set[str] = set()
    for name, (case, judged) in batches.items():
        report = _report(name, judged, declared, accepted, known, searched)
        reports[name] = require_exact(report, case, arithmetic)
    advice = _advice([judged for _, judged in batches.values()])
    return Reports.of(reports, skipped, decisive, declared=declared, **advice)


def _report(
    name: str,
    judged: JudgedBatch,
    declared: str,
    accepted: tuple[str, ...],
    known: list[_Known],
    searched: set[str],
) -> Report:
    """The report of one case, which adds to what is ``known`` of the others."""
    problem, stages = allow_rounded_copies(judged.problem, judged.candidate, judged.stages)
    first = first_fault(stages)
    plain = Named(stages, problem, None, (), ())
    if first is None:
        return report_of(judged, plain, declared, accepted)
    best = plain
    for convention in known:
        named = _as_before(convention, judged, plain, first)
        if named.convention is not None:
            return report_of(judged, named, declared, accepted)
        if progress_of(named.results) > progress_of(best.results):
            best = named
    left = first_fault(best.results)
    if left in searched or len(searched) >= _SEARCHES:
        return report_of(judged, best, declared, accepted)
    searched.add(left)
    if best is plain:
        best = explain(problem, judged.candidate, stages, declared=accepted)
        if best.names or best.partly:
            before, after = vars(problem.definition), vars(best.problem.definition)
            changes = {field: after[field] for field in after if after[field] != before[field]}
            known.append(_Known(name, changes, best.convention or best.partly, best.names))
    return report_of(judged, best, declared, accepted, search=True)


def allow_flush_to_zero(case: Case, judged: JudgedBatch) -> JudgedBatch:
    """The same, or if that explains the first fault, with subnormal numbers that count as zero.

    Many processors do that in some of their instructions, and compilers ask for it.
    """
    first = first_fault(judged.stages)
    if first is None or case.target is None or not _has_subnormals(case):
        return judged
    arithmetic = {
        stage: dataclasses.replace(one, flushing=True)
        for stage, one in judged.problem.arithmetic.items()
    }
    problem = judged.problem._replace(arithmetic=arithmetic)
    stages = Judge(problem, judged.candidate).run()
    later = first_fault(stages)
    if later is not None and STAGES.index(later) <= STAGES.index(first):
        return judged
    noted = dataclasses.replace(stages[first], explanation="subnormal numbers count as zero")
    return judged._replace(problem=problem, stages=stages | {first: noted})


def _has_subnormals(case: Case) -> bool:
    smallest = float(np.finfo(np.float32).tiny)
    arrays = (*case.params.arrays().values(), case.x, case.target, *case.expected.values())
    return any(bool(np.any((a != 0) & (np.abs(a) < smallest))) for a in arrays)


def _as_before(known: _Known, judged: JudgedBatch, plain: Named, first: str) -> Named:
    """What a convention that explained another case makes of this one."""
    definition = dataclasses.replace(plain.problem.definition, **known.changes)
    problem = plain.problem._replace(definition=definition)
    stages = Judge(problem, judged.candidate).run()
    fault = first_fault(stages)
    if fault == first:
        return plain
    marked = dict(stages)
    if marked[first].verdict != "not judged":
        explanation = f"{known.convention}, as in the case {known.case}"
        marked[first] = dataclasses.replace(
            marked[first], verdict="convention", explanation=explanation
        )
    if fault is None and known.names:
        return Named(marked, problem, known.convention, known.names, ())
    some = (f"{known.convention} explains {first}",)
    return Named(marked, problem, None, (), some, known.convention)


def _refusal(case: Case, declared: str, accepted: tuple[str, ...]) -> Report:
    """The report of a case whose input was refused, as it may be where a row is not finite."""
    nothing = {name: StageResult(name, "not given") for name in STAGES}
    rows = tuple(case.non_finite.tolist())
    return Report(stages=nothing, declared=declared, accepted=accepted, refused=rows)


def _advice(batches: list[JudgedBatch]) -> dict[str, tuple[str, ...]]:
    """What no case shows or exercises."""
    unseen: dict[str, None] | None = None
    missing: tuple[str, ...] | None = None
    for judged in batches:
        if not len(judged.left):
            continue
        problem, candidate = judged.problem, judged.candidate
        warnings = warnings_for(problem)
        missing = warnings if missing is None else tuple(w for w in missing if w in warnings)
        if unseen is not None and problem.params.W_enc.size > _LARGE:
            continue  # the first has shown what there is to see, and it takes long
        shown = applicable_terms(problem, candidate)
        left = [t for t in shown if t in (shown if unseen is None else unseen)]
        still = unseen_terms(problem, candidate, judged.stages, left)
        others = () if unseen is None else (t for t in unseen if t not in shown)
        unseen = dict.fromkeys([*others, *still])
    return {
        "unseen": unseen_sentences(unseen or (), batches[-1].problem) if unseen else (),
        "coverage": tuple(WARNINGS[key] for key in missing or ()),
    }


@contextlib.contextmanager
def _naming(case: Case):
    """Put the name of the case in front of what is wrong with its results."""
    try:
        yield
    except Error as error:
        error.args = (f"{case.name}: {error}",)
        raise
