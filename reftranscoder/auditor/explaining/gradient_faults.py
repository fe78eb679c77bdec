"""Mistakes of the backward pass that have a name: a table."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from ...conventions import L1, MSE
from ..task.problem import Problem
from ..task.stage_graph import ALL_STAGES, OF_OWN, gradients_of
from .conditions import decodes_square, encodes_square, has_gates, skips, skips_square
from .hypotheses import Row, mistake

#: The loss that gradients are of where it is another one that is reported.
_DEFAULT_LOSS = {"mse": "mean", "half": False, "l1": "mean", "l1_weighted": False}


def _has_another_loss(problem: Problem) -> bool:
    definition = problem.definition
    return any(getattr(definition, field) != value for field, value in _DEFAULT_LOSS.items())


def _has_other_mse(mse: str, problem: Problem) -> bool:
    return problem.definition.mse != mse


def _has_other_l1(l1: str, problem: Problem) -> bool:
    return problem.definition.l1 != l1 and problem.l1_coeff != 0


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
    if stage == "dW_skip" and not skips(problem):
        return False
    if stage in OF_OWN and stage not in gradients_of(problem.definition.activation):
        return False
    # That one has a name of its own.
    return (stage, factor(problem)) != ("d_reconstruction", 0.5)


def _rows_of_factors() -> Iterator[Row]:
    """Every gradient, off by every factor."""
    for stage in ALL_STAGES[ALL_STAGES.index("d_reconstruction") :]:
        for factor, what in _FACTORS:
            meaning = f"{stage} {what}"
            changes = functools.partial(_off_by, stage, factor)
            yield Row(
                meaning, meaning, stage, changes, functools.partial(_may_be_off_by, stage, factor)
            )


# By the places that the candidate selected; without these, by those that the reference would.
_INACTIVE = "gradients pass through selected features that are inactive (ReLU'(0) is 0)"

#: In the order in which they are tried.
GRADIENT_FAULTS = (
    mistake(
        "the factor 2 of the squared error's gradient is lost",
        "d_reconstruction",
        factors=(("d_reconstruction", 0.5),),
    ),
    mistake("the L1 loss has no gradient", "d_hidden", l1_gradient=0.0),
    mistake("d_pre lacks exp(r_mag)", "d_pre", has_gates, strengthened=False),
    mistake("dr_mag sums over hidden, not hidden - b_mag", "dr_mag", has_gates, dr_mag="hidden"),
    mistake("the L1 loss's gradient has the wrong sign", "d_hidden", l1_gradient=-1.0),
    mistake("gradients pass through active features not selected", "d_pre", mask="active"),
    mistake(_INACTIVE, "d_pre", inactive=True),
    mistake(_INACTIVE, "d_pre", mask="largest"),
    mistake("gradients pass through all features", "d_pre", mask="all"),
    mistake("dW_dec sums over pre_acts, not hidden", "dW_dec", dW_dec="pre_acts"),
    # Other factors of the same error have names of their own.
    *(
        mistake(
            f"the gradients are those of another loss, {MSE[mse]}",
            "d_reconstruction",
            functools.partial(_has_other_mse, mse),
            mse=mse,
        )
        for mse in ("over_norm", "over_square", "fvu")
    ),
    mistake(
        "the gradients are not those of that loss but of the default, "
        f"{MSE['mean']} plus l1_coeff times {L1['mean']}",
        "d_reconstruction",
        _has_another_loss,
        **_DEFAULT_LOSS,
    ),
    *(
        mistake(
            f"the gradients are those of another penalty, {L1[l1]}",
            "d_hidden",
            functools.partial(_has_other_l1, l1),
            l1=l1,
        )
        for l1 in L1
    ),
    *(
        mistake(
            f"gradients pass to {stage} through {what}, selected or not",
            stage,
            mask=mask,
            mask_at=stage,
        )
        for stage in ("dW_enc", "db_enc", "dx")
        for mask, what in (("active", "active features"), ("all", "all features"))
    ),
    mistake(
        "W_dec is transposed in d_hidden", "d_hidden", decodes_square, W_dec="transposed backwards"
    ),
    mistake("dx lacks the skip connection", "dx", skips, dx_paths="encoder"),
    mistake("dx lacks the encoder", "dx", skips, dx_paths="skip"),
    *(
        mistake(
            f"the error of which these are the gradients {what}",
            "d_reconstruction",
            skips,
            error_skipped=times,
        )
        for times, what in (
            (0.0, "lacks the skip connection"),
            (2.0, "has the skip connection twice"),
        )
    ),
    *_rows_of_factors(),
    mistake("dW_dec is transposed", "dW_dec", decodes_square, flipped=("dW_dec",)),
    mistake("dW_enc is transposed", "dW_enc", encodes_square, flipped=("dW_enc",)),
    mistake("dW_skip is transposed", "dW_skip", skips_square, flipped=("dW_skip",)),
    *(
        mistake(
            f"of the rows in which a feature is active, {stage} counts the {which} alone",
            stage,
            scattered=((stage, which),),
        )
        for stage in ("dW_dec", "dW_enc", "db_enc")
        for which in ("last", "first")
    ),
)
