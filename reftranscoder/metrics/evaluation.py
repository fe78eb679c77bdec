"""`Evaluation`: blocks of rows in, `Metrics` of all of them out.

Sums are taken in float64 in one pass, after moving the origin near the data and with each block's
squares about its own mean, so that a large mean does not swallow the variance.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from ..arrays import to_array, to_dtype, to_matrix, to_sparse
from ..errors import OptionError, ShapeError
from .features import active_by_row, active_counts


@dataclasses.dataclass(frozen=True, eq=False)
class Metrics:
    """What `Evaluation.result` found.  Without ``hidden``, what is about features is None.

    FVU is infinite where the target does not vary but is not met, and NaN where both sums are zero
    or an entry is not finite.
    """

    rows: int
    mse: float  # mean squared error over all rows and columns
    fvu: float
    l0: float | None
    firing_rates: np.ndarray | None  # (D,): in what fraction of the rows each feature is active
    l0_counts: np.ndarray | None  # (L + 1,): in how many rows 0, 1, ... L features are active

    @property
    def dead_features(self) -> np.ndarray | None:
        """The indices, ascending, of the features that are active in no row."""
        return None if self.firing_rates is None else np.flatnonzero(self.firing_rates == 0)


class Evaluation:
    """Takes blocks of rows, and gives `Metrics` of all of them.

        evaluation = Evaluation()
        for x, y in blocks:
            hidden = tc.encode(x)
            evaluation.add(y, tc.decode(hidden), hidden)
        print(evaluation.result().fvu)

    Args:
        mean: (O,) compare with this mean of the target instead of that of the rows added: the mean
            over the training rows, say, which is what a model without features could have learnt.
    """

    def __init__(self, mean: Any = None) -> None:
        self._given_mean = None if mean is None else _vector(mean)
        self._rows = 0
        self._columns = 0
        self._origin: np.ndarray | None = None  # (O,) any point near the data
        self._mean: np.ndarray | float = 0.0  # (O,) of the rows so far, less the origin
        self._squares = 0.0  # of target - mean
        self._errors = 0.0  # squares of target - reconstruction
        self._counts: np.ndarray | None = None  # (D,) rows in which each feature is active
        self._l0_counts = np.zeros(1, np.int64)  # rows in which 0, 1, ... features are active
        self._has_hidden: bool | None = None

    def add(self, target: Any, reconstruction: Any, hidden: Any = None) -> None:
        """Add rows: ``target``, ``reconstruction`` (B, O) and ``hidden`` (B, D), sparse or dense.

        Raises:
            ShapeError: shapes that do not fit each other or the blocks before.
            OptionError: ``hidden`` given for some blocks only.
        """
        y = to_matrix(target, "target", "(B, O)", self._columns or None, np.float64)
        y_hat = to_matrix(reconstruction, "reconstruction", "(B, O)", y.shape[1], np.float64)
        if y_hat.shape != y.shape:
            raise ShapeError("reconstruction", y.shape, y_hat.shape, letters="(B, O)")
        if self._given_mean is not None and self._given_mean.shape != y.shape[1:]:
            raise ShapeError("mean", y.shape[1:], self._given_mean.shape, letters="(O,)")
        if self._has_hidden not in (None, hidden is not None):
            raise OptionError("hidden", "given for every block or for none", hidden)
        if hidden is not None:
            self._add_hidden(hidden, len(y))
        self._has_hidden = hidden is not None
        self._columns = y.shape[1]
        if len(y):
            with np.errstate(over="ignore", invalid="ignore"):
                self._add_squares(y, y_hat)

    def result(self) -> Metrics:
        """Return the `Metrics` of all rows added so far.

        Raises:
            ShapeError: no row was added.
        """
        if not self._rows:
            raise ShapeError("target", "with at least one row", (0, self._columns))
        l0 = rates = None
        if self._counts is not None:
            l0 = float(self._counts.sum() / self._rows)
            rates = self._counts / self._rows
            rates.flags.writeable = False
        return Metrics(
            rows=self._rows,
            mse=self._errors / (self._rows * self._columns),
            fvu=_ratio(self._errors, self._squares),
            l0=l0,
            firing_rates=rates,
            l0_counts=None if rates is None else self._l0_counts,
        )

    def _add_squares(self, y: np.ndarray, y_hat: np.ndarray) -> None:
        rows = self._rows + len(y)
        self._errors += float(np.square(y - y_hat).sum())
        if self._given_mean is not None:
            self._squares += float(np.square(y - self._given_mean).sum())
        else:
            if self._origin is None:
                self._origin = y.mean(axis=0)
            y = y - self._origin
            # Squares about two means become squares about their common one: Chan, Golub and LeVeque
            # (1983), "Algorithms for computing the sample variance", The American Statistician 37.
            mean = y.mean(axis=0)
            shift = mean - self._mean
            self._squares += float(np.square(y - mean).sum())
            self._squares += float(np.square(shift).sum()) * self._rows * len(y) / rows
            self._mean = self._mean + shift * (len(y) / rows)
        self._rows = rows

    def _add_hidden(self, hidden: Any, rows: int) -> None:
        features = None if self._counts is None else len(self._counts)
        hidden = to_sparse(hidden, "hidden", features)
        counts, got = active_counts(hidden)
        if got != rows:
            raise ShapeError("hidden", (rows, len(counts)), (got, len(counts)), letters="(B, D)")
        of_rows = np.bincount(active_by_row(hidden), minlength=len(self._l0_counts))
        of_rows[: len(self._l0_counts)] += self._l0_counts
        of_rows.flags.writeable = False
        self._l0_counts = of_rows
        self._counts = counts if self._counts is None else self._counts + counts


def fvu(target: Any, reconstruction: Any, mean: Any = None) -> float:
    """The fraction of variance unexplained of ``reconstruction`` (B, O) for ``target`` (B, O).

    ``mean`` (O,) as in `Evaluation`; the definition stands at the head of this file.

    Returns:
        A number without a unit: 0 where all is met, 1 where no more is than by the mean.

    Raises:
        ShapeError: the shapes differ, or there is no row.
    """
    evaluation = Evaluation(mean)
    evaluation.add(target, reconstruction)
    return evaluation.result().fvu


def _ratio(errors: float, squares: float) -> float:
    if squares:
        return errors / squares
    return math.inf if errors > 0 else math.nan


def _vector(mean: Any) -> np.ndarray:
    mean = to_array(mean, "mean")
    if mean.ndim != 1:
        raise ShapeError("mean", "with 1 axis", mean.shape)
    return np.array(to_dtype(mean, "mean", np.float64))  # a copy: whoever gave it may change it
