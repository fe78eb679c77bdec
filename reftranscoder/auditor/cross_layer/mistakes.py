"""Mistakes of cross-layer transcoders that have a name: the arrays of another layer are read.

A `Mistake` is the problem that a candidate with it has solved, or the results that it has read.  It
is named if under it the stage that is at fault is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ...conventions import L1, MSE
from ...params import Params
from ...sparse import Sparse
from ..judging.judge import Judge
from ..task.candidate import Candidate
from ..task.problem import Problem
from ..task.stage_graph import PARENTS, SUMS
from .layers_candidate import LayersCandidate
from .layers_judge import LayersJudge
from .views import Views, sparse_beside

T = TypeVar("T")

#: Those whose factor is known without the target of every layer.
_MSE = {name: text for name, text in MSE.items() if name != "fvu"}
_ROWS = 32  # on which a mistake is tried before it is on all
_LARGE = 1 << 24  # entries of the decoders of a layer, beyond which pairs of layers are not tried


class Mistake(NamedTuple):
    """What somebody may have computed instead."""

    name: str
    problem: Problem
    candidate: Candidate


class Mistakes:
    """Of one candidate."""

    def __init__(self, views: Views, candidate: LayersCandidate) -> None:
        self.views, self.candidate = views, candidate
        self.L = len(views.encoding)

    def name(self, stage: str, layer: int, decoded: bool, row: int) -> str | None:
        """The name of what makes ``stage`` of a layer right, or None; it is wrong in ``row``."""
        make = self._of_decoding if decoded else self._of_encoding
        given = (self.candidate.decoding if decoded else self.candidate.encoding)[layer]
        if any(p not in given for p in PARENTS[stage]):
            return None  # which read what nobody has seen
        for mistake in make(stage, layer):
            if _explains(mistake, stage, row):
                return mistake.name
        return None

    def of_loss(self, judge: LayersJudge) -> str | None:
        """The name of what makes the loss right, or None."""
        if not self.candidate.is_whole:
            return None
        layers, mean = list(range(self.L)), {"factors": (("loss", 1 / self.L),)}
        ways: list[tuple[str, dict[str, Any], list[int]]] = [
            ("the L1 loss is left out", {"l1_loss": 0.0}, layers),
            ("it is the mean over layers, not their sum", mean, layers),
            *((f"that of layer {l} is left out", {}, self._others(l)) for l in layers),
            *((f"it is that of layer {l} alone", {}, [l]) for l in layers),
            *((f"the error is {text}", {"mse": mse}, layers) for mse, text in _MSE.items()),
            *((f"the penalty is {text}", {"l1": l1}, layers) for l1, text in L1.items()),
        ]
        for name, changes, counted in ways:
            if counted and judge.loss_under(changes, counted).verdict != "fault":
                return name
        return None

    def _others(self, layer: int) -> list[int]:
        """The other layers, the nearest first."""
        return sorted(set(range(self.L)) - {layer}, key=lambda m: (abs(m - layer), m))

    def _of_decoding(self, stage: str, t: int) -> Iterator[Mistake]:
        problem, given = self.views.decoding[t], self.candidate.decoding[t]
        if stage == "reconstruction":
            yield from self._decoded(t)
        if stage == "d_reconstruction":
            for m in self._others(t):
                target = self.views.target[m] if self.views.target is not None else None
                elsewhere = problem._replace(target=target)
                yield Mistake(f"the target is that of layer {m}", elsewhere, given)
                other = self.candidate.decoding[m]
                if "reconstruction" in other:
                    read = given.with_stage("reconstruction", other.whole("reconstruction"))
                    yield Mistake(f"it is that of layer {m}", elsewhere, read)
        if stage == "db_dec":
            slopes = {
                m: c for m, c in enumerate(self.candidate.decoding) if "d_reconstruction" in c
            }
            for m in self._others(t):
                if m in slopes:
                    G = slopes[m].whole("d_reconstruction")
                    read = given.with_stage("d_reconstruction", G)
                    yield Mistake(f"it is that of layer {m}", problem, read)
            if all(m in slopes for m in range(t, self.L)):
                later = [slopes[m].whole("d_reconstruction") for m in range(t, self.L)]
                added = np.add.reduce(later, axis=0, dtype=np.float64)
                read = given.with_stage("d_reconstruction", added)
                yield Mistake("that of every later layer is added to it", problem, read)

    def _decoded(self, t: int) -> Iterator[Mistake]:
        views, given = self.views, self.candidate.decoding[t]
        W_dec = [views.W_dec[l][:, t - l] for l in range(t + 1)]
        W_skip = [W[t - l] for l, W in enumerate(views.W_skip[: t + 1]) if W is not None]
        b_dec = [layer.b_dec[: views.O] for layer in views.params]

        def by(
            name: str,
            decoders: list[np.ndarray] = W_dec,
            bias: np.ndarray = b_dec[t],
            skips: list[np.ndarray] = W_skip,
        ) -> Mistake:
            return Mistake(name, views.decoding_by(t, decoders, bias, skips), given)

        for l in range(t + 1):
            yield by(f"the decoder from layer {l} is not added", _with(W_dec, l, 0 * W_dec[l]))
        if t > 1:
            yield by(
                "no decoder from another layer is added", [*(0 * W for W in W_dec[:t]), W_dec[t]]
            )
        for m in self._others(t):
            yield by(f"b_dec of layer {m} is added, not of layer {t}", bias=b_dec[m])
        if t:
            every = np.sum(b_dec[: t + 1], axis=0)
            yield by("b_dec of every layer up to it is added", bias=every)
        for l in range(t + 1 if W_skip else 0):
            less = _with(W_skip, l, 0 * W_skip[l])
            yield by(f"the skip connection from layer {l} is not added", skips=less)
        if (t + 1) * W_dec[0].size > _LARGE:
            return
        turned = [views.W_dec[l][:, self.L - 1 - t] for l in range(t + 1)]
        yield by("the decoders of each layer are in the other order", turned)
        for l in range(t + 1):
            for k in range(self.L - l):
                if k != t - l:
                    other = _with(W_dec, l, views.W_dec[l][:, k])
                    yield by(f"the decoder from layer {l} is that to layer {l + k}", other)
        yield from self._decoded_from_others(t)

    def _decoded_from_others(self, t: int) -> Iterator[Mistake]:
        problem, given = self.views.decoding[t], self.candidate.decoding[t]
        features = {
            m: c.as_given("hidden") for m, c in enumerate(self.candidate.encoding) if "hidden" in c
        }
        for l in range(t + 1):
            for m in self._others(l):
                if m in features:
                    read = _with([features[k] for k in range(t + 1)], l, features[m])
                    changed = given.with_stage("hidden", sparse_beside(read)[0])
                    text = f"features of layer {m} are decoded by the decoder from layer {l}"
                    yield Mistake(text, problem, changed)

    def _of_encoding(self, stage: str, l: int) -> Iterator[Mistake]:
        views, problem, given = self.views, self.views.encoding[l], self.candidate.encoding[l]
        if stage == "d_hidden":
            yield from self._slopes_of_hidden(l)
        for m in self._others(l):
            elsewhere = problem._replace(x=views.x[m])
            if stage in ("pre", "dW_enc", "dW_skip"):
                yield Mistake(f"x of layer {m} is read", elsewhere, given)
            other = self._encoder_of(problem, m)
            if stage in ("pre", "dx"):
                yield Mistake(f"W_enc of layer {m} is read", problem._replace(params=other), given)
            if stage == "pre":
                yield Mistake(f"it is that of layer {m}", elsewhere._replace(params=other), given)
                bias = _replaced(problem.params, b_enc=views.params[m].b_enc)
                yield Mistake(f"b_enc of layer {m} is added", problem._replace(params=bias), given)
            if stage == "hidden":
                yield self._selected(l, m)
                own = _replaced(problem.params, own=views.params[m].own)
                if own.own is not None:
                    text = f"the thresholds are those of layer {m}"
                    yield Mistake(text, problem._replace(params=own), given)
            theirs = self.candidate.encoding[m]
            for parent in PARENTS[stage]:
                if parent in theirs and parent != "d_reconstruction" and stage != "hidden":
                    read = given.with_stage(parent, _given(theirs, parent))
                    yield Mistake(f"{parent} of layer {m} is read", problem, read)
        if stage in ("dW_dec", "dW_skip") and self.L - l > 1:
            G = given.whole("d_reconstruction")
            turned = G.reshape(len(G), -1, views.O)[:, ::-1].reshape(G.shape)
            read = given.with_stage("d_reconstruction", turned)
            yield Mistake("its layers are in the other order", problem, read)
            for t in range(l, self.L):
                read = given.with_stage("d_reconstruction", _without(G, t - l, views.O))
                yield Mistake(f"that to layer {t} is left out", problem, read)

    def _slopes_of_hidden(self, l: int) -> Iterator[Mistake]:
        """Which layers it reaches."""
        problem, given = self.views.encoding[l], self.candidate.encoding[l]
        G, O = given.whole("d_reconstruction"), self.views.O
        if self.L - l == 1:
            return
        for t in range(l, self.L):
            less = given.with_stage("d_reconstruction", _without(G, t - l, O))
            yield Mistake(f"the gradient through layer {t} is not added", problem, less)
        own = np.zeros_like(G)
        own[:, :O] = G[:, :O]
        alone = given.with_stage("d_reconstruction", own)
        yield Mistake("no gradient through a later layer is added", problem, alone)
        turned = G.reshape(len(G), -1, O)[:, ::-1].reshape(G.shape)
        read = given.with_stage("d_reconstruction", turned)
        yield Mistake("the decoders to each layer are in the other order", problem, read)

    def _encoder_of(self, problem: Problem, m: int) -> Params:
        theirs = self.views.params[m]
        return _replaced(problem.params, W_enc=theirs.W_enc, b_enc=theirs.b_enc)

    def _selected(self, l: int, m: int) -> Mistake:
        """hidden of layer ``l`` that is selected among the activations of layer ``m``."""
        problem, given = self.views.encoding[l], self.candidate.encoding[l]
        changed = problem._replace(x=self.views.x[m], params=self._encoder_of(problem, m))
        for name in ("pre", "pre_acts"):
            if name in self.candidate.encoding[m]:
                given = given.with_stage(name, _given(self.candidate.encoding[m], name))
        return Mistake(f"it is selected from pre_acts of layer {m}", changed, given)


def _explains(mistake: Mistake, stage: str, row: int) -> bool:
    """Whether ``stage`` is right under it: on a few rows, and then on all."""
    problem, candidate = mistake.problem, mistake.candidate
    if stage not in SUMS and candidate.B > _ROWS and problem.definition.activation != "batchtopk":
        rows = np.unique([*np.linspace(0, candidate.B - 1, _ROWS - 1).astype(int), row])
        target = None if problem.target is None else problem.target[rows]
        part = problem._replace(x=problem.x[rows], target=target, part_of=problem)
        if not _is_right(part, candidate.part(rows=rows), stage):
            return False
    return _is_right(problem, candidate, stage)


def _is_right(problem: Problem, candidate: Candidate, stage: str) -> bool:
    problem = problem._replace(operands={})
    trusted = frozenset(candidate.given) - {stage}
    return Judge(problem, candidate, trusted).run()[stage].verdict != "fault"


def _given(candidate: Candidate, name: str) -> np.ndarray | Sparse:
    return candidate.as_given(name) if candidate.is_sparse(name) else candidate.whole(name)


def _replaced(params: Params, **changed: object) -> Params:
    """The same with other arrays of float64."""
    fields: dict[str, Any] = params.arrays() | {"own": params.own} | changed
    return Params.adopt(**fields)


def _without(G: np.ndarray, k: int, O: int) -> np.ndarray:  # noqa: E741
    """The slopes (B, (L - l) O) with zeros in place of those of one layer."""
    found = G.copy()
    found[:, k * O : (k + 1) * O] = 0
    return found


def _with(parts: list[T], l: int, other: T) -> list[T]:
    """``parts`` with another one at place ``l``."""
    return [*parts[:l], other, *parts[l + 1 :]]
