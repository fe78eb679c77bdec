"""Numbers with a bound on how far a correct implementation may be from each, in three tiers.

The tiers differ only in how much they grant to a sum of n terms whose absolute values add up to S:

- **R**, rigorous: n u S, whatever the order (`reftranscoder.bounds`, E5), or (h + 1) u S where the
  height h of the tree of additions is declared.  An error above it is a proved fault.
- **P**, probabilistic: lam sqrt(n) u S with lam = sqrt(2 ln(2 n N / 1e-9)), for N sums at once.
  For independent roundings with mean zero, all N stay below it but for a probability of 1e-9
  (Higham & Mary 2019, theorem 2.4).  Truncation does not round with mean zero: there P is R.
- **C**, calibrated: 8 u S.  What good libraries stay below in practice.

Everything else (operands that are uncertain themselves, casts, stores) counts alike in all three.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ...bounds import Precision, Reals, add_up, chain_bound, multiply_up, store_bound
from ..task.arithmetic import Arithmetic, representable, representable_mask

T = TypeVar("T")

TIERS = ("R", "P", "C")

_MISS = 1e-9  # the probability that tier P is exceeded anywhere in a stage by a correct candidate
_CALIBRATED = 8.0


_PIECE = 1 << 15  # entries, so that a few arrays of them stay in the cache


class Errors(Sequence[np.ndarray]):
    """The errors of all tiers, worked out where they are looked at.

    Where arrays are large, memory is what takes the time: most are looked at a few rows at a time,
    and many at few places or at none.
    """

    def __init__(self, shape: tuple[int, ...], at: Callable[[Any], Sequence[np.ndarray]]) -> None:
        self.shape, self._at = shape, at
        self._whole: tuple[np.ndarray, ...] = ()

    def at(self, where: Any) -> Sequence[np.ndarray]:
        """Of each tier at ``where``, an index."""
        return [error[where] for error in self._whole] if self._whole else self._at(where)

    def __len__(self) -> int:
        return len(TIERS)

    def __getitem__(self, tier: Any) -> Any:
        if not self._whole:
            whole = tuple(np.empty(self.shape) for _ in TIERS)
            step = max(1, _PIECE * self.shape[0] // max(1, int(np.prod(self.shape))))
            for start in range(0, self.shape[0], step):
                for all_rows, some in zip(whole, self._at(slice(start, start + step))):
                    all_rows[start : start + step] = some
            self._whole = whole
        return self._whole[tier]


class Interval(NamedTuple):
    """Values, and for each tier how far off they may be (None: they are exactly known)."""

    value: np.ndarray
    errors: Sequence[np.ndarray] | None = None  # one for each of `TIERS`

    def error(self, tier: int) -> Reals:
        return 0.0 if self.errors is None else self.errors[tier]

    @property
    def one_for_all(self) -> bool:
        """Whether all tiers share one array of errors."""
        if self.errors is None or isinstance(self.errors, Errors):
            return self.errors is None
        return all(error is self.errors[0] for error in self.errors)

    def each(self, function: Callable[[Any], np.ndarray]) -> tuple[np.ndarray, ...]:
        """``function(error)`` for each tier."""
        return tuple(function(self.error(tier)) for tier in range(len(TIERS)))

    def at(self, where: Any) -> Interval:
        """The same at ``where``, an index."""
        return Interval(self.value[where], self.errors and tuple(self._errors_at(where)))

    def _errors_at(self, where: Any) -> Sequence[np.ndarray]:
        if isinstance(self.errors, Errors):
            return self.errors.at(where)
        return self.each(lambda error: np.broadcast_to(error, self.value.shape)[where])


def entry_by_entry(
    function: Callable[..., Sequence[np.ndarray]], value: np.ndarray, *arrays: Reals | Errors
) -> Sequence[np.ndarray]:
    """``function(value, *arrays)``, which works entry by entry: now, or where arrays are large once
    it is known where.  `Errors` among them are three arguments."""
    shape = value.shape

    def at(where: Any) -> Sequence[np.ndarray]:
        some: list[Reals] = []
        for array in arrays:
            if isinstance(array, Errors):
                some += array.at(where)
            else:
                some.append(array if np.ndim(array) == 0 else np.broadcast_to(array, shape)[where])
        return function(value[where], *some)

    large = value.size > 2 * _PIECE and value.ndim > 1
    return Errors(shape, at) if large else tuple(at(()))


def made(value: T | None) -> T:
    """``value``, which is there, since something reads it."""
    if value is None:
        raise AssertionError("something is read that was not made")
    return value


def joined(parts: Sequence[Interval]) -> Interval:
    """Intervals of successive rows as one."""
    if len(parts) == 1:
        return parts[0]
    value = np.concatenate([part.value for part in parts])
    if all(part.errors is None for part in parts):
        return Interval(value)
    shared = all(part.one_for_all for part in parts)
    errors = [
        np.concatenate([np.broadcast_to(part.error(tier), part.value.shape) for part in parts])
        for tier in range(1 if shared else len(TIERS))
    ]
    return Interval(value, tuple(errors * len(TIERS) if shared else errors))


def growth(n: Reals, count: int, arithmetic: Arithmetic) -> tuple[np.ndarray, ...]:
    """For each tier, the factor of S in the bound of ``count`` sums of ``n`` terms each."""
    u = arithmetic.unit
    steps = n if arithmetic.depth is None else np.minimum(n, arithmetic.depth + 1)
    rigorous = multiply_up(steps, u)
    lam = np.sqrt(2 * np.log(np.maximum(2 * np.asarray(n, float) * max(count, 1) / _MISS, 2)))
    likely = rigorous if arithmetic.truncating else np.minimum(rigorous, lam * np.sqrt(n) * u)
    return rigorous, likely, np.minimum(likely, _CALIBRATED * u)


def underflow(n: Reals, arithmetic: Arithmetic) -> Any:
    """What subnormal products of ``n`` terms, and their sums, add to every tier."""
    steps = 1.0 if arithmetic.flushing else 0.5
    smallest = _smallest(arithmetic.accumulator, arithmetic.flushing)
    return multiply_up(n, smallest, steps)


def cast(interval: Interval, arithmetic: Arithmetic) -> Interval:
    """Operands as a product sees them: rounded to ``inputs``, unless they are such numbers
    already."""
    to = arithmetic.inputs
    value = interval.value
    if interval.errors is None:
        if representable(value, to):
            return interval
        rounding = np.where(representable_mask(value, to), 0.0, multiply_up(to.unit, np.abs(value)))
        rounding = np.where(rounding > 0, add_up(rounding, 0.5 * to.spacing), rounding)
        return Interval(value, (rounding,) * len(TIERS))
    return Interval(value, interval.each(lambda error: store_bound(value, error, to)))


def stored(interval: Interval, arithmetic: Arithmetic, times: int = 1) -> Interval:
    """A result after ``times`` roundings to ``store``."""

    def after(error: Any) -> Any:
        for _ in range(times):
            error = _one_store(interval.value, error, arithmetic)
        return error

    return Interval(interval.value, interval.each(after))


def sum_of_two(a: Interval, b: Interval, arithmetic: Arithmetic) -> Interval:
    """Of two stored terms, stored."""
    errors = tuple(add_up(a.error(tier), b.error(tier)) for tier in range(len(TIERS)))
    return stored(Interval(a.value + b.value, errors), arithmetic)


def _one_store(value: np.ndarray, error: Reals, arithmetic: Arithmetic) -> Any:
    bound = store_bound(value, error, arithmetic.store)
    if arithmetic.flushing:
        bound = add_up(bound, _smallest(arithmetic.store, True))
    return bound


def lift_of_store(arithmetic: Arithmetic) -> float:
    """What a store adds to an error though the number be zero: subnormal numbers are far apart."""
    flushed = _smallest(arithmetic.store, True) if arithmetic.flushing else 0.0
    return 0.5 * arithmetic.store.spacing + flushed


def entrywise(value: Reals, roundings: int, arithmetic: Arithmetic) -> Any:
    """What ``roundings`` operations, entry by entry, may move ``value`` by, in every tier."""
    relative = chain_bound(value, roundings, arithmetic.store)
    return add_up(relative, roundings * _smallest(arithmetic.store, arithmetic.flushing))


def _smallest(precision: Precision, flush_to_zero: bool) -> float:
    """The distance of subnormal numbers, or the smallest normal number where these are flushed."""
    return precision.spacing / (2 * precision.unit) if flush_to_zero else precision.spacing
