"""How far rounding can take a sum, a dot product or a stored value from the exact one.

Every bound is computed element by element.  It is a theorem, not an estimate, for operations that
round to nearest with gradual underflow and do not overflow.  u is the unit roundoff, eta the
distance of the subnormal numbers, fl(v) the number nearest to v, and w = u / (1 + u) < u.  For
every real v, with only one of the two terms needed at a time::

    |fl(v) - v|    <=  w |v|  +  eta / 2                                                  (E1)
    |fl(v) - v|    <=  |f - v|  for every number f of the format                          (E2)

Where a + b, of two numbers of the format, is subnormal it is exact: a sum needs no eta.

**Sums of products.**  Let s be the sum of n terms, each a product or a plain number, in any order:
left to right, in lanes, as a tree, with or without fma.  Let S be the sum of the terms' absolute
values.  If no product underflows::

    |fl(s) - s|    <=  n u S                                                              (E3)

Proof by induction over the tree of additions.  A leaf is a number, or a rounded product, which is
off by w S at most.  A node adds fl(s1), of n1 terms, and fl(s2), of n2, and rounds by d.  By
hypothesis it is off by at most n1 u S1 + n2 u S2 + |d|, so that this remains to be shown:
|d| <= n2 u S1 + n1 u S2.

- Where S2 < w S1, (E2) with f = fl(s1) gives |d| <= |fl(s2)| <= (1 + n2 u) S2, and this is
  (1 + u) S2 + (n2 - 1) u S2  <=  (1 + u) w S1 + (n2 - 1) u S1  =  n2 u S1.  Likewise for S1 < w S2.
- Elsewhere w S1 <= S2 and w S2 <= S1.  By (E1), |d| <= w |fl(s1)| + w |fl(s2)|.  The first of these
  is w (1 + n1 u) S1  =  u S1 + (n1 - 1) u w S1  <=  u S1 + (n1 - 1) u S2, and likewise the second.
  Together they are n2 u S1 + n1 u S2.

An fma adds a product that was not rounded before: n2 = 1, it is off by 0 instead of u S2, and
|d| <= u S1 + (n1 + 1) u S2 will do.  Where S2 < w S1, |d| <= S2 < u S1.  Elsewhere w S1 <= S2, the
first of the two halves stands, and |d| <= u S1 + (n1 - 1) u S2 + w S2.  QED.

A term that is exactly zero is added without rounding, so that n need only count the others.  Where
every term is a plain number, the same two cases prove, from a hypothesis smaller by u S::

    |fl(s) - s|    <=  (n - 1) u S                                                        (E4)

Underflow moves a product, or the result of an fma, by eta / 2 at most.  Move the term by as much,
and this rounding becomes exact.  In all, s moves and S grows by n eta / 2 at most; (E3) gives::

    |fl(s) - s|    <=  n u S  +  n (1 + n u) eta / 2                                      (E5)

**A store** rounds once a number that is known to be within E of v.  By (E1)::

    |stored - v|   <=  E  +  u (|v| + E)  +  eta / 2                                      (E6)

**A chain** in which every operand passes at most m roundings, and sums only add terms of one sign,
comes out within a factor (1 + u)^m.  With m u < 1, and without underflow::

    |fl(v) - v|    <=  m u / (1 - m u)  |v|                                               (E7)

**A product of uncertain factors**, a within A and b within B of their values::

    |a b - value|  <=  |a| B  +  A |b|  +  A B                                            (E8)

Sources: (E3) is from Jeannerod & Rump (2013), "Improved error bounds for inner products in
floating-point arithmetic", SIAM J. Matrix Anal. Appl. 34; (E4) from Rump (2012), "Error estimation
of floating-point summation and dot product", BIT 52; (E7) is lemma 3.1 of Higham (2002), "Accuracy
and Stability of Numerical Algorithms".  The induction is theirs, with the fma added here.

The bounds are themselves computed in float64, each operation rounded upwards, so that what is
returned is never below what the formula says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .errors import ShapeError

#: One number, or an array of them.  Functions of these return a number for numbers alone.
Reals = np.ndarray | float


class Precision(NamedTuple):
    """A floating-point format, as far as rounding is concerned."""

    name: str
    unit: float  # u, half the distance from 1 to the next number
    spacing: float  # eta, the distance of subnormal numbers


#: Those that NumPy knows as dtypes, and two that only accelerators compute in.
PRECISIONS = {
    p.name: p
    for p in (
        Precision("float16", 2.0**-11, 2.0**-24),
        Precision("bfloat16", 2.0**-8, 2.0**-133),
        Precision("tf32", 2.0**-11, 2.0**-136),
        Precision("float32", 2.0**-24, 2.0**-149),
        Precision("float64", 2.0**-53, 2.0**-1074),
    )
}
FLOAT64 = PRECISIONS["float64"]


def precision(dtype: np.typing.DTypeLike) -> Precision:
    """The `Precision` of a dtype, or of a name in `PRECISIONS`.

    A longdouble's subnormal spacing is below float64's, which stands in for it: rounded upwards.
    """
    if str(dtype) in PRECISIONS:
        return PRECISIONS[str(dtype)]
    dtype = np.dtype(dtype)
    if dtype == np.longdouble:
        return Precision("longdouble", float(np.finfo(dtype).eps) / 2, FLOAT64.spacing)
    return PRECISIONS[dtype.name]


def dot_bound(S: Reals, n: Reals, arithmetic: Precision) -> Any:
    """(E5): of a sum of ``n`` terms, products among them, with absolute values adding up to ``S``.

    ``S`` and ``n`` are scalars or arrays that broadcast; so is the result.
    """
    nu = multiply_up(n, arithmetic.unit)
    underflow = multiply_up(n, add_up(1, nu), arithmetic.spacing, 0.5)
    return add_up(multiply_up(nu, S), underflow)


def sum_bound(S: Reals, n: Reals, arithmetic: Precision) -> Any:
    """(E4): of a sum of ``n`` numbers, none a product, with absolute values adding up to ``S``."""
    return multiply_up(np.maximum(np.subtract(n, 1), 0), arithmetic.unit, S)


def store_bound(value: Reals, error: Reals, arithmetic: Precision) -> Any:
    """(E6): of a number within ``error`` of ``value`` that is then rounded, once."""
    rounding = multiply_up(arithmetic.unit, add_up(np.abs(value), error))
    return add_up(error, rounding, multiply_up(0.5, arithmetic.spacing))


def chain_bound(value: Reals, m: int, arithmetic: Precision) -> Any:
    """(E7): of the exact ``value`` after ``m`` roundings, none of them an underflow."""
    mu = multiply_up(m, arithmetic.unit)
    if mu >= 1:
        return np.where(np.equal(value, 0), 0.0, np.inf)
    growth = np.nextafter(mu / np.nextafter(1 - mu, 0), np.inf)
    return multiply_up(growth, np.abs(value))


def product_bound(
    a: Reals,
    a_error: Reals,
    b: Reals,
    b_error: Reals,
    product: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """(E8), entry by entry, or with ``product=matmul_up`` summed as a matrix product sums."""
    product = product or multiply_up
    a, b = np.abs(a), np.abs(b)
    return add_up(product(a, b_error), product(a_error, add_up(b, b_error)))


def add_up(*terms: Reals) -> Any:
    """The sum of terms >= 0, rounded upwards.  Nothing but zeros gives zero.

    The float64 sum of k terms is at least (1 - k 2^-53) of the true one, and exact where it is
    subnormal.
    """
    total = np.add(np.float64(0), terms[0])
    for term in terms[1:]:
        total = np.add(total, term)
    return _times(total, 1 + len(terms) * 2.0**-52)


def multiply_up(*factors: Reals) -> Any:
    """The product of factors >= 0, rounded upwards.  Zero times anything, infinity too, is zero."""
    total: Any = np.float64(1)
    low: Any = np.False_
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for factor in factors:
            total = np.multiply(total, factor, dtype=np.float64)
            normal = np.greater_equal(total, _SURELY_NORMAL)
            if not np.all(normal):
                low = low | ~normal
        total = _times(total, 1 + len(factors) * 2.0**-52)
        if not np.any(low):
            return total
        if not np.shape(total):
            return _multiply_up_slowly(factors)
        low = np.broadcast_to(low, total.shape)
        total[low] = _multiply_up_slowly(
            tuple(np.broadcast_to(factor, total.shape)[low] for factor in factors)
        )
        return total


def _times(total: Any, factor: float) -> Any:
    """``total``, an array of one's own or a number, times ``factor``: in place, which is faster."""
    return np.multiply(total, factor, out=total if isinstance(total, np.ndarray) else None)


_SURELY_NORMAL = 2.0**-1000


def _multiply_up_slowly(factors: tuple[Reals, ...]) -> Any:
    """The same where a product is zero, or so small that it may have lost digits."""
    total: Any = np.float64(1)
    raised: Any = np.float64(1)
    zero: Any = np.False_
    low: Any = np.False_
    for factor in factors:
        zero = zero | np.equal(factor, 0)
        total = np.multiply(total, factor, dtype=np.float64)
        low = low | (total < _SURELY_NORMAL)
        # Two units up: one for the rounding, and one for the rounding of this.
        raised = np.multiply(raised, factor) * (1 + 2.0**-51) + 2.0**-1074
    found = np.where(low, raised, np.multiply(total, 1 + len(factors) * 2.0**-52))
    return np.where(zero, 0.0, found)


def matmul_up(A: np.ndarray, B: np.ndarray) -> Any:
    """``abs(A) @ abs(B)``, rounded upwards: S of (E3) for each entry of a matrix product.

    The float64 product is itself made of dot products of n terms.  By (E5) with n u < 1 it is at
    least (1 - n u) S - n eta, where 1 - n u is a float64 number.
    """
    A, B = np.abs(A).astype(np.float64), np.abs(B).astype(np.float64)
    n = A.shape[-1]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        S = add_up(A @ B, n * FLOAT64.spacing)
        return np.nextafter(S / (1 - n * FLOAT64.unit), np.inf)


class Worst(NamedTuple):
    """The entry of a result that uses most of its bound, and how much."""

    index: tuple[int, ...]  # type: ignore[assignment]  # rather than the method of a tuple
    want: float
    got: float
    error: float
    bound: float
    ratio: float  # error / bound; 0 where nothing differs, infinite where it must not

    @property
    def holds(self) -> bool:
        """Whether no entry of the result is further off than its bound."""
        return self.ratio <= 1


def worst(got: Any, want: Any, bound: Any = 0.0) -> Worst:
    """Compare ``got`` with ``want``, of one shape, where they may be ``bound`` apart.

    NaN agrees with NaN and infinity with the same infinity, whatever the bound; each disagrees with
    everything else.  A bound that is NaN allows nothing.
    """
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        raise ShapeError("got", want.shape, got.shape)
    if not got.size:
        return Worst((), 0.0, 0.0, 0.0, 0.0, 0.0)
    wide = np.result_type(got, want, np.float64)
    got, want = got.astype(wide), want.astype(wide)
    bound = np.broadcast_to(bound, got.shape)
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        error = np.where(same, 0, np.abs(got - want))
        ratio = np.where(same, 0, error / bound)
    ratio = np.where(np.isnan(ratio), np.inf, ratio)  # NaN, or infinity within an infinite bound
    index = np.unravel_index(np.argmax(ratio), ratio.shape)
    facts = (float(array[index]) for array in (want, got, error, bound, ratio))
    return Worst(tuple(int(i) for i in index), *facts)
