"""A run under way: one step after the other, and its log."""

from __future__ import annotations

import math
import time

import numpy as np

from ..errors import OptionError
from ..params import Params
from ..transcoder import Transcoder
from .adam import Recipe, training_step
from .batches import Batches
from .checkpoint import Checkpoint
from .evaluation import Measure
from .history import Entry, History
from .progress import Progress
from .scaling import Scaling
from .schedule import Schedule


class Run:
    """What `fit` repeats.  ``saved`` is all that changes, and all that a checkpoint holds."""

    def __init__(
        self,
        saved: Checkpoint,
        schedule: Schedule,
        recipe: Recipe,
        batches: Batches,
        scaling: Scaling,
        measure: Measure,
        log_every: int,
        backend: str,
    ) -> None:
        self.saved = saved
        self._schedule = schedule
        self._recipe = recipe
        self._batches = batches
        self._scaling = scaling
        self._measure = measure
        self._log_every = log_every
        self._backend = backend
        self._rows = 0
        self._seconds = 0.0  # for these rows, without what measuring takes

    @property
    def steps(self) -> int:
        """The steps made, in this process or before."""
        return self.saved.state.t

    @property
    def done(self) -> bool:
        """Whether all steps are made."""
        return self.steps >= self._schedule.steps

    def step(self) -> Progress:
        """Make the next step, and an entry of the log if it is due.

        Raises:
            OptionError: the loss is no longer finite.
        """
        t = self.steps + 1
        lr = self._schedule(t)
        started = time.perf_counter()
        x, target = self._batches(t)
        with np.errstate(all="ignore"):  # what diverges is reported below
            loss = training_step(self.saved.state, self._recipe, lr, x, target, self._backend)
        self._rows += len(x)
        self._seconds += time.perf_counter() - started
        speed = self._rows / max(self._seconds, 1e-9)
        if not math.isfinite(loss):
            want = f"low enough for a finite loss, which was {loss} at step {t}"
            raise OptionError("lr", want, self._schedule.lr, "Lower it.")
        self.saved.losses.append(loss)
        if t % self._log_every == 0 or self.done:
            self._log(t, lr, speed)
        latest = self.saved.entries[-1] if self.saved.entries else None
        return Progress(t, self._schedule.steps, loss, lr, speed, latest)

    def transcoder(self) -> Transcoder:
        """The transcoder so far, for data in their own units.

        Raises:
            NonFiniteError: a parameter that is too large in these units.
        """
        state = self.saved.state
        return Transcoder(state.config, Params(**self._scaling.folded(state.arrays)))

    def history(self) -> History:
        """The log so far."""
        return History(tuple(self.saved.entries), self._scaling, self._measure.rows_in_words)

    def _log(self, t: int, lr: float, speed: float) -> None:
        losses = self.saved.losses
        found = self._measure.some(self.transcoder())
        loss = math.fsum(losses) / len(losses)
        assert found.l0 is not None and found.dead_features is not None  # features were measured
        dead = len(found.dead_features)
        self.saved.entries.append(Entry(t, lr, loss, found.fvu, found.l0, dead, speed))
        losses.clear()
        self._rows, self._seconds = 0, 0.0
