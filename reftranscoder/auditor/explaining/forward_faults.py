"""Mistakes of the forward pass and of the loss that have a name: a table."""

from __future__ import annotations

from ..task.problem import Problem
from .conditions import (
    decodes_square,
    encodes_square,
    has_gates,
    has_thresholds,
    reads_what_it_writes,
    scales_features,
    selects,
    skip_subtracts_b_dec,
    skips,
    skips_square,
    subtracts_b_dec,
)
from .evidence import COARSE
from .hypotheses import Row, mistake


def _penalty_shows_its_coefficient(problem: Problem) -> bool:
    return problem.l1_coeff not in (0.0, 1.0)


#: In the order in which they are tried.
FORWARD_FAULTS = (
    mistake("b_enc is not added", "pre", b_enc=0.0),
    mistake("b_enc is subtracted", "pre", b_enc=-1.0),
    mistake("b_dec is not subtracted from x", "pre", subtracts_b_dec, input="x"),
    mistake("features are not scaled by |W_dec[j]|", "pre", scales_features, norms="none"),
    mistake("pre is not rectified", "pre_acts", rectified=False),
    mistake("b_mag is not added", "pre_acts", has_gates, b_mag=0.0),
    mistake("exp(r_mag) is left out", "pre_acts", has_gates, strengths="none"),
    mistake("r_mag multiplies pre, not exp(r_mag)", "pre_acts", has_gates, strengths="r_mag"),
    mistake("b_dec is not added", "reconstruction", b_dec=0.0),
    mistake("b_dec is subtracted", "reconstruction", b_dec=-1.0),
    mistake("the L1 loss is left out", "loss", l1_loss=0.0),
    Row(
        "{fewer} features are kept, not {K}",
        "{fewer} features are kept, not {K}",
        "hidden",
        lambda problem: {"top_k": problem.definition.top_k - 1},
        lambda problem: selects(problem) and problem.definition.top_k > 1,
    ),
    Row(
        "{more} features are kept, not {K}",
        "{more} features are kept, not {K}",
        "hidden",
        lambda problem: {"top_k": problem.definition.top_k + 1},
        lambda problem: selects(problem) and problem.definition.top_k < problem.sizes.D,
    ),
    mistake(
        "nothing is selected: every active feature is kept", "hidden", selects, activation="relu"
    ),
    mistake(
        "the gates are left out: every positive magnitude is kept",
        "hidden",
        has_gates,
        gates="none",
    ),
    mistake("features at gates of 0 are active (>= for >)", "hidden", has_gates, gates="reaching"),
    mistake("the thresholds are left out", "hidden", has_thresholds, thresholds="none"),
    mistake(
        "features at their thresholds are active (>= for >)",
        "hidden",
        has_thresholds,
        reaching=True,
    ),
    *(
        mistake(f"the thresholds are rounded to {name}", "hidden", has_thresholds, thresholds=name)
        for name in COARSE
    ),
    mistake("W_enc is transposed", "pre", encodes_square, W_enc="transposed"),
    mistake("W_dec is transposed", "reconstruction", decodes_square, W_dec="transposed"),
    mistake(
        "the reconstruction is compared with x, not with the target",
        "loss",
        reads_what_it_writes,
        target="x",
    ),
    mistake("the skip connection is missing", "reconstruction", skips, W_skip="none"),
    mistake(
        "the skip connection reads x, not x - b_dec",
        "reconstruction",
        skip_subtracts_b_dec,
        skip_input="x",
    ),
    mistake("W_skip is transposed", "reconstruction", skips_square, W_skip="transposed"),
    mistake("the loss's error lacks the skip connection", "loss", skips, error_skipped=0.0),
    mistake("the loss's error has the skip connection twice", "loss", skips, error_skipped=2.0),
    Row(
        "l1_coeff multiplies the L1 loss twice",
        "l1_coeff multiplies the L1 loss twice",
        "loss",
        lambda problem: {"l1_loss": problem.l1_coeff},
        _penalty_shows_its_coefficient,
    ),
)
