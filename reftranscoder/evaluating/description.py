"""What `describe` finds, and the same as plain values."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from ..metrics import FeatureFirings, Metrics, density_histogram
from ..metrics.features import DENSE
from ..params import TranscoderConfig
from .published import Evaluated
from .tokens import Context

#: Of the firings of a feature, and of what there is one of for each feature.
QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)


class Decoder(NamedTuple):
    """The rows of ``W_dec``, in float64."""

    norms: np.ndarray  # (D,)
    nearest: np.ndarray | None  # (D,): which other row has the largest cosine with each
    cosines: np.ndarray | None  # (D,): that cosine; None where there is no other row


class Firing(NamedTuple):
    """A row in which a feature fires."""

    row: int  # of the file or array
    value: float
    quantile: float  # the share of the feature's firings that are not stronger
    context: Context | None  # without tokens
    values: tuple[float, ...]  # of the context's tokens; NaN where they are not known

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        found = {"row": self.row, "value": self.value, "quantile": self.quantile}
        if self.context is None:
            return found
        values = [None if np.isnan(value) else value for value in self.values]
        return found | self.context._asdict() | {"values": values}


class Feature(NamedTuple):
    """A feature by where it fires."""

    firings: FeatureFirings
    strongest: tuple[Firing, ...]  # in descending order
    others: tuple[Firing, ...]  # nearest to the quantiles 0.9, 0.75, 0.5 and 0.25

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        of = self.firings
        quantiles = {f"{q:g}": of.value_at(q) for q in QUANTILES} if of.count else {}
        return {
            "feature": of.feature,
            "firings": of.count,
            "rate": of.rate,
            "quantiles": quantiles,
            "quantiles_of": len(of.sample_rows),
            "strongest": [firing.to_dict() for firing in self.strongest],
            "others": [firing.to_dict() for firing in self.others],
        }


@dataclasses.dataclass(frozen=True, eq=False)
class Description:
    """What `describe` found.  Without ``x``, what is about data is None or empty."""

    config: TranscoderConfig
    decoder: Decoder
    x: str | None  # what messages call the rows read
    target: str | None  # and those to be predicted
    metrics: Metrics | None  # its fvu and mse mean nothing without a target
    evaluated: Evaluated | None  # without a target
    features: tuple[Feature, ...]
    has_text: bool  # whether tokens were given
    seconds: float  # that describing took

    @property
    def dead_features(self) -> np.ndarray | None:
        """The indices, ascending, of the features that fire in no row."""
        return None if self.metrics is None else self.metrics.dead_features

    @property
    def dense_features(self) -> np.ndarray | None:
        """The indices, ascending, of the features that fire in more than a tenth of the rows."""
        if self.metrics is None or self.metrics.firing_rates is None:
            return None
        return np.flatnonzero(self.metrics.firing_rates > DENSE)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON: arrays are lists, NaN and infinity None."""
        found: dict[str, Any] = {
            "config": self.config.to_dict(),
            "decoder": self.decoder._asdict(),
            "data": None if self.x is None else {"x": self.x, "target": self.target},
            "seconds": self.seconds,
        }
        if self.metrics is not None and self.metrics.firing_rates is not None:
            counts, edges = density_histogram(self.metrics.firing_rates)
            found |= {
                "rows": self.metrics.rows,
                "l0": self.metrics.l0,
                "l0_rows": self.metrics.l0_counts,
                "firing_rates": self.metrics.firing_rates,
                "density": {"log10_edges": edges, "features": counts},
                "dead_features": self.dead_features,
                "dense_features": self.dense_features,
                "features": [feature.to_dict() for feature in self.features],
            }
        if self.evaluated is not None:
            found |= {
                "published": self.evaluated.published,
                "fvu_by_column": self.evaluated.fvu_by_column,
            }
        plain: dict[str, Any] = _plain(found)
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
