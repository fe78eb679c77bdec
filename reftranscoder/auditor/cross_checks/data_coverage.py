"""What sort of rows the data of an audit lack, and which terms they could not show.

Both are advice.  Neither changes a verdict: a stage that agrees agrees, on what it was shown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ..judging.judge import Judge
from ..judging.verdict import StageResult
from ..task.candidate import Candidate
from ..task.problem import Problem
from ..task.stage_graph import ALL_STAGES

_EVERY_ROW = 1 << 31  # B I D up to which every row is looked at
_ROWS = 256
_NEAR = 8.0  # u S, within which good libraries may differ

#: By key: what is missing, and what to do about it.
WARNINGS = {
    "no cut": "No row has more than K positive activations, so that nothing is ever cut off: "
    "without any selection the results would be the same. Add rows with more, or lower top_k.",
    "no shortage": "No row has fewer than K positive activations, so that top-k alone keeps only "
    "positive ones: a missing ReLU hardly shows. Add rows with fewer, such as zeros or -x.",
    "no ties": "No row has a tie or a near tie at the K-th place, so that how ties are broken is "
    "not seen. Repeat a row of W_enc and its bias, or audit the cases of `reftranscoder cases`.",
    "all kept": "top_k equals dict_size, so that selection is not tested at all. Add a case with "
    "a smaller top_k.",
    "no ReLU": "No activation is negative, so that a missing ReLU does not show. Add -x.",
    "no activity": "No activation is positive, so that hidden is empty, and little else is tested.",
}


def warnings_for(problem: Problem) -> tuple[str, ...]:
    """The keys in `WARNINGS` that hold for this ``x`` and these parameters."""
    params, definition = problem.params, problem.definition
    x = problem.x
    if x.size * len(params.b_enc) > _EVERY_ROW:
        x = x[np.unique(np.linspace(0, len(x) - 1, _ROWS).astype(int))]
    x = x[np.isfinite(x).all(axis=1)]
    if not len(x):
        return ()
    W_enc, b_enc = (a.astype(np.float64) for a in (params.W_enc, params.b_enc))
    pre = x @ W_enc.T + b_enc
    positive = (pre > 0).sum(axis=1)
    D, K = pre.shape[1], definition.top_k
    if not positive.any():
        return ("no activity",)
    if definition.activation != "topk":
        return () if (positive < D).any() else ("no ReLU",)
    if K == D:
        return ("all kept", *(() if (positive < D).any() else ("no ReLU",)))
    cut = positive > K
    found = []
    if not cut.any():
        found.append("no cut")
    if not (positive < K).any():
        found.append("no shortage")
    if cut.any() and not _ties(pre[cut], x[cut], W_enc, b_enc, K, problem):
        found.append("no ties")
    return tuple(found)


def _ties(
    pre: np.ndarray,
    x: np.ndarray,
    W_enc: np.ndarray,
    b_enc: np.ndarray,
    K: int,
    problem: Problem,
) -> bool:
    """Whether some row has its K-th and its next activation too near for a float to tell apart."""
    arithmetic = problem.arithmetic["pre"]
    order = np.argpartition(-pre, (K - 1, K), axis=1)[:, K - 1 : K + 1]
    gap = np.abs(np.diff(np.take_along_axis(pre, order, axis=1), axis=1)[:, 0])
    S = np.einsum("bi,bi->b", np.abs(x), np.abs(W_enc[order[:, 0]])) + np.abs(b_enc[order[:, 0]])
    unit = max(arithmetic.unit, arithmetic.store.unit, arithmetic.inputs.unit)
    return bool(np.any(gap <= _NEAR * unit * S))


class Term(NamedTuple):
    """A part of the definition, and the definition without it."""

    what: str
    stages: tuple[str, ...]  # where it would show, the first of them directly
    without: dict[str, Any]  # changes to the fields of `Definition`


TERMS = {
    "b_enc": Term("b_enc", ("pre",), {"b_enc": 0.0}),
    "b_dec": Term("b_dec", ("reconstruction",), {"b_dec": 0.0}),
    "W_skip": Term("the skip connection", ("reconstruction",), {"W_skip": "none"}),
    "l1": Term("the L1 loss", ("loss",), {"l1_loss": 0.0}),
    "d_l1": Term("the gradient of the L1 loss", ("d_hidden", "d_pre"), {"l1_gradient": 0.0}),
}


def unseen_terms(
    problem: Problem,
    candidate: Candidate,
    results: dict[str, StageResult],
    terms: Iterable[str] = tuple(TERMS),
) -> tuple[str, ...]:
    """Which of the ``terms`` could be left out, and no stage that ought to show it would tell."""
    return tuple(t for t in terms if _is_unseen(TERMS[t], problem, candidate, results))


def applicable_terms(problem: Problem, candidate: Candidate) -> tuple[str, ...]:
    """The terms of which a stage was given that ought to show them."""
    found = []
    for name, term in TERMS.items():
        if name == "W_skip" and problem.params.W_skip is None:
            continue
        if set(term.stages) & set(candidate.given):
            found.append(name)
    return tuple(found)


def unseen_sentences(terms: Iterable[str], problem: Problem) -> tuple[str, ...]:
    """A sentence for each of these ``terms``."""
    return tuple(_sentence(name, TERMS[name], problem) for name in terms)


def _sentence(name: str, term: Term, problem: Problem) -> str:
    arrays = problem.params.arrays()
    zero = not arrays[name].any() if name in arrays else not problem.l1_coeff
    if name in arrays and zero:
        return f"{name} is zero: whether it is added does not show"
    if zero:
        return f"l1_coeff is zero: {term.what} does not show"
    return f"{term.what} is too small to show in {term.stages[0]}, in this data and arithmetic"


def _is_unseen(
    term: Term, problem: Problem, candidate: Candidate, results: dict[str, StageResult]
) -> bool:
    stage = next((s for s in term.stages if s in candidate), None)
    if stage is None or results[stage].verdict in ("fault", "convention"):
        return False
    large = problem.x.size * candidate.D > _EVERY_ROW >> 4
    if large and stage == "loss" and not {"hidden", "reconstruction"} <= set(candidate.given):
        return False  # it would take a whole audit to know
    before = ALL_STAGES[: ALL_STAGES.index(stage)]
    part = candidate.part(without=set(ALL_STAGES) - {stage, *before})
    changed = dataclasses.replace(problem.definition, **term.without)
    problem = problem._replace(definition=changed)
    if large and stage != "loss":
        rows = np.unique(np.linspace(0, len(problem.x) - 1, _ROWS // 4).astype(int))
        target = None if problem.target is None else problem.target[rows]
        # What such a part shows, the whole shows as well.
        part = part.part(rows=rows, without=("loss",))
        problem = problem._replace(x=problem.x[rows], target=target, part_of=problem.whole)
    trusted = frozenset(part.given) - {stage}
    return Judge(problem, part, trusted).run()[stage].verdict != "fault"
