"""Definitions that libraries document: under one of these a candidate is right, by another name.

A convention never makes a candidate pass unless whoever asks has declared it.  The names of losses
are those of the sources, `conventions.SOURCES`; those of the rest are:

- ``x - b_dec``: Bricken et al. (2023), "Towards Monosemanticity"; SAELens, where
  ``apply_b_dec_to_input`` is set; sparsify without ``transcode``.  The skip connection reads x
  itself there; elsewhere, what the encoder reads.  As b_dec is then in the encoder too, db_dec also
  has ``- sum_b d_pre[b] @ W_enc``.
- ``keep_all``: Edifice ``top_k_sparsify``.
- ``rescale_acts_by_decoder_norm``: SAELens, TopK.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ...conventions import CONVENTIONS
from ...errors import OptionError
from ..task.problem import Problem
from .conditions import (
    breaks_ties,
    keeps_ties,
    reads_what_it_writes,
    selects,
    skips_square,
)
from .hypotheses import Hypothesis, Row, possible

#: The names of all conventions.
NAMES = tuple(CONVENTIONS)


def checked_names(names: str | Iterable[str]) -> tuple[str, ...]:
    """``names``, or the one name, if they are those of conventions.

    Raises:
        OptionError: another name.
    """
    try:
        names = (names,) if isinstance(names, str) else tuple(names)
    except Exception:
        raise OptionError("conventions", "a name, or a list of names", names) from None
    for name in names:
        if not isinstance(name, str) or name not in NAMES:
            raise OptionError("conventions", f"among {', '.join(NAMES)}", name)
    return names


def documented(problem: Problem, declared: Sequence[str] = ()) -> list[Hypothesis]:
    """The conventions that make sense for a transcoder with these options and sizes.

    One that divides by zero here makes sense only if it was ``declared``.
    """
    found = possible(_TABLE, problem)
    return [h for h in found if h.name in declared or not h.applied(problem).undefined]


def _row(name: str, stage: str, *condition: Callable[[Problem], bool], **changes: object) -> Row:
    return Row(name, CONVENTIONS[name], stage, changes, *condition)


#: In the order in which they are tried.  One name may stand for several definitions: gradients may
#: flow through |W_dec[j]|, or be detached from it.
_TABLE = (
    _row("x - b_dec", "pre", reads_what_it_writes, input="x - b_dec"),
    _row("skip of x - b_dec", "reconstruction", skips_square, skip_input="x - b_dec"),
    _row("keep_all", "hidden", breaks_ties, ties="keep_all"),
    _row("lowest_index", "hidden", keeps_ties, ties="lowest_index"),
    _row("rank_by_decoder_norm", "hidden", selects, norms="ranks"),
    _row("rescale_acts_by_decoder_norm", "pre", norms="pre"),
    _row("rescale_acts_by_decoder_norm", "pre", norms="pre", detached=True),
    _row("rescale_acts_by_decoder_norm", "hidden", norms="hidden"),
    _row("rescale_acts_by_decoder_norm", "hidden", norms="hidden", detached=True),
    _row("mse_sum", "loss", mse="row_sum"),
    _row("mse_total", "loss", mse="sum"),
    _row("mse_over_norm", "loss", mse="over_norm"),
    _row("nmse_uncentred", "loss", mse="over_square"),
    _row("fvu_batch", "loss", mse="fvu"),
    _row("l1_sum", "loss", l1="row_sum"),
    _row("l1_total", "loss", l1="sum"),
    _row("l1_over_k", "loss", l1="kept"),
    _row("l1_over_input_norm", "loss", l1="over_input_norm"),
    _row("half", "loss", half=True),
    _row("l1_decoder_weighted", "loss", l1_weighted=True, l1="row_sum"),
    _row("l1_decoder_weighted", "loss", l1_weighted=True, detached=True, l1="row_sum"),
    _row("l1_weighted_mean", "loss", l1_weighted=True),
    _row("l1_weighted_mean", "loss", l1_weighted=True, detached=True),
    _row("tangent_dW_dec", "dW_dec", tangent=True),
)
