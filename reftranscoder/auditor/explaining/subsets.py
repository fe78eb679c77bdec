"""Some rows, some features or the loss of a large candidate, on which hypotheses are tried first.

On few rows, the stages that belong to rows are seen; on few features, the gradients of parameters,
which sum over all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from ...params import Params
from ..judging.judge import Judge
from ..judging.known_results import KnownResults
from ..judging.verdict import StageResult, sure_fault
from ..task.candidate import Candidate
from ..task.problem import Problem
from ..task.stage_graph import ALL_STAGES, SUMS

_ROWS = 32
_FEATURES = 64
_SMALL = 1 << 27  # B I D up to which everything is tried on everything

_BY_FEATURE = ("dW_dec", "dW_enc", "db_enc")

Progress = Callable[[int], None] | None


class Subset(NamedTuple):
    """Some rows or features of a candidate, and what the default finds there."""

    problem: Problem
    candidate: Candidate
    trusted: frozenset[str]
    results: dict[str, StageResult]
    known: KnownResults  # and under other definitions
    blind: frozenset[str]  # fields of `Definition` that cannot be judged on this subset


def in_float64(problem: Problem) -> Problem:
    """The same, ready for many runs."""
    if problem.operands is not None:
        return problem
    return problem._replace(params=problem.params.astype(np.float64), operands={})


def is_large(problem: Problem, candidate: Candidate) -> bool:
    """Whether trying everything on everything would take too long."""
    return problem.x.size * candidate.D > _SMALL


def subsets_of(
    problem: Problem,
    candidate: Candidate,
    results: dict[str, StageResult],
    progress: Progress = None,
) -> list[Subset]:
    """What is tried before everything is, where that is large."""
    problem = in_float64(problem)
    makers = (_some_rows, _some_features, _the_loss)
    return [subset for make in makers if (subset := make(problem, candidate, results, progress))]


def _judged_subset(
    problem: Problem,
    candidate: Candidate,
    progress: Progress,
    trusted: Iterable[str] = (),
    blind: Iterable[str] = (),
) -> Subset | None:
    known = frozenset(trusted) & set(candidate.given)
    if known == set(candidate.given):
        return None
    results = Judge(problem, candidate, known).run()
    found = KnownResults(problem, candidate, results, progress)
    return Subset(problem, candidate, known, results, found, frozenset(blind))


def _some_rows(
    problem: Problem, candidate: Candidate, results: dict[str, StageResult], progress: Progress
) -> Subset | None:
    """A few rows; sums over rows are left out."""
    first = sure_fault(results)
    index = results[first].index
    rows = np.linspace(0, candidate.B - 1, min(_ROWS - 1, candidate.B)).astype(int)
    if first not in SUMS and index:
        rows = np.append(rows, index[0])
    return _these_rows(problem, candidate, progress, np.unique(rows))


def _some_features(
    problem: Problem, candidate: Candidate, results: dict[str, StageResult], progress: Progress
) -> Subset | None:
    """A few features in all rows, where hidden and what follows it are known."""
    blamed = [index[0] for n in _BY_FEATURE if (index := results[n].index)]
    features = np.linspace(0, candidate.D - 1, min(_FEATURES, candidate.D)).astype(int)
    return _these_features(problem, candidate, progress, np.union1d(features, blamed).astype(int))


def worst_part(
    problem: Problem, candidate: Candidate, results: dict[str, StageResult], progress: Progress
) -> Subset | None:
    """The row or the feature that has the worst entry of the first stage at fault.

    What does not make that right makes nothing right.
    """
    first = sure_fault(results)
    index = results[first].index
    if not index or (first in SUMS and first not in _BY_FEATURE):
        return None
    part = _these_features if first in _BY_FEATURE else _these_rows
    return part(in_float64(problem), candidate, progress, np.array(index[:1]))


def _these_rows(
    problem: Problem, candidate: Candidate, progress: Progress, rows: np.ndarray
) -> Subset | None:
    target = None if problem.target is None else problem.target[rows]
    subset = problem._replace(x=problem.x[rows], target=target, part_of=problem.whole)
    part = candidate.part(rows=rows, without=SUMS)
    # A selection across rows is not judged by some of them.
    known = ("hidden",) if problem.definition.across else ()
    return _judged_subset(subset, part, progress, known, blind=("across",))


def _these_features(
    problem: Problem, candidate: Candidate, progress: Progress, features: np.ndarray
) -> Subset | None:
    given = set(candidate.given)
    if "hidden" not in given or not {"reconstruction", "d_reconstruction"} & given:
        return None
    params = problem.params
    rows = (params.W_enc[features], params.b_enc[features], params.W_dec[features])
    own = None if params.own is None else params.own.each(lambda array: array[features])
    params = Params(*rows, params.b_dec, params.W_skip, own)
    smaller = problem._replace(params=params, part_of=problem.whole, operands={})
    subset = candidate.part(features=features, without=("pre", "pre_acts", "loss", "dx"))
    # Whatever needs all features at once.
    blind = (
        *("input", "skip_input", "W_enc", "W_dec", "mask", "flipped", "ties", "top_k", "rectified"),
        *("error_skipped", "read_at"),
    )
    return _judged_subset(smaller, subset, progress, ("hidden", "reconstruction"), blind)


def _the_loss(
    problem: Problem, candidate: Candidate, results: dict[str, StageResult], progress: Progress
) -> Subset | None:
    """The loss alone, where what it adds up is known."""
    needed = {"hidden", "reconstruction", "loss"}
    if not needed <= set(candidate.given):
        return None
    subset = candidate.part(without=set(ALL_STAGES) - needed)
    blind = ("ties", "top_k", "rectified", "input", "norms", "W_enc", "W_dec", "W_skip", "b_dec")
    return _judged_subset(problem, subset, progress, ("hidden", "reconstruction"), blind)
