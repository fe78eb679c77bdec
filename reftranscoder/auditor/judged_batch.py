"""A candidate on one batch, checked and judged, before anything is concluded from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..arrays import to_matrix
from ..errors import OptionError, ShapeError
from ..options import finite_number
from ..params import TranscoderConfig
from .cross_checks.non_finite_rows import checked_refusals, set_aside
from .judging.judge import Judge
from .judging.verdict import StageResult, first_fault
from .task.arithmetic import Arithmetic
from .task.candidate import Candidate
from .task.case import Case, non_finite_rows
from .task.definition import definition_of
from .task.problem import Problem
from .task.stage_graph import ALL_STAGES, NOT_JUDGED, OF_OWN, gradients_of, without_bounds

_MOST_AT_ONCE = 1 << 25  # entries of (B, D), of which there are a dozen arrays of float64


class JudgedBatch(NamedTuple):
    """A candidate that was judged, and about which nothing was concluded yet."""

    case: Case
    problem: Problem  # without the rows that are not finite
    candidate: Candidate  # without them, too
    results: dict[str, StageResult]  # of these
    whole: tuple[Problem, Candidate] | None  # with all rows, where there are others
    left: np.ndarray  # the numbers of the rows that are finite
    refused: np.ndarray  # of those that are not, and that the candidate refused
    declared: str  # the name of the arithmetic
    accepted: tuple[str, ...]  # the conventions that were declared
    progress: Callable[[int], None] | None  # called now and then while a name is sought
    unjudged: tuple[str, ...] = ()  # what was given, and has no bounds


def checked_batch(
    config: TranscoderConfig, x: Any, target: Any
) -> tuple[np.ndarray, np.ndarray | None]:
    """``x`` (B, I) and ``target`` (B, O), if there is one, in float64.

    Raises:
        ShapeError, DTypeError: they are no such matrices.
    """
    definition_of(config)  # or it is refused
    x = to_matrix(x, "x", "(B, I)", config.input_size, np.float64)
    if target is not None:
        target = to_matrix(target, "target", "(B, O)", config.output_size, np.float64)
        if len(target) != len(x):
            want = (len(x), config.output_size)
            raise ShapeError("target", want, target.shape, "Rows must pair up.")
    if not len(x):
        raise ShapeError("x", "with at least one row", x.shape)
    return x, target


def judge_batch(
    results: Any,
    case: Case,
    arithmetic: dict[str, Arithmetic],
    declared: str,
    accepted: tuple[str, ...],
    progress: Callable[[int], None] | None = None,
) -> JudgedBatch:
    """Check what was given, and judge every stage of it.

    Raises:
        ShapeError, OptionError, DTypeError: malformed input, which gets no verdict.
    """
    config = case.config
    x, target = checked_batch(config, case.x, case.target)
    if not isinstance(results, Mapping):
        raise OptionError("candidate", "a mapping from stages to arrays", type(results).__name__)
    if config.conventions.normalize_activations == "constant_norm_rescale":
        x = np.where(x.any(axis=1, keepdims=True), x, np.nan)  # what has no norm becomes no number
    bad = non_finite_rows(x, target)
    if config.activation == "batchtopk":
        _check_whole_batch(config, x, bad, results)
    own = gradients_of(config.activation)
    definition = definition_of(config, case.params.own)
    unknown = {*OF_OWN} - {*own} | {*without_bounds(definition, config.skip)}
    unjudged = tuple(name for name in ALL_STAGES if name in results and name in unknown)
    results = {n: r for n, r in results.items() if n not in (*NOT_JUDGED, *unjudged)}
    refused = results.pop("refused", None)
    refused = checked_refusals([] if refused is None else refused, bad)
    sizes = (len(x), config.input_size, config.dict_size, config.output_size)
    candidate = Candidate(results, sizes, config.skip, own)
    if target is None:
        first = ALL_STAGES.index("loss")
        needs = [name for name in candidate.given if ALL_STAGES.index(name) >= first]
        if needs:
            raise OptionError("target", f"given, since {needs[0]} depends on it", None)
    problem = Problem(
        params=case.params,
        definition=definition,
        arithmetic=arithmetic,
        x=x,
        target=target,
        l1_coeff=finite_number("l1_coeff", case.l1_coeff),
    )
    whole, left = None, np.arange(len(x))
    if len(bad):
        whole = problem, candidate
        problem, candidate, left = set_aside(problem, candidate, bad)
    if len(left):
        judged = Judge(problem, candidate).run(progress)
    else:
        judged = {name: StageResult(name, "not given") for name in ALL_STAGES}
    given = declared, accepted, progress, unjudged
    return JudgedBatch(case, problem, candidate, judged, whole, left, refused, *given)


def _check_whole_batch(
    config: TranscoderConfig, x: np.ndarray, bad: np.ndarray, results: Mapping[str, Any]
) -> None:
    """Where rows compete with each other, all are judged at once, by what was selected of them."""
    if len(bad):
        got = f"NaN or infinity in row {bad[0]}"
        raise OptionError("x", "finite, for an audit of batchtopk", got)
    if len(x) * config.dict_size > _MOST_AT_ONCE:
        most = _MOST_AT_ONCE // config.dict_size
        raise ShapeError("x", f"at most {most} rows, for an audit of batchtopk", x.shape)
    if not {"hidden", "indices"} & set(results):
        want = "a mapping that holds hidden, for an audit of batchtopk"
        raise OptionError("candidate", want, ", ".join(map(str, results)) or "nothing")


def allow_flush_to_zero(judged: JudgedBatch) -> JudgedBatch:
    """The same, or if that explains the first fault, with subnormal numbers that count as zero.

    Many processors do that in some of their instructions, and compilers ask for it.
    """
    first = first_fault(judged.results)
    if first is None or judged.case.target is None or not _has_subnormals(judged.case):
        return judged
    arithmetic = {
        stage: dataclasses.replace(one, flushing=True)
        for stage, one in judged.problem.arithmetic.items()
    }
    problem = judged.problem._replace(arithmetic=arithmetic)
    results = Judge(problem, judged.candidate).run()
    later = first_fault(results)
    if later is not None and ALL_STAGES.index(later) <= ALL_STAGES.index(first):
        return judged
    noted = dataclasses.replace(results[first], explanation="subnormal numbers count as zero")
    return judged._replace(problem=problem, results=results | {first: noted})


def _has_subnormals(case: Case) -> bool:
    smallest = float(np.finfo(np.float32).tiny)
    arrays = [*case.params.arrays().values(), case.x, *case.expected.values()]
    arrays += [] if case.target is None else [case.target]
    return any(bool(np.any((a != 0) & (np.abs(a) < smallest))) for a in arrays)
