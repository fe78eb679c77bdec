"""The gradients of the parameters on intervals: sums over all rows, put together from blocks."""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

import numpy as np

from ...bounds import add_up, multiply_up
from ..task.stage_graph import OF_OWN
from .backward import Backward
from .interval import TIERS, Interval, entrywise, growth, joined, made, stored, sum_of_two
from .products import Sum, by_columns, entry_product, transposed_product
from .sparse_interval import SparseInterval, stacked

_AT_ONCE = 1 << 24  # entries of blocks that are added at once


class _Block(NamedTuple):
    """What gradients read of a block of rows; None where none of them is wanted that reads it."""

    x: Interval
    hidden: SparseInterval
    d_reconstruction: Interval | None
    d_affine: SparseInterval | None
    other: dict[str, SparseInterval]


class ParameterGradients:
    """The gradients of the parameters, which sum over rows: added to block by block."""

    def __init__(self, intervals: Backward, names: Container[str]) -> None:
        self.intervals = intervals
        self._sums = {
            name: Sum(intervals.arithmetic[name])
            for name in ("dW_dec", "db_dec", "dW_skip", "dW_enc", "db_enc", *OF_OWN)
            if name in names
        }
        self._waiting: list[_Block] = []
        self._entries = 0  # of what waits
        self._through_norms = np.zeros(len(intervals.W_dec))
        self._through_norms_error = np.zeros((len(TIERS), len(intervals.W_dec)))

    def add(
        self,
        x: Interval,
        hidden: SparseInterval,
        d_reconstruction: Interval | None,
        d_affine: SparseInterval | None,
        other: dict[str, SparseInterval] | None = None,
    ) -> None:
        """A block of rows.  ``other`` holds what a gradient, by its name, reads in place of hidden
        or d_affine."""
        if not self._sums:
            return
        self._waiting.append(_Block(x, hidden, d_reconstruction, d_affine, other or {}))
        sizes = [f.entries.value.size for f in (hidden, d_affine) if f is not None]
        self._entries += sum(sizes) + x.value.size
        if self._entries > _AT_ONCE:
            self._add_waiting()

    def _add_waiting(self) -> None:
        """Add the blocks that wait, as one: a gradient is large, and adding to it is dear."""
        if not self._waiting:
            return
        blocks, self._waiting, self._entries = self._waiting, [], 0
        d_reconstructions = [b.d_reconstruction for b in blocks if b.d_reconstruction is not None]
        d_affines = [b.d_affine for b in blocks if b.d_affine is not None]
        self._add_block(
            joined([b.x for b in blocks]),
            stacked([b.hidden for b in blocks]),
            joined(d_reconstructions) if d_reconstructions else None,
            stacked(d_affines) if d_affines else None,
            {name: stacked([b.other[name] for b in blocks]) for name in blocks[0].other},
        )

    def _add_block(
        self,
        x: Interval,
        hidden: SparseInterval,
        d_reconstruction: Interval | None,
        d_affine: SparseInterval | None,
        other: dict[str, SparseInterval],
    ) -> None:
        """(D3), (D4), (S3), (A3) and (A4)."""
        intervals, sums = self.intervals, self._sums
        definition = intervals.definition
        rows = len(x.value)
        ones = Interval(np.ones((rows, 1)))

        if "dW_dec" in sums:
            written = SparseInterval(hidden.pattern, intervals.written(hidden, "dW_dec"))
            _add_transposed(sums["dW_dec"], other.get("dW_dec", written), made(d_reconstruction))
            if definition.reaches_norms:
                self._add_through_norms(x, hidden, made(d_reconstruction))
        if "dW_enc" in sums:
            features = made(other.get("dW_enc", d_affine))
            _add_transposed(sums["dW_enc"], features, intervals.encoder_input(x))
        if "db_enc" in sums:
            _add_transposed(sums["db_enc"], made(other.get("db_enc", d_affine)), ones)
        if "dW_skip" in sums:
            sums["dW_skip"].add(by_columns, made(d_reconstruction), intervals.skip_input(x), rows)
        if "db_dec" in sums:
            parts = [made(d_reconstruction)]
            if definition.input != "x":
                parts.append(_negative(intervals.dx_encoder(made(d_affine))))
            if definition.skip_input == "x - b_dec" and intervals.W_skip is not None:
                parts.append(_negative(intervals.dx_skip(made(d_reconstruction))))
            for part in parts:
                sums["db_dec"].add(by_columns, part, ones, rows)
        for name in OF_OWN:
            if name in sums and name in other:
                _add_transposed(sums[name], other[name], ones)

    def bounded(self) -> dict[str, Interval]:
        """Every gradient, stored once, or more often where it is put together from parts."""
        self._add_waiting()
        found, intervals = {}, self.intervals
        for name, total in self._sums.items():
            arithmetic = intervals.arithmetic[name]
            if name in OF_OWN:
                found[name] = intervals.mistaken(name, self._of_own(total))
                continue
            interval = total.stored()
            if name in ("db_dec", "db_enc"):
                interval = interval.at((slice(None), 0))
            read = intervals.definition.input, intervals.definition.skip_input
            subtracted = "x - b_dec" in read
            if name == "db_dec" and subtracted:
                interval = stored(interval, arithmetic, times=3)
            if name == "dW_dec" and intervals.definition.reaches_norms:
                interval = sum_of_two(interval, self._norms_share(), arithmetic)
            if name == "dW_dec" and intervals.definition.tangent:
                interval = self._tangent(interval)
            found[name] = intervals.mistaken(name, interval)
        return found

    def _of_own(self, total: Sum) -> Interval:
        """A sum over the rows of every feature, which factors of the feature may multiply last."""
        if isinstance(total.value, float):  # nothing was ever added
            zeros = np.zeros(len(self.intervals.W_enc))
            return Interval(zeros)
        return stored(total.stored(), total.arithmetic, times=3).at((slice(None), 0))

    def _add_through_norms(
        self, x: Interval, hidden: SparseInterval, d_reconstruction: Interval
    ) -> None:
        """The derivative of the loss by |W_dec[j]|.

        Each penalty that |W_dec[j]| scales adds ``penalty * hidden / |W_dec[j]|``.  What reaches it
        through the reconstruction cancels, up to roundings of the two terms that do.
        """
        intervals = self.intervals
        indices = hidden.pattern.indices
        inverse = intervals.inverse_norms[indices]
        scaled = intervals.definition.norms in ("hidden", "pre")
        times = scaled + intervals.definition.l1_weighted
        penalty = intervals.penalty(hidden, x)
        value = times * penalty.value * hidden.entries.value * inverse
        self._through_norms += np.bincount(indices, value, len(intervals.W_dec))
        cancelled = 0.0
        if scaled:
            G, W = np.abs(d_reconstruction.value), np.abs(intervals.W_dec)
            dots = entry_product(hidden.pattern)(G, W)
            cancelled = 4 * dots * np.abs(hidden.entries.value) * inverse**2
        relative = intervals.relative(intervals.O, "dW_dec")
        for tier in range(len(TIERS)):
            sizes = np.abs(value) + cancelled
            error = 4 * relative[tier] * sizes
            error = error + penalty.error(tier) * times * np.abs(hidden.entries.value) * inverse
            error = error + np.abs(penalty.value) * times * hidden.entries.error(tier) * inverse
            own = np.bincount(indices, error, len(intervals.W_dec))
            count = np.bincount(indices, minlength=len(intervals.W_dec))
            size = np.bincount(indices, sizes, len(intervals.W_dec))
            factor = growth(count, count.size, intervals.arithmetic["dW_dec"])[tier]
            self._through_norms_error[tier] += own + 2 * factor * size

    def _tangent(self, dW_dec: Interval) -> Interval:
        """dW_dec[j] less its component along W_dec[j].

        The component is a dot product of O terms with a unit vector, both rounded, times that
        vector; W_dec[j] may be taken for one where it is, to rounding.
        """
        intervals = self.intervals
        arithmetic, O = intervals.arithmetic["dW_dec"], intervals.O
        unit = intervals.W_dec * intervals.inverse_norms[:, None]
        along = np.sum(dW_dec.value * unit, axis=1, keepdims=True)
        value, size = along * unit, np.abs(unit)
        S = np.sum(np.abs(dW_dec.value) * size, axis=1, keepdims=True)
        sums, relative = growth(O, len(unit), arithmetic), intervals.relative(O, "dW_dec")
        errors = []
        for tier in range(len(TIERS)):
            carried = np.sum(dW_dec.error(tier) * size, axis=1, keepdims=True)
            error = 1.01 * (float(sums[tier]) + 2 * relative[tier]) * S + carried
            rounding = entrywise(value, 4, arithmetic)
            errors.append(add_up(multiply_up(error, size), rounding))
        return sum_of_two(dW_dec, Interval(-value, tuple(errors)), arithmetic)

    def _norms_share(self) -> Interval:
        """That, times the derivative of |W_dec[j]| by W_dec[j]."""
        intervals = self.intervals
        direction = intervals.W_dec * intervals.inverse_norms[:, None]
        value = self._through_norms[:, None] * direction
        arithmetic = intervals.arithmetic["dW_dec"]
        relative = intervals.relative(intervals.O, "dW_dec")
        errors = []
        for tier in range(len(TIERS)):
            carried = self._through_norms_error[tier][:, None] * np.abs(direction)
            rounding = entrywise(value, 4, arithmetic)
            errors.append(add_up(carried, rounding, multiply_up(relative[tier], np.abs(value))))
        return Interval(value, tuple(errors))


def _add_transposed(total: Sum, features: SparseInterval, right: Interval) -> None:
    counts = np.bincount(features.pattern.indices, minlength=features.pattern.shape[1])
    total.add(transposed_product(features.pattern), features.entries, right, counts[:, None])


def _negative(interval: Interval) -> Interval:
    return Interval(-interval.value, interval.errors)
