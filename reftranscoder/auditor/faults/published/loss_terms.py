"""Published faults of the loss: its terms, how they are put together, and its arithmetic."""

from __future__ import annotations

from functools import partial

import numpy as np

from ..fault import fault
from ..stages import LOSS, Small, Stages, rounded, small_case, stages

_LOSS = "loss = mean((target - reconstruction)**2) + l1_coeff * mean(abs(hidden))"


def _terms(case: Small) -> tuple[np.ndarray, np.ndarray]:
    """The squared errors (B, O), and the activations (B, D)."""
    right = stages(case)
    return (right["reconstruction"] - case.target) ** 2, right["hidden"]


@fault(
    "loss",
    "saprmarks/dictionary_learning@a3b71f7",
    fixed="2024-07-10",
    equation=_LOSS,
    says="Fault at loss",
)
def coefficient_added_to_its_term(case: Small) -> Stages:
    """``l2_loss + alpha + auxk_loss``, where a product was meant: the coefficient shifted the loss
    and weighted nothing."""
    squares, hidden = _terms(case)
    return stages(case, *LOSS, loss=squares.mean() + case.l1_coeff + np.abs(hidden).mean())


@fault(
    "loss",
    "saprmarks/dictionary_learning#34",
    fixed="2025-01",
    equation=_LOSS,
    says="l1_coeff multiplies the L1 loss twice",
)
def coefficient_applied_twice(case: Small) -> Stages:
    """The auxiliary loss came back multiplied by its coefficient, and was multiplied by it again
    where the terms were added."""
    squares, hidden = _terms(case)
    penalty = case.l1_coeff * np.abs(hidden).mean()
    return stages(case, *LOSS, loss=squares.mean() + case.l1_coeff * penalty)


@fault(
    "loss",
    "saprmarks/dictionary_learning@63b2174",
    "saprmarks/dictionary_learning@865bbb5",
    equation=_LOSS,
    says="Fault at loss",
    case=partial(small_case, l1_coeff=0.0),
)
def root_of_the_mean(case: Small) -> Stages:
    """The root of the mean squared error was minimised, which weighs the gradient of the whole
    batch by one over its error; it was taken out, and put back."""
    squares, _ = _terms(case)
    return stages(case, *LOSS, loss=np.sqrt(squares.mean()))


@fault(
    "loss",
    "saprmarks/dictionary_learning#31",
    "saprmarks/dictionary_learning@8b95ec9",
    fixed="2024-12-26",
    equation=_LOSS,
    says="Fault at loss",
    case=partial(small_case, l1_coeff=0.0),
)
def mean_of_the_norms(case: Small) -> Stages:
    """The norm of each row's error was averaged in place of its square."""
    squares, _ = _terms(case)
    return stages(case, *LOSS, loss=np.sqrt(squares.sum(axis=1)).mean())


@fault(
    "loss",
    "decoderesearch/SAELens#119",
    fixed="sae-lens 1.4.0",
    equation=_LOSS,
    says="Fault at loss",
)
def norm_along_the_wrong_axis(case: Small) -> Stages:
    """The norm that is the penalty was taken along dimension 1, which is that of the features only
    where the codes have two: of sequences, it ran over the positions."""
    squares, hidden = _terms(case)
    sequences = hidden.reshape(-1, 4, hidden.shape[1])  # of 4 positions
    sparsity = np.linalg.norm(sequences, ord=1, axis=1).mean()
    return stages(case, *LOSS, loss=squares.mean() + case.l1_coeff * sparsity)


@fault(
    "loss",
    "decoderesearch/SAELens#711",
    fixed="sae-lens 6.45.2",
    equation=_LOSS,
    says="Fault at loss",
    case=partial(small_case, l1_coeff=0.0),
)
def divided_by_the_rows_twice(case: Small) -> Stages:
    """Each row's squared error was divided by the number of rows, and then averaged over them: a
    larger batch looked better."""
    squares, _ = _terms(case)
    by_row = squares.sum(axis=1) / len(squares)
    return stages(case, *LOSS, loss=by_row.mean())


@fault(
    "loss",
    "decoderesearch/SAELens#518",
    "decoderesearch/SAELens#521",
    fixed="sae-lens 6.6.1",
    equation=_LOSS,
    says="Fault at loss",
)
def scaled_target_against_unscaled_output(case: Small) -> Stages:
    """The reconstruction was scaled back to the size of the activations, and compared with
    activations that were still scaled."""
    right, scale = stages(case), np.sqrt(8) / np.linalg.norm(case.target, axis=1).mean()
    e = right["reconstruction"] - scale * case.target
    loss = np.mean(e**2) + case.l1_coeff * np.abs(right["hidden"]).mean()
    return stages(case, *LOSS, loss=loss)


@fault(
    "loss",
    "jacobdunefsky/transcoder_circuits:sae_training/sparse_autoencoder.py",
    "jacobdunefsky/transcoder_circuits:sae_training/train_sae_on_language_model.py",
    equation=_LOSS,
    says="compared with x",
)
def compared_with_the_input(case: Small) -> Stages:
    """The residual for ghost gradients and the explained variance compare the output with x, as for
    autoencoders; a transcoder's target is another layer."""
    right = stages(case)
    mse = np.mean((right["reconstruction"] - case.x) ** 2)
    loss = mse + case.l1_coeff * np.abs(right["hidden"]).mean()
    return stages(case, *LOSS, loss=loss)


@fault(
    "loss",
    "pytorch/pytorch#16045",
    "pytorch/pytorch#18349",
    fixed="by a warning, 2019",
    equation=_LOSS,
    says="Fault at loss",
    case=partial(small_case, O=1),
)
def target_broadcast(case: Small) -> Stages:
    """mse_loss of a prediction (B, 1) and a target (B,) broadcasts both to (B, B), and averages the
    error of every row against every other's target."""
    right = stages(case)
    e = right["reconstruction"] - case.target[:, 0]  # (B, 1) - (B,)
    loss = np.mean(e**2) + case.l1_coeff * np.abs(right["hidden"]).mean()
    return stages(case, *LOSS, loss=loss)


@fault(
    "loss",
    "blasphemetheus/edifice:INTERP_AUDIT_2026-07-15.md",
    equation=_LOSS,
    says="Fault at loss",
)
def penalty_weighted_by_index(case: Small) -> Stages:
    """A Matryoshka autoencoder's loss had no reconstruction from prefixes, which defines it, but an
    L1 penalty with weights from 0.5 to 2 in the order of the features."""
    squares, hidden = _terms(case)
    weights = np.linspace(0.5, 2.0, hidden.shape[1])
    return stages(case, *LOSS, loss=squares.mean() + case.l1_coeff * np.mean(hidden * weights))


@fault(
    "loss",
    "blasphemetheus/edifice@cc5d6c6",
    fixed="2026-07-15",
    equation=_LOSS,
    says="Fault at loss",
)
def loss_in_half_precision(case: Small) -> Stages:
    """The loss was computed in the precision of the network: squares and means of numbers that had
    been rounded to eleven bits."""
    right = stages(case)
    e = (right["reconstruction"] - case.target).astype(np.float16)
    l1 = np.abs(right["hidden"]).astype(np.float16).mean()
    return stages(case, *LOSS, loss=np.mean(e**2) + np.float16(case.l1_coeff) * l1)


@fault(
    "loss",
    "pytorch/executorch#20089",
    "pytorch/executorch#20090",
    fixed="2026-06",
    equation=_LOSS,
    says="Fault at loss",
    case=partial(small_case, B=32, O=24, l1_coeff=0.0),
)
def sum_that_stops_growing(case: Small) -> Stages:
    """A sum in bfloat16 stands still once it is 256 times as large as what is added: the mean of
    many squares came out too small."""
    squares, _ = _terms(case)
    total = np.zeros((), np.float32)
    for square in squares.ravel():
        total = rounded(total + square, 8)
    return stages(case, *LOSS, loss=total / squares.size)


FAULTS = (
    coefficient_added_to_its_term,
    coefficient_applied_twice,
    root_of_the_mean,
    mean_of_the_norms,
    norm_along_the_wrong_axis,
    divided_by_the_rows_twice,
    scaled_target_against_unscaled_output,
    compared_with_the_input,
    target_broadcast,
    penalty_weighted_by_index,
    loss_in_half_precision,
    sum_that_stops_growing,
)
