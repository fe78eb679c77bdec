"""The backward stages of each row on intervals; `forward` says what these are.

``parameter_gradients`` and ``loss`` have the sums over rows.
"""

from __future__ import annotations

import functools

import numpy as np

from ...bounds import FLOAT64, Reals, add_up, multiply_up
from ...params import Params
from ...sparse import Sparse
from ..task.arithmetic import Arithmetic
from ..task.definition import Definition
from .forward import Forward
from .interval import TIERS, Interval, entrywise, growth, made, sum_of_two
from .jumps import added, slope
from .products import Operand, Sum, by_rows, dense_product, entry_product, sparse_product
from .sparse_interval import SparseInterval


class Backward(Forward):
    """The stages of one transcoder, under one definition, in a declared arithmetic.

    ``shape`` is (B, D, O) of the whole batch, which the means of the loss run over, and ``target``
    (B, O) the whole target: the definitions named ``fvu`` divide by its variance.
    """

    def __init__(
        self,
        params: Params,
        definition: Definition,
        arithmetic: dict[str, Arithmetic],
        shape: tuple[int, int, int],
        l1_coeff: float,
        target: np.ndarray | None = None,
        operands: dict[int, Operand] | None = None,
        parts: int = 1,
    ) -> None:
        super().__init__(params, definition, arithmetic, shape, operands, parts)
        self.l1_coeff, self._target = l1_coeff, target

    @functools.cached_property
    def variance(self) -> tuple[float, tuple[float, ...]]:
        """The variance of the whole target, and its relative error in every tier."""
        return _variance(made(self._target), self.arithmetic["loss"])

    def reads_pre_acts(self) -> bool:
        """Whether a gradient reads pre_acts where it should read hidden."""
        return self.definition.mask != "selected" or self.definition.dW_dec != "hidden"

    def compared(
        self, reconstruction: Interval | None, hidden: SparseInterval, x: Interval
    ) -> Interval | None:
        """What is compared with the target: the reconstruction, or by mistake one in which the skip
        connection counts another number of times, and which was decoded apart."""
        times = self.definition.error_skipped
        if times == 1 or self.W_skip is None or reconstruction is None:
            return reconstruction
        again, arithmetic = self.reconstruction(hidden, x), self.arithmetic["reconstruction"]
        errors = tuple(add_up(reconstruction.error(t), again.error(t)) for t in range(len(TIERS)))
        skipped = self.times(times - 1, self.skip(x), "reconstruction")
        return sum_of_two(Interval(reconstruction.value, errors), skipped, arithmetic)

    def d_reconstruction(self, reconstruction: Interval, target: np.ndarray) -> Interval:
        """(M2).  Four roundings: the difference, and three factors; the factors may underflow."""
        arithmetic = self.arithmetic["d_reconstruction"]
        weight, relative = self.mse_weight(target)
        factor = 2 * weight
        difference = reconstruction.value - target
        value = factor * difference
        least = multiply_up(2 * arithmetic.store.spacing, np.abs(difference))
        own = add_up(
            entrywise(value, 4, arithmetic), least, multiply_up(8 * FLOAT64.unit, np.abs(value))
        )
        errors = []
        # An error e of the difference, seen in d_reconstruction; the roundings act on it as well.
        for tier in range(len(TIERS)):
            seen = multiply_up(
                factor, reconstruction.error(tier), 1 + 8 * arithmetic.store.unit + relative[tier]
            )
            errors.append(add_up(own, seen, multiply_up(relative[tier], np.abs(value))))
        return self.mistaken("d_reconstruction", Interval(value, tuple(errors)))

    def mse_weight(self, target: np.ndarray) -> tuple[Reals, tuple[float, ...]]:
        """What multiplies e^2, a number or (rows, 1), and its relative error in every tier."""
        kind = self.definition.mse
        share = 0.5 if self.definition.half else 1.0
        share /= {"mean": self.B * self.O, "over_norm": self.B * self.O}.get(kind, 1.0)
        share /= {"row_sum": self.B, "over_square": self.B}.get(kind, 1.0)
        if kind == "fvu":
            variance, relative = self.variance
            return share / variance, relative
        if kind in ("mean", "row_sum", "sum"):
            return share, (0.0,) * len(TIERS)
        square = np.sum(target**2, axis=1, keepdims=True)
        with np.errstate(divide="ignore"):
            weight = share / (np.sqrt(square) if kind == "over_norm" else square)
        return weight, self.relative(self.O, "loss")

    def d_hidden(
        self, d_reconstruction: Interval, hidden: SparseInterval, x: Interval
    ) -> SparseInterval:
        """(C2) at the entries of hidden.  Stores: the product, the penalty, and their sum."""
        arithmetic = self.arithmetic["d_hidden"]
        total = Sum(arithmetic)
        total.add(
            entry_product(hidden.pattern), d_reconstruction, self.operand(self.W_back), self.O
        )
        product = total.stored(parts=self.parts)
        product = self.times(self.definition.through_decoder, product, "d_hidden")
        if self.definition.norms in ("hidden", "pre"):
            product = self.normed(product, self.inverse_norms[hidden.pattern.indices], "d_hidden")
        both = sum_of_two(product, self.penalty(hidden, x), arithmetic)
        return SparseInterval(hidden.pattern, self.mistaken("d_hidden", both))

    def d_hidden_dense(self, d_reconstruction: Interval) -> Interval:
        """(D2) everywhere, (B, D): what a dense backward pass finds outside the selection too."""
        total = Sum(self.arithmetic["d_hidden"])
        total.add(by_rows, d_reconstruction, self.operand(self.W_back), self.O)
        product = total.stored(2, parts=self.parts)
        product = self.times(self.definition.through_decoder, product, "d_hidden")
        if self.definition.norms in ("hidden", "pre"):
            product = self.normed(product, self.inverse_norms, "d_hidden")
        return self.mistaken("d_hidden", product)

    def penalty(self, hidden: SparseInterval, x: Interval) -> Interval:
        """(P2): the L1 loss's share of d_hidden (nnz,).

        Where hidden is uncertain of an entry, its share may be there or not.
        """
        arithmetic = self.arithmetic["d_hidden"]
        factor, relative = self.l1_factor(hidden.pattern, x)
        value = self.definition.l1_gradient * factor * np.sign(hidden.entries.value)
        own = entrywise(value, 3 + self.parts, arithmetic)  # each part may be added to it
        if hidden.entries.errors is not None:
            own = add_up(own, np.where(_may_be_zero(hidden), np.abs(value), 0.0))
        errors = tuple(add_up(own, multiply_up(r, np.abs(value))) for r in relative)
        return Interval(value, errors)

    def l1_factor(self, pattern: Sparse, x: Interval) -> tuple[np.ndarray, tuple[float, ...]]:
        """What multiplies |hidden| in the loss (nnz,), and its relative error by tier."""
        definition = self.definition
        rows = self.B * {"mean": self.D, "kept": definition.top_k}.get(definition.l1, 1)
        factor = np.full(len(pattern.indices), self.l1_coeff / rows)
        relative = np.zeros(len(TIERS))
        if definition.l1 == "sum":
            factor = factor * self.B
        if definition.l1 == "over_input_norm":
            with np.errstate(divide="ignore"):
                factor = factor / np.linalg.norm(x.value, axis=1)[pattern.rows()]
            relative = relative + self.relative(x.value.shape[1], "loss")
        if definition.l1_weighted:
            factor = factor * self.norms[pattern.indices]
            relative = relative + self.relative(self.O, "loss")
        return factor, tuple(relative)

    def d_pre(self, d_hidden: SparseInterval, hidden: SparseInterval) -> SparseInterval:
        """(C3): d_hidden at the selected entries, and nothing elsewhere.

        Where hidden itself is uncertain of an entry, its gradient may be there or not.
        """
        entries = passing(d_hidden, hidden).entries
        if self.gates is not None and self.definition.strengthened:
            entries = self.gates.times_strengths(entries, hidden.pattern.indices, "d_pre")
        if self.definition.norms == "hidden":
            entries = self.normed(entries, self.norms[hidden.pattern.indices], "d_pre")
        return SparseInterval(hidden.pattern, self.mistaken("d_pre", entries))

    def d_pre_unmasked(
        self, d_pre: SparseInterval, dense: Interval, pre_acts: Interval
    ) -> SparseInterval:
        """d_pre with another mask than hidden's: ``dense`` (B, D) passes wherever that lets it."""
        kind = self.definition.mask
        if self.gates is not None and self.definition.strengthened:
            dense = self.gates.times_strengths(dense, slice(None), "d_pre")
        through = np.ones(dense.value.shape, bool)
        doubtful = np.zeros(dense.value.shape, bool)
        if kind == "active":
            through = pre_acts.value + pre_acts.error(0) > 0
            doubtful = np.abs(pre_acts.value) <= pre_acts.error(0)
        elif kind == "largest" and self.definition.activation == "topk":
            order = np.argsort(-pre_acts.value, axis=1, kind="stable")
            through[:] = False
            np.put_along_axis(through, order[:, : self.definition.top_k], True, axis=1)
        value = np.where(through, dense.value, 0.0)
        inside = d_pre.pattern.rows(), d_pre.pattern.indices
        through[inside] = True
        value[inside] = d_pre.entries.value
        rows, columns = np.nonzero(through)
        counts = np.bincount(rows, minlength=len(value))
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        pattern = Sparse(starts, columns.astype(np.int32), value[rows, columns], value.shape)
        errors = []
        for tier in range(len(TIERS)):
            error = np.broadcast_to(dense.error(tier), value.shape)
            error = add_up(error, np.where(doubtful & through, np.abs(value), 0.0))
            error[inside] = d_pre.entries.error(tier)
            errors.append(error[rows, columns])
        return SparseInterval(pattern, Interval(pattern.values, tuple(errors)))

    def with_slope(self, d_pre: SparseInterval, slope: SparseInterval) -> SparseInterval:
        """(J5): d_pre, and the slope of the window where pre is in it."""
        return added(d_pre, slope, self.arithmetic["d_pre"])

    def slope(
        self, pre: Interval, d_hidden: SparseInterval, dense: Interval, stage: str
    ) -> SparseInterval:
        """(J3) times d_hidden and theta, for ``stage``; d_hidden is ``dense`` outside hidden."""
        inside = d_hidden.pattern.rows(), d_hidden.pattern.indices
        value = dense.value.copy()
        value[inside] = d_hidden.entries.value
        errors = []
        for tier in range(len(TIERS)):
            error = np.broadcast_to(dense.error(tier), value.shape).copy()
            error[inside] = d_hidden.entries.error(tier)
            errors.append(error)
        bandwidth = made(self.definition.bandwidth)
        whole = Interval(value, tuple(errors))
        return slope(made(self.theta), bandwidth, pre, whole, self.arithmetic[stage])

    def magnitude_gradient(
        self, d_hidden: SparseInterval, hidden: SparseInterval
    ) -> SparseInterval:
        """The terms of (Z6): d_hidden times exp(r_mag) pre, or times hidden - b_mag."""
        d_hidden = passing(d_hidden, hidden)
        gates, arithmetic = made(self.gates), self.arithmetic["dr_mag"]
        j, h, d = hidden.pattern.indices, hidden.entries, d_hidden.entries
        bias = gates.b_mag[j] if self.definition.dr_mag != "hidden" else np.zeros(len(j))
        strength = h.value - bias
        strengths = np.maximum(np.abs(gates.strengths[j]), np.finfo(float).tiny)
        relative = gates.strengths_error("dr_mag")[j] / strengths
        own = entrywise(np.abs(h.value), 3, arithmetic)
        own = add_up(own, entrywise(np.abs(strength), 4, arithmetic))
        own = add_up(own, entrywise(np.abs(bias), 1, arithmetic))
        own = add_up(own, multiply_up(relative, np.abs(strength)))
        value = d.value * strength
        errors = []
        for tier in range(len(TIERS)):
            e = add_up(h.error(tier), own)
            f = np.broadcast_to(d.error(tier), value.shape)
            spread = add_up(multiply_up(np.abs(d.value), e), multiply_up(f, np.abs(strength) + e))
            rounding = entrywise(add_up(np.abs(value), spread), 1, arithmetic)
            errors.append(add_up(spread, rounding))
        return SparseInterval(hidden.pattern, Interval(value, tuple(errors)))

    def d_affine(self, d_pre: SparseInterval) -> SparseInterval:
        """The gradient of x W_enc.T + b_enc: d_pre, unless pre is that times |W_dec[j]|."""
        if self.definition.norms != "pre":
            return d_pre
        norms = self.norms[d_pre.pattern.indices]
        return SparseInterval(d_pre.pattern, self.normed(d_pre.entries, norms, "d_pre"))

    def dx(self, d_affine: SparseInterval, d_reconstruction: Interval) -> Interval:
        """(C4).  Stores: each product, and their sum."""
        dx = self.dx_encoder(d_affine)
        if self.W_skip is not None and self.definition.dx_paths != "encoder":
            through_skip = self.dx_skip(d_reconstruction)
            both = self.definition.dx_paths == "both"
            dx = sum_of_two(dx, through_skip, self.arithmetic["dx"]) if both else through_skip
        return self.mistaken("dx", dx)

    def dx_encoder(self, d_affine: SparseInterval) -> Interval:
        """(A2)."""
        total = Sum(self.arithmetic["dx"])
        total.add(
            sparse_product(d_affine.pattern),
            d_affine.entries,
            self.operand(self.W_enc),
            d_affine.counts(),
        )
        return total.stored(parts=self.parts)

    def dx_skip(self, d_reconstruction: Interval) -> Interval:
        """(S2), where there is a skip connection."""
        total = Sum(self.arithmetic["dx"])
        total.add(dense_product, d_reconstruction, self.operand(made(self.W_skip)), self.O)
        return total.stored(parts=self.parts)


def passing(d_hidden: SparseInterval, hidden: SparseInterval) -> SparseInterval:
    """``d_hidden``, of which that of an entry that need not be there may not pass."""
    entries = d_hidden.entries
    if hidden.entries.errors is None or not (perhaps := _may_be_zero(hidden)).any():
        return d_hidden
    size = np.where(perhaps, np.abs(entries.value), 0.0)
    whole = entries.each(lambda e: add_up(e, size))
    return SparseInterval(d_hidden.pattern, Interval(entries.value, whole))


def _may_be_zero(hidden: SparseInterval) -> np.ndarray:
    """Mask (nnz,) of the entries that a correct candidate need not have."""
    perhaps: np.ndarray = np.abs(hidden.entries.value) <= hidden.entries.error(0)
    return perhaps


def _variance(target: np.ndarray, arithmetic: Arithmetic) -> tuple[float, tuple[float, ...]]:
    """The sum of squared deviations from the columns' means, and its relative error by tier."""
    B, target = len(target), target.astype(np.float64)
    deviation = target - target.mean(axis=0)
    total = float(np.sum(deviation**2))
    sizes, unit = np.mean(np.abs(target), axis=0), arithmetic.store.unit
    relative = []
    for means, sums in zip(
        growth(B, target.shape[1], arithmetic), growth(target.size, 1, arithmetic)
    ):
        error = (means + unit) * sizes + 2 * unit * np.abs(deviation)
        spread = float(np.sum(error * (2 * np.abs(deviation) + error)))
        relative.append(1.01 * (float(sums) + spread / total + 4 * unit))
    return total, tuple(relative)
