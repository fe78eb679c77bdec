"""Many small audits of one implementation: judged first, named where that tells something new."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ..errors import OptionError
from .cross_checks.data_coverage import (
    WARNINGS,
    applicable_terms,
    unseen_sentences,
    unseen_terms,
    warnings_for,
)
from .cross_checks.exercised import Masks, exercised, joined
from .intervals.interval import made
from .judged_batch import JudgedBatch
from .judging.judge import Judge
from .judging.verdict import first_fault, progress_of
from .one_case import (
    STEPS,
    Findings,
    Step,
    advise,
    explain_by_conventions,
    find_exercised,
    judge_answer,
    name_fault,
    report_of,
    report_of_refusal,
)
from .reporting.exercised import counted
from .reporting.merged_report import Reports
from .reporting.report import Report
from .task.arithmetic import Arithmetic
from .task.case import Answer, Case
from .task.definition import Definition
from .task.problem import Problem

_SEARCHES = 3  # cases in which a name for what is wrong is searched
_MOST_WEIGHTS = 1 << 20  # numbers in W_enc, above which one case has to show what there is to see


def answer_of(function: Callable[..., Any], case: Case) -> Answer:
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
    reports: dict[str, Report] = {}
    skipped: dict[str, str] = {}
    decisive: dict[str, bool] = {}
    steps, advice = _Memory().steps(), _Advice()
    for case, answer in answers:
        decisive[case.name] = case.decisive
        if answer.refused:
            reports[case.name] = report_of_refusal(case, declared, accepted)
        elif answer.results is None:
            skipped[case.name] = answer.why
        elif not case.is_held_by(arithmetic):
            skipped[case.name] = f"{declared} does not hold its numbers"
        else:
            judged = judge_answer(case, answer, arithmetic, declared, accepted)
            reports[case.name] = report_of(judged, steps)
            advice.add(judged)
        if progress is not None:
            progress(len(case.x))
    return Reports.of(reports, skipped, decisive, declared=declared, **advice.given())


class _Known(NamedTuple):
    """A convention that explained one case, or some of it, to be tried on the others."""

    case: str
    changes: dict[str, Any]  # of the fields of `Definition`
    convention: str
    names: tuple[str, ...]


class _Memory:
    """What explained earlier cases.  It is tried on the later ones first, and few are searched."""

    def __init__(self) -> None:
        self._known: list[_Known] = []
        self._searched: set[str | None] = set()  # the stages at fault for which a name was sought

    def steps(self) -> tuple[Step, ...]:
        """Those of one case, in the same order, but with what is known of the others.

        Advice is given on all cases together, and so is what they exercised.
        """
        own: dict[Step, Step] = {explain_by_conventions: self.explain}
        others = (step for step in STEPS if step not in (name_fault, advise, find_exercised))
        return tuple(own.get(step, step) for step in others)

    def explain(self, judged: JudgedBatch, found: Findings) -> Findings:
        """What explained another case, or where that is not enough, the result of a search."""
        first = first_fault(found.results)
        if first is None:
            return found
        best = found
        for known in self._known:
            tried = _as_before(known, judged, found, first)
            if tried.convention is not None:
                return tried
            if progress_of(tried.results) > progress_of(best.results):
                best = tried
        left = first_fault(best.results)
        if left in self._searched or len(self._searched) >= _SEARCHES:
            return best
        self._searched.add(left)
        if best is found:
            best = explain_by_conventions(judged, found)
            self._note(judged.case, found.problem.definition, best)
        return name_fault(judged, best)

    def _note(self, case: Case, before: Definition, found: Findings) -> None:
        """Remember what explains a case."""
        convention = found.convention or found.partly
        if convention is None:
            return
        after = vars(found.problem.definition)
        changes = {field: after[field] for field in after if after[field] != vars(before)[field]}
        self._known.append(_Known(case.name, changes, convention, found.names))


def _as_before(known: _Known, judged: JudgedBatch, found: Findings, first: str) -> Findings:
    """What a convention that explained another case makes of this one."""
    definition = dataclasses.replace(found.problem.definition, **known.changes)
    problem = found.problem._replace(definition=definition)
    results = Judge(problem, judged.candidate).run()
    fault = first_fault(results)
    if fault == first:
        return found
    marked = dict(results)
    if marked[first].verdict != "not judged":
        explanation = f"{known.convention}, as in the case {known.case}"
        marked[first] = dataclasses.replace(
            marked[first], verdict="convention", explanation=explanation
        )
    if fault is None and known.names:
        return Findings(marked, problem, known.convention, known.names)
    some = (f"{known.convention} explains {first}",)
    return Findings(marked, problem, explanations=some, partly=known.convention)


class _Advice:
    """What no case shows or exercises."""

    def __init__(self) -> None:
        self._unseen: dict[str, None] | None = None
        self._missing: tuple[str, ...] | None = None
        self._exercised: dict[tuple[Any, ...], Masks] = {}  # by the kind of transcoder
        self._last: Problem | None = None

    def add(self, judged: JudgedBatch) -> None:
        """Strike out what this case shows and exercises."""
        problem, candidate = judged.problem, judged.candidate
        self._last = problem
        if not len(judged.left):
            return
        if self._missing != ():
            warnings = warnings_for(problem)
            before = warnings if self._missing is None else self._missing
            self._missing = tuple(w for w in before if w in warnings)
        config = judged.case.config
        kind = config.activation, config.ties, config.skip
        masks = exercised(judged.case, problem, candidate, judged.results)
        self._exercised[kind] = joined(self._exercised.get(kind, {}), masks)
        if self._unseen is not None and problem.params.W_enc.size > _MOST_WEIGHTS:
            return  # the first has shown what there is to see, and it takes long
        shown = applicable_terms(problem, candidate)
        left = [t for t in shown if t in (shown if self._unseen is None else self._unseen)]
        still = unseen_terms(problem, candidate, judged.results, left)
        others = () if self._unseen is None else (t for t in self._unseen if t not in shown)
        self._unseen = dict.fromkeys([*others, *still])

    def given(self) -> dict[str, tuple[Any, ...]]:
        """The fields of a report that say so."""
        return {
            "unseen": unseen_sentences(self._unseen, made(self._last)) if self._unseen else (),
            "coverage": tuple(WARNINGS[key] for key in self._missing or ()),
            "exercised": counted(self._exercised.values()),
        }
