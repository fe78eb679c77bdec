"""What the data of a cross-layer audit did not show, layer by layer; it changes no verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ..cross_checks import data_coverage
from ..cross_checks.exercised import exercised
from ..judging.verdict import StageResult
from ..reporting.exercised import Exercised, counted
from ..reporting.report import listed
from ..task.candidate import Candidate
from ..task.case import Case
from ..task.problem import Problem
from .layers_candidate import LayersCandidate
from .layers_judge import LayersJudge
from .layers_report import Place
from .views import DECODED, Views

#: Which terms are looked for in a layer as it encodes, and as it is decoded.
_ENCODING, _DECODING = ("b_enc", "d_l1"), ("b_dec", "W_skip")


class Coverage(NamedTuple):
    """As a `Report` has these."""

    unseen: tuple[str, ...]
    coverage: tuple[str, ...]
    exercised: tuple[Exercised, ...]


class _View(NamedTuple):
    """A layer as it encodes, or as it is decoded, of which all that it reads was given."""

    layer: int
    problem: Problem
    candidate: Candidate
    results: dict[str, StageResult]
    decoded: bool


def coverage_of(
    views: Views,
    candidate: LayersCandidate,
    judge: LayersJudge,
    results: Mapping[Place, StageResult],
) -> Coverage:
    """What the data did not show of a candidate with these ``results``."""
    unseen: list[str] = []
    masks = {}
    for view in _views(views, candidate, results):
        terms = data_coverage.applicable_terms(view.problem, view.candidate)
        terms = tuple(t for t in terms if t in (_DECODING if view.decoded else _ENCODING))
        found = data_coverage.unseen_terms(view.problem, view.candidate, view.results, terms)
        sentences = data_coverage.unseen_sentences(found, view.problem)
        unseen += [f"layer {view.layer}: {sentence}" for sentence in sentences]
        for (stage, axis), mask in _exercised(views, view).items():
            masks[Place(stage, view.layer).key, axis] = mask
    loss = results[Place("loss")].verdict
    if loss in ("exact", "rounding", "cannot tell") and candidate.is_whole:
        if judge.loss_under({"l1_loss": 0.0}, list(range(judge.L))).verdict != "fault":
            found = data_coverage.unseen_sentences(("l1",), views.encoding[0])
            unseen += found
    warnings = tuple(_warnings(views))
    return Coverage(tuple(unseen), warnings, counted([masks]))


def _views(
    views: Views, candidate: LayersCandidate, results: Mapping[Place, StageResult]
) -> Iterator[_View]:
    for l in range(len(views.encoding)):
        for decoded in (False, True):
            side, given = (
                (views.decoding[l], candidate.decoding[l])
                if decoded
                else (views.encoding[l], candidate.encoding[l])
            )
            if ("hidden" if decoded else "d_reconstruction") not in given:
                if decoded:
                    continue  # what is decoded is not known
                later = set(given.given) - {"pre", "pre_acts", "hidden"}
                given = given.part(without=later)
            ours = {name: StageResult(name, "trusted") for name in given.given}
            for name in given.given:
                if (name in DECODED) == decoded:
                    ours[name] = results[Place(name, l)]
            yield _View(l, side, given, ours, decoded)


def _exercised(views: Views, view: _View) -> dict[tuple[str, str], np.ndarray]:
    """Which features and columns were, at the stages of a layer that are judged there."""
    config, problem = views.config, view.problem
    given = problem.x, problem.target, problem.l1_coeff
    case = Case("", "", config.layer(view.layer), views.as_given[view.layer], *given)
    found = exercised(case, problem, view.candidate, view.results)
    # What is decoded has the features and the inputs of all layers up to it: its own are the last.
    own = {"features": config.dict_size, "input columns": config.input_size}
    return {key: mask[-own.get(key[1], len(mask)) :] for key, mask in found.items()}


def _warnings(views: Views) -> Iterator[str]:
    """What sort of rows are missing, and in which layers."""
    found: dict[str, list[int]] = {}
    for l, problem in enumerate(views.encoding):
        for key in data_coverage.warnings_for(problem):
            found.setdefault(key, []).append(l)
    for key, layers in found.items():
        s = "" if len(layers) == 1 else "s"
        where = f"Layer{s} {listed(map(str, layers))}: "
        yield ("" if len(layers) == len(views.encoding) else where) + data_coverage.WARNINGS[key]
