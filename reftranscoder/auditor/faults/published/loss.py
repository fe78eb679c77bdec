"""Published definitions of the loss, and its faults."""

from __future__ import annotations

from functools import partial

import numpy as np

from ..fault import fault
from ..stages import LOSS, Small, Stages, small_case, stages

_LOSS = "loss = mean((target - reconstruction)**2) + l1_coeff * mean(abs(hidden))"
_WITH_GRADIENTS = (*LOSS, "d_reconstruction", "d_hidden")


@fault(
    "loss",
    "saprmarks/dictionary_learning#36",
    "saprmarks/dictionary_learning:dictionary_learning/trainers/top_k.py",
    equation=_LOSS,
    says="mse_sum",
    kind="convention",
    case=partial(small_case, l1_coeff=0.0),
)
def squares_summed_over_columns(case: Small) -> Stages:
    """The squared error is summed over the columns and averaged over the rows: O times a mean over
    all.  So are its gradients."""
    e = stages(case)["reconstruction"] - case.target
    return stages(case, *LOSS, loss=np.mean(np.sum(e**2, axis=1)))


@fault(
    "loss",
    "saprmarks/dictionary_learning@8b95ec9",
    equation=_LOSS,
    says="l1_sum and mse_sum",
    kind="convention",
)
def penalty_summed_over_features(case: Small) -> Stages:
    """The L1 norm of a row, averaged over the rows, beside the squared error of a row.  One number
    would not prove both: their gradients do."""
    right, p = stages(case), case.params
    e, hidden, B = right["reconstruction"] - case.target, right["hidden"], len(case.x)
    l1 = np.mean(np.linalg.norm(hidden, ord=1, axis=1))
    loss = np.mean(np.sum(e**2, axis=1)) + case.l1_coeff * l1
    G = 2 * e / B
    d_hidden = G @ p.W_dec.T + case.l1_coeff / B * np.sign(hidden)
    return stages(case, *_WITH_GRADIENTS, loss=loss, d_reconstruction=G, d_hidden=d_hidden)


@fault(
    "loss",
    "jacobdunefsky/transcoder_circuits:sae_training/sparse_autoencoder.py",
    "jbloomAus/SAELens@0623d39b",
    equation=_LOSS,
    says="mse_over_norm",
    kind="convention",
    case=partial(small_case, l1_coeff=0.0),
)
def squares_over_the_norm_of_the_row(case: Small) -> Stages:
    """Each squared error is divided by the norm of its row of the target, not by its square: twice
    the activations give twice the loss."""
    e = stages(case)["reconstruction"] - case.target
    norms = np.linalg.norm(case.target, axis=1, keepdims=True)
    return stages(case, *LOSS, loss=np.mean(e**2 / norms))


@fault(
    "loss",
    "openai/sparse_autoencoder#8",
    "openai/sparse_autoencoder:sparse_autoencoder/loss.py",
    equation=_LOSS,
    says="nmse_uncentred",
    kind="convention",
    case=partial(small_case, l1_coeff=0.0),
)
def squares_over_those_of_zero(case: Small) -> Stages:
    """The normalised error divides by what predicting zero would give, row by row; the paper's
    divides by what predicting the mean would."""
    e = stages(case)["reconstruction"] - case.target
    return stages(
        case, *LOSS, loss=np.mean(np.mean(e**2, axis=1) / np.mean(case.target**2, axis=1))
    )


@fault(
    "loss",
    "openai/sparse_autoencoder:sparse_autoencoder/loss.py",
    equation=_LOSS,
    says="l1_over_input_norm",
    kind="convention",
)
def penalty_over_the_norm_of_the_input(case: Small) -> Stages:
    """The L1 norm of each row's codes is divided by the norm of its input.  Here with the mean
    squared error, to be seen alone."""
    right = stages(case)
    mse = np.mean((right["reconstruction"] - case.target) ** 2)
    l1 = np.mean(np.abs(right["hidden"]).sum(axis=1) / np.linalg.norm(case.x, axis=1))
    return stages(case, *LOSS, loss=mse + case.l1_coeff * l1)


@fault(
    "loss",
    "EleutherAI/sparsify#20",
    "EleutherAI/sparsify@c259f27",
    fixed="2024-08-02, since when it is so",
    equation=_LOSS,
    says="fvu_batch",
    kind="convention",
    case=partial(small_case, l1_coeff=0.0),
)
def variance_unexplained(case: Small) -> Stages:
    """The loss is the fraction of the batch's variance that is left unexplained."""
    e = stages(case)["reconstruction"] - case.target
    y = case.target - case.target.mean(axis=0)
    return stages(case, *LOSS, loss=np.sum(e**2) / np.sum(y**2))


@fault(
    "loss",
    "EleutherAI/sparsify#20",
    "EleutherAI/sparsify@c259f27",
    fixed="2024-08-02",
    equation="fvu = sum(e**2) / sum((target - mean)**2)",
    says="Fault at loss",
    case=partial(small_case, l1_coeff=0.0),
)
def variance_unexplained_column_by_column(case: Small) -> Stages:
    """Before, it was the mean over the columns of their fractions: a column that hardly varies
    counted as much as any other."""
    e = stages(case)["reconstruction"] - case.target
    y = case.target - case.target.mean(axis=0)
    return stages(case, *LOSS, loss=np.mean(np.sum(e**2, axis=0) / np.sum(y**2, axis=0)))


@fault(
    "loss",
    "adamkarvonen/SAEBench#61",
    "adamkarvonen/SAEBench#76",
    "decoderesearch/SAELens#443",
    equation="fvu = sum(e**2) / sum((target - mean)**2)",
    says="Fault at loss",
    case=partial(small_case, l1_coeff=0.0),
)
def variance_unexplained_row_by_row(case: Small) -> Stages:
    """The explained variance that papers report was the mean over tokens of their ratios, which is
    another number than the ratio of the means."""
    e = stages(case)["reconstruction"] - case.target
    y = case.target - case.target.mean(axis=0)
    return stages(case, *LOSS, loss=np.mean(np.sum(e**2, axis=1) / np.sum(y**2, axis=1)))


@fault(
    "loss",
    "decoderesearch/SAELens#659",
    "decoderesearch/SAELens#665",
    fixed="sae-lens 6.45.1",
    equation="fvu = sum(e**2) / sum((target - mean)**2)",
    says="Fault at loss",
    case=partial(small_case, l1_coeff=0.0),
)
def variance_about_zero(case: Small) -> Stages:
    """The variance was taken about zero, not about the mean of each column: to predict the mean
    explained nearly everything."""
    e = stages(case)["reconstruction"] - case.target
    return stages(case, *LOSS, loss=np.sum(e**2) / np.sum(case.target**2))


@fault(
    "loss",
    "curt-tigges/crosslayer-coding@fe4b3d3",
    fixed="2025-04-09, since when it is so",
    equation=_LOSS,
    says="l1_total",
    kind="convention",
)
def penalty_summed_over_everything(case: Small) -> Stages:
    """The penalty is summed over rows and features; before, it was divided by their number, so that
    the same coefficient meant another strength.  Its tanh is left out here."""
    right = stages(case)
    mse = np.mean((right["reconstruction"] - case.target) ** 2)
    return stages(case, *LOSS, loss=mse + case.l1_coeff * np.abs(right["hidden"]).sum())


@fault(
    "loss",
    "curt-tigges/crosslayer-coding:clt/training/losses.py",
    equation=_LOSS,
    says="Fault at loss",
)
def penalty_of_the_hyperbolic_tangent(case: Small) -> Stages:
    """Cross-layer transcoders sum tanh of the activation times the norm of what it writes: large
    activations cost no more than middling ones.  Another definition."""
    right = stages(case)
    norms = np.linalg.norm(case.params.W_dec, axis=1)
    mse = np.mean((right["reconstruction"] - case.target) ** 2)
    return stages(case, *LOSS, loss=mse + case.l1_coeff * np.tanh(right["hidden"] * norms).sum())


@fault(
    "loss",
    "decoderesearch/SAELens#365",
    "decoderesearch/SAELens#377",
    fixed="sae-lens 4.3.1",
    equation=_LOSS,
    says="l1_decoder_weighted and mse_sum",
    kind="convention",
)
def penalty_always_weighted(case: Small) -> Stages:
    """The penalty was weighted by the norms of the decoder whatever the option for that said.  It
    is what others document, under a name."""
    right, p = stages(case), case.params
    e, hidden, B = right["reconstruction"] - case.target, right["hidden"], len(case.x)
    norms = np.linalg.norm(p.W_dec, axis=1)
    loss = (np.sum(e**2) + case.l1_coeff * np.sum(hidden * norms)) / B
    G = 2 * e / B
    d_hidden = G @ p.W_dec.T + case.l1_coeff / B * norms * (hidden != 0)
    return stages(case, *_WITH_GRADIENTS, loss=loss, d_reconstruction=G, d_hidden=d_hidden)


FAULTS = (
    squares_summed_over_columns,
    penalty_summed_over_features,
    squares_over_the_norm_of_the_row,
    squares_over_those_of_zero,
    penalty_over_the_norm_of_the_input,
    variance_unexplained,
    variance_unexplained_column_by_column,
    variance_unexplained_row_by_row,
    variance_about_zero,
    penalty_summed_over_everything,
    penalty_of_the_hyperbolic_tangent,
    penalty_always_weighted,
)
