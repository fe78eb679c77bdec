"""Definitions that libraries document: under one of these a candidate is right, by another name.

A convention never makes a candidate pass unless whoever asks has declared it.  The loss names are
those of the sources:

- ``x - b_dec``: Bricken et al. (2023), "Towards Monosemanticity"; SAELens, where
  ``apply_b_dec_to_input`` is set; sparsify without ``transcode``.  The skip connection reads x
  itself there; elsewhere, what the encoder reads.  As b_dec is then in the encoder too, db_dec also
  has ``- sum_b d_pre[b] @ W_enc``.
- ``keep_all``: Edifice ``top_k_sparsify``.
- ``rescale_acts_by_decoder_norm``: SAELens, TopK.
- ``mse_sum``, ``l1_sum``: dictionary_learning, Dunefsky et al.; ``l1_decoder_weighted``: SAELens,
  after Conerly et al. (2024); ``mse_over_norm``: Dunefsky et al.; ``nmse_uncentred`` and
  ``l1_over_input_norm``: Gao et al. (2024); ``fvu_batch``: sparsify.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...errors import OptionError
from ..task.definition import L1, MSE
from ..task.problem import Problem
from .hypotheses import Hypothesis

_LOSSES = {
    "mse_sum": ("loss", {"mse": "row_sum"}),
    "mse_total": ("loss", {"mse": "sum"}),
    "mse_over_norm": ("loss", {"mse": "over_norm"}),
    "nmse_uncentred": ("loss", {"mse": "over_square"}),
    "fvu_batch": ("loss", {"mse": "fvu"}),
    "l1_sum": ("loss", {"l1": "row_sum"}),
    "l1_total": ("loss", {"l1": "sum"}),
    "l1_over_k": ("loss", {"l1": "kept"}),
    "l1_over_input_norm": ("loss", {"l1": "over_input_norm"}),
}

#: The names of all conventions.
NAMES = (
    "x - b_dec",
    "skip of x - b_dec",
    "keep_all",
    "lowest_index",
    "rank_by_decoder_norm",
    "rescale_acts_by_decoder_norm",
    *_LOSSES,
    "half",
    "l1_decoder_weighted",
    "l1_weighted_mean",
)


def checked_names(names: str | Iterable[str]) -> tuple[str, ...]:
    """``names``, or the one name, if they are those of conventions.

    Raises:
        OptionError: another name.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name not in NAMES:
            raise OptionError("conventions", f"among {', '.join(NAMES)}", name)
    return names


def documented(problem: Problem, declared: Sequence[str] = ()) -> list[Hypothesis]:
    """The conventions that make sense for a transcoder with these options and sizes.

    One that divides by zero here makes sense only if it was ``declared``.
    """
    definition, params = problem.definition, problem.params
    O, I = len(params.b_dec), params.W_enc.shape[1]
    found = []
    if I == O:
        found.append(
            Hypothesis("x - b_dec", "the encoder reads x - b_dec", "pre", {"input": "x - b_dec"})
        )
        if params.W_skip is not None:
            meaning = "the skip connection reads x - b_dec"
            found.append(
                Hypothesis(
                    "skip of x - b_dec", meaning, "reconstruction", {"skip_input": "x - b_dec"}
                )
            )
    if definition.activation == "topk":
        found.append(_ties(definition.ties))
        meaning = "features are ranked by their activation times |W_dec[j]|"
        found.append(Hypothesis("rank_by_decoder_norm", meaning, "hidden", {"norms": "ranks"}))
    meaning = "activations are multiplied by |W_dec[j]|, and divided by it before decoding"
    for stage, norms in (("pre", "pre"), ("hidden", "hidden")):
        for detached in (False, True):
            changes = {"norms": norms} | ({"detached": True} if detached else {})
            found.append(Hypothesis("rescale_acts_by_decoder_norm", meaning, stage, changes))
    for name, (stage, changes) in _LOSSES.items():
        ((field, value),) = changes.items()
        meaning = f"the loss is {MSE[value]}" if field == "mse" else f"the penalty is {L1[value]}"
        found.append(Hypothesis(name, meaning, stage, changes))
    found.append(Hypothesis("half", "the squared error is halved", "loss", {"half": True}))
    for reduction, name in (("row_sum", "l1_decoder_weighted"), (None, "l1_weighted_mean")):
        for detached in (False, True):
            changes = {"l1_weighted": True} | ({"detached": True} if detached else {})
            changes |= {"l1": reduction} if reduction else {}
            kind = L1[reduction or "mean"]
            meaning = f"the penalty is {kind}, |f| times |W_dec[j]|"
            found.append(Hypothesis(name, meaning, "loss", changes))
    return [h for h in found if h.name in declared or not h.applied(problem).undefined]


def _ties(ties: str) -> Hypothesis:
    if ties == "keep_all":
        meaning = "exactly K are kept where values are equal"
        return Hypothesis("lowest_index", meaning, "hidden", {"ties": "lowest_index"})
    meaning = "everything that equals the K-th largest is kept"
    return Hypothesis("keep_all", meaning, "hidden", {"ties": "keep_all"})
