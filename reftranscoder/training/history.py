"""What a run recorded about itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from .scaling import Scaling


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of the log.  Two entries are equal if the same was computed, however fast."""

    step: int  # steps made so far
    lr: float  # of that step
    loss: float  # mean over the steps since the entry before, in training units
    fvu: float  # against the mean of the training target
    l0: float
    dead: int  # features that are active in none of the rows measured
    rows_per_second: float = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True)
class History:
    """The log of a run: a sequence of `Entry`, and what their numbers mean."""

    entries: tuple[Entry, ...]
    scaling: Scaling
    measured_on: str  # the rows of fvu, l0 and dead

    @property
    def units(self) -> str:
        """What the numbers are measured in, in words."""
        return (
            "loss: training units, in which inputs are divided by "
            f"{self.scaling.input_scale:.6g} and targets by {self.scaling.target_scale:.6g}, their "
            "root mean squares over the training rows; "
            f"fvu, l0, dead: {self.measured_on}, in the units of the data"
        )

    def column(self, name: str) -> list[Any]:
        """One field of every entry: ``column("loss")``."""
        return [getattr(entry, name) for entry in self.entries]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return {
            "units": self.units,
            "measured_on": self.measured_on,
            **dataclasses.asdict(self.scaling),
            "entries": [dataclasses.asdict(entry) for entry in self.entries],
        }

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __getitem__(self, index: int) -> Entry:
        return self.entries[index]
