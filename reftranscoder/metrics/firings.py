"""Where some features fire, and how strongly: the strongest firings, and quantiles of all.

Memory does not grow with the data.  Of each feature the strongest firings are kept, and a sample of
all of them: those `SAMPLE` whose rows come first in a fixed order of all whole numbers that looks
random, so that neither the size of the blocks nor anybody's seed changes it.  Quantiles are those
of the sample, which is everything as long as a feature fires no more often than that; beyond, the
rank of a value is known to within ``sqrt(q (1 - q) / SAMPLE)``, 0.8 % at the median (one standard
deviation).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import to_sparse
from ..errors import OptionError, ShapeError
from ..options import integer_in, positive_integer

SAMPLE = 4096
STRONGEST = 24


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureFirings:
    """What `Firings.result` found of one feature."""

    feature: int
    rows: int  # that were looked at
    count: int  # of them with an activation above zero
    strongest_rows: np.ndarray  # (n,) of the strongest, in descending order
    strongest_values: np.ndarray  # (n,) float64
    sample_rows: np.ndarray  # (m,) of the sample, in ascending order of the values
    sample_values: np.ndarray  # (m,) float64

    @property
    def rate(self) -> float:
        """In what fraction of the rows it fires."""
        return self.count / self.rows

    @property
    def exact(self) -> bool:
        """Whether the sample is all firings."""
        return self.count == len(self.sample_rows)

    def value_at(self, quantile: float) -> float:
        """Return the value that the share ``quantile`` of the firings does not exceed, or NaN.

        Between two firings it is interpolated linearly, as `numpy.quantile` does it.
        """
        if quantile == 1 and self.count:  # known whatever the sample
            return float(self.strongest_values[0])
        return float(np.quantile(self.sample_values, quantile)) if self.count else np.nan

    def quantile_of(self, value: float) -> float:
        """Return the share of the firings that are not stronger than ``value``."""
        if value >= self.strongest_values[-1]:  # whose ranks are known whatever the sample
            stronger = np.count_nonzero(self.strongest_values > value)
            return float(1 - stronger / self.count)
        weaker = np.searchsorted(self.sample_values, value, "right")
        return float(weaker / len(self.sample_values))


class Firings:
    """Takes blocks of hidden activations, and gives `FeatureFirings` of some features.

        firings = Firings([3, 17])
        for x in blocks:
            firings.add(tc.encode(x))
        print(firings.result()[0].value_at(0.5))

    Args:
        features: their indices.
        strongest: how many of the strongest firings of each are kept.
        sample: how many of all are kept.

    Raises:
        OptionError: an option that makes no sense.
    """

    def __init__(
        self, features: Sequence[int], strongest: int = STRONGEST, sample: int = SAMPLE
    ) -> None:
        self._features = [integer_in("features", j, 0, 2**31 - 1) for j in features]
        self._most = positive_integer("strongest", strongest)
        self._sample = positive_integer("sample", sample)
        self._rows = 0
        self._kept = [_Kept() for _ in self._features]

    def add(self, hidden: Any) -> None:
        """Add the rows of ``hidden`` (B, D), sparse or dense, which follow those added before.

        Raises:
            OptionError: it has no feature of one of these indices.
        """
        hidden = to_sparse(hidden, "hidden")
        rows, features = hidden.shape
        wrong = next((j for j in self._features if j >= features), None)
        if wrong is not None:
            raise OptionError("features", f"below the number of features, {features}", wrong)
        of_entries = hidden.rows()
        for j, kept in zip(self._features, self._kept):
            fires = (hidden.indices == j) & (hidden.values > 0)
            values = hidden.values[fires].astype(np.float64)
            kept.add(self._rows + of_entries[fires], values, self._most, self._sample)
        self._rows += rows

    def result(self) -> list[FeatureFirings]:
        """Return what was found, in the order of the features.

        Raises:
            ShapeError: no row was added.
        """
        if not self._rows:
            raise ShapeError("hidden", "with at least one row", (0, "any"))
        return [
            FeatureFirings(j, self._rows, kept.count, *kept.strongest, *_ascending(*kept.sample))
            for j, kept in zip(self._features, self._kept)
        ]


class _Kept:
    """Of one feature: the strongest firings and the sample, as rows and values."""

    def __init__(self) -> None:
        self.count = 0
        nothing = np.zeros(0, np.int64), np.zeros(0)
        self.strongest, self.sample = nothing, nothing

    def add(self, rows: np.ndarray, values: np.ndarray, most: int, sample: int) -> None:
        if not len(rows):
            return
        self.count += len(rows)
        r, v = (np.concatenate(pair) for pair in zip(self.strongest, (rows, values)))
        order = np.lexsort((r, -v))[:most]
        self.strongest = r[order], v[order]
        r, v = (np.concatenate(pair) for pair in zip(self.sample, (rows, values)))
        if len(r) > sample:
            order = np.argsort(_scattered(r))[:sample]
            r, v = r[order], v[order]
        self.sample = r, v


def _ascending(rows: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((rows, values))
    return rows[order], values[order]


def _scattered(rows: np.ndarray) -> np.ndarray:
    """A number of 64 bits for each row, no two the same: one step of SplitMix64.

    Source: Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators",
    OOPSLA, figure 15 with the constants of variant 13.
    """
    z = (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
