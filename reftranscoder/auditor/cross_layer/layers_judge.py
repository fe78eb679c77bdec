"""Every layer judged, as it encodes and as it is decoded, on what the candidate itself fed to it.

What was not given is what the judges of other layers make of it, with its interval: the features
that are decoded are those of the layers that encode, and the slopes that these read those of the
layers that are decoded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ..intervals.backward import Backward
from ..intervals.interval import Interval, made
from ..intervals.loss import Loss
from ..intervals.parameter_gradients import ParameterGradients
from ..intervals.sparse_interval import SparseInterval
from ..judging.judge import Judge
from ..judging.verdict import StageResult, Tally
from .layers_candidate import LayersCandidate
from .views import Views, beside, features_beside

_BLOCK = 1 << 21  # entries of (L, rows, D): a dozen such arrays are in memory at once

Results = dict[str, StageResult]


class LayersJudge:
    """Judges a candidate: ``LayersJudge(views, candidate).run()``."""

    def __init__(self, views: Views, candidate: LayersCandidate) -> None:
        self.views, self.candidate = views, candidate
        self.L, self.B, self.D = len(views.encoding), views.x.shape[1], views.config.dict_size
        slopes, features = frozenset({"d_reconstruction"}), frozenset({"hidden"})
        self.encoding = [
            Judge(problem, given, slopes & frozenset(given.given))
            for problem, given in zip(views.encoding, candidate.encoding)
        ]
        self.decoding = []
        for t, (problem, given) in enumerate(zip(views.decoding, candidate.decoding)):
            wanted = {"reconstruction"} if "loss" in candidate.loss else set()
            if any(slopes & judge.needed for judge in self.encoding[: t + 1]):
                wanted |= slopes
            self.decoding.append(Judge(problem, given, features, wanted=frozenset(wanted)))
        every = (*self.encoding, *self.decoding)
        self.sums = [ParameterGradients(judge.intervals, judge.needed) for judge in every]
        self.loss = Loss(self.encoding[-1].intervals, self.L)  # whose outputs are those of a layer

    def run(self, progress: Callable[[int], None] | None = None) -> None:
        """Judge everything; ``progress`` is called with the number of rows of each block."""
        step = max(1, min(self.B, _BLOCK // (self.L * self.D)))
        if self.views.config.activation == "batchtopk":
            step = self.B  # all rows compete
        with np.errstate(all="ignore"):  # what is not finite is told from what ought to be
            for start in range(0, self.B, step):
                rows = slice(start, min(start + step, self.B))
                self._block(rows)
                if progress is not None:
                    progress(rows.stop - rows.start)
            if self.views.target is not None:
                for judge, sums in zip((*self.encoding, *self.decoding), self.sums):
                    judge.totals(sums)

    def results(self) -> tuple[list[Results], list[Results], StageResult]:
        """The verdicts on each layer as it encodes and as it is decoded, and on the loss."""
        encoding, decoding = (
            [judge.results() for judge in judges] for judges in (self.encoding, self.decoding)
        )
        return encoding, decoding, self._loss()

    def _block(self, rows: slice) -> None:
        x = [judge.inputs(rows) for judge in self.encoding]
        encoded = [judge.encoded(inputs, rows) for judge, inputs in zip(self.encoding, x)]
        hidden = [of_layer[2] for of_layer in encoded]
        slopes = []
        for t, judge in enumerate(self.decoding):
            features = features_beside(hidden[: t + 1])
            slopes.append(self._decoded(t, judge, features, hidden[t], x[t], rows))
        if self.views.target is None:
            return
        for l, judge in enumerate(self.encoding):
            later = slopes[l:]
            G = beside([made(s) for s in later]) if all(s is not None for s in later) else None
            judge.gradients(x[l], encoded[l], G, rows, self.sums[l])

    def _decoded(
        self,
        t: int,
        judge: Judge,
        features: SparseInterval,
        hidden: SparseInterval,
        x: Interval,
        rows: slice,
    ) -> Interval | None:
        """d_reconstruction of layer ``t``, where something reads it."""
        inputs = judge.inputs(rows)
        reconstruction = judge.decoded(features, inputs, rows)
        if self.views.target is None:
            return None
        target = self.views.target[t][rows]
        if "loss" in self.candidate.loss:
            self.loss.add(target, made(reconstruction), hidden, x)
        slopes = judge.slopes(reconstruction, target, rows)
        encoded = None, None, features
        judge.gradients(inputs, encoded, slopes, rows, self.sums[self.L + t])
        return slopes

    def _loss(self) -> StageResult:
        given = self.candidate.loss
        if "loss" not in given:
            return StageResult("loss", "not given")
        read = [(judge, "hidden") for judge in self.encoding]
        read += [(judge, "reconstruction") for judge in self.decoding]
        if any(name in {*j.comparison.unjudged, *j.comparison.broken} for j, name in read):
            return StageResult("loss", "not judged", explanation="what it reads is not finite")
        if not np.isfinite(given.whole("loss")):
            text = "not finite where the reference is"
            return StageResult("loss", "fault", index=(), explanation=text)
        return self._compared(self.loss)

    def loss_under(self, changes: dict[str, Any], layers: list[int]) -> StageResult:
        """The verdict on the loss with ``changes`` to the definition, and of ``layers`` alone.

        hidden and reconstruction were given."""
        problem = self.views.encoding[-1]
        intervals = Backward(
            problem.params,
            dataclasses.replace(problem.definition, **changes),
            problem.arithmetic,
            (self.B, self.D, self.views.O),
            problem.l1_coeff,
            problem.target,
        )
        loss, rows = Loss(intervals, self.L), slice(0, self.B)
        for l in layers:
            reconstruction = Interval(self.candidate.decoding[l].rows("reconstruction", rows))
            hidden = self.encoding[l].comparison.given_features("hidden", rows)
            target = made(self.views.target)[l]
            with np.errstate(all="ignore"):
                loss.add(target, reconstruction, hidden, Interval(self.views.x[l]))
        return self._compared(loss)

    def _compared(self, loss: Loss) -> StageResult:
        tally = Tally("loss")
        tally.add(self.candidate.loss.whole("loss"), loss.bounded(), lambda place: ())
        return tally.result()
