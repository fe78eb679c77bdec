"""What a run recorded about itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol


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


class InUnits(Protocol):
    """What data are divided by: `Scaling`, or that of several layers."""

    @property
    def in_words(self) -> str:
        """The same in a clause."""

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""


@dataclasses.dataclass(frozen=True)
class History:
    """The log of a run: a sequence of `Entry`, and what their numbers mean."""

    entries: tuple[Entry, ...]
    scaling: InUnits
    measured_on: str  # the rows of fvu, l0 and dead

    @property
    def units(self) -> str:
        """What the numbers are measured in, in words."""
        return (
            f"loss: training units, in which {self.scaling.in_words}, their "
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
            **self.scaling.to_dict(),
            "entries": [dataclasses.asdict(entry) for entry in self.entries],
        }

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __getitem__(self, index: int) -> Entry:
        return self.entries[index]
