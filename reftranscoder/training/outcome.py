"""What training returns, of one layer and of several."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar, Generic, Self, TypeVar

from ..metrics import LayersMetrics, Metrics
from .history import History
from .run import Run

M = TypeVar("M")
Measured = TypeVar("Measured", Metrics, LayersMetrics)


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome(Generic[M, Measured]):
    """What a run has reached, of which `Fit` and `CrossLayerFit` say more."""

    transcoder: M  # for data in their own units
    history: History
    metrics: Measured | None  # of ``transcoder`` on all validation rows
    steps: int  # made; with ``patience`` there may be fewer than were asked for
    interrupted: bool  # before it was done
    signal: int | None = None  # the number of the signal that interrupted it
    best_step: int | None = None  # whose weights ``transcoder`` has, with ``patience``

    _fvu: ClassVar[str] = "FVU"  # what the FVU of ``metrics`` is called

    @classmethod
    def of(
        cls,
        run: Run[M],
        transcoder: M,
        signal: int | None,
        measure: Callable[[M], Measured] | None,
    ) -> Self:
        """What became of ``run``, ended by ``signal`` if not by itself.

        ``measure`` gives the metrics, if there are validation rows and the run is done.
        """
        metrics = measure(transcoder) if measure is not None and run.done else None
        ended = run.steps, not run.done, signal, run.best_step
        return cls(transcoder, run.history(), metrics, *ended)

    def __repr__(self) -> str:
        interrupted = ", interrupted" if self.interrupted else ""
        fvu = f", {self._fvu} {self.metrics.fvu:.4f}" if self.metrics else ""
        return f"{type(self).__name__}({self.transcoder!r}, {self.steps} steps{interrupted}{fvu})"
