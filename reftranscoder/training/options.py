"""What `fit` takes."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from ..backends import BACKENDS
from ..declaring import option
from ..params import Architecture
from .adam import Recipe
from .schedule import Schedule


@dataclasses.dataclass(frozen=True, eq=False)
class _Data:
    x: Any
    target: Any = None


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FitOptions(Recipe, Schedule, Architecture, _Data):
    """The data and every option, as they were given: `fit` makes of them what it checks."""

    validation: Any = option(
        None,
        "a pair ``(x, target)``, or a fraction",
        "of the rows: the last, which training then does not see (never random rows: neighbours "
        "would leak).  What ``history`` measures is measured on at most the first 4096 of these "
        "rows, or else of the training rows, and ``metrics`` on all of them.  FVU compares with "
        "the mean of the training target",
    )
    seed: Any = option(0, "of everything random", "an int, a ``SeedSequence`` or a ``Generator``")
    backend: str = option(
        "kernels",
        "what computes",
        '``"kernels"``; or ``"reference"``, in which gradients are computed in float64',
        choices=BACKENDS,
    )
    accumulate: int = option(
        1,
        "parts in which a batch is read and differentiated",
        "one after the other, to need less memory; it changes no bit",
    )
    log_every: int = option(50, "steps between two measurements", "the entries of ``history``")
    patience: int = option(
        0,
        "measurements without a lower FVU after which training stops",
        "on the validation rows; what is returned is then the best that was measured.  0: all "
        "steps are made, and what is returned is what they end with",
    )
    checkpoint: str | os.PathLike[str] | None = option(
        None,
        "go on from FILE, and write it",
        "training goes on from this file, if it exists, and writes it every ``checkpoint_every`` "
        "steps, when interrupted, and at the end",
    )
    checkpoint_every: int = option(100, "steps between two checkpoints")
    checkpoint_last: int = option(
        1,
        "checkpoints that are kept, the last so many",
        "before the suffix of FILE those before it have their steps (``training/keeping.py``)",
    )
    checkpoint_best: bool = option(
        False,
        "keep the checkpoint with the lowest FVU too",
        "of the steps that ``history`` measures, as ``best`` before the suffix of FILE",
    )
    log: str | os.PathLike[str] | None = option(
        None,
        "write what is measured to FILE, a JSON object a line, while training goes on",
        "another log at this name is replaced, but that of the run that goes on from its "
        "``checkpoint``, which goes on too (``training/metrics_log.py``)",
    )
    progress: Any = option(
        False,
        "True for a bar on a terminal",
        "or a function, called with a `Progress` after every step",
    )

    def __post_init__(self) -> None:
        """Nothing is checked yet: bad data are reported before bad options."""
