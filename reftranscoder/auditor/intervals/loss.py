"""The loss on intervals."""

from __future__ import annotations

import numpy as np

from ...bounds import FLOAT64, add_up, multiply_up
from .backward import Backward
from .interval import TIERS, Interval, entrywise, growth
from .sparse_interval import SparseInterval


class Loss:
    """The loss (C1), which sums over everything: added to block by block.

    Of several ``layers`` it is the sum, and each of these adds its blocks.
    """

    def __init__(self, intervals: Backward, layers: int = 1) -> None:
        self.intervals, self._layers = intervals, layers
        self._mse, self._l1 = 0.0, 0.0
        self._mse_errors, self._l1_errors = np.zeros(len(TIERS)), np.zeros(len(TIERS))
        self._entries = 0

    def add(
        self, target: np.ndarray, reconstruction: Interval, hidden: SparseInterval, x: Interval
    ) -> None:
        intervals = self.intervals
        arithmetic = intervals.arithmetic["loss"]
        weight, relative = intervals.mse_weight(target)
        difference = reconstruction.value - target
        square = weight * difference**2
        self._mse += float(square.sum())
        entries = hidden.entries
        l1_weight, l1relative = intervals.l1_factor(hidden.pattern, x)
        l1_weight = intervals.definition.l1_loss * l1_weight
        weighted = l1_weight * np.abs(entries.value)
        self._l1 += float(np.sum(weighted))
        self._entries += len(entries.value)
        rounding = entrywise(difference**2, 1, arithmetic)
        for tier in range(len(TIERS)):
            error = add_up(reconstruction.error(tier), entrywise(difference, 1, arithmetic))
            spread = multiply_up(error, add_up(2 * np.abs(difference), error))
            spread = multiply_up(weight, add_up(spread, rounding))
            self._mse_errors[tier] += float(np.sum(spread) + relative[tier] * np.sum(square))
            spread = multiply_up(l1_weight, entries.error(tier))
            self._l1_errors[tier] += float(np.sum(spread) + l1relative[tier] * np.sum(weighted))

    def bounded(self) -> Interval:
        intervals = self.intervals
        arithmetic, features = intervals.arithmetic["loss"], intervals.arithmetic["hidden"]
        N = self._layers * intervals.B * intervals.O
        value = self._mse + self._l1
        errors = []
        # A dense mean adds B D terms, but zeros are added without rounding.
        terms = growth(np.array([N, max(self._entries, 1)]), 2, arithmetic)
        for tier in range(len(TIERS)):
            mse_error, l1_error = self._mse_errors[tier], self._l1_errors[tier]
            grown = terms[tier][0] * (self._mse + mse_error) + mse_error
            shrunk = terms[tier][1] * (self._l1 + l1_error) + l1_error
            own = (N + self._entries + 8) * FLOAT64.unit * value
            # Both means of each further layer may be stored and added, too.
            final = entrywise(value, 2 + 4 * self._layers, arithmetic)
            if features.store.unit > arithmetic.store.unit:
                # A mean of hidden may be kept in the format that hidden has.
                final = add_up(final, entrywise(self._l1, 4, features))
            errors.append(np.asarray(add_up(grown, shrunk, own, final)))
        return intervals.mistaken("loss", Interval(np.asarray(value), tuple(errors)))
