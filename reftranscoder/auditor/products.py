"""Products of matrices of intervals, in three tiers: the model of every stage that sums.

With a within A and b within B of what a candidate multiplied, its sum of n products, added in any
order, is off by at most::

    c(n) sum (|a| + A)(|b| + B)  +  sum (|a| B + A (|b| + B))  +  underflow               (I1)

where c(n) is the tier's factor (`interval.growth`), plus what the float64 reference itself is off
by, (n + 2) 2^-53 of the sum of absolute values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_array

from ..bounds import FLOAT64, add_up, multiply_up
from ..sparse import Sparse
from .arithmetic import Arithmetic
from .interval import TIERS, Interval, cast, growth, underflow

Product = Callable[[np.ndarray, np.ndarray], np.ndarray]


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
        self._S: list = [0.0]
        self._spread: list = [0.0]

    def add(self, product: Product, a: Interval, b: Interval, n: np.ndarray | int) -> None:
        """Add ``product(a, b)``, each entry of which sums up to ``n`` (broadcast) nonzero
        products."""
        self.value = self.value + product(a.value, b.value)
        self.n = self.n + n
        a, b = cast(a, self.arithmetic), cast(b, self.arithmetic)
        known = a.errors is None and b.errors is None
        same = known or (_one(a) and _one(b))
        tiers = range(1 if same else len(TIERS))
        if len(tiers) > len(self._S):
            self._S, self._spread = self._S * len(TIERS), self._spread * len(TIERS)
        a_size, b_size = np.abs(a.value), np.abs(b.value)
        for tier in tiers:
            A, B = a.error(tier), b.error(tier)
            a_most, b_most = add_up(a_size, A), add_up(b_size, B)
            S = _up(product(a_most, b_most), n)
            spread = 0.0
            if b.errors is not None:
                spread = add_up(spread, _up(product(a_size, _like(B, b_size)), n))
            if a.errors is not None:
                spread = add_up(spread, _up(product(_like(A, a_size), b_most), n))
            for place in range(len(self._S)) if same else (tier,):
                self._S[place] = add_up(self._S[place], S)
                self._spread[place] = add_up(self._spread[place], spread)

    def plus(self, value: np.ndarray, error: tuple | None = None) -> None:
        """Add a term that is not a product, a bias: ``value`` within ``error`` of each tier."""
        self.value = self.value + value
        self.n = self.n + 1
        if error is not None and len(self._S) == 1:
            self._S, self._spread = self._S * len(TIERS), self._spread * len(TIERS)
        for tier in range(len(self._S)):
            more = 0.0 if error is None else error[tier]
            self._S[tier] = add_up(self._S[tier], np.abs(value), more)
            self._spread[tier] = add_up(self._spread[tier], more)

    def bounded(self) -> Interval:
        """The sum, before it is stored."""
        value = np.asarray(self.value)
        factors = growth(self.n, value.size, self.arithmetic)
        least = underflow(self.n, self.arithmetic)
        errors = []
        for tier, factor in enumerate(factors):
            S = self._S[tier if len(self._S) > 1 else 0]
            spread = self._spread[tier if len(self._S) > 1 else 0]
            own = multiply_up(add_up(self.n, 2.0), FLOAT64.unit, S)
            errors.append(add_up(multiply_up(factor, S), spread, least, own))
        return Interval(value, tuple(errors))


def dense_product(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """``A @ B``, as a `Product`."""
    return A @ B


def sparse_product(pattern: Sparse) -> Product:
    """``values`` at the entries of ``pattern`` (B, D), times a dense (D, O)."""
    return lambda values, W: _matrix(pattern, values) @ W


def transposed_product(pattern: Sparse) -> Product:
    """The transpose of ``values`` at the entries of ``pattern`` (B, D), times a dense (B, O)."""
    return lambda values, G: _matrix(pattern, values).T @ G


def entry_product(pattern: Sparse, block: int = 1 << 16) -> Product:
    """``G @ W.T`` at the entries of ``pattern``: (B, O) and (D, O) give (nnz,)."""

    def product(G, W):
        rows, columns = pattern.rows(), pattern.indices
        dots = np.empty(len(rows))
        for start in range(0, len(rows), block):
            part = slice(start, start + block)
            dots[part] = np.einsum("no,no->n", G[rows[part]], W[columns[part]])
        return dots

    return product


def _matrix(pattern: Sparse, values: np.ndarray) -> csr_array:
    return csr_array((values, pattern.indices, pattern.indptr), shape=pattern.shape)


def _one(interval: Interval) -> bool:
    """Whether all tiers share one array of errors."""
    errors = interval.errors
    return errors is None or all(error is errors[0] for error in errors)


def _like(error, size: np.ndarray) -> np.ndarray:
    return np.broadcast_to(error, size.shape)


def _up(S: np.ndarray, n) -> np.ndarray:
    """A float64 product of nonnegative matrices, rounded upwards: (E5) of ``bounds``."""
    return add_up(
        multiply_up(S, 1 + 4 * FLOAT64.unit * (np.max(n, initial=0) + 2)), FLOAT64.spacing
    )
