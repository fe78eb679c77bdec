"""Mistakes that have a name: the verdict stays a fault, and the name says what to look for."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ...conventions import L1, MSE
from ..judging.verdict import StageResult, first_fault
from ..task.candidate import Candidate
from ..task.problem import Problem
from ..task.stage_graph import STAGES
from .hypotheses import Hypothesis, Row, possible
from .search import Search

_SUBNORMALS = 64  # spacings at 0 that count as 0


def known_faults(problem: Problem) -> list[Hypothesis]:
    """The mistakes that a transcoder with these options and sizes can have."""
    return [h for h in possible(_TABLE, problem) if not h.applied(problem).undefined]


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
    hypotheses = [h for h in known_faults(problem) if not _is_excluded(h, results[first])]
    found = Search(problem, candidate, results, hypotheses, progress).best(pairs=False)
    if found is None:
        return results
    what = f"as if {found.name}" if len(found.alternatives) > 1 else found.name
    before = results[first].explanation
    explanation = f"{what} ({before})" if before else what
    extra = results[first].extra | {"made": found.stages}
    results[first] = dataclasses.replace(results[first], explanation=explanation, extra=extra)
    return results


def _is_excluded(hypothesis: Hypothesis, result: StageResult) -> bool:
    """Whether a hypothesis that multiplies this stage, and no more, fails at its worst entry."""
    if set(hypothesis.changes) != {"factors"} or hypothesis.stage != result.stage:
        return False
    if result.got is None or result.want is None or result.bound is None:
        return False
    factor = dict(hypothesis.changes["factors"])[result.stage]
    return bool(abs(result.got - factor * result.want) > 1.001 * abs(factor) * result.bound)


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


def _row(
    meaning: str,
    stage: str,
    possible: Callable[[Problem], bool] = lambda problem: True,
    /,
    **changes: object,
) -> Row:
    return Row(meaning, meaning, stage, changes, possible)


def _selects(problem: Problem) -> bool:
    return problem.definition.activation == "topk"


def _encodes_square(problem: Problem) -> bool:
    return problem.sizes.D == problem.sizes.I


def _decodes_square(problem: Problem) -> bool:
    return problem.sizes.D == problem.sizes.O


def _skips(problem: Problem) -> bool:
    return problem.params.W_skip is not None


def _reads_what_it_writes(problem: Problem) -> bool:
    return problem.sizes.I == problem.sizes.O


def _skips_square(problem: Problem) -> bool:
    return _skips(problem) and _reads_what_it_writes(problem)


#: The loss that gradients are of where it is another one that is reported.
_DEFAULT_LOSS = {"mse": "mean", "half": False, "l1": "mean", "l1_weighted": False}


def _has_another_loss(problem: Problem) -> bool:
    definition = problem.definition
    return any(getattr(definition, field) != value for field, value in _DEFAULT_LOSS.items())


def _has_other_mse(mse: str, problem: Problem) -> bool:
    return problem.definition.mse != mse


_Factor = Callable[[Problem], float]

#: Factors that gradients are off by.
_FACTORS: tuple[tuple[_Factor, str], ...] = (
    (lambda p: -1.0, "has the wrong sign"),
    (lambda p: 0.0, "is zero"),
    (lambda p: 0.5, "is half of what it should be"),
    (lambda p: 2.0, "is twice what it should be"),
    (lambda p: 1 / p.sizes.B, "is averaged over rows, which the loss did already"),
    (lambda p: float(p.sizes.B), "is not divided by B"),
    (lambda p: float(p.sizes.O), "is not divided by O"),
    (lambda p: float(p.sizes.B * p.sizes.O), "is not divided by B O"),
)


def _off_by(stage: str, factor: _Factor, problem: Problem) -> dict[str, object]:
    return {"factors": ((stage, factor(problem)),)}


def _may_be_off_by(stage: str, factor: _Factor, problem: Problem) -> bool:
    if stage == "dW_skip" and not _skips(problem):
        return False
    # That one has a name of its own.
    return (stage, factor(problem)) != ("d_reconstruction", 0.5)


def _rows_of_factors() -> Iterator[Row]:
    """Every gradient, off by every factor."""
    for stage in STAGES[STAGES.index("d_reconstruction") :]:
        for factor, what in _FACTORS:
            meaning = f"{stage} {what}"
            changes = functools.partial(_off_by, stage, factor)
            yield Row(
                meaning, meaning, stage, changes, functools.partial(_may_be_off_by, stage, factor)
            )


# By the places that the candidate selected; without these, by those that the reference would.
_INACTIVE = "gradients pass through selected features that are inactive (ReLU'(0) is 0)"

#: In the order in which they are tried.
_TABLE = (
    _row("b_enc is not added", "pre", b_enc=0.0),
    _row("b_enc is subtracted", "pre", b_enc=-1.0),
    _row("pre is not rectified", "pre_acts", rectified=False),
    _row("b_dec is not added", "reconstruction", b_dec=0.0),
    _row("b_dec is subtracted", "reconstruction", b_dec=-1.0),
    _row("the L1 loss is left out", "loss", l1_loss=0.0),
    _row(
        "the factor 2 of the squared error's gradient is lost",
        "d_reconstruction",
        factors=(("d_reconstruction", 0.5),),
    ),
    _row("the L1 loss has no gradient", "d_hidden", l1_gradient=0.0),
    _row("the L1 loss's gradient has the wrong sign", "d_hidden", l1_gradient=-1.0),
    _row("gradients pass through active features not selected", "d_pre", mask="active"),
    _row(_INACTIVE, "d_pre", inactive=True),
    _row(_INACTIVE, "d_pre", mask="largest"),
    _row("gradients pass through all features", "d_pre", mask="all"),
    _row("dW_dec sums over pre_acts, not hidden", "dW_dec", dW_dec="pre_acts"),
    # Other factors of the same error have names of their own.
    *(
        _row(
            f"the gradients are those of another loss, {MSE[mse]}",
            "d_reconstruction",
            functools.partial(_has_other_mse, mse),
            mse=mse,
        )
        for mse in ("over_norm", "over_square", "fvu")
    ),
    _row(
        "the gradients are not those of that loss but of the default, "
        f"{MSE['mean']} plus l1_coeff times {L1['mean']}",
        "d_reconstruction",
        _has_another_loss,
        **_DEFAULT_LOSS,
    ),
    *(
        _row(
            f"gradients pass to {stage} through {what}, selected or not",
            stage,
            mask=mask,
            mask_at=stage,
        )
        for stage in ("dW_enc", "db_enc", "dx")
        for mask, what in (("active", "active features"), ("all", "all features"))
    ),
    Row(
        "{fewer} features are kept, not {K}",
        "{fewer} features are kept, not {K}",
        "hidden",
        lambda problem: {"top_k": problem.definition.top_k - 1},
        lambda problem: _selects(problem) and problem.definition.top_k > 1,
    ),
    Row(
        "{more} features are kept, not {K}",
        "{more} features are kept, not {K}",
        "hidden",
        lambda problem: {"top_k": problem.definition.top_k + 1},
        lambda problem: _selects(problem) and problem.definition.top_k < problem.sizes.D,
    ),
    _row(
        "nothing is selected: every active feature is kept", "hidden", _selects, activation="relu"
    ),
    _row("W_enc is transposed", "pre", _encodes_square, W_enc="transposed"),
    _row("W_dec is transposed", "reconstruction", _decodes_square, W_dec="transposed"),
    _row(
        "W_dec is transposed in d_hidden", "d_hidden", _decodes_square, W_dec="transposed backwards"
    ),
    _row(
        "the reconstruction is compared with x, not with the target",
        "loss",
        _reads_what_it_writes,
        target="x",
    ),
    _row("the skip connection is missing", "reconstruction", _skips, W_skip="none"),
    _row("dx lacks the skip connection", "dx", _skips, dx_paths="encoder"),
    _row("dx lacks the encoder", "dx", _skips, dx_paths="skip"),
    _row("W_skip is transposed", "reconstruction", _skips_square, W_skip="transposed"),
    *_rows_of_factors(),
    _row("dW_dec is transposed", "dW_dec", _decodes_square, flipped=("dW_dec",)),
    _row("dW_enc is transposed", "dW_enc", _encodes_square, flipped=("dW_enc",)),
    _row("dW_skip is transposed", "dW_skip", _skips_square, flipped=("dW_skip",)),
)
