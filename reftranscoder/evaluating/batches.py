"""What `evaluate` needs of a batch of rows, and how batches are merged in the order of the rows.

A batch can be measured wherever its rows are: only sums come out of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..metrics import DEFINITIONS, Evaluation, LayersMetrics, Metrics, Sums, sums_of
from ..metrics.definitions import ROWS, WHOLE
from ..metrics.evaluation import Squares, squares_of
from ..metrics.features import active_by_row, active_counts
from ..transcoder import Transcoder


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluated:
    """What `evaluate` found."""

    metrics: Metrics  # of all rows
    whole: Mapping[str, float]  # every one of `metrics.DEFINITIONS` on all rows at once, by name
    batches: Mapping[str, float]  # and as the mean over batches: of their rows, where it is by rows
    batch_rows: int
    fvu_by_column: np.ndarray  # (O,) of each column of the target; NaN where that is constant

    @property
    def rows(self) -> int:
        """How many there were."""
        return self.metrics.rows

    @cached_property
    def published(self) -> dict[str, float]:
        """Every definition on that which it is published on, by name."""
        return {
            name: (self.whole if row.published_on == WHOLE else self.batches)[name]
            for name, row in DEFINITIONS.items()
        }


@dataclasses.dataclass(frozen=True, eq=False)
class LayersEvaluated:
    """What `evaluate` found of a cross-layer transcoder."""

    layers: tuple[Evaluated, ...]  # of each layer: its features, and its reconstruction

    @property
    def rows(self) -> int:
        """How many there were, of each layer."""
        return self.layers[0].rows

    @property
    def metrics(self) -> LayersMetrics:
        """Of all rows, layer by layer."""
        return LayersMetrics(tuple(layer.metrics for layer in self.layers))


class Measured(NamedTuple):
    """What `evaluate` needs of a batch of rows."""

    squares: Squares
    counts: np.ndarray  # (D,) in how many rows each feature is active
    l0_counts: np.ndarray  # in how many rows 0, 1, ... features are active
    about_mean: Sums  # about the mean of all rows
    about_own: Sums  # about that of the batch


def measured(
    tc: Transcoder,
    x: np.ndarray,
    target: np.ndarray,
    mean: np.ndarray,
    origin: np.ndarray,
    backend: str,
) -> Measured:
    """What `evaluate` needs of rows ``x`` (B, I) and ``target`` (B, O).

    ``mean`` (O,) is that of all rows, ``origin`` (O,) that of the first batch.
    """
    hidden = tc.encode(x, backend=backend)
    reconstruction = tc.decode(hidden, x, backend=backend)
    return measured_of(hidden, x, target, reconstruction, mean, origin)


def measured_of(
    hidden: Any,
    x: np.ndarray,
    target: np.ndarray,
    reconstruction: np.ndarray,
    mean: np.ndarray,
    origin: np.ndarray,
) -> Measured:
    """The same of what was ``hidden`` (B, D) and ``reconstruction`` (B, O)."""
    y, y_hat = (np.asarray(a, np.float64) for a in (target, reconstruction))
    return Measured(
        squares_of(y, y_hat, None, origin),
        active_counts(hidden)[0],
        np.bincount(active_by_row(hidden)),
        sums_of(target, reconstruction, mean, x),
        sums_of(target, reconstruction, None, x),
    )


class Merged:
    """What was `measured` of batches, one after the other, of so many ``rows``."""

    def __init__(self, rows: int, batch_rows: int) -> None:
        self._rows, self._batch_rows = rows, batch_rows
        self._evaluation = Evaluation()
        self._whole: Sums | None = None
        self._of_batches: dict[str, float] = dict.fromkeys(DEFINITIONS, 0.0)
        self._origin: np.ndarray | None = None

    def origin_for(self, target: np.ndarray) -> np.ndarray:
        """The origin (O,) that squares of ``target`` (B, O) are taken about: of the first batch
        that is asked for, its mean."""
        if self._origin is None:
            self._origin = np.asarray(target, np.float64).mean(axis=0)
        return self._origin

    def add(self, batch: Measured) -> None:
        """Add the next batch."""
        self._evaluation.merge(batch.squares)
        self._evaluation.merge_counts(batch.counts, batch.l0_counts)
        whole, own = batch.about_mean, batch.about_own
        self._whole = whole if self._whole is None else self._whole.plus(whole)
        batches = -(-self._rows // self._batch_rows)
        for name, row in DEFINITIONS.items():
            weight = own.rows / self._rows if row.published_on == ROWS else 1 / batches
            self._of_batches[name] += weight * row(own)

    def result(self) -> Evaluated:
        """What all of them give."""
        whole = self._whole
        assert whole is not None  # there is a row
        found = {name: row(whole) for name, row in DEFINITIONS.items()}
        metrics = self._evaluation.result()
        # Two ways to the same number; one of them is known to 2 n u, whatever the mean.
        found["fvu"] = metrics.fvu
        with np.errstate(all="ignore"):
            by_column = np.asarray(whole.errors / whole.squares)
        return Evaluated(metrics, found, self._of_batches, self._batch_rows, by_column)
