"""What a candidate gave beside what it ought to be, and what the next stage read of it.

A stage that was not given is replaced by the reference of the nearest stages that were, with its
interval.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Mapping

import numpy as np

from ...bounds import precision, store_bound
from ...sparse import Sparse
from ..intervals.interval import TIERS, Interval, entrywise
from ..intervals.sparse_interval import SparseInterval, entries_at
from ..task.candidate import Candidate
from ..task.problem import Problem
from ..task.stage_graph import ALL_STAGES, SUMS, parents_of
from .verdict import StageResult, Tally


class Comparison:
    """One candidate's results, stage by stage and block by block, beside what they ought to be.

    x and the target are finite: other rows were set aside before (``non_finite_rows.py``).

    Attributes:
        broken: the stages that are not finite where the reference is, and where.
        undefined: the stages in which the definition divides by zero, and those that read them.
        unjudged: these, and the stages that read a broken one.
        trusted: stages that are read by the next ones, and not judged themselves.
    """

    def __init__(self, problem: Problem, candidate: Candidate, trusted: frozenset[str]) -> None:
        self.problem, self.candidate = problem, candidate
        self.tallies = {name: Tally(name) for name in candidate.given}
        self.broken: dict[str, tuple[int, ...]] = {}
        for name in candidate.given:
            index = candidate.first_non_finite(name)
            if index is not None:
                self.broken[name] = index
        # What cannot be read cannot be trusted either.
        self.trusted = trusted - set(self.broken)
        # Nothing is said downstream of NaN.
        parents = parents_of(problem.definition)
        undefined = problem.undefined
        self.undefined = undefined | _readers(undefined, parents)
        self.broken = {n: i for n, i in self.broken.items() if n not in self.undefined}
        self.unjudged = self.undefined | _readers(self.broken, parents)

    def dense(self, name: str, want: Interval, rows: slice) -> Interval:
        """Judge a dense stage; return what the next one read: the candidate's own, where given."""
        if name not in self.candidate:
            return want
        got = self.candidate.rows(name, rows)
        if name in self.trusted:
            return self.read(name, got)
        if name in self.unjudged or name in self.broken:
            return want
        width = got.shape[1]
        self.tallies[name].add(got, want, lambda k: (k // width + rows.start, k % width))
        return self.read(name, got)

    def features(
        self,
        name: str,
        want: SparseInterval,
        elsewhere: Callable[[], Interval] | None,
        rows: slice,
    ) -> SparseInterval:
        """Judge ``d_hidden`` or ``d_pre``, given at the entries of hidden or dense.

        ``elsewhere()`` is what may also stand outside these entries, (B, D), if not zero.
        """
        if name not in self.candidate:
            return want
        pattern = want.pattern
        row, column = pattern.rows(), pattern.indices
        if self.candidate.is_sparse(name):
            dense = None
            got = entries_at(self.candidate.features(name, rows), row, column)
        else:
            dense = self.candidate.rows(name, rows)
            got = dense[row, column]
        if name in self.unjudged or name in self.broken:
            return want
        self.tallies[name].add(got, want.entries, lambda k: (row[k] + rows.start, column[k]))
        self._compare_elsewhere(name, dense, elsewhere, pattern, rows)
        if name == "d_pre":
            # Right or wrong, what stands outside hidden's entries is read by what follows.
            return self.given_features(name, rows)
        return SparseInterval(pattern, self.read(name, got))

    def _compare_elsewhere(
        self,
        name: str,
        dense: np.ndarray | None,
        elsewhere: Callable[[], Interval] | None,
        pattern: Sparse,
        rows: slice,
    ) -> None:
        """Outside hidden's entries: d_pre is zero there; d_hidden is zero or the whole product."""
        if dense is None:
            stored = self.candidate.features(name, rows)
            inside = pattern.with_values(np.ones(len(pattern.indices))).dense() != 0
            outside = ~inside[stored.rows(), stored.indices]
            row, column = stored.rows()[outside], stored.indices[outside]
            got = stored.values[outside]
        else:
            inside = pattern.rows(), pattern.indices
            dense[inside] = 0.0  # these entries were judged by themselves
            if elsewhere is not None and dense.any():
                full = elsewhere()
                width = dense.shape[1]
                full.value[inside] = 0.0
                self.tallies[name].add(dense, full, lambda k: (k // width + rows.start, k % width))
                return
            row, column = np.nonzero(dense)
            got = dense[row, column]
        if len(got):
            zeros = Interval(np.zeros(len(got)))
            self.tallies[name].add(got, zeros, lambda k: (row[k] + rows.start, column[k]))

    def kept_as(self, name: str, source: str, want: Interval) -> Interval:
        """A copy of a stage that was kept in a narrower format was rounded once more."""
        if name not in self.candidate or source not in self.candidate or want.errors is not None:
            return want
        narrow, wide = (
            precision(self.candidate.dtype(name)),
            precision(self.candidate.dtype(source)),
        )
        if narrow.unit <= wide.unit:
            return want
        arithmetic = self.problem.arithmetic[name]
        rounding = entrywise(want.value, 1, arithmetic)
        return Interval(want.value, (rounding,) * len(TIERS))

    def read(self, name: str, got: np.ndarray) -> Interval:
        """What the next stage read: this, or what this is a rounded copy of."""
        if not self.problem.copies or name in ("pre", "pre_acts"):
            return Interval(got)
        store = precision(self.candidate.dtype(name))
        declared = self.problem.arithmetic[name].store
        coarser = store if store.unit > declared.unit else declared
        return Interval(got, (store_bound(got, 0.0, coarser),) * len(TIERS))

    def given_features(self, name: str, rows: slice) -> SparseInterval:
        pattern = self.candidate.features(name, rows)
        return SparseInterval(pattern, self.read(name, pattern.values))

    def trusted_features(self, name: str, hidden: SparseInterval, rows: slice) -> SparseInterval:
        """d_pre as given, or d_hidden at the entries of hidden."""
        if name == "d_pre":
            return self.given_features(name, rows)
        pattern = hidden.pattern
        row, column = pattern.rows(), pattern.indices
        if self.candidate.is_sparse(name):
            got = entries_at(self.candidate.features(name, rows), row, column)
        else:
            got = self.candidate.rows(name, rows)[row, column]
        return SparseInterval(pattern, self.read(name, got))

    def usable(self, name: str) -> bool:
        return name in self.candidate and name not in self.broken

    def totals(self, wanted: Mapping[str, Interval]) -> None:
        """Judge what sums over rows."""
        for name, want in wanted.items():
            index = functools.partial(_index_in, want.value.shape)
            self.tallies[name].add(self.candidate.whole(name), want, index)

    def sums(self) -> set[str]:
        """The sums over rows that are to be judged."""
        settled = self.unjudged | set(self.broken) | self.trusted
        return set(SUMS) & set(self.candidate.given) - settled

    def result(self, name: str) -> StageResult:
        """The verdict on a stage as a whole."""
        if name not in self.candidate:
            return StageResult(name, "not given")
        if name in self.broken:
            index = self.broken[name]
            return StageResult(
                name, "fault", index=index, explanation="not finite where the reference is"
            )
        if name in self.undefined:
            return StageResult(name, "not judged", explanation="its definition divides by zero")
        if name in self.unjudged:
            return StageResult(name, "not judged", explanation="what it reads is not finite")
        if name in self.trusted:
            return StageResult(name, "trusted")
        return self.tallies[name].result()


def _readers(names: Container[str], parents: Mapping[str, tuple[str, ...]]) -> set[str]:
    """The stages that read one of ``names``, or one that does."""
    found: set[str] = set()
    for stage in ALL_STAGES:  # parents come first
        if any(parent in names or parent in found for parent in parents[stage]):
            found.add(stage)
    return found


def _index_in(shape: tuple[int, ...], k: np.ndarray) -> tuple[np.ndarray, ...]:
    return np.unravel_index(k, shape) if shape else ()
