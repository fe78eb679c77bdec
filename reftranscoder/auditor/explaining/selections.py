"""Mistaken selections that have a name: a table, and what a candidate's own selection suggests."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ...bounds import PRECISIONS
from ..task.definition import MOVES, WRAPS
from ..task.problem import Problem
from .conditions import Condition, selects, wraps
from .evidence import COARSE, Evidence
from .hypotheses import Hypothesis, Row, mistake, possible

_ROWS = 3  # whose selection differs, at least: a single one may be anything


def _has_groups(problem: Problem) -> bool:
    return selects(problem) and problem.sizes.D % problem.definition.top_k == 0


def _moved(kind: str, condition: Condition = selects) -> Row:
    return mistake(f"hidden has feature j at {MOVES[kind]}", "hidden", condition, moved=kind)


#: In the order in which they are tried.
SELECTION_FAULTS = (
    mistake(
        "the K B largest of the whole batch are kept (BatchTopK), not the K of each row",
        "hidden",
        selects,
        across="batch",
    ),
    mistake(
        "the largest of each of K groups of features is kept (GroupMax), not the K of each row",
        "hidden",
        _has_groups,
        selects="groups",
    ),
    mistake(
        "the K of the largest absolute value are selected, and the negative ones dropped",
        "hidden",
        selects,
        selects="magnitudes",
    ),
    mistake(
        "the K of the largest absolute value are kept, with their signs (AbsTopK)",
        "hidden",
        selects,
        selects="signed magnitudes",
    ),
    mistake(
        "the K of the largest absolute value are kept, with their signs (AbsTopK)",
        "pre_acts",
        selects,
        rectified=False,
        selects="signed magnitudes",
    ),
    mistake("the K largest of each column are kept, not of each row", "hidden", across="columns"),
    *(
        mistake(f"every row keeps the features that the {row} selects", "hidden", across=row)
        for row in ("row before", "row after")
    ),
    mistake(
        "feature 0 is lost where fewer than K are active, as if padding overwrote it",
        "hidden",
        selects,
        selects="no padding",
    ),
    _moved("up"),
    _moved("down"),
    *(_moved(str(bits), wraps(bits)) for bits in WRAPS),
)


def another_number_kept(evidence: Evidence) -> Iterator[list[Hypothesis]]:
    """As many as the candidate's rows hold at most, where that is not K."""
    candidate, K = evidence.candidate, evidence.problem.definition.top_k
    if evidence.first != "hidden" or not selects(evidence.problem):
        return
    rows = candidate.features("hidden", slice(0, candidate.B)).rows()
    n = int(np.bincount(rows).max(initial=0))
    if n and abs(n - K) > 1:
        name = f"{n} features are kept, not {K}"
        yield [Hypothesis(name, name, "hidden", {"top_k": n})]


def mistaken_selections(evidence: Evidence) -> Iterator[list[Hypothesis]]:
    """The rows of the table above that change the stage at fault."""
    if evidence.first in ("pre_acts", "hidden"):
        few = _rows_at_fault(evidence) < _ROWS
        found = possible(SELECTION_FAULTS, evidence.problem)
        yield [h for h in found if not (few and h.changes.get("selects") == "no padding")]


def _ranked_in(name: str, evidence: Evidence) -> Iterator[list[Hypothesis]]:
    """Ranked by keys in a coarser format than declared."""
    coarser = PRECISIONS[name].unit > evidence.problem.arithmetic["hidden"].store.unit
    if evidence.first == "hidden" and coarser and _rows_at_fault(evidence) >= _ROWS:
        text = f"features are ranked by keys rounded to {name}"
        yield [Hypothesis(text, text, "hidden", {"keys": name})]


def values_at_other_features(evidence: Evidence) -> Iterator[list[Hypothesis]]:
    """The values are right; where they stand is not."""
    if evidence.first == "hidden" and selects(evidence.problem):
        text = "the values are the K largest of each row, and stand at other features"
        yield [Hypothesis(text, text, "hidden", {"moved": "anywhere"})]


def _rows_at_fault(evidence: Evidence) -> int:
    return int(evidence.results["hidden"].extra.get("rows", 0))


#: What is tried in this order, each where nothing before it explains everything.
SELECTION_PROPOSALS: Sequence[Callable[[Evidence], Iterator[list[Hypothesis]]]] = (
    another_number_kept,
    *(functools.partial(_ranked_in, name) for name in COARSE),
    mistaken_selections,
    values_at_other_features,
)
