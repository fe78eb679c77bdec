"""The selection of every row, judged by itself, and the values that hidden holds."""

from __future__ import annotations

import dataclasses

import numpy as np

from ...bounds import PRECISIONS, Reals
from ...params import KEEPING_ALL
from ..intervals.backward import Backward
from ..intervals.interval import Interval, made
from ..intervals.sparse_interval import SparseInterval, possibly_selected
from ..task.arithmetic import rounded
from ..task.definition import SELECTIONS, SELECTIONS_ACROSS
from .comparison import Comparison
from .mistaken_selection import Boxes, mistaken_rows, other_ties, unmoved
from .selection import Breach, Members, NearTie, breaches, certainty, near_ties, selection
from .verdict import StageResult

_SHOWN = 100  # rows that a result names


class SelectionJudge:
    """What a candidate selected, beside what it could have."""

    def __init__(self, intervals: Backward, comparison: Comparison) -> None:
        self.intervals, self.comparison = intervals, comparison
        definition = intervals.definition
        keeps_all = definition.activation in KEEPING_ALL
        self.most = comparison.candidate.D if keeps_all else definition.top_k
        self.breaches: list[Breach] = []
        self.near_ties = 0  # rows whose selection differs from the reference's, and is allowed
        self.shown: list[NearTie] = []  # the first of them

    def hidden(
        self,
        pre_acts: Interval,
        boxes: Interval,
        rows: slice,
        signed: Interval | None = None,
        gates: tuple[Interval, Interval] | None = None,
    ) -> SparseInterval:
        """Judge the selection of a block of rows, and its values.

        Args:
            pre_acts: (rows, D) the candidate's own where these are known.
            boxes: (rows, D) what any correct candidate's may be.
            signed: (rows, D) pre, where a mistaken selection reads that.
            gates: (rows, D) of gated, those of ``pre_acts`` and of ``boxes``.

        Returns:
            ``hidden`` as the next stage read it.
        """
        intervals, comparison = self.intervals, self.comparison
        own = pre_acts.errors is None
        pure, ranks, boxes = boxes, intervals.ranks(pre_acts), intervals.ranks(boxes)
        centre = intervals.kept(pure, boxes)
        pre_acts = intervals.kept(pre_acts, ranks)
        ranks, boxes = intervals.above_thresholds(ranks), intervals.above_thresholds(boxes)
        if gates is not None:
            opened = made(intervals.gates)
            ranks, boxes = opened.behind(ranks, gates[0]), opened.behind(boxes, gates[1])
            own = own and gates[0].errors is None
        if signed is not None and intervals.definition.selects == "signed magnitudes":
            pre_acts, centre = signed, signed
        centre = intervals.mistaken("hidden", centre)
        if not comparison.usable("hidden"):
            # The centre is the candidate's own activations, where these are known.
            low, high = (ranks.value,) * 2 if own else _limits(boxes)
            written = intervals.mistaken("hidden", pre_acts)
            return possibly_selected(written, *self._certainty(low, high))

        given = comparison.given_features("hidden", rows)
        if "hidden" in comparison.unjudged or "hidden" in comparison.trusted:
            return given
        judged = given
        if intervals.definition.moved:
            places = unmoved(given.pattern, pre_acts.value, ranks.value, intervals.definition)
            judged = SparseInterval(places, Interval(places.values))
        members = Members(judged.pattern.rows(), judged.pattern.indices)
        if intervals.definition.selects or intervals.definition.across:
            lo, hi = _limits(boxes)
            own_boxes = Boxes((ranks if own else boxes).value, lo, hi)
            wide = signed and Boxes(signed.value, *_limits(signed))
            self._judge_mistaken(own_boxes, wide, members.mask(lo.shape), boxes.error(0), rows)
            self._compare_values(judged, pre_acts, centre, rows)
            return given
        self._judge_selected(ranks, boxes, own, members, rows)
        self._compare_values(judged, pre_acts, centre, rows)
        return given

    def _certainty(self, lo: np.ndarray, hi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Masks (rows, D): what every correct implementation selects, and what any may."""
        definition = self.intervals.definition
        if definition.activation == "groupmax":
            shape = len(lo) * self.most, -1
            found = certainty(lo.reshape(shape), hi.reshape(shape), 1)
            return found[0].reshape(lo.shape), found[1].reshape(lo.shape)
        if definition.activation == "abstopk":
            least = np.maximum(np.maximum(lo, -hi), 0.0)
            return certainty(least, np.maximum(-lo, hi), self.most)
        return certainty(lo, hi, self.most)

    def _judge_selected(
        self,
        ranks: Interval,
        boxes: Interval,
        own: bool,
        members: Members,
        rows: slice,
    ) -> None:
        """Judge which features of a block of rows were selected, by the definition's own rule."""
        values, keys = ranks.value, self.intervals.definition.keys
        if keys:
            values = rounded(values, PRECISIONS[keys])
        reference = selection(values, self.most, self.intervals.definition.ties)
        selected = members.mask(values.shape)
        picked = np.flatnonzero((selected != reference).any(axis=1))
        if not len(picked):
            return
        lo, hi = _limits(boxes.at(picked))
        if keys:
            # Monotone, so that boxes stay boxes.
            lo, hi = rounded(lo, PRECISIONS[keys]), rounded(hi, PRECISIONS[keys])
        wrong = self._breached(picked, members, lo, hi, values if own else None)
        allowed = np.setdiff1d(picked, [breach.row for breach in wrong])
        self.near_ties += len(allowed)
        allowed = allowed[: _SHOWN - len(self.shown)]
        # What both of them compare is the candidate's own, where that is known.
        error = np.broadcast_to(boxes.at(allowed).error(0), (len(allowed), values.shape[1]))
        part = ranks.value[allowed], error, selected[allowed], reference[allowed]
        self.shown += [
            tie._replace(row=int(allowed[tie.row]) + rows.start) for tie in near_ties(*part)
        ]
        self.breaches += [b._replace(row=b.row + rows.start) for b in wrong]

    def _judge_mistaken(
        self,
        boxes: Boxes,
        signed: Boxes | None,
        selected: np.ndarray,
        error: Reals,
        rows: slice,
    ) -> None:
        """Judge a block of rows by another rule: which of them it does not explain."""
        definition = self.intervals.definition
        kinds = SELECTIONS | SELECTIONS_ACROSS
        reason = f"this is not {kinds[definition.selects or definition.across]}"
        wrong = mistaken_rows(boxes, signed, selected, definition, self.intervals.B)
        for row in wrong:
            self.breaches.append(Breach(int(row) + rows.start, reason, None, None, 1.0))
        if definition.activation not in ("topk", *KEEPING_ALL):
            error = np.broadcast_to(error, selected.shape)
            self._note_ties(other_ties(signed or boxes, error, selected, definition), wrong, rows)

    def _note_ties(self, ties: list[NearTie], wrong: np.ndarray, rows: slice) -> None:
        """Count the rows that chose otherwise and are not ``wrong``."""
        allowed = [tie for tie in ties if tie.row not in wrong]
        self.near_ties += len({tie.row for tie in allowed})
        shown = allowed[: _SHOWN - len(self.shown)]
        self.shown += [tie._replace(row=tie.row + rows.start) for tie in shown]

    def _breached(
        self,
        picked: np.ndarray,
        members: Members,
        lo: np.ndarray,
        hi: np.ndarray,
        own: np.ndarray | None,
    ) -> list[Breach]:
        """Those of the rows ``picked``, whose boxes these are, that are wrong by them and by their
        ``own`` values (rows, D)."""
        place = np.full(self.comparison.candidate.B, -1)
        place[picked] = np.arange(len(picked))
        inside = place[members.rows] >= 0
        part = Members(place[members.rows[inside]], members.columns[inside])
        ties = self.intervals.definition.ties
        bar = "above its threshold" if self.intervals.thresholds is not None else "positive"
        if self.intervals.gates is not None:
            bar = "positive behind an open gate"
        found = breaches(lo, hi, part, self.most, ties, bar)
        if own is not None and found:
            # By its own activations another choice among equals is one; else by the boxes.
            same = breaches(own[picked], own[picked], part, self.most, ties)
            also = {breach.row for breach in same}
            found = [breach for breach in found if breach.row in also]
        return [breach._replace(row=int(picked[breach.row])) for breach in found]

    def _compare_values(
        self,
        given: SparseInterval,
        pre_acts: Interval,
        boxes: Interval,
        rows: slice,
    ) -> None:
        """A kept value is the candidate's own activation, or as near the true one as it may be."""
        row, column = given.pattern.rows(), given.pattern.indices
        got = given.entries.value
        own = pre_acts.value[row, column]
        there = boxes.at((row, column))
        centre, errors = there.value, there.each(np.asarray)
        if pre_acts.errors is None:
            written = self.intervals.mistaken("hidden", Interval(own))
            same = np.abs(got - written.value) <= written.error(0)
            centre = np.where(same, got, centre)
            errors = tuple(np.where(same, 0.0, e) for e in errors)
        self.comparison.tallies["hidden"].add(
            got, Interval(centre, errors), lambda k: (row[k] + rows.start, column[k])
        )

    def result(self) -> StageResult:
        """The verdict on hidden: on its selection, and on its values."""
        result = self.comparison.result("hidden")
        if self.breaches:
            worst = max(self.breaches, key=lambda b: b.gap)
            index = (worst.row,) if worst.inside is None else (worst.row, worst.inside)
            return dataclasses.replace(
                result,
                verdict="fault",
                tier=None,
                index=index,
                explanation=f"row {worst.row}: {worst.reason}",
                extra={"breaches": self.breaches[:_SHOWN], "rows": len(self.breaches)},
            )
        if self.near_ties and result.verdict != "fault":
            explanation = (
                f"{self.near_ties} rows chose otherwise among activations too near to tell apart"
            )
            extra = {"rows": self.near_ties, "near_ties": self.shown}
            return dataclasses.replace(
                result, verdict="ambiguous", explanation=explanation, extra=extra
            )
        return result


def _limits(interval: Interval) -> tuple[np.ndarray, np.ndarray]:
    error = interval.error(0)
    return interval.value - error, interval.value + error
