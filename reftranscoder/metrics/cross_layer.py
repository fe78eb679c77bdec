"""`Metrics` of several layers together."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from .evaluation import Metrics


@dataclasses.dataclass(frozen=True, eq=False)
class LayersMetrics:
    """The `Metrics` of each layer of a cross-layer transcoder, and few numbers for all.

    >>> one, other = rt.metrics.Evaluation(), rt.metrics.Evaluation()
    >>> one.add([[0.0], [2.0]], [[1.0], [1.0]], [[0, 1], [1, 1]])
    >>> other.add([[0.0], [2.0]], [[0.0], [2.0]], [[1, 0], [0, 0]])
    >>> both = rt.metrics.LayersMetrics((one.result(), other.result()))
    >>> both.fvu, both.l0, both.dead
    (0.5, 1.0, 1)
    """

    layers: tuple[Metrics, ...]

    @property
    def rows(self) -> int:
        """How many there were, of each layer."""
        return self.layers[0].rows

    @property
    def fvu(self) -> float:
        """The mean over layers of their FVU."""
        return math.fsum(layer.fvu for layer in self.layers) / len(self.layers)

    @property
    def l0(self) -> float:
        """How many features of one layer are active in a row, the mean over layers."""
        found = [layer.l0 for layer in self.layers if layer.l0 is not None]
        return math.fsum(found) / len(found) if found else math.nan

    @property
    def dead_features(self) -> tuple[np.ndarray, ...]:
        """Of each layer, the indices of the features that are active in no row."""
        found = (layer.dead_features for layer in self.layers)
        return tuple(np.empty(0, np.intp) if dead is None else dead for dead in found)

    @property
    def dead(self) -> int:
        """How many features are active in no row, of all layers."""
        return sum(map(len, self.dead_features))
