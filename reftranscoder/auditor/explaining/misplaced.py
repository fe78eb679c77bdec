"""Features that a sum looks for at other places than theirs, or never: what is worth judging."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..task.definition import PLACES
from ..task.problem import Problem
from .conditions import wraps
from .evidence import Evidence
from .hypotheses import Hypothesis

_SUMS = ("dW_dec", "dW_enc", "db_enc")  # over rows, for each feature
_ENTRIES = 8  # of a feature left out, at least: a single zero may be anything
_LIKELY = 4  # features that may be the one left out, at most


def features_at_other_places(evidence: Evidence) -> Iterator[list[Hypothesis]]:
    """Off by one, or an index that wraps around; and then a single feature that is left out."""
    stage = evidence.first
    if stage == "reconstruction":
        words, without = "feature j is decoded by W_dec's row for {}", "feature {} is not decoded"
        missing = _undecoded
    elif stage in _SUMS:
        words, without = f"{stage} has feature j at {{}}", f"feature {{}} is left out of {stage}"
        missing = _unsummed
    else:
        return
    kinds = [kind for kind in PLACES if _possible(kind, evidence.problem)]
    yield [_read_at(stage, kind, words.format(PLACES[kind])) for kind in kinds]
    yield [_read_at(stage, feature, without.format(feature)) for feature in missing(evidence)]


def _possible(kind: str, problem: Problem) -> bool:
    """Whether some features are elsewhere."""
    D = problem.sizes.D
    if kind in ("up", "down"):
        return D > 1
    if kind.startswith("D/"):
        return D % int(kind[2:]) == 0
    return wraps(int(kind[3:]) - 1 if kind.startswith("int") else int(kind))(problem)


def _read_at(stage: str, where: str | int, name: str) -> Hypothesis:
    return Hypothesis(name, name, stage, {"read_at": ((stage, where),)})


def _undecoded(evidence: Evidence) -> list[int]:
    """The features that are active in every row at fault, those in the fewest others first."""
    entries, candidate = evidence.entries("reconstruction"), evidence.candidate
    if "hidden" not in candidate or len(entries.got) != candidate.B * evidence.problem.sizes.O:
        return []
    off = ~(np.abs(entries.got - entries.want) <= entries.bound)
    wrong = off.reshape(candidate.B, -1).any(axis=1)
    hidden = candidate.features("hidden", slice(0, candidate.B))
    D = hidden.shape[1]
    there, all_rows = (
        np.bincount(hidden.indices[some], minlength=D)
        for some in (wrong[hidden.rows()], slice(None))
    )
    found = np.flatnonzero(there == wrong.sum())
    rarest = np.argsort(all_rows[found], kind="stable")[:_LIKELY]
    return [int(feature) for feature in found[rarest]]


def _unsummed(evidence: Evidence) -> list[int]:
    """The feature that all wrong entries are of, if they are of one and enough to show it."""
    found = evidence.results[evidence.first].extra
    feature = found["shared"][0] if found.get("wrong", 0) >= _ENTRIES else None
    return [] if feature is None else [feature]
