"""What sums and products of two rooms may be apart, by (K1) and (K2)."""

from __future__ import annotations

import numpy as np

from ..bounds import (
    FLOAT64,
    add_up,
    chain_bound,
    dot_bound,
    matmul_up,
    multiply_up,
    store_bound,
    sum_bound,
)


def apart(S, n, to, bound=dot_bound):
    """Two rooms, two roundings: the kernel in ``to``, the reference in float64."""
    return add_up(bound(S, n, to), bound(S, n, FLOAT64))


def apart_before_selection(x, W, b):
    """How far apart pre (B, D) may be: both rooms sum I products and a bias in float64."""
    return apart(add_up(matmul_up(x, W.T), np.abs(b)), x.shape[1] + 1, FLOAT64)


def summed(A, B, n, to, A_error=None, plus=0.0, bound=dot_bound):
    """(K1) for ``A @ B + plus``, where the kernel's A is within ``A_error``."""
    if A_error is None:
        return apart(add_up(matmul_up(A, B), np.abs(plus)), n, to, bound)
    S = add_up(matmul_up(add_up(np.abs(A), A_error), B), np.abs(plus))
    return add_up(matmul_up(A_error, B), apart(S, n, to, bound))


def row_sums(A, n, to, A_error):
    """(K1) for the sums of the rows of A (B, n), with (E4): its terms are plain numbers."""
    ones = np.ones((A.shape[1], 1))
    return summed(A, ones, np.reshape(n, (-1, 1)), to, A_error, bound=sum_bound)[:, 0]


def stored(value, A, B, n, to, A_error=None):
    """(K2) for ``A @ B``; ``value`` is the reference's."""
    return store_bound(value, summed(A, B, n, FLOAT64, A_error), to)


def added(want, a_error, b_error, to):
    """One addition, in either room, of two numbers that come in uncertain."""
    return store_bound(want, add_up(a_error, b_error, chains(want, 1, FLOAT64)), to)


def chains(want, m, arithmetic, underflows=1.0):
    """(E7) for both rooms, and ``underflows`` times eta for each.

    ``want`` is not the exact value but the reference's: where the factor g of (E7) is at most 1/2,
    the exact one is at most 2 g |want| larger.
    """
    exact_value = add_up(np.abs(want), multiply_up(2, chain_bound(want, m, arithmetic)))
    return add_up(
        multiply_up(2, chain_bound(exact_value, m, arithmetic)),
        multiply_up(2, underflows, arithmetic.spacing),
    )


def counts(A, A_error=None):
    """How many entries the kernel may add up in each row and in each column of a sparse ``A``."""
    stored = A != 0 if A_error is None else (A != 0) | (A_error > 0)
    return stored.sum(axis=1), stored.sum(axis=0)


def transposed(error):
    """``error.T``, where there is an error."""
    return None if error is None else error.T
