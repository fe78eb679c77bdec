"""Stage after stage: the candidate's result beside the reference's, which read the same upstream.

Rows are taken in blocks, so that no (B, D) array of float64 is ever made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np

from ..intervals.backward import Backward
from ..intervals.interval import Interval, made
from ..intervals.loss import Loss
from ..intervals.parameter_gradients import ParameterGradients
from ..intervals.sparse_interval import (
    SparseInterval,
    active,
    at_other_features,
    one_of_each,
    widened,
)
from ..task.candidate import Candidate
from ..task.problem import Problem
from ..task.stage_graph import ALL_STAGES, parents_of
from .comparison import Comparison
from .intermediates import Kept, Recalled
from .mistaken_selection import MAGNITUDES
from .own_gradients import OwnGradients
from .selection_judge import SelectionJudge
from .verdict import StageResult

_BLOCK = 1 << 21  # entries of a (rows, D) array: 16 MiB of float64, of which there are a dozen


class Judge:
    """Judges one candidate under one definition: ``Judge(problem, candidate).run()``.

    Stages in ``trusted`` are read by the next ones, and not judged themselves.  ``recalled`` has
    what other runs made of stages that were not given, and ``wanted`` the stages that another
    judge, of other layers of the same candidate, reads here.
    """

    def __init__(
        self,
        problem: Problem,
        candidate: Candidate,
        trusted: frozenset[str] = frozenset(),
        recalled: Recalled | None = None,
        wanted: frozenset[str] = frozenset(),
    ) -> None:
        self.problem, self.candidate = problem, candidate
        whole = problem.whole
        self.intervals = Backward(
            problem.params,
            problem.definition,
            problem.arithmetic,
            (len(whole.x), *whole.params.W_dec.shape),
            problem.l1_coeff,
            whole.target,
            problem.operands,
            problem.parts,
        )
        self.comparison = Comparison(problem, candidate, trusted)
        self.choices = SelectionJudge(self.intervals, self.comparison)
        self.recalled = recalled
        self.needed = self._needed_stages(wanted)
        parents = parents_of(problem.definition)
        self.read = {parent for name in self.needed for parent in parents[name]}
        if self.intervals.reads_pre_acts():
            self.read |= {"pre_acts", "d_reconstruction"}
        if problem.definition.selects in MAGNITUDES:
            self.read |= {"pre"}
        self.own = OwnGradients(self.intervals, self.comparison, self.needed)
        self.rows_counted: dict[str, np.ndarray] = {}

    def run(self, progress: Callable[[int], None] | None = None) -> dict[str, StageResult]:
        """Every stage's result; ``progress`` is called with the number of rows of each block."""
        with np.errstate(all="ignore"):  # what is not finite is told from what ought to be
            return self._run(progress)

    def _run(self, progress: Callable[[int], None] | None) -> dict[str, StageResult]:
        backward = self.problem.target is not None
        gradients, loss = ParameterGradients(self.intervals, self.needed), Loss(self.intervals)
        for rows in self._blocks():
            self._block(rows, gradients, loss, backward)
            if progress is not None:
                progress(rows.stop - rows.start)
        if backward:
            self.totals(gradients, loss)
        return self.results()

    def results(self) -> dict[str, StageResult]:
        """The verdict on every stage, once all rows are there."""
        results = {name: self.comparison.result(name) for name in ALL_STAGES if name != "hidden"}
        results["hidden"] = self.choices.result()
        return {name: results[name] for name in ALL_STAGES}

    def _block(
        self, rows: slice, gradients: ParameterGradients, loss: Loss, backward: bool
    ) -> None:
        intervals, problem = self.intervals, self.problem
        x = self.inputs(rows)
        encoded = self.encoded(x, rows)
        hidden = encoded[2]
        reconstruction = self.decoded(hidden, x, rows)
        if not backward:
            return
        target = problem.x if intervals.definition.target == "x" else made(problem.target)
        target = target[rows].astype(np.float64)
        compared = intervals.compared(reconstruction, hidden, x)
        if "loss" in self.needed:
            loss.add(target, made(compared), hidden, x)
        d_reconstruction = self.slopes(compared, target, rows)
        d_decoded = intervals.d_decoded(d_reconstruction, x)
        self.gradients(x, encoded, d_decoded, rows, gradients)

    def inputs(self, rows: slice) -> Interval:
        """x of a block of rows."""
        return Interval(self.problem.x[rows].astype(np.float64))

    def decoded(self, hidden: SparseInterval, x: Interval, rows: slice) -> Interval | None:
        """reconstruction, where something reads it."""
        read = self._read_at("reconstruction", hidden)
        make = functools.partial(self.intervals.reconstruction, read, x)
        return self._stage("reconstruction", make, rows)

    def slopes(self, compared: Interval | None, target: np.ndarray, rows: slice) -> Interval | None:
        """d_reconstruction of what is ``compared`` with ``target``, where something reads it."""
        return self._stage(
            "d_reconstruction",
            lambda: self.intervals.d_reconstruction(made(compared), target),
            rows,
        )

    def gradients(
        self,
        x: Interval,
        encoded: tuple[Interval | None, Interval | None, SparseInterval],
        d_reconstruction: Interval | None,
        rows: slice,
        sums: ParameterGradients,
    ) -> None:
        """What follows d_reconstruction, for a block of rows; added to ``sums``."""
        intervals, definition, needed = self.intervals, self.intervals.definition, self.needed
        _, pre_acts, hidden = encoded
        d_affine: SparseInterval | None = None
        other: dict[str, SparseInterval] = {}
        if definition.dW_dec == "pre_acts":
            other["dW_dec"] = active(made(pre_acts))
        if needed & self._readers_of_d_affine():
            passing = self._passing(hidden, rows)
            d_hidden = self._d_hidden(d_reconstruction, passing, x, rows)
            slope = self.own.slope(encoded[0], d_hidden, d_reconstruction, rows)
            other |= self.own.summed(d_hidden, passing, slope)
            d_affine, unmasked = self._d_affine(
                d_hidden, slope, d_reconstruction, passing, pre_acts, rows
            )
            if unmasked is not None:
                other[definition.mask_at] = unmasked
        if "dx" in needed:
            dx = intervals.dx(made(other.get("dx", d_affine)), made(d_reconstruction))
            self.comparison.dense("dx", dx, rows)
        for name in dict(definition.scattered + definition.read_at):
            read = hidden if name == "dW_dec" else d_affine
            if read is None:
                continue
            which = definition.scatter(name)
            if which is not None:
                read = one_of_each(read, self._counted(which) - rows.start)
            other[name] = self._read_at(name, read)
        sums.add(x, hidden, d_reconstruction, d_affine, other)

    def encoded(
        self, x: Interval, rows: slice
    ) -> tuple[Interval | None, Interval | None, SparseInterval]:
        """pre and pre_acts, where something reads them, and hidden."""
        intervals, comparison = self.intervals, self.comparison
        any_pre = functools.cache(lambda: self._once("pre", rows, lambda: intervals.pre(x)))
        pre = self._stage("pre", any_pre, rows)
        pre_acts = self._stage(
            "pre_acts",
            lambda: comparison.kept_as("pre_acts", "pre", intervals.pre_acts(made(pre), x)),
            rows,
        )
        if "hidden" not in self.needed:
            return pre, pre_acts, comparison.given_features("hidden", rows)

        def selected() -> SparseInterval:
            boxes = intervals.pre_acts(any_pre(), x)
            signed = gates = None
            if intervals.definition.selects in MAGNITUDES:
                signed = any_pre() if pre is None else pre
            if intervals.gates is not None:
                gates = intervals.gates.gate(made(pre)), intervals.gates.gate(any_pre())
            return self.choices.hidden(made(pre_acts), boxes, rows, signed, gates)

        return pre, pre_acts, self._once_missing("hidden", rows, selected)

    def _read_at(self, stage: str, features: SparseInterval) -> SparseInterval:
        """``features`` where a stage reads them: by mistake, elsewhere."""
        where = self.intervals.definition.reads_at(stage)
        return features if where is None else at_other_features(features, where)

    def _once_missing(self, name: str, rows: slice, make: Callable[[], Kept]) -> Kept:
        """``make()``; or, of a stage that was not given, what it made under other definitions."""
        return make() if name in self.candidate else self._once(name, rows, make)

    def _once(self, name: str, rows: slice, make: Callable[[], Kept]) -> Kept:
        return make() if self.recalled is None else self.recalled.once(name, rows, make)

    def _counted(self, which: str) -> np.ndarray:
        """(D,) for each feature the "first" or the "last" row in which hidden has it."""
        if which not in self.rows_counted:
            found = np.full(self.candidate.D, -1)
            if "hidden" in self.candidate:
                pattern = self.candidate.features("hidden", slice(0, self.candidate.B))
                order = slice(None) if which == "last" else slice(None, None, -1)
                # Where an index repeats, the last one counts.
                found[pattern.indices[order]] = pattern.rows()[order]
            self.rows_counted[which] = found
        return self.rows_counted[which]

    def _readers_of_d_affine(self) -> set[str]:
        parents = parents_of(self.intervals.definition)
        readers = (n for n in ALL_STAGES if {"d_pre", "d_hidden"} & {*parents[n]})
        return {"d_hidden", "d_pre", *readers}

    def _d_hidden(
        self,
        d_reconstruction: Interval | None,
        hidden: SparseInterval,
        x: Interval,
        rows: slice,
    ) -> SparseInterval | None:
        """d_hidden at the entries of ``hidden``, where something reads it."""
        intervals = self.intervals
        if "d_hidden" in self.needed:
            want = self._once_missing(
                "d_hidden", rows, lambda: intervals.d_hidden(made(d_reconstruction), hidden, x)
            )
            elsewhere = functools.partial(intervals.d_hidden_dense, made(d_reconstruction))
            return self.comparison.features("d_hidden", want, elsewhere, rows)
        if "d_hidden" in self.comparison.trusted:
            return self.comparison.trusted_features("d_hidden", hidden, rows)
        return None

    def _d_affine(
        self,
        d_hidden: SparseInterval | None,
        slope: SparseInterval | None,
        d_reconstruction: Interval | None,
        hidden: SparseInterval,
        pre_acts: Interval | None,
        rows: slice,
    ) -> tuple[SparseInterval | None, SparseInterval | None]:
        """What the encoder's gradients read, and what one of them reads under a mistaken mask."""
        intervals, definition = self.intervals, self.intervals.definition
        trusted = self.comparison.trusted
        if "d_pre" in trusted:
            d_pre = self.comparison.trusted_features("d_pre", hidden, rows)
        elif d_hidden is None:
            return None, None
        else:
            d_pre = intervals.d_pre(d_hidden, hidden)
            if slope is not None and definition.through == "theta_and_input":
                d_pre = intervals.with_slope(d_pre, slope)
        unmasked = None
        if definition.mask != "selected":
            dense = self._d_hidden_dense(d_reconstruction, rows)
            unmasked = intervals.d_pre_unmasked(d_pre, dense, made(pre_acts))
            if definition.mask_at == "d_pre":
                d_pre, unmasked = (d_pre if "d_pre" in trusted else unmasked), None
        if "d_pre" not in trusted:
            d_pre = self.comparison.features("d_pre", d_pre, None, rows)
        return intervals.d_affine(d_pre), unmasked and intervals.d_affine(unmasked)

    def _passing(self, hidden: SparseInterval, rows: slice) -> SparseInterval:
        """Where gradients pass: hidden's entries, and under a mistake other selected places."""
        if not self.intervals.definition.inactive or not self.comparison.usable("hidden"):
            return hidden
        places = self.candidate.inactive(rows)
        return hidden if places is None else widened(hidden, places)

    def _needed_stages(self, wanted: frozenset[str]) -> set[str]:
        """The stages that are judged, and those upstream as far as nothing can be trusted."""
        parents = parents_of(self.intervals.definition)
        trusted = self.comparison.trusted
        needed, waiting = set(), [name for name in self.candidate.given if name not in trusted]
        waiting += wanted
        if self.intervals.reads_pre_acts():
            waiting += ["pre_acts", "d_reconstruction"]
        if "hidden" not in trusted:
            waiting.append("hidden")
        while waiting:
            name = waiting.pop()
            if name not in needed and name not in trusted:
                needed.add(name)
                waiting += parents[name]
        return needed

    def _stage(self, name: str, compute: Callable[[], Interval], rows: slice) -> Interval | None:
        """A dense stage: trusted, or computed and compared; None where nobody reads it."""
        if name in self.comparison.trusted:
            if name not in self.read:
                return None
            return self.comparison.read(name, self.candidate.rows(name, rows))
        if name not in self.needed:
            return None
        want = self._once_missing(name, rows, compute)
        return self.comparison.dense(name, want, rows)

    def _d_hidden_dense(self, d_reconstruction: Interval | None, rows: slice) -> Interval:
        """d_hidden (B, D) outside the selection as well: the candidate's own where it has that."""
        if self.comparison.usable("d_hidden") and not self.candidate.is_sparse("d_hidden"):
            given = self.candidate.rows("d_hidden", rows)
            if np.count_nonzero(given) > len(given) * self.choices.most:
                return Interval(given)
        return self.intervals.d_hidden_dense(made(d_reconstruction))

    def totals(self, gradients: ParameterGradients, loss: Loss | None = None) -> None:
        """The sums over rows, now that all rows are there."""
        judged = self.comparison.sums()
        totals = {"loss": loss.bounded()} if loss is not None and "loss" in judged else {}
        if judged - {"loss"}:
            totals |= gradients.bounded()
        self.comparison.totals({name: totals[name] for name in totals if name in judged})

    def _blocks(self) -> Iterator[slice]:
        B, D = self.candidate.B, self.candidate.D
        step = max(1, min(B, _BLOCK // D))
        if self.problem.definition.activation == "batchtopk":
            step = B  # all rows compete
        for start in range(0, B, step):
            yield slice(start, min(start + step, B))
