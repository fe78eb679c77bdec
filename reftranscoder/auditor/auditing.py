"""The audit: results are read, judged and, where wrong, compared with what has a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..arrays import to_matrix
from ..errors import OptionError, ShapeError
from ..params import finite_number
from ..transcoder import Transcoder
from .arithmetic import STAGES, Arithmetic, by_stage
from .candidate import Candidate
from .conventions import explain
from .definition import Definition
from .faults import name_fault
from .fingerprint import fingerprint, judge_arithmetic
from .hypotheses import if_copies
from .judge import PARENTS, Judge, Problem
from .report import Report
from .verdict import StageResult


def audit(
    candidate: Mapping[str, Any] | Callable,
    tc: Transcoder,
    x: Any,
    target: Any = None,
    *,
    l1_coeff: float = 1e-3,
    arithmetic: str | Arithmetic | Mapping[str, str | Arithmetic] = "float32",
    conventions: tuple[str, ...] | list[str] = (),
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Judge somebody else's results stage by stage.

    Args:
        candidate: a mapping from stage names to arrays, whatever subset exists (``indices`` and
            ``values`` may stand for ``hidden``); or a function ``f(params, x, target)`` that
            returns one.
        tc: the transcoder whose results these ought to be.
        x: (B, I) what it was given.
        target: (B, O); without it, only the forward stages are judged.
        l1_coeff: of the loss.
        arithmetic: the one declared: a name in ``ARITHMETICS``, an `Arithmetic`, or a mapping from
            stages to either.
        conventions: the names of documented conventions under which the candidate may differ.
        progress: called with the number of rows done, after each block.

    Returns:
        A `Report`.

    Raises:
        ShapeError, OptionError, DTypeError: malformed input, which gets no verdict.
    """
    if not isinstance(tc, Transcoder):
        raise OptionError("tc", "the Transcoder to compare with", type(tc).__name__)
    config = tc.config
    x = to_matrix(x, "x", "(B, I)", config.input_size, np.float64)
    if target is not None:
        target = to_matrix(target, "target", "(B, O)", config.output_size, np.float64)
        if len(target) != len(x):
            want = (len(x), config.output_size)
            raise ShapeError("target", want, target.shape, "Rows must pair up.")
    if not len(x):
        raise ShapeError("x", "with at least one row", x.shape)
    if callable(candidate):
        candidate = candidate(tc.params, x, target)
    if not isinstance(candidate, Mapping):
        raise OptionError("candidate", "a mapping from stages to arrays", type(candidate).__name__)
    sizes = (len(x), config.input_size, config.dict_size, config.output_size)
    results = Candidate(candidate, sizes, config.skip)
    if target is None:
        needs = [name for name in results.given if STAGES.index(name) >= STAGES.index("loss")]
        if needs:
            raise OptionError("target", f"given, since {needs[0]} depends on it", None)
    problem = Problem(
        params=tc.params,
        definition=Definition(config.top_k, config.activation, config.ties),
        arithmetic=by_stage(arithmetic),
        x=x,
        target=target,
        l1_coeff=finite_number("l1_coeff", l1_coeff),
    )
    stages = Judge(problem, results).run(progress)
    return conclude(problem, results, stages, _name(arithmetic), tuple(conventions))


def conclude(
    problem: Problem,
    candidate: Candidate,
    stages: dict[str, StageResult],
    declared: str,
    accepted: tuple[str, ...],
) -> Report:
    """The report, with a name for what is wrong where it has one."""
    problem, stages = if_copies(problem, candidate, stages)
    named = explain(problem, candidate, stages)
    marks = fingerprint(named.problem, candidate)
    stages = name_fault(named.problem, candidate, named.results)
    stages = judge_arithmetic(marks, declared, stages)
    convention = named.convention if stages["pre"].verdict != "fault" else None
    return Report(
        stages=stages,
        declared=declared,
        arithmetic=None if marks is None else marks.sentence(declared),
        convention=convention,
        explaining=named.names if convention else (),
        accepted=accepted,
        explanations=named.explanations,
        suspects=suspects(stages),
    )


def suspects(stages: dict[str, StageResult]) -> tuple[str, ...]:
    """The first stage at fault, and the stages upstream of it that nobody has seen."""
    first = next((name for name in STAGES if stages[name].verdict == "fault"), None)
    if first is None:
        return ()
    found, waiting = {first}, list(PARENTS[first])
    while waiting:
        name = waiting.pop()
        if stages[name].verdict == "not given" and name not in found:
            found.add(name)
            waiting += PARENTS[name]
    return tuple(name for name in STAGES if name in found)


def _name(arithmetic: str | Arithmetic | Mapping) -> str:
    if isinstance(arithmetic, Mapping):
        return "mixed arithmetic"
    return arithmetic if isinstance(arithmetic, str) else arithmetic.name
