"""What a linear regression reads: where encoders begin.

Of rows x (N, I) and target (N, O), less their means, ridge regression minimizes the mean of
``|target - x A|^2``, plus ridge ``|A|^2``.  With C = x^T x / N and S = x^T target / N::

    A  =  P S,    P  =  (C + ridge 1)^-1                                                  (R1)
    x A  =  sum_r (x . P x[r]) target[r] / N                                              (R2)

By (R2) a regression is a layer of one linear feature for each row, which reads P x[r] and writes
target[r]; by (R1) it predicts how much of w a target has, target . w, by reading A w.  A feature
that shall write w, what row r wrote, begins with both::

    reads  =  unit(P x[r])  +  unit(A w)                                                  (R3)

where unit(v) has norm 1, or 0 for v = 0.  By the kernels every sum is in an order that neither
threads nor the library of linear algebra change; by the reference sums are NumPy's, and what they
round otherwise in float64 no entry of W_enc shows in float32, on the packaged rows.  It takes
products of 8,192 I^2 and of 2 I^3: on two cores a third of a second where I = 576, and seven where
I = 2,304.

Source: Saunders, Gammerman & Vovk (1998), "Ridge Regression Learning Algorithm in Dual Variables",
for (R2).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import reference

#: Of the mean variance of a column.  No feature then reads what hardly varies; and with it the
#: condition of what is inverted is at most 1 + 10 I.
_RIDGE = 0.1
_ROWS = 1 << 13  # that the sums are taken over, at most
_BLOCK = 4096  # rows at a time, to save memory
_PIVOTS = 64  # rows that are eliminated at a time

Read = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
Product = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Ridge:
    """A regression of what is to be decoded on what the encoder reads, both less their means."""

    inverse: np.ndarray  # (I, I) float64, P
    slopes: np.ndarray  # (I, O) float64, A
    product: Product  # what these were made by

    @classmethod
    def of(cls, read: Read, rows: np.ndarray, backend: str) -> Ridge:
        """On the first 8,192 of ``rows``: ``read(rows)`` returns theirs, (B, I) and (B, O)."""
        product = product_by(backend)
        rows = rows[:_ROWS]
        C: Any = 0.0
        S: Any = 0.0
        for first in range(0, len(rows), _BLOCK):
            x, target = read(np.sort(rows[first : first + _BLOCK]))
            C = C + product(x.T, x.T) / len(rows)
            S = S + product(x.T, target.T) / len(rows)
        ridge = _RIDGE * np.trace(C) / len(C)
        P = inverse(C + (ridge if ridge > 0 else 1.0) * np.eye(len(C)), product)
        return cls(P, product(P, S.T), product)

    def reads(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        """(R3), (B, I), of ``x`` (B, I) and ``w`` (B, O)."""
        both: np.ndarray = unit(self.product(x, self.inverse)) + unit(self.product(w, self.slopes))
        return both


def product_by(backend: str) -> Product:
    """What multiplies x (B, I) by W (D, I) transposed in float64, by the room ``backend``."""
    affine_forward: Any = reference.affine_forward
    if backend == "kernels":
        from ..kernels import affine_forward

    def product(x: np.ndarray, W: np.ndarray) -> np.ndarray:
        W = np.ascontiguousarray(W, np.float64)
        found: np.ndarray = affine_forward(np.asarray(x, np.float64), W, np.zeros(len(W)))
        return found

    return product


def inverse(A: np.ndarray, product: Product) -> np.ndarray:
    """The inverse of a symmetric, positive definite ``A`` (n, n), by Gauss and Jordan, in blocks.

    Such a matrix needs no exchange of rows (Higham 2002, "Accuracy and Stability of Numerical
    Algorithms", sections 10.1 and 14.4).  In blocks, what grows as n^3 is products of matrices.
    """
    A = A.copy()
    for k in range(0, len(A), _PIVOTS):
        block = slice(k, min(k + _PIVOTS, len(A)))
        pivot = inverse_of_block(A[block, block])
        rows, columns = product(pivot, A[block].T), A[:, block].copy()
        rows[:, block] = pivot
        A[:, block] = 0
        columns[block] = 0
        A -= product(columns, rows.T)
        A[block] = rows
    return A


def inverse_of_block(A: np.ndarray) -> np.ndarray:
    """`inverse`, one row after the other."""
    A = A.copy()
    for k in range(len(A)):
        row, column = A[k] / A[k, k], A[:, k].copy()
        row[k] = 1 / A[k, k]
        A[:, k] = 0
        column[k] = 0
        A -= column[:, None] * row
        A[k] = row
    return A


def unit(rows: np.ndarray) -> np.ndarray:
    """``rows`` (B, n) divided by their norms, but for those of norm 0."""
    norms = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    found: np.ndarray = rows / np.where(norms > 0, norms, 1)
    return found
