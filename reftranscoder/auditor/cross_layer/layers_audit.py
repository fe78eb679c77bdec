"""From what somebody computed of several layers to a report: read, judged, what is wrong named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ...arrays import check_finite, to_array, to_dtype
from ...errors import OptionError, ShapeError
from ...options import finite_number
from ...transcoder.cross_layer import CrossLayerTranscoder
from ..cross_checks import fingerprint
from ..explaining import hypotheses, known_faults
from ..judging.verdict import StageResult, first_fault
from ..task.arithmetic import Arithmetic
from ..task.candidate import Candidate
from ..task.problem import Problem
from .layers_candidate import LayersCandidate
from .layers_coverage import coverage_of
from .layers_judge import LayersJudge, Results
from .layers_report import LayersReport, Place, by_key, suspects_of
from .mistakes import Mistakes
from .views import DECODED, ENCODED, Views

_MOST_AT_ONCE = 1 << 25  # entries of (L, B, D), of which there are a dozen arrays of float64


def audit_layers(
    candidate: Any,
    clt: CrossLayerTranscoder,
    x: Any,
    target: Any,
    l1_coeff: float,
    given: tuple[dict[str, Arithmetic], str, tuple[str, ...]],
    progress: Callable[[int], None] | None = None,
) -> LayersReport:
    """Judge a cross-layer candidate's results, as `audit` does.

    ``given`` is the arithmetic of each stage, its name, and the conventions.

    Raises:
        OptionError: no ``x``; conventions, post_enc, or an activation that is not judged.
        ShapeError, DTypeError, NonFiniteError: malformed input, which gets no verdict.
    """
    config, (arithmetic, declared, conventions) = clt.config, given
    if conventions:
        raise OptionError("conventions", "none, for several layers", conventions)
    if x is None:
        raise OptionError("x", "what the candidate was given, (L, B, I)", None)
    results = candidate(clt.params, x, target) if callable(candidate) else candidate
    x = _rows(x, "x", "(L, B, I)", config.layers, config.input_size)
    if target is not None:
        target = _rows(target, "target", "(L, B, O)", config.layers, config.output_size)
        if target.shape[1] != x.shape[1]:
            want = (config.layers, x.shape[1], config.output_size)
            raise ShapeError("target", want, target.shape, "Rows must pair up.")
    if config.activation == "batchtopk":
        _check_whole_batch(config.layers * config.dict_size, x.shape[1], results)
    l1_coeff = finite_number("l1_coeff", l1_coeff)
    views = Views(config, clt.params, arithmetic, x, target, l1_coeff)
    read = LayersCandidate(results, config, x.shape[1], target is not None)
    judge = LayersJudge(views, read)
    judge.run(progress)
    return _report(views, read, judge, declared)


def _rows(value: Any, name: str, letters: str, layers: int, width: int) -> np.ndarray:
    array = to_array(value, name)
    if array.ndim != 3 or len(array) != layers or array.shape[2] != width or not array.shape[1]:
        raise ShapeError(name, f"({layers}, 1 or more, {width})", array.shape, letters=letters)
    array = to_dtype(array, name, np.dtype(np.float64))
    check_finite(array, name, "Leave such rows out of an audit of several layers.")
    return array


def _check_whole_batch(features: int, rows: int, results: Any) -> None:
    """Where rows compete with each other, all are judged at once, by what was selected of them."""
    if rows * features > _MOST_AT_ONCE:
        most = _MOST_AT_ONCE // features
        raise ShapeError("x", f"at most {most} rows, for an audit of batchtopk", (rows,))
    if not {"hidden", "indices"} & set(results):
        want = "a mapping that holds hidden, for an audit of batchtopk"
        raise OptionError("candidate", want, ", ".join(map(str, results)) or "nothing")


def _report(
    views: Views, given: LayersCandidate, judge: LayersJudge, declared: str
) -> LayersReport:
    encoding, decoding, loss = judge.results()
    mistakes = Mistakes(views, given)
    if loss.verdict == "fault" and (name := mistakes.of_loss(judge)):
        loss = dataclasses.replace(loss, explanation=name)
    found = {Place("loss"): loss}
    arithmetic = None
    for l in range(judge.L):
        sides = (
            (views.encoding[l], given.encoding[l], encoding[l], ENCODED),
            (views.decoding[l], given.decoding[l], decoding[l], DECODED),
        )
        for problem, candidate, results, stages in sides:
            decoded = stages is DECODED
            problem, results = hypotheses.allow_rounded_copies(problem, candidate, results)
            results = _named(problem, candidate, results, mistakes, l, decoded)
            results = known_faults.explain_zero(problem, candidate, results)
            if not decoded and (marks := fingerprint.fingerprint(problem, candidate)):
                results = fingerprint.judge_arithmetic(marks, declared, results)
                arithmetic = arithmetic or marks.sentence(declared)
            for name in stages:
                result = _with_own_index(results[name], views.O, l)
                found[Place(name, l)] = _of_layer(result, l)
    results = by_key(found, judge.L)
    return LayersReport(
        stages=results,
        declared=declared,
        arithmetic=arithmetic,
        **coverage_of(views, given, judge, found)._asdict(),
        suspects=suspects_of(results, judge.L),
        layers=judge.L,
    )


def _named(
    problem: Problem,
    candidate: Candidate,
    results: Results,
    mistakes: Mistakes,
    layer: int,
    decoded: bool,
) -> Results:
    """``results``, with the mistake that accounts for the first fault in its explanation."""
    first = first_fault(results)
    if first is None or "not finite" in results[first].explanation:
        return results
    index = results[first].index
    name = mistakes.name(first, layer, decoded, index[0] if index else 0)
    if name is None:
        return known_faults.name_fault(problem, candidate, results)
    before = results[first].explanation
    text = f"{name} ({before})" if before else name
    return results | {first: dataclasses.replace(results[first], explanation=text)}


def _with_own_index(result: StageResult, O: int, l: int) -> StageResult:  # noqa: E741
    """Where entries of dW_dec (D, L - l, O) or dW_skip (L - l, O, I) of layer ``l`` are wrong."""
    if result.index is None or result.stage not in ("dW_dec", "dW_skip"):
        return result
    flat = 1 if result.stage == "dW_dec" else 0  # the axis of outputs side by side

    def split(index: tuple[Any, ...], first: int) -> tuple[Any, ...]:
        k, o = (None, None) if index[flat] is None else divmod(index[flat], O)
        return *index[:flat], k if k is None else first + k, o, *index[flat + 1 :]

    extra = dict(result.extra)
    if "shared" in extra:
        extra["shared"] = split(extra["shared"], l)  # in words: the layer that is written to
    return dataclasses.replace(result, index=split(result.index, 0), extra=extra)


def _of_layer(result: StageResult, layer: int) -> StageResult:
    """The same, where it names other stages with their layer."""
    if "made" not in result.extra:
        return result
    made = tuple(Place(name, layer).key for name in result.extra["made"])
    return dataclasses.replace(result, extra=result.extra | {"made": made})
