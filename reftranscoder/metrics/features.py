"""What is counted of features: L0, firing rates, dead and dense ones, and how the rates spread."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import to_sparse
from ..errors import OptionError, ShapeError
from ..options import positive_integer

DENSE = 0.1  # of the rows: above it a feature counts as dense


def l0(hidden: Any) -> float:
    """Return the mean number of active features of a row of ``hidden`` (B, D), sparse or dense.

    Raises:
        ShapeError: there is no row.
    """
    counts, rows = active_counts(hidden)
    return float(counts.sum() / _some(rows, hidden))


def firing_rates(hidden: Any) -> np.ndarray:
    """In what fraction of the rows of ``hidden`` (B, D), sparse or dense, each feature fires.

    Returns:
        (D,) float64, from 0 to 1.

    Raises:
        ShapeError: there is no row.
    """
    counts, rows = active_counts(hidden)
    return counts / _some(rows, hidden)


def dead_features(hidden: Any) -> np.ndarray:
    """Return the indices, ascending, of the features that no row of ``hidden`` (B, D) activates.

    Raises:
        ShapeError: there is no row.
    """
    return np.flatnonzero(firing_rates(hidden) == 0)


def dense_features(hidden: Any, above: float = DENSE) -> np.ndarray:
    """Return the indices, ascending, of the features active in more than ``above`` of the rows.

    Raises:
        ShapeError: there is no row in ``hidden`` (B, D).
    """
    return np.flatnonzero(firing_rates(hidden) > above)


def density_histogram(rates: Any, bins: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """How many features fire how often, by the decimal logarithm of their rates.

    Source: Bricken et al. (2023), "Towards Monosemanticity", the section on feature density; there
    as here, features that never fire have no logarithm and are not in it.

    Args:
        rates: (D,) firing rates, as `firing_rates` returns them.
        bins: how many of equal width there are, from the lowest rate to 1.

    Returns:
        Counts (bins,) and edges (bins + 1,), the latter as logarithms, from at most -1 to 0.

    Raises:
        OptionError: rates outside 0 to 1.
    """
    bins = positive_integer("bins", bins)
    rates = np.asarray(rates, np.float64)
    if not ((rates >= 0) & (rates <= 1)).all():
        raise OptionError("rates", "from 0 to 1", float(rates.max(initial=-1)))
    logs = np.log10(rates[rates > 0])
    lowest = min(float(logs.min(initial=0)), -1.0)
    return np.histogram(logs, bins=bins, range=(lowest, 0.0))


def active_counts(hidden: Any, features: int | None = None) -> tuple[np.ndarray, int]:
    """In how many rows each feature is active (D,) int64, and the number of rows.

    Raises:
        ShapeError: there are not ``features`` of them, if that is given.
    """
    hidden = to_sparse(hidden, "hidden", features)
    active = hidden.indices[hidden.values > 0]
    rows, features = hidden.shape
    return np.bincount(active, minlength=features), rows


def active_by_row(hidden: Any) -> np.ndarray:
    """How many features are active in each row of ``hidden`` (B, D), sparse or dense.

    Returns:
        (B,) int64.
    """
    hidden = to_sparse(hidden, "hidden")
    return np.bincount(hidden.rows()[hidden.values > 0], minlength=hidden.shape[0])


def _some(rows: int, hidden: Any) -> int:
    if not rows:
        raise ShapeError("hidden", "with at least one row", hidden.shape)
    return rows
