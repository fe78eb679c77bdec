"""From one candidate on one batch to its report: checked, judged, and what is wrong named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..arrays import to_matrix
from ..errors import OptionError, ShapeError
from ..params import finite_number
from ..transcoder import Transcoder
from .cross_checks.data_coverage import (
    WARNINGS,
    applicable_terms,
    unseen_sentences,
    unseen_terms,
    warnings_for,
)
from .cross_checks.fingerprint import fingerprint, judge_arithmetic
from .cross_checks.non_finite_rows import add_non_finite_rows, checked_refusals, set_aside
from .explaining.explain import Named, explain
from .explaining.hypotheses import allow_rounded_copies
from .explaining.known_faults import explain_zero, name_fault
from .judging.judge import Judge
from .judging.verdict import StageResult, first_fault, suspects
from .reporting.report import Report
from .task.arithmetic import Arithmetic
from .task.candidate import Candidate
from .task.case import non_finite_rows
from .task.definition import Definition
from .task.problem import Problem
from .task.stage_graph import STAGES, parents_of


class JudgedBatch(NamedTuple):
    """A candidate that was judged, and about which nothing was concluded yet."""

    problem: Problem  # without the rows that are not finite
    candidate: Candidate  # without them, too
    stages: dict[str, StageResult]  # of these
    whole: tuple[Problem, Candidate] | None  # with all rows, where there are others
    left: np.ndarray  # the numbers of the rows that are finite
    refused: np.ndarray  # of those that are not, and that the candidate refused

    @property
    def at_fault(self) -> bool:
        return first_fault(self.stages) is not None


def judge_batch(
    results: Any,
    tc: Transcoder,
    x: Any,
    target: Any,
    l1_coeff: float,
    arithmetic: dict[str, Arithmetic],
    progress: Callable[[int], None] | None = None,
) -> JudgedBatch:
    """Check what was given, and judge every stage of it.

    Raises:
        ShapeError, OptionError, DTypeError: malformed input, which gets no verdict.
    """
    config = tc.config
    x = to_matrix(x, "x", "(B, I)", config.input_size, np.float64)
    if target is not None:
        target = to_matrix(target, "target", "(B, O)", config.output_size, np.float64)
        if len(target) != len(x):
            want = (len(x), config.output_size)
            raise ShapeError("target", want, target.shape, "Rows must pair up.")
    if not len(x):
        raise ShapeError("x", "with at least one row", x.shape)
    if not isinstance(results, Mapping):
        raise OptionError("candidate", "a mapping from stages to arrays", type(results).__name__)
    bad = non_finite_rows(x, target)
    results = dict(results)
    refused = results.pop("refused", None)
    refused = checked_refusals([] if refused is None else refused, bad)
    sizes = (len(x), config.input_size, config.dict_size, config.output_size)
    candidate = Candidate(results, sizes, config.skip)
    if target is None:
        needs = [name for name in candidate.given if STAGES.index(name) >= STAGES.index("loss")]
        if needs:
            raise OptionError("target", f"given, since {needs[0]} depends on it", None)
    problem = Problem(
        params=tc.params,
        definition=Definition(config.top_k, config.activation, config.ties),
        arithmetic=arithmetic,
        x=x,
        target=target,
        l1_coeff=finite_number("l1_coeff", l1_coeff),
    )
    whole, left = None, np.arange(len(x))
    if len(bad):
        whole = problem, candidate
        problem, candidate, left = set_aside(problem, candidate, bad)
    if len(left):
        stages = Judge(problem, candidate).run(progress)
    else:
        stages = {name: StageResult(name, "not given") for name in STAGES}
    return JudgedBatch(problem, candidate, stages, whole, left, refused)


def conclude(
    judged: JudgedBatch,
    declared: str,
    accepted: tuple[str, ...],
    *,
    search: bool = True,
    advise: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """The report.

    ``search`` for a name of what is wrong, and ``advise`` on what the data did not show.
    ``progress(0)`` is called while the search is at work.
    """
    problem, candidate = judged.problem, judged.candidate
    problem, stages = allow_rounded_copies(problem, candidate, judged.stages)
    named = Named(stages, problem, None, (), ())
    if search:
        named = explain(problem, candidate, stages, progress, accepted)
    options = {"search": search, "advise": advise, "progress": progress}
    return report_of(judged, named, declared, accepted, **options)


def report_of(
    judged: JudgedBatch,
    named: Named,
    declared: str,
    accepted: tuple[str, ...],
    *,
    search: bool = False,
    advise: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """The report, once it is known what conventions make of the candidate."""
    candidate = judged.candidate
    marks = fingerprint(named.problem, candidate) if len(judged.left) else None
    stages = named.results
    if search:
        stages = name_fault(named.problem, candidate, stages, progress)
    stages = explain_zero(named.problem, candidate, stages)
    stages = judge_arithmetic(marks, declared, stages)
    convention = named.convention if stages["pre"].verdict != "fault" else None
    report = Report(
        stages=stages,
        declared=declared,
        arithmetic=None if marks is None else marks.sentence(declared),
        convention=convention,
        explaining=named.names if convention else (),
        accepted=accepted,
        explanations=named.explanations,
        partly=named.partly,
        refused=tuple(judged.refused.tolist()),
    )
    if advise and len(judged.left):
        terms = applicable_terms(named.problem, candidate)
        terms = unseen_terms(named.problem, candidate, stages, terms)
        report = dataclasses.replace(
            report,
            unseen=unseen_sentences(terms, named.problem),
            coverage=tuple(WARNINGS[key] for key in warnings_for(judged.problem)),
        )
    if judged.whole is not None:
        problem, whole = judged.whole
        report = add_non_finite_rows(report, whole, problem, judged.left, judged.refused)
    parents = parents_of(named.problem.definition)
    return dataclasses.replace(report, suspects=suspects(report.stages, parents))
