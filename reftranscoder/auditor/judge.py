"""Stage after stage: the candidate's result beside the reference's, which read the same upstream.

Rows are taken in blocks, so that no (B, D) array of float64 is ever made.  A stage that was not
given is replaced by the reference of the nearest stages that were, with its interval.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ..bounds import precision, store_bound
from ..params import Params
from ..reference import topk_forward
from ..sparse import Sparse
from .arithmetic import STAGES, Arithmetic
from .candidate import Candidate
from .definition import Definition
from .interval import TIERS, Interval, entrywise
from .selection import Breach, Members, breaches, certainty
from .stages import Features, Gradients, Loss, Stages
from .verdict import StageResult, Tally

_BLOCK = 1 << 21  # entries of a (rows, D) array: 16 MiB of float64, of which there are a dozen

#: What each stage reads.  "Nearest given" walks up from here.
PARENTS = {
    "pre": (),
    "pre_acts": ("pre",),
    "hidden": ("pre_acts",),
    "reconstruction": ("hidden",),
    "loss": ("reconstruction", "hidden"),
    "d_reconstruction": ("reconstruction",),
    "d_hidden": ("d_reconstruction", "hidden"),
    "d_pre": ("d_hidden", "hidden"),
    "dW_dec": ("hidden", "d_reconstruction"),
    "db_dec": ("d_reconstruction",),
    "dW_skip": ("d_reconstruction",),
    "dW_enc": ("d_pre",),
    "db_enc": ("d_pre",),
    "dx": ("d_pre", "d_reconstruction"),
}


class Problem(NamedTuple):
    """What is audited against: everything but the candidate."""

    params: Params
    definition: Definition
    arithmetic: dict[str, Arithmetic]
    x: np.ndarray  # (B, I) float64
    target: np.ndarray | None  # (B, O) float64
    l1_coeff: float
    part_of: Problem | None = None  # what some rows or features of which these are
    copies: bool = False  # whether stages may be rounded copies of what the next ones read

    @property
    def whole(self) -> Problem:
        return self if self.part_of is None else self.part_of


class Judge:
    """Judges one candidate under one definition: ``Judge(problem, candidate).run()``.

    Stages in ``trusted`` are read by the next ones, and not judged themselves.
    """

    def __init__(
        self, problem: Problem, candidate: Candidate, trusted: frozenset[str] = frozenset()
    ) -> None:
        self.problem, self.candidate, self.trusted = problem, candidate, trusted
        definition = problem.definition
        whole = problem.whole
        shape = (len(whole.x), *whole.params.W_dec.shape)
        self.stages = Stages(
            problem.params, definition, problem.arithmetic, shape, problem.l1_coeff, whole.target
        )
        self.tallies = {name: Tally(name) for name in candidate.given}
        self.breaches: list[Breach] = []
        self.near_ties = 0  # rows whose selection differs from the reference's, and is allowed
        self.ambiguous = 0  # entries that a correct implementation might or might not select
        self.skipped = self._non_finite_rows()
        self.broken: dict[str, tuple[int, ...]] = {}
        for name in candidate.given:
            index = candidate.first_non_finite(name, self.skipped)
            if index is not None:
                self.broken[name] = index
        # What cannot be read cannot be trusted either.
        if self.skipped.any():
            self.trusted = frozenset()
        self.trusted = self.trusted - set(self.broken)
        # A sum over rows is no number where one row is none; and nothing is said downstream of NaN.
        self.unjudged = {name for name in STAGES if self._reads_broken(name)}
        if self.skipped.any():
            sums = ("loss", "dW_dec", "db_dec", "dW_skip", "dW_enc", "db_enc")
            self.unjudged |= set(sums)
            self.broken = {n: i for n, i in self.broken.items() if n not in sums}

        self.needed = self._needed_stages()

    def run(self, progress: Callable[[int], None] | None = None) -> dict[str, StageResult]:
        """Every stage's result; ``progress`` is called with the number of rows of each block."""
        backward = self.problem.target is not None
        gradients, loss = Gradients(self.stages, self.needed), Loss(self.stages)
        for rows in self._blocks():
            self._block(rows, gradients, loss, backward)
            if progress is not None:
                progress(rows.stop - rows.start)
        if backward:
            self._totals(gradients, loss)
        return {name: self._result(name) for name in STAGES}

    def _block(self, rows: slice, gradients: Gradients, loss: Loss, backward: bool) -> None:
        stages, problem = self.stages, self.problem
        kept = ~self.skipped[rows]
        x = Interval(np.where(kept[:, None], problem.x[rows], 0.0).astype(np.float64))
        definition, needed = stages.definition, self.needed
        pre_acts = None
        if needed & {"pre", "pre_acts", "hidden"} or self.stages.reads_pre_acts():
            global_pre = stages.pre(x)
            pre = self._compare("pre", global_pre, rows, kept)
            want = stages.pre_acts(pre)
            pre_acts = self._compare("pre_acts", self._kept_as("pre_acts", "pre", want), rows, kept)
            hidden = self._select(pre_acts, stages.pre_acts(global_pre), rows, kept)
        else:
            hidden = self._given_features("hidden", rows)
        reconstruction = self._stage(
            "reconstruction", lambda: stages.reconstruction(hidden, x), rows, kept
        )
        if not backward:
            return
        target = problem.x if definition.target == "x" else problem.target
        target = np.where(kept[:, None], target[rows], 0.0).astype(np.float64)
        if "loss" in needed:
            loss.add(target, reconstruction, hidden, x)
        d_reconstruction = self._stage(
            "d_reconstruction",
            lambda: stages.d_reconstruction(reconstruction, target),
            rows,
            kept,
        )
        d_affine, other = None, {}
        if definition.dW_dec == "pre_acts":
            other["dW_dec"] = _active(pre_acts)
        if needed & {"d_hidden", "d_pre", "dW_enc", "db_enc", "dx"}:
            d_affine, unmasked = self._d_affine(d_reconstruction, hidden, pre_acts, x, rows, kept)
            if unmasked is not None:
                other[definition.mask_at] = unmasked
        if "dx" in needed:
            d_dx = other.get("dx", d_affine)
            self._compare("dx", stages.dx(d_dx, d_reconstruction), rows, kept)
        gradients.add(x, hidden, d_reconstruction, d_affine, other)

    def _d_affine(
        self,
        d_reconstruction: Interval,
        hidden: Features,
        pre_acts: Interval | None,
        x: Interval,
        rows: slice,
        kept: np.ndarray,
    ) -> tuple[Features, Features | None]:
        """What the encoder's gradients read, and what one of them reads under a mistaken mask."""
        stages, definition = self.stages, self.stages.definition
        if "d_pre" in self.trusted:
            d_pre = self._trusted_features("d_pre", hidden, rows)
        elif "d_hidden" in self.trusted:
            d_pre = stages.d_pre(self._trusted_features("d_hidden", hidden, rows), hidden)
        else:
            want = stages.d_hidden(d_reconstruction, hidden, x)
            d_hidden = self._compare_features("d_hidden", want, d_reconstruction, rows, kept)
            d_pre = stages.d_pre(d_hidden, hidden)
        unmasked = None
        if definition.mask != "selected":
            dense = self._d_hidden_dense(d_reconstruction, rows)
            unmasked = stages.d_pre_unmasked(d_pre, dense, pre_acts)
            if definition.mask_at == "d_pre":
                d_pre, unmasked = unmasked, None
        if "d_pre" not in self.trusted:
            d_pre = self._compare_features("d_pre", d_pre, None, rows, kept)
        return stages.d_affine(d_pre), unmasked and stages.d_affine(unmasked)

    def _trusted_features(self, name: str, hidden: Features, rows: slice) -> Features:
        """d_pre as given, or d_hidden at the entries of hidden."""
        if name == "d_pre":
            return self._given_features(name, rows)
        pattern = hidden.pattern
        row, column = pattern.rows(), pattern.indices
        if self.candidate.is_sparse(name):
            got = _at(self.candidate.features(name, rows), row, column)
        else:
            got = self.candidate.rows(name, rows)[row, column]
        return Features(pattern, Interval(got))

    def _needed_stages(self) -> set[str]:
        """The stages that are judged, and those upstream as far as nothing can be trusted."""
        definition = self.stages.definition
        needed, waiting = set(), [n for n in self.candidate.given if n not in self.trusted]
        if self.stages.reads_pre_acts():
            waiting += ["pre_acts", "d_reconstruction"]
        if "hidden" not in self.trusted:
            waiting.append("hidden")
        if definition.input != "x" and "db_dec" in waiting:
            waiting += ["dx", "d_pre"]
        while waiting:
            name = waiting.pop()
            if name not in needed and name not in self.trusted:
                needed.add(name)
                waiting += PARENTS[name]
        return needed

    def _stage(
        self, name: str, compute: Callable[[], Interval], rows: slice, kept: np.ndarray
    ) -> Interval | None:
        """A dense stage: trusted, or computed and compared; None where nobody reads it."""
        if name in self.trusted:
            return Interval(self.candidate.rows(name, rows))
        return self._compare(name, compute(), rows, kept) if name in self.needed else None

    def _read(self, name: str, got: np.ndarray) -> Interval:
        """What the next stage read: this, or what this is a rounded copy of."""
        if not self.problem.copies or name in ("pre", "pre_acts"):
            return Interval(got)
        store = precision(self.candidate.dtype(name))
        declared = self.problem.arithmetic[name].store
        coarser = store if store.unit > declared.unit else declared
        return Interval(got, (store_bound(got, 0.0, coarser),) * len(TIERS))

    def _d_hidden_dense(self, d_reconstruction: Interval, rows: slice) -> Interval:
        """d_hidden (B, D) outside the selection as well: the candidate's own where it has that."""
        if self._usable("d_hidden") and not self.candidate.is_sparse("d_hidden"):
            given = self.candidate.rows("d_hidden", rows)
            if np.count_nonzero(given) > len(given) * self._most():
                return Interval(given)
        return self.stages.d_hidden_dense(d_reconstruction)

    def _compare(self, name: str, want: Interval, rows: slice, kept: np.ndarray) -> Interval:
        """Judge a dense stage; return what the next one read: the candidate's own, where given."""
        if name not in self.candidate:
            return want
        got = self.candidate.rows(name, rows)
        if name in self.trusted:
            return Interval(got)
        if name not in self.unjudged and name not in self.broken:
            places = np.flatnonzero(kept) + rows.start
            width = got.shape[1]
            part = want
            if not kept.all():
                part = Interval(want.value[kept], want.each(lambda e: _rows(e, kept)))
            self.tallies[name].add(
                got[kept], part, lambda k: (int(places[k // width]), int(k % width))
            )
        if name in self.broken or name in self.unjudged or not kept.all():
            return want
        return self._read(name, got)

    def _select(
        self, pre_acts: Interval, boxes: Interval, rows: slice, kept: np.ndarray
    ) -> Features:
        """Judge the selection and its values; return ``hidden`` as the next stage read it."""
        definition = self.stages.definition
        own = pre_acts.errors is None
        pure, ranks, boxes = boxes, self.stages.ranks(pre_acts), self.stages.ranks(boxes)
        centre = self.stages.kept(pure, boxes)
        pre_acts = self.stages.kept(pre_acts, ranks)
        error = boxes.error(0)
        lo, hi = boxes.value - error, boxes.value + error
        if not self._usable("hidden"):
            # The centre is the candidate's own activations, where these are known.
            low, high = (ranks.value,) * 2 if own else (lo, hi)
            certain, ambiguous = certainty(low, high, self._most())
            self.ambiguous += int(ambiguous.sum())
            return _features(pre_acts, certain, ambiguous)

        given = self._given_features("hidden", rows)
        if "hidden" in self.unjudged or "hidden" in self.trusted:
            return given
        members = Members(given.pattern.rows(), given.pattern.indices)
        live = kept[members.rows]
        members = Members(members.rows[live], members.columns[live])
        lo[~kept], hi[~kept] = 0.0, 0.0
        values = ranks.value
        exactly = self._reference_selection(values)
        exactly[~kept] = False
        different = (members.mask(lo.shape) != exactly).any(axis=1)
        if different.any():
            # By its own activations another choice among equals is one; else by the boxes.
            picked = np.flatnonzero(different)
            rank = np.full(len(lo), -1)
            rank[picked] = np.arange(len(picked))
            inside = rank[members.rows] >= 0
            part = Members(rank[members.rows[inside]], members.columns[inside])
            found = breaches(lo[picked], hi[picked], part, self._most(), definition.ties)
            if own and found:
                same = breaches(values[picked], values[picked], part, self._most(), definition.ties)
                tied = set(range(len(picked))) - {b.row for b in same}
                found = [b for b in found if b.row not in tied]
            self.near_ties += len(picked) - len(found)
            self.breaches += [b._replace(row=int(picked[b.row]) + rows.start) for b in found]
        self._compare_values(given, pre_acts, centre, rows, live)
        return given

    def _compare_values(
        self, given: Features, pre_acts: Interval, boxes: Interval, rows: slice, live: np.ndarray
    ) -> None:
        """A kept value is the candidate's own activation, or as near the true one as it may be."""
        row, column = given.pattern.rows()[live], given.pattern.indices[live]
        got = given.entries.value[live]
        own = pre_acts.value[row, column]
        errors = boxes.each(lambda e: np.broadcast_to(e, boxes.value.shape)[row, column])
        centre = boxes.value[row, column]
        if pre_acts.errors is None:
            same = got == own
            centre = np.where(same, own, centre)
            errors = tuple(np.where(same, 0.0, e) for e in errors)
        self.tallies["hidden"].add(
            got, Interval(centre, errors), lambda k: (int(row[k]) + rows.start, int(column[k]))
        )

    def _compare_features(
        self,
        name: str,
        want: Features,
        d_reconstruction: Interval | None,
        rows: slice,
        kept: np.ndarray,
    ) -> Features:
        """Judge ``d_hidden`` or ``d_pre``, given at the entries of hidden or dense."""
        if name not in self.candidate:
            return want
        pattern = want.pattern
        row, column = pattern.rows(), pattern.indices
        if self.candidate.is_sparse(name):
            dense = None
            got = _at(self.candidate.features(name, rows), row, column)
        else:
            dense = self.candidate.rows(name, rows)
            got = dense[row, column]
        if name in self.unjudged or name in self.broken or not kept.all():
            return want
        self.tallies[name].add(
            got, want.entries, lambda k: (int(row[k]) + rows.start, int(column[k]))
        )
        self._compare_elsewhere(name, dense, d_reconstruction, pattern, rows)
        if name == "d_pre":
            # Right or wrong, what stands outside hidden's entries is read by what follows.
            return self._given_features(name, rows)
        return Features(pattern, self._read(name, got))

    def _compare_elsewhere(
        self, name: str, dense, d_reconstruction: Interval | None, pattern: Sparse, rows: slice
    ) -> None:
        """Outside hidden's entries: d_pre is zero there; d_hidden is zero or the whole product."""
        if dense is None:
            stored = self.candidate.features(name, rows)
            inside = pattern.with_values(np.ones(len(pattern.indices))).dense() != 0
            outside = ~inside[stored.rows(), stored.indices]
            row, column = stored.rows()[outside], stored.indices[outside]
            got = stored.values[outside]
        else:
            outside = np.ones(dense.shape, bool)
            outside[pattern.rows(), pattern.indices] = False
            if name == "d_hidden" and dense[outside].any():
                full = self.stages.d_hidden_dense(d_reconstruction)
                width = dense.shape[1]
                part = Interval(
                    np.where(outside, full.value, 0.0),
                    full.each(lambda e: np.where(outside, e, 0.0)),
                )
                self.tallies[name].add(
                    np.where(outside, dense, 0.0),
                    part,
                    lambda k: (int(k // width) + rows.start, int(k % width)),
                )
                return
            row, column = np.nonzero(outside & (dense != 0))
            got = dense[row, column]
        if len(got):
            zeros = Interval(np.zeros(len(got)))
            self.tallies[name].add(got, zeros, lambda k: (int(row[k]) + rows.start, int(column[k])))

    def _totals(self, gradients: Gradients, loss: Loss) -> None:
        settled = self.unjudged | set(self.broken) | self.trusted
        judged = [name for name in self.candidate.given if name not in settled]
        totals = {"loss": loss.bounded()} if "loss" in judged else {}
        if set(judged) & {"dW_dec", "db_dec", "dW_skip", "dW_enc", "db_enc"}:
            totals |= gradients.bounded()
        for name, want in totals.items():
            if name in judged and want.value.shape == self.candidate.whole(name).shape:
                shape = want.value.shape
                self.tallies[name].add(
                    self.candidate.whole(name),
                    want,
                    lambda k, shape=shape: tuple(int(i) for i in np.unravel_index(k, shape)),
                )

    def _result(self, name: str) -> StageResult:
        if name not in self.candidate:
            return StageResult(name, "not given")
        if name in self.broken:
            index = self.broken[name]
            return StageResult(
                name, "fault", index=index, explanation="not finite where the reference is"
            )
        if name in self.unjudged:
            return StageResult(name, "not judged", explanation="what it reads is not finite")
        result = self.tallies[name].result()
        if name != "hidden":
            return result
        return _with_selection(result, self.breaches, self.near_ties)

    def _non_finite_rows(self) -> np.ndarray:
        bad = ~np.isfinite(self.problem.x).all(axis=1)
        if self.problem.target is not None:
            bad |= ~np.isfinite(self.problem.target).all(axis=1)
        return bad

    def _reads_broken(self, name: str) -> bool:
        return any(p in self.broken or self._reads_broken(p) for p in PARENTS[name])

    def _usable(self, name: str) -> bool:
        return name in self.candidate and name not in self.broken

    def _given_features(self, name: str, rows: slice) -> Features:
        pattern = self.candidate.features(name, rows)
        return Features(pattern, self._read(name, pattern.values))

    def _most(self) -> int:
        definition = self.stages.definition
        return self.candidate.D if definition.activation == "relu" else definition.top_k

    def _reference_selection(self, values: np.ndarray) -> np.ndarray:
        """The entries (B, D) that the rule picks from these very values."""
        return topk_forward(values, self._most(), self.stages.definition.ties) != 0

    def _kept_as(self, name: str, source: str, want: Interval) -> Interval:
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

    def _blocks(self) -> Iterator[slice]:
        B, D = self.candidate.B, self.candidate.D
        step = max(1, min(B, _BLOCK // D))
        for start in range(0, B, step):
            yield slice(start, min(start + step, B))


def _with_selection(result: StageResult, found: list[Breach], near_ties: int) -> StageResult:
    if found:
        worst = max(found, key=lambda b: b.gap)
        index = (worst.row,) if worst.inside is None else (worst.row, worst.inside)
        return dataclasses.replace(
            result,
            verdict="fault",
            tier=None,
            index=index,
            explanation=f"row {worst.row}: {worst.reason}",
            extra={"breaches": found[:100], "rows": len(found)},
        )
    if near_ties and result.verdict != "fault":
        explanation = f"{near_ties} rows chose otherwise among activations too near to tell apart"
        return dataclasses.replace(
            result, verdict="ambiguous", explanation=explanation, extra={"rows": near_ties}
        )
    return result


def _features(pre_acts: Interval, certain: np.ndarray, ambiguous: np.ndarray) -> Features:
    """``hidden`` where it was not given: what is certain, and what may or may not be there."""
    rows, columns = np.nonzero((certain | ambiguous) & (pre_acts.value != 0))
    counts = np.bincount(rows, minlength=len(certain))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    values = pre_acts.value[rows, columns]
    pattern = Sparse(starts, columns.astype(np.int32), values, certain.shape)
    doubtful = ambiguous[rows, columns]
    if pre_acts.errors is None and not doubtful.any():
        return Features(pattern, Interval(values))
    errors = pre_acts.each(
        lambda e: (
            np.broadcast_to(e, certain.shape)[rows, columns]
            + np.where(doubtful, np.abs(values), 0.0)
        )
    )
    return Features(pattern, Interval(values, errors))


def _active(pre_acts: Interval) -> Features:
    """Every active feature, selected or not."""
    rows, columns = np.nonzero(pre_acts.value > 0)
    counts = np.bincount(rows, minlength=len(pre_acts.value))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    values = pre_acts.value[rows, columns]
    pattern = Sparse(starts, columns.astype(np.int32), values, pre_acts.value.shape)
    errors = pre_acts.each(lambda e: np.broadcast_to(e, pre_acts.value.shape)[rows, columns])
    return Features(pattern, Interval(values, errors))


def _at(sparse: Sparse, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The entries of ``sparse`` at these places; zero where none is stored."""
    keys = sparse.rows().astype(np.int64) * sparse.shape[1] + sparse.indices
    wanted = rows.astype(np.int64) * sparse.shape[1] + columns
    if not len(keys):
        return np.zeros(len(wanted))
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, sparse.values[place], 0.0)


def _rows(error, kept: np.ndarray):
    return error if np.ndim(error) == 0 else error[kept]
