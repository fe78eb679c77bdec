"""From errors and bounds to a verdict on one stage.

With e the error of an entry, and R and P its bounds in those tiers (see ``interval``)::

    some e > R                             "fault": no correct implementation can be there
    every e = 0                            "exact"
    every R >= |reference|                 "cannot tell": zeros would pass as well
    some e > P, every e <= R               "cannot tell": an unlucky but legal order could do it
    every e <= P                           "rounding", in the tightest tier that holds

The floor says how small a fault could be and still show: the least, over the entries, of twice the
bound, relative to the root mean square of the reference.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .interval import TIERS, Interval

#: Verdicts that pass.
HARMLESS = ("exact", "rounding", "ambiguous", "cannot tell", "not given", "not judged")


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
    floor: dict[str, float] | None = None  # by tier, relative
    index: tuple[int, ...] | None = None
    got: float | None = None
    want: float | None = None
    bound: float | None = None
    explanation: str = ""
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)


class Tally:
    """Collects a stage block by block."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.count = 0
        self.max_error = 0.0
        self.ratios = np.zeros(len(TIERS))
        self.worst: tuple | None = None  # index, got, want, bound
        self._squares = 0.0
        self._least = np.full(len(TIERS), np.inf)  # bounds
        self._all_hidden = True  # every bound so far is at least the reference

    def add(self, got: np.ndarray, want: Interval, index) -> None:
        """Compare ``got`` with ``want``; ``index(k)`` names the k-th entry of the flattened
        block."""
        got = np.asarray(got, np.float64).ravel()
        if not got.size:
            return
        value = np.asarray(want.value, np.float64).ravel()
        errors = np.abs(got - value)
        self.count += got.size
        self.max_error = max(self.max_error, float(errors.max()))
        self._squares += float(np.dot(value, value))
        for tier in range(len(TIERS)):
            bound = np.broadcast_to(want.error(tier), want.value.shape).ravel()
            ratio = _over(errors, bound)
            worst = int(ratio.argmax())
            if tier == 0:
                if self.worst is None or ratio[worst] > self.ratios[0]:
                    found = (float(got[worst]), float(value[worst]), float(bound[worst]))
                    self.worst = (index(worst), *found)
                self._all_hidden &= bool(np.all(bound >= np.abs(value)))
            self.ratios[tier] = max(self.ratios[tier], ratio[worst])
            self._least[tier] = min(self._least[tier], float(bound.min()))

    def result(self) -> StageResult:
        if not self.count:
            return StageResult(self.stage, "exact", "C", 0.0, 0.0)
        index, got, want, bound = self.worst
        verdict, tier = self._verdict()
        return StageResult(
            stage=self.stage,
            verdict=verdict,
            tier=tier,
            max_error=self.max_error,
            max_ratio=float(self.ratios[0]),
            floor=self.floor(),
            index=index,
            got=got,
            want=want,
            bound=bound,
        )

    def floor(self) -> dict[str, float]:
        rms = np.sqrt(self._squares / max(self.count, 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            return {t: float(2 * b / rms) if rms else 0.0 for t, b in zip(TIERS, self._least)}

    def _verdict(self) -> tuple[str, str | None]:
        R, P, C = self.ratios
        if R > 1:
            return "fault", None
        if self.max_error == 0:
            return "exact", "C"
        if self._all_hidden or P > 1:
            return "cannot tell", "R"
        return "rounding", "C" if C <= 1 else "P"


def _over(errors: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """Errors over bounds; nothing over nothing is nothing, something over nothing infinite."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = errors / bound
    return np.where(errors == 0, 0.0, np.where(np.isnan(ratio), np.inf, ratio))
