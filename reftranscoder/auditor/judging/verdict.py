"""From errors and bounds to a verdict on one stage.

With e the error of an entry, and R and P its bounds in those tiers (see ``interval``)::

    some e > R                             "fault": no correct implementation can be there
    every e = 0                            "exact"
    every R >= |reference|                 "cannot tell": zeros would pass as well
    some e > P, every e <= R               "cannot tell": an unlucky but legal order could do it
    every e <= P                           "rounding", in the tightest tier that holds

The floor says how small a fault could be and still show: a stage that is off by a factor 1 + f as
a whole is called a fault for every f above floor R, and no longer rounding above floor P.  With r
the least of bound / |want| over all entries but zeros::

    floor = 2 r / (1 - r);  infinite where r >= 1, as zeros would pass                      (F1)

Proof: a correct g is within r |want| of want there, so that |g| >= (1 - r) |want|, and (1 + f) g is
off by at least f |g| - r |want| >= (f (1 - r) - r) |want|, which is above r |want| if f > floor.
The floor is 0 where some entry that is not 0 is exactly known.  It is that of the bounds that were
used: they are larger where results count as rounded copies (`hypotheses.allow_rounded_copies`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..intervals.interval import TIERS, Interval
from ..task.stage_graph import ALL_STAGES, PARENTS

_PIECE = 1 << 15  # entries that are compared at once


class Histogram(NamedTuple):
    """How the errors of a stage, over their rigorous bounds, are spread.

    ``counts[i]`` entries have a ratio above ``2**(LOWEST + i - 1)`` and up to
    ``2**(LOWEST + i)``; the first also holds whatever is smaller, the last whatever is larger.
    """

    equal: int  # entries without any error, which are not in ``counts``
    counts: tuple[int, ...]
    tiers: dict[str, float]  # the tier's bounds over the rigorous ones, both added up


LOWEST, HIGHEST = -27, 10  # exponents of the first and the last place of a `Histogram`


@dataclasses.dataclass(frozen=True)
class StageResult:
    """The judgement of one stage.

    ``verdict`` is one of ``"exact"``, ``"rounding"``, ``"ambiguous"`` (a selection that a correct
    implementation could have made), ``"convention"``, ``"fault"``, ``"cannot tell"``, ``"not
    given"`` and ``"not judged"`` (what is upstream is not finite).  The numbers are those of the
    entry with the largest error over its rigorous bound.
    """

    stage: str
    verdict: str
    tier: str | None = None  # "C", "P" or "R"
    max_error: float | None = None  # the largest |got - want| of any entry
    max_ratio: float | None = None  # the largest error over its rigorous bound
    floor: dict[str, float] | None = None  # by tier: (F1)
    index: tuple[int, ...] | None = None
    got: float | None = None
    want: float | None = None
    bound: float | None = None
    explanation: str = ""
    histogram: Histogram | None = None
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)


class Wrong:
    """Where entries are beyond their bounds: how many of them, and from which indices to which."""

    def __init__(self) -> None:
        self.count = 0
        self._least: tuple[int, ...] = ()
        self._most: tuple[int, ...] = ()

    def add(self, index: tuple[np.ndarray, ...]) -> None:
        """``index`` as `numpy.nonzero` has it."""
        low, high = (tuple(int(end(axis)) for axis in index) for end in (np.min, np.max))
        self._least = tuple(map(min, self._least, low)) if self.count else low
        self._most = tuple(map(max, self._most, high)) if self.count else high
        self.count += len(index[0]) if index else 1

    def shared(self) -> tuple[int | None, ...]:
        """For each axis, the index that all of them have, or None."""
        return tuple(a if a == b else None for a, b in zip(self._least, self._most))


#: The indices of the k-th entries of a flattened block, as `numpy.unravel_index` has them.
Index = Callable[[np.ndarray], tuple[np.ndarray, ...]]


class Tally:
    """Collects a stage block by block."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.compared = False  # whether anything was; a block without entries counts
        self.count = 0
        self.max_error = 0.0
        self.max_ratio = 0.0  # of an error and its rigorous bound
        # Index, got, want and bound.
        self.worst: tuple[tuple[int, ...], float, float, float] | None = None
        self._beyond = np.zeros(len(TIERS), bool)  # whether some error is above its bound
        self._least = np.full(len(TIERS), np.inf)  # bounds, over what they are bounds of
        self._totals = np.zeros(len(TIERS))  # of the bounds
        self._all_hidden = True  # every bound so far is at least the reference
        self._equal = 0
        self._counts = np.zeros(HIGHEST - LOWEST + 1, np.int64)
        self._wrong = Wrong()

    def add(self, got: np.ndarray, want: Interval, index: Index) -> None:
        """Compare ``got`` with ``want``; ``index(k)`` names entries of the flattened block."""
        self.compared = True
        got = np.asarray(got)
        if not got.ndim:
            got, want = got[np.newaxis], want.at(np.newaxis)
        # In pieces that stay in the cache.
        step = max(1, _PIECE * len(got) // max(1, got.size))
        for start in range(0, len(got), step):
            piece = slice(start, start + step)
            self._add(got[piece], want.at(piece), start * (got.size // len(got)), index)

    def _add(
        self,
        got: np.ndarray,
        want: Interval,
        start: int,
        index: Index,
    ) -> None:
        if not got.size:
            return
        got, value = got.ravel().astype(np.float64), want.value.ravel()
        bounds = [np.broadcast_to(e, want.value.shape).ravel() for e in want.each(np.asarray)]
        errors, size = np.abs(got - value), np.abs(value)
        most = float(errors.max())
        self.count += got.size
        self.max_error = max(self.max_error, most)
        ratio = _over(errors, bounds[0], bool(bounds[0].min() > 0) and most < np.inf)
        worst = int(ratio.argmax())
        if self.worst is None or ratio[worst] > self.max_ratio:
            found = (float(got[worst]), float(value[worst]), float(bounds[0][worst]))
            self.worst = (tuple(map(int, index(np.array(start + worst)))), *found)
        if ratio[worst] > 1:
            self._wrong.add(index(start + np.flatnonzero(ratio > 1)))
        self.max_ratio = max(self.max_ratio, float(ratio[worst]))
        if self._all_hidden:
            self._all_hidden = bool(np.all(bounds[0] >= size))
        self._sort(ratio)
        for tier, bound in enumerate(bounds):
            if not self._beyond[tier]:
                beyond = ~(errors <= bound)  # NaN allows nothing
                self._beyond[tier] = bool(np.any(beyond) and np.any(errors[beyond] != 0))
            with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
                # Zeros, which no factor changes, give infinity or NaN.
                self._least[tier] = np.fmin(self._least[tier], np.fmin.reduce(bound / size))
            self._totals[tier] += float(bound.sum())

    def _sort(self, ratio: np.ndarray) -> None:
        """Count the ratios by their exponents, read from the bits of the numbers."""
        # One below in its bits puts 2**k into the place below 2**k, and zero before all.
        exponents = ((ratio.view(np.int64) - 1) >> 52) - 1022
        places = np.clip(exponents, LOWEST, HIGHEST) - LOWEST
        self._counts += np.bincount(places, minlength=len(self._counts))
        equal = int(np.count_nonzero(ratio == 0))
        self._equal += equal
        self._counts[0] -= equal

    def result(self) -> StageResult:
        """The verdict.  A stage of which nothing was compared has none: that is our mistake."""
        if not self.compared:
            raise AssertionError(f"{self.stage} was given, and was not compared with anything")
        if not self.count or self.worst is None:
            return StageResult(self.stage, "exact", "C", 0.0, 0.0)
        index, got, want, bound = self.worst
        verdict, tier = self._verdict()
        return StageResult(
            stage=self.stage,
            verdict=verdict,
            tier=tier,
            max_error=self.max_error,
            max_ratio=self.max_ratio,
            floor=self.floor(),
            index=index,
            got=got,
            want=want,
            bound=bound,
            histogram=self._histogram(),
            extra=self._spread() if verdict == "fault" else {},
        )

    def _spread(self) -> dict[str, Any]:
        """How many entries are wrong, of how many, and the indices that all of these share."""
        wrong = self._wrong
        return {"wrong": wrong.count, "entries": self.count, "shared": wrong.shared()}

    def _histogram(self) -> Histogram:
        rigorous = self._totals[0]
        shares = self._totals / rigorous if 0 < rigorous < np.inf else np.ones(len(TIERS))
        tiers = {name: float(share) for name, share in zip(TIERS, shares)}
        return Histogram(self._equal, tuple(int(n) for n in self._counts), tiers)

    def floor(self) -> dict[str, float]:
        """(F1) for each tier."""
        return {t: float(2 * r / (1 - r)) if r < 1 else np.inf for t, r in zip(TIERS, self._least)}

    def _verdict(self) -> tuple[str, str | None]:
        _, P, C = self._beyond
        if self.max_ratio > 1:
            return "fault", None
        if self.max_error == 0:
            return "exact", "C"
        if self._all_hidden or P:
            return "cannot tell", "R"
        return "rounding", "P" if C else "C"


def _over(errors: np.ndarray, bound: np.ndarray, plain: bool) -> np.ndarray:
    """Errors over bounds; nothing over nothing is nothing, something over nothing infinite.

    ``plain``: no bound is zero and no error infinite.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        ratio: np.ndarray = errors / bound
    if plain:
        return ratio
    return np.where(errors == 0, 0.0, np.where(np.isnan(ratio), np.inf, ratio))


def first_fault(results: Mapping[str, StageResult]) -> str | None:
    """The first stage at fault, or None."""
    return next((n for n in ALL_STAGES if n in results and results[n].verdict == "fault"), None)


def sure_fault(results: Mapping[str, StageResult]) -> str:
    """The first stage at fault, where it is known that there is one."""
    first = first_fault(results)
    if first is None:
        raise AssertionError("no stage is at fault")
    return first


def progress_of(results: Mapping[str, StageResult]) -> int:
    """How far the first fault is down the list of stages."""
    first = first_fault(results)
    return len(ALL_STAGES) if first is None else ALL_STAGES.index(first)


def suspects(
    stages: dict[str, StageResult], parents: Mapping[str, tuple[str, ...]] = PARENTS
) -> tuple[str, ...]:
    """The first stage at fault, and the stages upstream of it that nobody has seen."""
    first = first_fault(stages)
    if first is None:
        return ()
    found, waiting = {first}, list(parents[first])
    while waiting:
        name = waiting.pop()
        if stages[name].verdict == "not given" and name not in found:
            found.add(name)
            waiting += parents[name]
    return tuple(name for name in ALL_STAGES if name in found)
