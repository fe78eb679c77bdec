"""Rows that hold NaN or infinity: the others are judged as ever, and these may not come out finite.

A sum over such a row is no number, and whoever gives one has lost it on the way: by a comparison
that is false for NaN, by ``nan_to_num``, by a ReLU that takes NaN for zero.  So:

- pre, reconstruction and d_reconstruction have no finite entry in that row, and dx has none;
- pre_acts, hidden, d_hidden and d_pre, where zeros stand for what is masked, have no other finite
  entry, and at least one that is not finite;
- the loss is not finite;
- a row of nothing but zeros in d_hidden, d_pre or dx lets no gradient through, and is all right;
- ReLU makes zero of minus infinity: where pre is nothing else, what follows may be finite.

The first stage that breaks a rule is at fault, and what reads it is not.  Gradients of parameters
are sums over all rows, of which some know nothing of this one: they are not judged.

A row may also be refused: its number is then among ``refused``, and nobody looks at it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...arrays import numbers
from ...errors import OptionError, shown
from ..judging.verdict import StageResult
from ..task.candidate import Candidate
from ..task.problem import Problem
from ..task.stage_graph import PARENTS, SUMS

_MASKED = ("pre_acts", "hidden", "d_hidden", "d_pre")
_FORWARD = ("pre", "pre_acts", "hidden", "reconstruction")
_MAY_VANISH = ("d_hidden", "d_pre", "dx")


def checked_refusals(refused: Any, bad: np.ndarray) -> np.ndarray:
    """The numbers of the rows that were refused, all among ``bad``.

    Raises:
        OptionError: something else than numbers of rows that are not finite.
    """
    rows = np.atleast_1d(numbers(refused, "refused"))
    if rows.dtype.kind == "f" and np.isin(rows, bad).all():  # a list that is empty is of floats
        rows = rows.astype(np.int64)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        got = f"{rows.dtype} {shown(refused)}"
        raise OptionError("refused", "the numbers of rows, a list of whole numbers", got)
    wrong = np.setdiff1d(rows, bad)
    if len(wrong):
        where = f"among the rows that are not finite, {bad.tolist()[:20]}"
        raise OptionError("refused", where, int(wrong[0]))
    return rows


def set_aside(
    problem: Problem, candidate: Candidate, bad: np.ndarray
) -> tuple[Problem, Candidate, np.ndarray]:
    """The problem and the candidate without the rows ``bad`` and the sums over rows, and which
    rows are left."""
    left = np.setdiff1d(np.arange(len(problem.x)), bad)
    target = None if problem.target is None else problem.target[left]
    part = problem._replace(x=problem.x[left], target=target, part_of=problem)
    return part, candidate.part(rows=left, without=SUMS), left


def judge_non_finite_rows(
    results: Mapping[str, StageResult],
    problem: Problem,
    candidate: Candidate,
    left: np.ndarray,
    refused: np.ndarray,
) -> tuple[dict[str, StageResult], bool]:
    """The ``results`` on the rows ``left``, with what the others of the whole ``problem`` and
    ``candidate`` add to them; and whether NaN or infinity was lost somewhere."""
    lost = _lost(candidate, problem, refused)
    found = {name: _renumbered(result, left) for name, result in results.items()}
    for name in candidate.given:
        if name in lost and found[name].verdict != "fault":
            found[name] = lost[name]
        elif name in SUMS and name not in lost:
            why = "it sums over rows that are not finite"
            found[name] = StageResult(name, "not judged", explanation=why)
    return found, bool(lost)


def _lost(candidate: Candidate, problem: Problem, refused: np.ndarray) -> dict[str, StageResult]:
    """The stages at which a row that is not finite becomes finite."""
    found: dict[str, StageResult] = {}
    in_x = ~np.isfinite(problem.x).all(axis=1)
    in_target = np.zeros(len(in_x), bool)
    if problem.target is not None:
        in_target = ~np.isfinite(problem.target).all(axis=1)
    rows = [int(row) for row in np.setdiff1d(np.flatnonzero(in_x | in_target), refused)]
    vanishing = {row for row in rows if _all_minus_infinity(problem, row)}
    for row in rows:
        where = "x" if in_x[row] else "target"
        lost: set[str] = set()
        for name in _never_finite(candidate, where, row in vanishing):
            entry = None if lost & _ancestors(name) else _finite_entry(candidate, name, row, where)
            if entry is not None:
                lost.add(name)
                found.setdefault(name, _result(name, row, where, *entry))
    loss = float(candidate.whole("loss")) if "loss" in candidate else np.nan
    rows = [row for row in rows if row not in vanishing]
    if rows and np.isfinite(loss) and not _ancestors("loss") & set(found):
        why = f"row {rows[0]} is not finite and was not refused, and the loss is {loss:.6g}"
        found["loss"] = StageResult("loss", "fault", got=loss, explanation=why)
    return found


def _never_finite(candidate: Candidate, where: str, vanishing: bool) -> list[str]:
    """The given stages that cannot be finite in a row which is not finite in x, or in the target.

    ``vanishing``: all its pre-activations are minus infinity, of which ReLU makes zeros.
    """
    names = [name for name in candidate.given if name not in SUMS]
    if where == "target":
        names = [name for name in names if name not in _FORWARD]
    return [name for name in names if name == "pre"] if vanishing else names


def _all_minus_infinity(problem: Problem, row: int) -> bool:
    """Whether every pre-activation of a row is minus infinity."""
    params = problem.params
    with np.errstate(invalid="ignore", over="ignore"):
        pre = params.W_enc.astype(np.float64) @ problem.x[row] + params.b_enc
    return bool(np.isneginf(pre).all())


def _finite_entry(
    candidate: Candidate, name: str, row: int, where: str
) -> tuple[int, float] | None:
    """Column and value of an entry that ought not to be finite, or None."""
    if candidate.is_sparse(name):
        values = candidate.features(name, slice(row, row + 1)).dense()[0]
    else:
        values = candidate.rows(name, slice(row, row + 1))[0]
    finite = np.isfinite(values)
    if name in _MAY_VANISH and not values.any():
        return None
    wrong = finite & (values != 0) if name in _MASKED else finite
    if finite.all():
        wrong = finite
    elif name == "d_reconstruction" and where == "target":
        return None  # one entry of the target spoils one entry of this
    if not wrong.any():
        return None
    column = int(wrong.argmax())
    return column, float(values[column])


def _result(name: str, row: int, where: str, column: int, value: float) -> StageResult:
    why = (
        f"row {row} of {where} is not finite, and {name}[{row}, {column}] is {value:.6g}: "
        "NaN or infinity was lost here"
    )
    return StageResult(name, "fault", index=(row, column), got=value, explanation=why)


def _ancestors(name: str) -> set[str]:
    found: set[str] = set()
    for parent in PARENTS[name]:
        found |= {parent} | _ancestors(parent)
    return found


def _renumbered(result: StageResult, left: np.ndarray) -> StageResult:
    """``result`` with the row numbers of the whole batch."""
    index, extra = result.index, dict(result.extra)
    if index:
        index = (int(left[index[0]]), *index[1:])
    if "breaches" in extra:
        extra["breaches"] = [b._replace(row=int(left[b.row])) for b in extra["breaches"]]
    text = re.sub(r"\brow (\d+):", lambda m: f"row {left[int(m[1])]}:", result.explanation)
    return dataclasses.replace(result, index=index, extra=extra, explanation=text)
