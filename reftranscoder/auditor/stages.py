"""Every stage of the transcoder on intervals: its float64 value, and how far off one may be.

Each function takes what is upstream of its stage, as intervals over a block of rows, and returns
the stage.  Upstream is the candidate's own result wherever it gave one (an exact interval: whatever
it is, the next stage read it), so that a fault is found at the stage that made it and nowhere else.

The formulas are those of `reftranscoder.reference`; its equations are cited by their tags.  A
"store" is one rounding to what results are kept in.  Where implementations differ in the number of
stores (a bias added in the accumulator or to the stored product), the bound allows the most.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

import numpy as np

from ..bounds import FLOAT64, add_up, multiply_up
from ..params import Params
from ..sparse import Sparse
from .arithmetic import Arithmetic
from .definition import Definition
from .interval import TIERS, Interval, entrywise, growth, stored
from .products import Sum, dense_product, entry_product, sparse_product, transposed_product


class Features(NamedTuple):
    """``hidden``, or a gradient at its entries, for a block of rows."""

    pattern: Sparse  # (B, D); its values are not used
    entries: Interval  # (nnz,)

    def counts(self) -> np.ndarray:
        """The number of entries of each row (B, 1)."""
        return np.diff(self.pattern.indptr)[:, None]


class Stages:
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
    ) -> None:
        self.definition, self.arithmetic = definition, arithmetic
        self.B, self.D, self.O = shape
        self.l1_coeff = l1_coeff
        arrays = {name: a.astype(np.float64) for name, a in params.arrays().items()}
        self.W_enc, self.W_dec = arrays["W_enc"], arrays["W_dec"]
        self.W_skip = arrays.get("W_skip")
        self.b_enc = arrays["b_enc"] * definition.b_enc
        self.subtracted, self.b_dec = arrays["b_dec"], arrays["b_dec"] * definition.b_dec
        if definition.W_enc == "transposed":
            self.W_enc = np.ascontiguousarray(self.W_enc.T)
        if definition.W_dec == "transposed":
            self.W_dec = np.ascontiguousarray(self.W_dec.T)
        self.W_back = self.W_dec
        if definition.W_dec == "transposed backwards":
            self.W_back = np.ascontiguousarray(self.W_dec.T)
        if definition.W_skip == "none":
            self.W_skip = None
        if definition.W_skip == "transposed" and self.W_skip is not None:
            self.W_skip = np.ascontiguousarray(self.W_skip.T)
        self.norms = np.linalg.norm(self.W_dec, axis=1)
        # A feature that writes nothing is neither scaled nor ever unscaled.
        self.inverse_norms = 1 / np.where(self.norms > 0, self.norms, np.inf)
        self.variance = _variance(target, arithmetic["loss"]) if definition.mse == "fvu" else None

    def reads_pre_acts(self) -> bool:
        """Whether a gradient reads pre_acts where it should read hidden."""
        return self.definition.mask != "selected" or self.definition.dW_dec != "hidden"

    # Forward

    def encoder_input(self, x: Interval) -> Interval:
        """What the encoder reads: x, or x - b_dec, rounded once."""
        return self._minus_b_dec(x, "pre") if self.definition.input != "x" else x

    def skip_input(self, x: Interval) -> Interval:
        """What the skip connection reads."""
        if self.definition.skip_input == "x":
            return x
        return self._minus_b_dec(x, "reconstruction")

    def pre(self, x: Interval) -> Interval:
        """(A1).  Stores: the product, and the sum with the bias."""
        arithmetic = self.arithmetic["pre"]
        total = Sum(arithmetic)
        total.add(_by_rows, self.encoder_input(x), Interval(self.W_enc), x.value.shape[1])
        total.plus(self.b_enc)
        pre = _stored_twice(total.bounded(), self.b_enc, arithmetic)
        return self._normed(pre, self.norms, "pre") if self.definition.norms == "pre" else pre

    def pre_acts(self, pre: Interval) -> Interval:
        """(R1): monotone, and no further than its argument; exact where that is."""
        if not self.definition.rectified:
            return pre
        value = np.where(pre.value <= 0, 0.0, pre.value)
        if pre.errors is None:
            return Interval(value)
        return Interval(value, pre.each(lambda e: np.where(pre.value + e <= 0, 0.0, e)))

    def ranks(self, pre_acts: Interval) -> Interval:
        """What the selection compares: pre_acts, or these times |W_dec[j]|."""
        if self.definition.norms in ("none", "pre"):
            return pre_acts
        return self._normed(pre_acts, self.norms, "hidden")

    def kept(self, pre_acts: Interval, ranks: Interval) -> Interval:
        """The values that hidden holds where it selects."""
        return pre_acts if self.definition.norms in ("none", "ranks") else ranks

    def reconstruction(self, hidden: Features, x: Interval) -> Interval:
        """(D1) and (S1).  Stores: the products, and their sums with each other and the bias."""
        arithmetic = self.arithmetic["reconstruction"]
        total = Sum(arithmetic)
        written = self.written(hidden, "reconstruction")
        total.add(sparse_product(hidden.pattern), written, Interval(self.W_dec), hidden.counts())
        total.plus(self.b_dec)
        result = _stored_twice(total.bounded(), self.b_dec, arithmetic)
        if self.W_skip is None:
            return result
        skip = Sum(arithmetic)
        skip.add(_by_rows, self.skip_input(x), Interval(self.W_skip), self.W_skip.shape[1])
        return _sum_of_two(result, stored(skip.bounded(), arithmetic), arithmetic)

    def written(self, hidden: Features, stage: str) -> Interval:
        """What multiplies W_dec (nnz,): hidden, or hidden over |W_dec[j]| where that scales it."""
        if self.definition.norms in ("none", "ranks"):
            return hidden.entries
        return self._normed(hidden.entries, self.inverse_norms[hidden.pattern.indices], stage)

    # Backward

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
        return self._mistaken("d_reconstruction", Interval(value, tuple(errors)))

    def mse_weight(self, target: np.ndarray) -> tuple:
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
        return weight, self._relative(self.O, "loss")

    def d_hidden(self, d_reconstruction: Interval, hidden: Features, x: Interval) -> Features:
        """(C2) at the entries of hidden.  Stores: the product, the penalty, and their sum."""
        arithmetic = self.arithmetic["d_hidden"]
        total = Sum(arithmetic)
        total.add(entry_product(hidden.pattern), d_reconstruction, Interval(self.W_back), self.O)
        product = stored(total.bounded(), arithmetic)
        if self.definition.norms in ("hidden", "pre"):
            product = self._normed(product, self.inverse_norms[hidden.pattern.indices], "d_hidden")
        both = _sum_of_two(product, self.penalty(hidden, x), arithmetic)
        return Features(hidden.pattern, self._mistaken("d_hidden", both))

    def d_hidden_dense(self, d_reconstruction: Interval) -> Interval:
        """(D2) everywhere, (B, D): what a dense backward pass finds outside the selection too."""
        total = Sum(self.arithmetic["d_hidden"])
        total.add(_by_rows, d_reconstruction, Interval(self.W_back), self.O)
        product = stored(total.bounded(), self.arithmetic["d_hidden"], times=2)
        if self.definition.norms in ("hidden", "pre"):
            product = self._normed(product, self.inverse_norms, "d_hidden")
        return self._mistaken("d_hidden", product)

    def penalty(self, hidden: Features, x: Interval) -> Interval:
        """(P2): the L1 loss's share of d_hidden (nnz,)."""
        arithmetic = self.arithmetic["d_hidden"]
        factor, relative = self.l1_factor(hidden.pattern, x)
        value = self.definition.l1_gradient * factor * np.sign(hidden.entries.value)
        own = entrywise(value, 4, arithmetic)
        errors = tuple(add_up(own, multiply_up(r, np.abs(value))) for r in relative)
        return Interval(value, errors)

    def l1_factor(self, pattern: Sparse, x: Interval) -> tuple:
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
            relative = relative + self._relative(x.value.shape[1], "loss")
        if definition.l1_weighted:
            factor = factor * self.norms[pattern.indices]
            relative = relative + self._relative(self.O, "loss")
        return factor, tuple(relative)

    def d_pre(self, d_hidden: Features, hidden: Features) -> Features:
        """(C3): d_hidden at the selected entries, and nothing elsewhere.

        Where hidden itself is uncertain of an entry, its gradient may be there or not.
        """
        entries = d_hidden.entries
        if self.definition.norms == "hidden":
            entries = self._normed(entries, self.norms[hidden.pattern.indices], "d_pre")
        if hidden.entries.errors is not None:
            perhaps = np.abs(hidden.entries.value) <= hidden.entries.error(0)
            if perhaps.any():
                size = np.where(perhaps, np.abs(entries.value), 0.0)
                whole = entries.each(lambda e: add_up(e, size))
                entries = Interval(entries.value, whole)
        return Features(hidden.pattern, self._mistaken("d_pre", entries))

    def d_pre_unmasked(self, d_pre: Features, dense: Interval, pre_acts: Interval) -> Features:
        """d_pre with another mask than hidden's: ``dense`` (B, D) passes wherever that lets it."""
        kind = self.definition.mask
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
        return Features(pattern, Interval(pattern.values, tuple(errors)))

    def d_affine(self, d_pre: Features) -> Features:
        """The gradient of x W_enc.T + b_enc: d_pre, unless pre is that times |W_dec[j]|."""
        if self.definition.norms != "pre":
            return d_pre
        norms = self.norms[d_pre.pattern.indices]
        return Features(d_pre.pattern, self._normed(d_pre.entries, norms, "d_pre"))

    def dx(self, d_affine: Features, d_reconstruction: Interval) -> Interval:
        """(C4).  Stores: each product, and their sum."""
        paths = [self.dx_encoder(d_affine)]
        if self.W_skip is not None:
            paths.append(self.dx_skip(d_reconstruction))
            if self.definition.dx_paths == "both":
                paths = [_sum_of_two(*paths, self.arithmetic["dx"])]
        kept = -1 if self.definition.dx_paths == "skip" else 0
        return self._mistaken("dx", paths[kept])

    def dx_encoder(self, d_affine: Features) -> Interval:
        """(A2)."""
        total = Sum(self.arithmetic["dx"])
        total.add(
            sparse_product(d_affine.pattern),
            d_affine.entries,
            Interval(self.W_enc),
            d_affine.counts(),
        )
        return stored(total.bounded(), self.arithmetic["dx"])

    def dx_skip(self, d_reconstruction: Interval) -> Interval:
        """(S2)."""
        total = Sum(self.arithmetic["dx"])
        total.add(dense_product, d_reconstruction, Interval(self.W_skip), self.O)
        return stored(total.bounded(), self.arithmetic["dx"])

    def _minus_b_dec(self, x: Interval, stage: str) -> Interval:
        value = x.value - self.subtracted
        rounding = entrywise(value, 1, self.arithmetic[stage])
        return Interval(value, x.each(lambda e: add_up(e, rounding)))

    def _normed(self, interval: Interval, factor: np.ndarray, stage: str) -> Interval:
        """Times ``factor``, |W_dec[j]| or its inverse, which the candidate knows to some error."""
        arithmetic = self.arithmetic[stage]
        relative = self._relative(self.O, stage)
        value = interval.value * factor
        rounding = entrywise(value, 4, arithmetic)
        errors = []
        for tier in range(len(TIERS)):
            grown = multiply_up(interval.error(tier), np.abs(factor), 1 + relative[tier])
            errors.append(add_up(grown, rounding, multiply_up(relative[tier], np.abs(value))))
        return Interval(value, tuple(errors))

    def _relative(self, n: int, stage: str) -> tuple:
        """The relative error of a norm of ``n`` entries, in every tier."""
        arithmetic = self.arithmetic[stage]
        casts = 2 * arithmetic.inputs.unit + 4 * arithmetic.store.unit
        return tuple(1.01 * (float(c) + casts) for c in growth(n, self.B * n, arithmetic))

    def _mistaken(self, stage: str, interval: Interval) -> Interval:
        factor = self.definition.factor(stage)
        if factor != 1:
            errors = interval.each(lambda e: multiply_up(e, abs(factor)))
            interval = Interval(factor * interval.value, errors)
        if stage in self.definition.flipped:
            interval = Interval(interval.value.T, interval.each(np.transpose))
        return interval


class Gradients:
    """The gradients of the parameters, which sum over rows: added to block by block."""

    def __init__(self, stages: Stages, names: Container[str]) -> None:
        self.stages = stages
        self._sums = {
            name: Sum(stages.arithmetic[name])
            for name in ("dW_dec", "db_dec", "dW_skip", "dW_enc", "db_enc")
            if name in names and (name != "dW_skip" or stages.W_skip is not None)
        }
        self._through_norms = np.zeros(len(stages.W_dec))
        self._through_norms_error = np.zeros((len(TIERS), len(stages.W_dec)))

    def add(
        self,
        x: Interval,
        hidden: Features,
        d_reconstruction: Interval,
        d_affine: Features,
        other: dict[str, Features] | None = None,
    ) -> None:
        """(D3), (D4), (S3), (A3) and (A4) for a block of rows.

        ``other`` holds what a gradient, by its name, reads in place of hidden or d_affine.
        """
        stages, sums, other = self.stages, self._sums, other or {}
        definition = stages.definition
        rows = len(x.value)
        ones = Interval(np.ones((rows, 1)))

        if "dW_dec" in sums:
            written = Features(hidden.pattern, stages.written(hidden, "dW_dec"))
            _add_transposed(sums["dW_dec"], other.get("dW_dec", written), d_reconstruction)
            if self._reaches_norms():
                self._add_through_norms(x, hidden, d_reconstruction)
        if "dW_enc" in sums:
            features = other.get("dW_enc", d_affine)
            _add_transposed(sums["dW_enc"], features, stages.encoder_input(x))
        if "db_enc" in sums:
            _add_transposed(sums["db_enc"], other.get("db_enc", d_affine), ones)
        if "dW_skip" in sums:
            sums["dW_skip"].add(_by_columns, d_reconstruction, stages.skip_input(x), rows)
        if "db_dec" in sums:
            parts = [d_reconstruction]
            if definition.input != "x":
                parts.append(_negative(stages.dx_encoder(d_affine)))
            if definition.skip_input != "x" and stages.W_skip is not None:
                parts.append(_negative(stages.dx_skip(d_reconstruction)))
            for part in parts:
                sums["db_dec"].add(_columns, part, ones, rows)

    def bounded(self) -> dict[str, Interval]:
        """Every gradient, stored once, or more often where it is put together from parts."""
        found, stages = {}, self.stages
        for name, total in self._sums.items():
            arithmetic = stages.arithmetic[name]
            interval = stored(total.bounded(), arithmetic)
            if name in ("db_dec", "db_enc"):
                errors = tuple(error[:, 0] for error in interval.errors)
                interval = Interval(interval.value[:, 0], errors)
            subtracted = "x" != stages.definition.input or "x" != stages.definition.skip_input
            if name == "db_dec" and subtracted:
                interval = stored(interval, arithmetic, times=3)
            if name == "dW_dec" and self._reaches_norms():
                interval = _sum_of_two(interval, self._norms_share(), arithmetic)
            found[name] = stages._mistaken(name, interval)
        return found

    def _reaches_norms(self) -> bool:
        definition = self.stages.definition
        scaled = definition.norms in ("hidden", "pre")
        return (scaled or definition.l1_weighted) and not definition.detached

    def _add_through_norms(self, x: Interval, hidden: Features, d_reconstruction: Interval) -> None:
        """The derivative of the loss by |W_dec[j]|.

        Each penalty that |W_dec[j]| scales adds ``penalty * hidden / |W_dec[j]|``.  What reaches it
        through the reconstruction cancels, up to roundings of the two terms that do.
        """
        stages = self.stages
        indices = hidden.pattern.indices
        inverse = stages.inverse_norms[indices]
        scaled = stages.definition.norms in ("hidden", "pre")
        times = scaled + stages.definition.l1_weighted
        penalty = stages.penalty(hidden, x)
        value = times * penalty.value * hidden.entries.value * inverse
        self._through_norms += np.bincount(indices, value, len(stages.W_dec))
        cancelled = 0.0
        if scaled:
            G, W = np.abs(d_reconstruction.value), np.abs(stages.W_dec)
            dots = entry_product(hidden.pattern)(G, W)
            cancelled = 4 * dots * np.abs(hidden.entries.value) * inverse**2
        relative = stages._relative(stages.O, "dW_dec")
        for tier in range(len(TIERS)):
            sizes = np.abs(value) + cancelled
            error = 4 * relative[tier] * sizes
            error = error + penalty.error(tier) * times * np.abs(hidden.entries.value) * inverse
            error = error + np.abs(penalty.value) * times * hidden.entries.error(tier) * inverse
            own = np.bincount(indices, error, len(stages.W_dec))
            count = np.bincount(indices, minlength=len(stages.W_dec))
            size = np.bincount(indices, sizes, len(stages.W_dec))
            factor = growth(count, count.size, stages.arithmetic["dW_dec"])[tier]
            self._through_norms_error[tier] += own + 2 * factor * size

    def _norms_share(self) -> Interval:
        """That, times the derivative of |W_dec[j]| by W_dec[j]."""
        stages = self.stages
        direction = stages.W_dec * stages.inverse_norms[:, None]
        value = self._through_norms[:, None] * direction
        arithmetic = stages.arithmetic["dW_dec"]
        relative = stages._relative(stages.O, "dW_dec")
        errors = []
        for tier in range(len(TIERS)):
            carried = self._through_norms_error[tier][:, None] * np.abs(direction)
            rounding = entrywise(value, 4, arithmetic)
            errors.append(add_up(carried, rounding, multiply_up(relative[tier], np.abs(value))))
        return Interval(value, tuple(errors))


class Loss:
    """The loss (C1), which sums over everything: added to block by block."""

    def __init__(self, stages: Stages) -> None:
        self.stages = stages
        self._mse, self._l1 = 0.0, 0.0
        self._mse_errors, self._l1_errors = np.zeros(len(TIERS)), np.zeros(len(TIERS))
        self._entries = 0

    def add(
        self, target: np.ndarray, reconstruction: Interval, hidden: Features, x: Interval
    ) -> None:
        stages = self.stages
        arithmetic = stages.arithmetic["loss"]
        weight, relative = stages.mse_weight(target)
        difference = reconstruction.value - target
        square = weight * difference**2
        self._mse += float(square.sum())
        entries = hidden.entries
        l1_weight, l1_relative = stages.l1_factor(hidden.pattern, x)
        l1_weight = stages.definition.l1_loss * l1_weight
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
            self._l1_errors[tier] += float(np.sum(spread) + l1_relative[tier] * np.sum(weighted))

    def bounded(self) -> Interval:
        stages = self.stages
        arithmetic = stages.arithmetic["loss"]
        N = stages.B * stages.O
        value = self._mse + self._l1
        errors = []
        # A dense mean adds B D terms, but zeros are added without rounding.
        terms = growth(np.array([N, max(self._entries, 1)]), 2, arithmetic)
        for tier in range(len(TIERS)):
            mse_error, l1_error = self._mse_errors[tier], self._l1_errors[tier]
            grown = terms[tier][0] * (self._mse + mse_error) + mse_error
            shrunk = terms[tier][1] * (self._l1 + l1_error) + l1_error
            own = (N + self._entries + 8) * FLOAT64.unit * value
            final = entrywise(value, 6, arithmetic)
            errors.append(np.asarray(add_up(grown, shrunk, own, final)))
        return stages._mistaken("loss", Interval(np.asarray(value), tuple(errors)))


def _by_rows(A: np.ndarray, W: np.ndarray) -> np.ndarray:
    return A @ W.T


def _by_columns(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    return A.T @ B


def _columns(A: np.ndarray, ones: np.ndarray) -> np.ndarray:
    return A.T @ ones


def _stored_twice(total: Interval, bias: np.ndarray, arithmetic: Arithmetic) -> Interval:
    """A product stored before the bias is added, then the sum stored."""
    product = Interval(total.value - bias, total.errors)
    once = stored(product, arithmetic)
    return stored(Interval(total.value, once.errors), arithmetic)


def _sum_of_two(a: Interval, b: Interval, arithmetic: Arithmetic) -> Interval:
    errors = tuple(add_up(a.error(tier), b.error(tier)) for tier in range(len(TIERS)))
    return stored(Interval(a.value + b.value, errors), arithmetic)


def _add_transposed(total: Sum, features: Features, right: Interval) -> None:
    counts = np.bincount(features.pattern.indices, minlength=features.pattern.shape[1])
    total.add(transposed_product(features.pattern), features.entries, right, counts[:, None])


def _negative(interval: Interval) -> Interval:
    return Interval(-interval.value, interval.errors)


def _variance(target: np.ndarray, arithmetic: Arithmetic) -> tuple:
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
