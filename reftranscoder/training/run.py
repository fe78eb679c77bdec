"""A run under way: one step after the other, and its log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import numpy as np

from ..errors import OptionError
from .checkpoint import Checkpoint
from .evaluation import Figures
from .history import Entry, History, InUnits
from .progress import Progress
from .schedule import Schedule

M = TypeVar("M")
N = TypeVar("N", contravariant=True)


class Stepping(Protocol):
    """What makes the steps: `Steps`, for one transcoder here."""

    def make(self, t: int) -> float:
        """Make step ``t``, the next of the state; return the loss before it."""

    def fetch(self) -> None:
        """Bring the arrays of the state up to the last step."""


class Measuring(Protocol[N]):
    """What measures a transcoder on the way: `Measure`."""

    @property
    def rows_in_words(self) -> str:
        """Which rows `some` looks at."""

    def some(self, transcoder: N) -> Figures:
        """On the first rows."""


class Run(Generic[M]):
    """What `fit` repeats.  ``saved`` is all that changes, and all that a checkpoint holds."""

    def __init__(
        self,
        saved: Checkpoint,
        schedule: Schedule,
        steps: Stepping,
        scaling: InUnits,
        measure: Measuring[M],
        log_every: int,
        patience: int,
        folded: Callable[[dict[str, np.ndarray]], M],
    ) -> None:
        self.saved = saved
        self._folded = folded  # makes of trained arrays what takes data in their own units
        self._schedule = schedule
        self._steps = steps
        self._scaling = scaling
        self._measure = measure
        self._log_every = log_every
        self._patience = patience
        self._rows = 0
        self._seconds = 0.0  # for these rows, without what measuring takes

    @property
    def steps(self) -> int:
        """The steps made, in this process or before."""
        return self.saved.state.t

    @property
    def done(self) -> bool:
        """Whether all steps are made, or the last of them in vain."""
        return self.steps >= self._schedule.steps or self._in_vain

    @property
    def best_step(self) -> int | None:
        """The step whose arrays are returned in place of the last, if that is asked for."""
        return self._best.step if self._patience and self.saved.entries else None

    @property
    def _best(self) -> Entry:
        return min(self.saved.entries, key=lambda entry: entry.fvu)

    @property
    def _in_vain(self) -> bool:
        """Whether so many measurements in a row were not below the best before them."""
        entries = self.saved.entries
        return bool(self._patience and entries) and (
            len(entries) - 1 - entries.index(self._best) >= self._patience
        )

    def step(self) -> Progress:
        """Make the next step, and an entry of the log if it is due.

        Raises:
            OptionError: the loss is no longer finite.
        """
        t = self.steps + 1
        lr, rows = self._schedule(t), self._schedule.batch_size
        state = self.saved.state
        started = time.perf_counter()
        with np.errstate(all="ignore"):  # what diverges is reported below
            loss = self._steps.make(t)
        self._rows += rows
        self._seconds += time.perf_counter() - started
        speed = self._rows / max(self._seconds, 1e-9)
        if not math.isfinite(loss):
            want = f"low enough for a finite loss, which was {loss} at step {t}"
            raise OptionError("lr", want, self._schedule.lr, "Lower it.")
        self.saved.losses.append(loss)
        if t % self._log_every == 0 or self.done:
            self._log(t, lr, speed)
        latest = self.saved.entries[-1] if self.saved.entries else None
        size = state.dict_size
        return Progress(t, self._schedule.steps, loss, lr, speed, latest, size)

    def up_to_date(self) -> Checkpoint:
        """``saved``, with the arrays of the last step, wherever that was made."""
        self._steps.fetch()
        return self.saved

    def transcoder(self) -> M:
        """The transcoder so far, or the best that was measured, for data in their own units.

        Raises:
            NonFiniteError: a parameter that is too large in these units.
        """
        state = self.up_to_date().state
        return self._folded(state.measured if self.best_step is None else state.best)

    def history(self) -> History:
        """The log so far."""
        return History(tuple(self.saved.entries), self._scaling, self._measure.rows_in_words)

    def _log(self, t: int, lr: float, speed: float) -> None:
        losses = self.saved.losses
        state = self.up_to_date().state
        found = self._measure.some(self._folded(state.measured))
        loss = math.fsum(losses) / len(losses)
        self.saved.entries.append(Entry(t, lr, loss, *found, speed))
        if self._best.step == t:
            for name, best in state.best.items():
                best[...] = state.measured[name]
        losses.clear()
        self._rows, self._seconds = 0, 0.0
