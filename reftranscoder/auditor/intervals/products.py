"""Products of matrices of intervals, in three tiers: the model of every stage that sums.

With a within A and b within B of what a candidate multiplied, its sum of n products, added in any
order, is off by at most::

    c(n) sum (|a| + A)(|b| + B)  +  sum (|a| B + A (|b| + B))  +  underflow               (I1)

where c(n) is the tier's factor (`interval.growth`), plus what the float64 reference itself is off
by, (n + 2) 2^-53 of the sum of absolute values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from ...bounds import FLOAT64, Precision, Reals, add_up, multiply_up
from ...sparse import Sparse
from ..task.arithmetic import Arithmetic
from .interval import TIERS, Interval, cast, entry_by_entry, growth, lift_of_store, underflow

Product = Callable[[np.ndarray, np.ndarray], np.ndarray]


class _Sizes(NamedTuple):
    """The absolute values of an operand as a product sees it, and its uncertainty, by tier.

    Where all tiers agree there is one of each.
    """

    value: np.ndarray
    errors: tuple[np.ndarray, ...]  # none where the operand is exactly known
    most: tuple[np.ndarray, ...]  # value + error

    def error(self, tier: int) -> np.ndarray:
        return np.broadcast_to(self.errors[min(tier, len(self.errors) - 1)], self.value.shape)

    def largest(self, tier: int) -> np.ndarray:
        return self.most[min(tier, len(self.most) - 1)]


class Operand:
    """A matrix that many products read: what they need of it is made once."""

    def __init__(self, value: np.ndarray) -> None:
        self.value = value
        self._sizes: dict[Precision, _Sizes] = {}

    def sizes(self, arithmetic: Arithmetic) -> _Sizes:
        if arithmetic.inputs not in self._sizes:
            self._sizes[arithmetic.inputs] = _sizes(Interval(self.value), arithmetic)
        return self._sizes[arithmetic.inputs]


def _sizes(operand: Interval | Operand, arithmetic: Arithmetic) -> _Sizes:
    if isinstance(operand, Operand):
        return operand.sizes(arithmetic)
    seen = cast(operand, arithmetic)
    size = np.abs(seen.value)
    if seen.errors is None:
        return _Sizes(size, (), (size,))
    errors = tuple(seen.errors[:1] if seen.one_for_all else seen.errors)
    return _Sizes(size, errors, tuple(add_up(size, error) for error in errors))


class Sum:
    """A sum of products that is put together part by part, and bounded once it is complete.

    Parts are blocks of rows of a parameter's gradient; elsewhere there is one part.  What is kept
    is the value, the absolute values S and the spread of the operands: the last two once for all
    tiers as long as they agree.
    """

    def __init__(self, arithmetic: Arithmetic) -> None:
        self.arithmetic = arithmetic
        self.value: np.ndarray | float = 0.0
        self.n: np.ndarray | int = 0
        self._S: list[Reals] = [0.0]
        self._spread: list[Reals] = [0.0]

    def add(
        self, product: Product, a: Interval, b: Interval | Operand, n: np.ndarray | int
    ) -> None:
        """Add ``product(a, b)``, each entry of which sums up to ``n`` (broadcast) nonzero
        products."""
        value = product(a.value, b.value)
        self.value = value if isinstance(self.value, float) else self.value + value
        self.n = self.n + n
        A, B = _sizes(a, self.arithmetic), _sizes(b, self.arithmetic)
        tiers = range(max(len(A.most), len(B.most)))
        if len(tiers) > len(self._S):
            self._S, self._spread = self._S * len(TIERS), self._spread * len(TIERS)
        for tier in tiers:
            S = _up(product(A.largest(tier), B.largest(tier)), n)
            spread: Reals = 0.0
            if B.errors:
                spread = add_up(spread, _up(product(A.value, B.error(tier)), n))
            if A.errors:
                spread = add_up(spread, _up(product(A.error(tier), B.largest(tier)), n))
            for place in range(len(self._S)) if len(tiers) == 1 else (tier,):
                self._S[place] = _plus(self._S[place], S)
                self._spread[place] = _plus(self._spread[place], spread)

    def plus(self, value: np.ndarray, error: Sequence[np.ndarray] | None = None) -> None:
        """Add a term that is not a product, a bias: ``value`` within ``error`` of each tier."""
        self.value = self.value + value
        self.n = self.n + 1
        if error is not None and len(self._S) == 1:
            self._S, self._spread = self._S * len(TIERS), self._spread * len(TIERS)
        for tier in range(len(self._S)):
            more: Reals = 0.0 if error is None else error[tier]
            self._S[tier] = add_up(self._S[tier], np.abs(value), more)
            self._spread[tier] = _plus(self._spread[tier], more)

    def stored(self, times: int = 1, bias: Reals = 0.0, parts: int = 1) -> Interval:
        """The sum after one or two roundings to what results are kept in, the first of them before
        ``bias``, which is a part of the sum, was added.

        A store takes an error e of v to (1 + u) e + u |v| + eta / 2 (``bounds``, E6).  So do all of
        them, in the end, to a multiple of S and something that is the same in every tier.

        Where the sum is one of several ``parts``, each of which may be stored before they are added
        up, in any order and with each other's bias and skip, every part is rounded, and so is the
        total after each of them: p parts of absolute values S_1, ..., S_p, that add up to S, are
        off by at most ((1 + u)^(p + 1) - 1) S more.
        """
        value, arithmetic = np.asarray(self.value), self.arithmetic
        own = multiply_up(add_up(self.n, 2.0), FLOAT64.unit)  # what the float64 reference is off by
        unit, lift = arithmetic.store.unit, lift_of_store(arithmetic)
        again = (1 + unit) ** (times - 1)  # by which a second store multiplies what the first did
        grown = (1 + unit) * again * _UP
        slopes = [grown * (factor + own) for factor in growth(self.n, value.size, arithmetic)]
        if parts > 1:
            more = (1 + unit) ** parts
            grown *= more
            slopes = [more * slope + _UP * (more * (1 + unit) - 1) for slope in slopes]
            lift = (2 * parts + 1) * more * lift
        least = grown * underflow(self.n, arithmetic) + _UP * (again + times - 1) * lift
        least += 16 * FLOAT64.spacing
        tiers = len(self._S)

        def errors(value: np.ndarray, bias: Reals, least: Reals, *rest: Reals) -> list[np.ndarray]:
            alike = _UP * again * unit * np.abs(value - bias) + least
            if times > 1:
                alike += _UP * unit * np.abs(value)
            found = []
            for slope, S, spread in zip(rest[:3], _each(rest[3:-tiers]), _each(rest[-tiers:])):
                error = slope * S
                error += alike
                found.append(error if isinstance(spread, float) else error + grown * spread)
            return found

        arrays = (bias, least, *slopes, *self._S, *self._spread)
        return Interval(value, entry_by_entry(errors, value, *arrays))


_UP = 1 + 2.0**-47  # makes up for the roundings of the few operations on numbers >= 0 that follow


def _each(of_tiers: tuple[Reals, ...]) -> tuple[Reals, ...]:
    """One for each tier, of one or as many."""
    return of_tiers * len(TIERS) if len(of_tiers) == 1 else of_tiers


def by_rows(A: np.ndarray, W: np.ndarray) -> np.ndarray:
    """``A @ W.T``, as a `Product`."""
    product: np.ndarray = A @ W.T
    return product


def by_columns(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """``A.T @ B``, as a `Product`."""
    product: np.ndarray = A.T @ B
    return product


def dense_product(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """``A @ B``, as a `Product`."""
    product: np.ndarray = A @ B
    return product


def sparse_product(pattern: Sparse) -> Product:
    """``values`` at the entries of ``pattern`` (B, D), times a dense (D, O)."""
    return lambda values, W: _matrix(pattern, values) @ W


def transposed_product(pattern: Sparse) -> Product:
    """The transpose of ``values`` at the entries of ``pattern`` (B, D), times a dense (B, O)."""
    return lambda values, G: _matrix(pattern, values).T @ G


def entry_product(pattern: Sparse, block: int = 1 << 16) -> Product:
    """``G @ W.T`` at the entries of ``pattern``: (B, O) and (D, O) give (nnz,)."""

    def product(G: np.ndarray, W: np.ndarray) -> np.ndarray:
        rows, columns = pattern.rows(), pattern.indices
        dots = np.empty(len(rows))
        for start in range(0, len(rows), block):
            part = slice(start, start + block)
            dots[part] = np.einsum("no,no->n", G[rows[part]], W[columns[part]])
        return dots

    return product


def _matrix(pattern: Sparse, values: np.ndarray) -> csr_array:
    return csr_array((values, pattern.indices, pattern.indptr), shape=pattern.shape)


def _plus(total: Reals, more: Reals) -> Any:
    """``add_up``, where there is anything to add to or to add."""
    if isinstance(total, float) and total == 0:
        return more
    return total if isinstance(more, float) and more == 0 else add_up(total, more)


def _up(S: np.ndarray, n: Reals) -> np.ndarray:
    """A float64 product of nonnegative matrices, rounded upwards: (E5) of ``bounds``.

    A factor above 1 makes no number smaller, so that only rounding is to be made up for.
    """
    S = np.multiply(S, 1 + 4 * FLOAT64.unit * (np.max(n, initial=0) + 4), out=S)
    S = np.add(S, 2 * FLOAT64.spacing, out=S)
    return S
