"""Mistakes that have a name: the verdict stays a fault, and the name says what to look for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from ..judging.verdict import StageResult, first_fault
from ..task.candidate import Candidate
from ..task.definition import L1, MSE
from ..task.problem import Problem
from .hypotheses import Hypothesis
from .search import Search

_GRADIENTS = ("d_reconstruction", "d_hidden", "d_pre", "dW_dec", "db_dec", "dW_skip", "dW_enc")
_GRADIENTS += ("db_enc", "dx")


# By the places that the candidate selected; without these, by those that the reference would.
_INACTIVE = "gradients pass through selected features that are inactive (ReLU'(0) is 0)"


_SUBNORMALS = 64  # spacings at 0 that count as 0


def known_faults(problem: Problem) -> list[Hypothesis]:
    """The mistakes that a transcoder with these options and sizes can have."""
    definition, params = problem.definition, problem.params
    (D, I), O, B = params.W_enc.shape, len(params.b_dec), len(problem.x)
    K, skip = definition.top_k, params.W_skip is not None
    found = [
        _mistake("b_enc is not added", "pre", b_enc=0.0),
        _mistake("b_enc is subtracted", "pre", b_enc=-1.0),
        _mistake("pre is not rectified", "pre_acts", rectified=False),
        _mistake("b_dec is not added", "reconstruction", b_dec=0.0),
        _mistake("b_dec is subtracted", "reconstruction", b_dec=-1.0),
        _mistake("the L1 loss is left out", "loss", l1_loss=0.0),
        _mistake(
            "the factor 2 of the squared error's gradient is lost",
            "d_reconstruction",
            factors=(("d_reconstruction", 0.5),),
        ),
        _mistake("the L1 loss has no gradient", "d_hidden", l1_gradient=0.0),
        _mistake("the L1 loss's gradient has the wrong sign", "d_hidden", l1_gradient=-1.0),
        _mistake("gradients pass through active features not selected", "d_pre", mask="active"),
        _mistake(_INACTIVE, "d_pre", inactive=True),
        _mistake(_INACTIVE, "d_pre", mask="largest"),
        _mistake("gradients pass through all features", "d_pre", mask="all"),
        _mistake("dW_dec sums over pre_acts, not hidden", "dW_dec", dW_dec="pre_acts"),
    ]
    # Other factors of the same error have names of their own.
    for mse in ("over_norm", "over_square", "fvu"):
        if mse != definition.mse:
            meaning = f"the gradients are those of another loss, {MSE[mse]}"
            found.append(_mistake(meaning, "d_reconstruction", mse=mse))
    default = {"mse": "mean", "half": False, "l1": "mean", "l1_weighted": False}
    if any(getattr(definition, field) != value for field, value in default.items()):
        meaning = "the gradients are not those of that loss but of the default, "
        meaning += f"{MSE['mean']} plus l1_coeff times {L1['mean']}"
        found.append(_mistake(meaning, "d_reconstruction", **default))
    for stage in ("dW_enc", "db_enc", "dx"):
        for mask, what in (("active", "active features"), ("all", "all features")):
            meaning = f"gradients pass to {stage} through {what}, selected or not"
            found.append(_mistake(meaning, stage, mask=mask, mask_at=stage))
    if definition.activation == "topk":
        for top_k in (K - 1, K + 1):
            if 1 <= top_k <= D:
                meaning = f"{top_k} features are kept, not {K}"
                found.append(_mistake(meaning, "hidden", top_k=top_k))
        meaning = "nothing is selected: every active feature is kept"
        found.append(_mistake(meaning, "hidden", activation="relu"))
    if D == I:
        found.append(_mistake("W_enc is transposed", "pre", W_enc="transposed"))
    if D == O:
        found.append(_mistake("W_dec is transposed", "reconstruction", W_dec="transposed"))
        meaning = "W_dec is transposed in d_hidden"
        found.append(_mistake(meaning, "d_hidden", W_dec="transposed backwards"))
    if I == O:
        meaning = "the reconstruction is compared with x, not with the target"
        found.append(_mistake(meaning, "loss", target="x"))
    if skip:
        found.append(_mistake("the skip connection is missing", "reconstruction", W_skip="none"))
        found.append(_mistake("dx lacks the skip connection", "dx", dx_paths="encoder"))
        found.append(_mistake("dx lacks the encoder", "dx", dx_paths="skip"))
        if I == O:
            found.append(_mistake("W_skip is transposed", "reconstruction", W_skip="transposed"))
    for stage in _GRADIENTS:
        if stage == "dW_skip" and not skip:
            continue
        for factor, what in _factors(B, O):
            if (stage, factor) != ("d_reconstruction", 0.5):
                found.append(_mistake(f"{stage} {what}", stage, factors=((stage, factor),)))
    square = {"dW_dec": D == O, "dW_enc": D == I, "dW_skip": skip and O == I}
    for stage, is_square in square.items():
        if is_square:
            found.append(_mistake(f"{stage} is transposed", stage, flipped=(stage,)))
    return [fault for fault in found if not fault.applied(problem).undefined]


def _factors(B: int, O: int) -> list[tuple[float, str]]:
    return [
        (-1.0, "has the wrong sign"),
        (0.0, "is zero"),
        (0.5, "is half of what it should be"),
        (2.0, "is twice what it should be"),
        (1 / B, "is averaged over rows, which the loss did already"),
        (float(B), "is not divided by B"),
        (float(O), "is not divided by O"),
        (float(B * O), "is not divided by B O"),
    ]


def _mistake(meaning: str, stage: str, **changes) -> Hypothesis:
    return Hypothesis(meaning, meaning, stage, changes)


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
    found = Search(problem, candidate, results, known_faults(problem), progress).best(pairs=False)
    if found is None:
        return results
    what = f"as if {found.name}" if len(found.alternatives) > 1 else found.name
    before = results[first].explanation
    explanation = f"{what} ({before})" if before else what
    extra = results[first].extra | {"made": found.stages}
    results[first] = dataclasses.replace(results[first], explanation=explanation, extra=extra)
    return results


def explain_zero(
    problem: Problem, candidate: Candidate, results: Mapping[str, StageResult]
) -> dict[str, StageResult]:
    """``results``, where the first fault says why it should be 0, if it should be nothing else."""
    results = dict(results)
    first = first_fault(results)
    worst = None if first is None else results[first]
    if worst is None or not worst.index or worst.got is None or worst.want != 0:
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
