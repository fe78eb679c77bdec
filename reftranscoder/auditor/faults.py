"""Mistakes that have a name: the verdict stays a fault, and the name says what to look for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from .candidate import Candidate
from .hypotheses import Hypothesis, first_fault, search
from .judge import Problem
from .verdict import StageResult

_GRADIENTS = ("d_reconstruction", "d_hidden", "d_pre", "dW_dec", "db_dec", "dW_skip", "dW_enc")
_GRADIENTS += ("db_enc", "dx")


def known(problem: Problem) -> list[Hypothesis]:
    """The mistakes that a transcoder with these options and sizes can have."""
    definition, params = problem.definition, problem.params
    (D, I), O, B = params.W_enc.shape, len(params.b_dec), len(problem.x)
    K, skip = definition.top_k, params.W_skip is not None
    found = [
        _fault("b_enc is not added", "pre", b_enc=0.0),
        _fault("b_enc is subtracted", "pre", b_enc=-1.0),
        _fault("pre is not rectified", "pre_acts", rectified=False),
        _fault("b_dec is not added", "reconstruction", b_dec=0.0),
        _fault("b_dec is subtracted", "reconstruction", b_dec=-1.0),
        _fault("the L1 loss is left out", "loss", l1_loss=0.0),
        _fault(
            "the factor 2 of the squared error's gradient is lost",
            "d_reconstruction",
            factors=(("d_reconstruction", 0.5),),
        ),
        _fault("the L1 loss has no gradient", "d_hidden", l1_gradient=0.0),
        _fault("the L1 loss's gradient has the wrong sign", "d_hidden", l1_gradient=-1.0),
        _fault("gradients pass through active features not selected", "d_pre", mask="active"),
        _fault("gradients pass through selected features not active", "d_pre", mask="largest"),
        _fault("gradients pass through all features", "d_pre", mask="all"),
        _fault("dW_dec sums over pre_acts, not hidden", "dW_dec", dW_dec="pre_acts"),
    ]
    for stage in ("dW_enc", "db_enc", "dx"):
        for mask, what in (("active", "active features"), ("all", "all features")):
            meaning = f"gradients pass to {stage} through {what}, selected or not"
            found.append(_fault(meaning, stage, mask=mask, mask_at=stage))
    if definition.activation == "topk":
        for top_k in (K - 1, K + 1):
            if 1 <= top_k <= D:
                meaning = f"{top_k} features are kept, not {K}"
                found.append(_fault(meaning, "hidden", top_k=top_k))
        meaning = "nothing is selected: every active feature is kept"
        found.append(_fault(meaning, "hidden", activation="relu"))
    if D == I:
        found.append(_fault("W_enc is transposed", "pre", W_enc="transposed"))
    if D == O:
        found.append(_fault("W_dec is transposed", "reconstruction", W_dec="transposed"))
        meaning = "W_dec is transposed in d_hidden"
        found.append(_fault(meaning, "d_hidden", W_dec="transposed backwards"))
    if I == O:
        meaning = "the reconstruction is compared with x, not with the target"
        found.append(_fault(meaning, "loss", target="x"))
    if skip:
        found.append(_fault("the skip connection is missing", "reconstruction", W_skip="none"))
        found.append(_fault("dx lacks the skip connection", "dx", dx_paths="encoder"))
        found.append(_fault("dx lacks the encoder", "dx", dx_paths="skip"))
        if I == O:
            found.append(_fault("W_skip is transposed", "reconstruction", W_skip="transposed"))
    for stage in _GRADIENTS:
        if stage == "dW_skip" and not skip:
            continue
        for factor, what in _factors(B, O):
            if (stage, factor) != ("d_reconstruction", 0.5):
                found.append(_fault(f"{stage} {what}", stage, factors=((stage, factor),)))
    square = {"dW_dec": D == O, "dW_enc": D == I, "dW_skip": skip and O == I}
    for stage, is_square in square.items():
        if is_square:
            found.append(_fault(f"{stage} is transposed", stage, flipped=(stage,)))
    return found


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


def _fault(meaning: str, stage: str, **changes) -> Hypothesis:
    return Hypothesis(meaning, meaning, stage, changes)


def name_fault(
    problem: Problem, candidate: Candidate, results: Mapping[str, StageResult]
) -> dict[str, StageResult]:
    """``results``, with the mistake that accounts for the first fault in its explanation."""
    results = dict(results)
    first = first_fault(results)
    if first is None or "not finite" in results[first].explanation:
        return results
    found = search(problem, candidate, results, known(problem), pairs=False)
    if found is None:
        return results
    what = f"as if {found.name}" if len(found.alternatives) > 1 else found.name
    before = results[first].explanation
    explanation = f"{what} ({before})" if before else what
    results[first] = dataclasses.replace(results[first], explanation=explanation)
    return results
