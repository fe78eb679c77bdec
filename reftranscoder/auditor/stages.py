"""Every stage of the transcoder on intervals: its float64 value, and how far off one may be.

Each function takes what is upstream of its stage, as intervals over a block of rows, and returns the
stage.  Upstream is the candidate's own result wherever it gave one (an exact interval: whatever it is,
the next stage read it), so that a fault is found at the stage that made it and nowhere else.

The formulas are those of `reftranscoder.reference`; its equations are cited by their tags.  "Store" is
one rounding to what results are kept in.  Where implementations differ in the number of stores (a bias
added in the accumulator or to the stored product), the bound allows the most.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..bounds import FLOAT64, add_up, multiply_up
from ..params import Params
from ..sparse import Sparse
from .arithmetic import Arithmetic
from .definition import Definition
from .interval import TIERS, Interval, cast, entrywise, growth, stored
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

    ``shape`` is (B, D, O) of the whole batch, which the means of the loss run over.
    """

    def __init__(
        self,
        params: Params,
        definition: Definition,
        arithmetic: dict[str, Arithmetic],
        shape: tuple[int, int, int],
        l1_coeff: float,
    ) -> None:
        self.definition, self.arithmetic = definition, arithmetic
        self.B, self.D, self.O = shape
        self.l1_coeff = l1_coeff
        arrays = {name: a.astype(np.float64) for name, a in params.arrays().items()}
        self.W_enc, self.b_enc = arrays["W_enc"], arrays["b_enc"]
        self.W_dec, self.b_dec = arrays["W_dec"], arrays["b_dec"]
        self.W_skip = arrays.get("W_skip")
        if definition.decoder == "transposed":
            self.W_dec = np.ascontiguousarray(self.W_dec.T)
        if definition.skip == "none":
            self.W_skip = None
        if definition.skip == "transposed" and self.W_skip is not None:
            self.W_skip = np.ascontiguousarray(self.W_skip.T)
        self.norms = np.linalg.norm(self.W_dec, axis=1)

    # Forward

    def encoder_input(self, x: Interval) -> Interval:
        """What the encoder reads: x, or x - b_dec, rounded once."""
        return self._minus_b_dec(x, "pre") if self.definition.input != "x" else x

    def skip_input(self, x: Interval) -> Interval:
        """What the skip connection reads."""
        return self._minus_b_dec(x, "reconstruction") if self.definition.skip == "x - b_dec" else x

    def pre(self, x: Interval) -> Interval:
        """(A1).  Stores: the product, and the sum with the bias."""
        arithmetic = self.arithmetic["pre"]
        total = Sum(arithmetic)
        total.add(_by_rows, self.encoder_input(x), Interval(self.W_enc), x.value.shape[1])
        total.plus(self.b_enc)
        pre = _stored_twice(total.bounded(), self.b_enc, arithmetic)
        if self.definition.norms == "none":
            return pre
        errors = pre.each(lambda error: _scaled(pre.value, error, self.norms, arithmetic))
        return Interval(pre.value * self.norms, errors)

    def pre_acts(self, pre: Interval) -> Interval:
        """(R1): monotone, and no further than its argument; exact where that is."""
        if not self.definition.rectified:
            return pre
        value = np.where(pre.value <= 0, 0.0, pre.value)
        if pre.errors is None:
            return Interval(value)
        return Interval(value, pre.each(lambda e: np.where(pre.value + e <= 0, 0.0, e)))

    def reconstruction(self, hidden: Features, x: Interval) -> Interval:
        """(D1) and (S1).  Stores: the products, and their sums with each other and the bias."""
        arithmetic = self.arithmetic["reconstruction"]
        total = Sum(arithmetic)
        entries = hidden.entries
        if self.definition.norms == "scaled":
            norms = self.norms[hidden.pattern.indices]
            errors = entries.each(
                lambda e: add_up(
                    multiply_up(e, 1 / norms), entrywise(entries.value / norms, 2, arithmetic)
                )
            )
            entries = Interval(entries.value / norms, errors)
        total.add(
            sparse_product(hidden.pattern), entries, Interval(self.W_dec), hidden.counts()
        )
        total.plus(self.b_dec)
        result = _stored_twice(total.bounded(), self.b_dec, arithmetic)
        if self.W_skip is None:
            return result
        skip = Sum(arithmetic)
        skip.add(_by_rows, self.skip_input(x), Interval(self.W_skip), self.W_skip.shape[1])
        return _sum_of_two(result, stored(skip.bounded(), arithmetic), arithmetic)

    # Backward

    def d_reconstruction(self, reconstruction: Interval, target: np.ndarray) -> Interval:
        """(M2).  Four roundings: the difference, and three factors."""
        arithmetic = self.arithmetic["d_reconstruction"]
        factor = 2 * self.definition.mse * self.definition.target_gradient / (self.B * self.O)
        value = factor * (reconstruction.value - target)
        relative = entrywise(value, 4, arithmetic)
        # An error e of the difference, seen in d_reconstruction; the roundings act on it as well.
        errors = reconstruction.each(
            lambda e: add_up(
                relative,
                multiply_up(factor, e, 1 + 8 * arithmetic.store.unit),
                multiply_up(8 * FLOAT64.unit, np.abs(value)),
            )
        )
        return Interval(value, errors)

    def d_hidden(self, d_reconstruction: Interval, hidden: Features) -> Features:
        """(C2) at the entries of hidden.  Stores: the product, the penalty, and their sum."""
        arithmetic = self.arithmetic["d_hidden"]
        total = Sum(arithmetic)
        total.add(
            entry_product(hidden.pattern), d_reconstruction, Interval(self.W_dec), self.O
        )
        product = stored(total.bounded(), arithmetic)
        if self.definition.norms == "scaled":
            norms = 1 / self.norms[hidden.pattern.indices]
            errors = product.each(lambda e: _scaled(product.value, e, norms, arithmetic))
            product = Interval(product.value * norms, errors)
        penalty = self.penalty(hidden)
        share = Interval(penalty, (entrywise(penalty, 4, arithmetic),) * len(TIERS))
        return Features(hidden.pattern, _sum_of_two(product, share, arithmetic))

    def d_hidden_dense(self, d_reconstruction: Interval) -> Interval:
        """(D2) everywhere, (B, D): what a dense backward pass finds outside the selection too."""
        total = Sum(self.arithmetic["d_hidden"])
        total.add(_by_rows, d_reconstruction, Interval(self.W_dec), self.O)
        return stored(total.bounded(), self.arithmetic["d_hidden"], times=2)

    def penalty(self, hidden: Features) -> np.ndarray:
        """(P2): the L1 loss's share of d_hidden (nnz,)."""
        if not self.definition.l1_gradient:
            return np.zeros(len(hidden.pattern.indices))
        return self._l1_factor(hidden.pattern.indices) * np.sign(hidden.entries.value)

    def d_pre(self, d_hidden: Features, hidden: Features) -> Features:
        """(C3): d_hidden at the selected entries, and nothing elsewhere.

        Where hidden itself is uncertain of an entry, its gradient may be there or not.
        """
        entries = d_hidden.entries
        if self.definition.norms == "scaled":
            norms = self.norms[hidden.pattern.indices]
            arithmetic = self.arithmetic["d_pre"]
            errors = entries.each(lambda e: _scaled(entries.value, e, norms, arithmetic))
            entries = Interval(entries.value * norms, errors)
        if hidden.entries.errors is not None:
            perhaps = np.abs(hidden.entries.value) <= hidden.entries.error(0)
            if perhaps.any():
                whole = entries.each(lambda e: add_up(e, np.where(perhaps, np.abs(entries.value), 0)))
                entries = Interval(entries.value, whole)
        return Features(hidden.pattern, entries)

    def dx(self, d_pre: Features, d_reconstruction: Interval) -> Interval:
        """(C4).  Stores: each product, and their sum."""
        arithmetic = self.arithmetic["dx"]
        total = Sum(arithmetic)
        total.add(
            sparse_product(d_pre.pattern), d_pre.entries, Interval(self.W_enc), d_pre.counts()
        )
        result = stored(total.bounded(), arithmetic)
        if self.W_skip is None:
            return result
        skip = Sum(arithmetic)
        skip.add(dense_product, d_reconstruction, Interval(self.W_skip), self.O)
        return _sum_of_two(result, stored(skip.bounded(), arithmetic), arithmetic)

    def _minus_b_dec(self, x: Interval, stage: str) -> Interval:
        value = x.value - self.b_dec
        rounding = entrywise(value, 1, self.arithmetic[stage])
        return Interval(value, x.each(lambda e: add_up(e, rounding)))

    def _l1_factor(self, indices: np.ndarray) -> np.ndarray | float:
        kinds = {
            "mean": 1 / (self.B * self.D),
            "sum": 1 / self.B,
            "kept": 1 / (self.B * self.definition.top_k),
            "weighted": self.norms[indices] / self.B,
        }
        return self.l1_coeff * kinds[self.definition.l1]


class Gradients:
    """The gradients of the parameters, which sum over rows: added to block by block."""

    def __init__(self, stages: Stages) -> None:
        self.stages = stages
        self._sums = {
            name: Sum(stages.arithmetic[name])
            for name in ("dW_dec", "db_dec", "dW_skip", "dW_enc", "db_enc")
        }

    def add(
        self, x: Interval, hidden: Features, d_reconstruction: Interval, d_pre: Features
    ) -> None:
        """(D3), (D4), (S3), (A3) and (A4) for a block of rows."""
        stages, sums = self.stages, self._sums
        rows = len(x.value)
        ones = Interval(np.ones((rows, 1)))
        active = np.bincount(hidden.pattern.indices, minlength=stages.D)[:, None]
        written = hidden.entries
        if stages.definition.norms == "scaled":
            norms = stages.norms[hidden.pattern.indices]
            written = Interval(written.value / norms, written.each(lambda e: e / norms))
        transposed = transposed_product(hidden.pattern)
        sums["dW_dec"].add(transposed, written, d_reconstruction, active)
        sums["db_dec"].add(_columns, d_reconstruction, ones, rows)
        if stages.W_skip is not None:
            sums["dW_skip"].add(_by_columns, d_reconstruction, stages.skip_input(x), rows)
        sums["dW_enc"].add(transposed, d_pre.entries, stages.encoder_input(x), active)
        sums["db_enc"].add(transposed, d_pre.entries, ones, active)

    def bounded(self) -> dict[str, Interval]:
        """Every gradient, stored once."""
        found = {}
        for name, total in self._sums.items():
            if name == "dW_skip" and self.stages.W_skip is None:
                continue
            interval = stored(total.bounded(), self.stages.arithmetic[name])
            if name in ("db_dec", "db_enc"):
                errors = tuple(error[:, 0] for error in interval.errors)
                interval = Interval(interval.value[:, 0], errors)
            found[name] = interval
        return found


class Loss:
    """The loss (C1), which sums over everything: added to block by block."""

    def __init__(self, stages: Stages) -> None:
        self.stages = stages
        self._mse, self._l1 = 0.0, 0.0
        self._mse_errors, self._l1_errors = np.zeros(len(TIERS)), np.zeros(len(TIERS))
        self._entries = 0

    def add(self, target: np.ndarray, reconstruction: Interval, hidden: Features) -> None:
        arithmetic = self.stages.arithmetic["loss"]
        difference = reconstruction.value - target
        square = difference**2
        self._mse += float(square.sum())
        entries = hidden.entries
        weight = self.stages._l1_factor(hidden.pattern.indices)
        weighted = weight * np.abs(entries.value)
        self._l1 += float(np.sum(weighted))
        self._entries += len(entries.value)
        for tier in range(len(TIERS)):
            error = add_up(
                reconstruction.error(tier), entrywise(difference, 1, arithmetic)
            )
            spread = multiply_up(error, add_up(2 * np.abs(difference), error))
            self._mse_errors[tier] += float(np.sum(add_up(spread, entrywise(square, 1, arithmetic))))
            spread = multiply_up(weight, entries.error(tier))
            self._l1_errors[tier] += float(np.sum(spread))

    def bounded(self) -> Interval:
        stages = self.stages
        arithmetic = stages.arithmetic["loss"]
        N = stages.B * stages.O
        factor = stages.definition.mse / N
        value = self._mse * factor + self._l1
        errors = []
        # A dense mean adds B D terms, but zeros are added without rounding.
        terms = growth(np.array([N, max(self._entries, 1)]), 2, arithmetic)
        for tier in range(len(TIERS)):
            mse_error, l1_error = self._mse_errors[tier], self._l1_errors[tier]
            grown = terms[tier][0] * (self._mse + mse_error) + mse_error
            shrunk = terms[tier][1] * (self._l1 + l1_error) + l1_error
            own = (N + self._entries + 8) * FLOAT64.unit * value
            final = entrywise(value, 6, arithmetic)
            errors.append(np.asarray(add_up(factor * grown, shrunk, own, final)))
        return Interval(np.asarray(value), tuple(errors))


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


def _scaled(value: np.ndarray, error, factor: np.ndarray, arithmetic: Arithmetic) -> np.ndarray:
    """The error of ``value * factor``, where the factor is a norm that was itself rounded."""
    grown = multiply_up(error, factor, 1 + 8 * arithmetic.store.unit)
    return add_up(grown, entrywise(value * factor, 4, arithmetic))
