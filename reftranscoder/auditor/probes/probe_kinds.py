"""The kinds of probes: what the numbers of a case are, so that one sort of mistake shows.

All numbers have eight significant bits at most, so that bfloat16 holds them too, and all but those
of the kinds "large", "tiny" and "subnormal" are numbers of float16 as well: whatever an
implementation computes in, it is given the very same parameters.

The first column of W_enc is one, or nearly so, for all features.  What x holds there moves all
activations of a row up or down at once, and decides how many of them are positive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ...bounds import PRECISIONS
from .every_feature import every_feature
from .numbers import Numbers, Sizes, short

#: What the first column of x holds, row after row.
_OFFSETS = (0.0, 4.0, -4.0, 1.0, -2.0, -1.0, -3.0, 2.0)


class ProbeKind(NamedTuple):
    """A kind of probe: what it is for, its usual sizes, and what makes its numbers."""

    purpose: str
    sizes: Sizes
    make: Callable[[np.random.Generator, Sizes], Numbers]
    decisive: bool = True  # as of `Case`
    selecting: str = ""  # what it is for, beside that, where K are selected


def _offsets(B: int) -> np.ndarray:
    """What the first column of x holds: rows of which all, some or no features are positive."""
    return np.resize(_OFFSETS, B)


def _ordinary(rng: np.random.Generator, sizes: Sizes) -> Numbers:
    B, I, D, O, _ = sizes
    W_enc = rng.standard_normal((D, I)) / np.sqrt(I)
    W_enc[:, 0] = 1
    x = rng.standard_normal((B, I))
    x[:, 0] = _offsets(B)
    return Numbers(
        W_enc=short(W_enc),
        b_enc=short(0.25 * rng.standard_normal(D)),
        W_dec=short(rng.standard_normal((D, O)) / np.sqrt(O)),
        b_dec=short(rng.standard_normal(O)),
        W_skip=short(rng.standard_normal((O, I)) / np.sqrt(I)),
        x=short(x),
        target=short(rng.standard_normal((B, O))),
    )


def _integers(rng: np.random.Generator, sizes: Sizes) -> Numbers:
    B, I, D, O, K = sizes

    def small(most: int, *shape: int) -> np.ndarray:
        return rng.integers(-most, most + 1, shape).astype(np.float64)

    x, W_enc = small(2, B, I), small(1, D, I)
    W_enc[:, 0] = 1
    x[:, 0] = _offsets(B)
    x[-1] = 0
    b_enc = small(1, D)
    repeat_rows(W_enc, K)
    repeat_rows(b_enc, K)
    W_dec, b_dec, W_skip = small(1, D, O), small(2, O), small(1, O, I)
    return Numbers(W_enc, b_enc, W_dec, b_dec, W_skip, x, small(4, B, O))


def _near_ties(rng: np.random.Generator, sizes: Sizes) -> Numbers:
    numbers = _ordinary(rng, sizes)
    W_enc, b_enc, x = (a.copy() for a in (numbers.W_enc, numbers.b_enc, numbers.x))
    group = repeat_rows(W_enc, sizes.K)
    repeat_rows(b_enc, sizes.K)
    if sizes.I > 1:
        # 2**-30 apart: too little for a float32 near one, and plenty for a float64.
        W_enc[:, -1] = 2.0**-15 * (np.arange(sizes.D) * 3 % (2 * group))
        x[:, -1] = 2.0**-15
    return numbers._replace(W_enc=W_enc, b_enc=b_enc, x=x)


def _near_zero(rng: np.random.Generator, sizes: Sizes) -> Numbers:
    numbers = _integers(rng, sizes)
    W_enc, b_enc, x = (a.copy() for a in (numbers.W_enc, numbers.b_enc, numbers.x))
    half = sizes.D // 4
    x[:] = x[0]
    x[:, 0] = 2 * _offsets(sizes.B)
    W_enc[:half, 0] = 0
    if sizes.I > 1:
        W_enc[:, -1] = 0
        b_enc[:half] = -(W_enc @ x[0])[:half]
        W_enc[:half, -1] = 2.0**-15 * np.resize((1, -1, 2, -3, 0), half)
        x[:, -1] = 2.0**-15 * np.resize((1, -1, 2), sizes.B)
    return numbers._replace(W_enc=W_enc, b_enc=b_enc, x=x)


def repeat_rows(a: np.ndarray, top_k: int) -> int:
    """Make groups of equal rows, so that the K-th place is within one; return their size."""
    group = next(size for size in range(2, top_k + 3) if top_k % size)
    a[:] = a[np.arange(len(a)) // group * group]
    return group


def _scaled(power: int) -> Callable[[np.random.Generator, Sizes], Numbers]:
    def make(rng: np.random.Generator, sizes: Sizes) -> Numbers:
        numbers = _ordinary(rng, sizes)
        one, two = 2.0**power, 4.0**power
        pre, out = one * two, one * two * one
        return Numbers(
            W_enc=numbers.W_enc * one,
            b_enc=numbers.b_enc * pre,
            W_dec=numbers.W_dec * one,
            b_dec=numbers.b_dec * out,
            W_skip=numbers.W_skip * two,
            x=numbers.x * two,
            target=numbers.target * out,
            l1_coeff=numbers.l1_coeff * out * one,
        )

    return make


def _subnormal(rng: np.random.Generator, sizes: Sizes) -> Numbers:
    numbers = _ordinary(rng, sizes)
    least = PRECISIONS["bfloat16"].spacing

    def tiny(*shape: int) -> np.ndarray:
        drawn: np.ndarray = least * rng.integers(-127, 128, shape)
        return drawn

    x = tiny(sizes.B, sizes.I)
    x[:, 0] = least * 32 * _offsets(sizes.B)
    # Weights below one: what is flushed to zero in x is then not seen enlarged.
    small = {n: np.clip(getattr(numbers, n), -1, 1) for n in ("W_enc", "W_dec", "W_skip")}
    drawn = {"x": x, "b_enc": np.zeros(sizes.D), "b_dec": tiny(sizes.O)}
    drawn["target"] = tiny(sizes.B, sizes.O)
    return numbers._replace(l1_coeff=2.0**-120, **drawn, **small)


def _degenerate(rng: np.random.Generator, sizes: Sizes) -> Numbers:
    numbers = _ordinary(rng, sizes)
    W_enc, b_enc, W_dec, x, target = (
        a.copy() for a in (numbers.W_enc, numbers.b_enc, numbers.W_dec, numbers.x, numbers.target)
    )
    D = sizes.D
    W_enc[D // 2 :], b_enc[D // 2 :] = W_enc[: D - D // 2], b_enc[: D - D // 2]
    W_enc[-1], b_enc[-1] = 0, 0  # reads nothing
    b_enc[D // 3] = -64  # never fires
    W_dec[D // 4] = 0  # writes nothing
    x[0], x[-1], target[-1] = 0, x[1 % len(x)], 0
    return numbers._replace(W_enc=W_enc, b_enc=b_enc, W_dec=W_dec, x=x, target=target)


def _uneven(rng: np.random.Generator, sizes: Sizes) -> Numbers:
    numbers = _ordinary(rng, sizes)
    columns = 2.0 ** rng.integers(-4, 2, sizes.I)
    columns[0] = 1
    shift = np.where(np.arange(sizes.I) % 5 == 2, 2.0, 0.0)
    return numbers._replace(x=short((numbers.x + shift) * columns))


def _non_finite(rng: np.random.Generator, sizes: Sizes) -> Numbers:
    numbers = _ordinary(rng, sizes)
    x = numbers.x.copy()
    B, I = x.shape
    x[B // 4] = np.nan
    x[B // 2, I // 2] = np.nan
    x[3 * B // 4, I - 1] = np.inf
    x[B - 1, I // 3] = -np.inf
    return numbers._replace(x=x)


_USUAL = Sizes(24, 20, 72, 12, 7)
_POWERS = Sizes(16, 8, 32, 8, 5)

#: By name.  The first is the one to look at when something is wrong.
PROBE_KINDS = {
    "ordinary": ProbeKind(
        "Random numbers; rows in which all, some or no activations are positive.",
        _USUAL,
        _ordinary,
        selecting="Of some rows more than K are, of some fewer.",
    ),
    "integers": ProbeKind(
        "Small integers, and sizes that are powers of two: every sum is exact in float32, so that "
        "any difference is a mistake. Many activations are equal.",
        _POWERS,
        _integers,
        selecting="Some of these are at the K-th place.",
    ),
    "near-ties": ProbeKind(
        "Activations 2**-30 apart: float32 cannot tell them apart, float64 can.",
        _USUAL,
        _near_ties,
        selecting="They are at the K-th place.",
    ),
    "near-zero": ProbeKind(
        "Sums that cancel to zero, or to 2**-30 on one side of it.", _POWERS, _near_zero
    ),
    "uneven": ProbeKind("Columns of x of very different sizes, some not centred.", _USUAL, _uneven),
    "degenerate": ProbeKind(
        "Zero rows, equal rows, equal features, and features that read, write or do nothing.",
        _USUAL,
        _degenerate,
    ),
    "square": ProbeKind(
        "All sizes but the batch's are equal: no transposed matrix is given away by its shape.",
        Sizes(24, 16, 16, 16, 5),
        _ordinary,
    ),
    "all-kept": ProbeKind(
        "top_k is dict_size: nothing is cut off.", Sizes(8, 6, 16, 5, 16), _ordinary
    ),
    "smallest": ProbeKind("Every size is one.", Sizes(1, 1, 1, 1, 1), _ordinary),
    "large": ProbeKind("Numbers around 2**10 to 2**40.", _USUAL, _scaled(10)),
    "tiny": ProbeKind("Numbers around 2**-10 to 2**-40.", _USUAL, _scaled(-10)),
    "subnormal": ProbeKind(
        "Numbers that are subnormal in float32.", _USUAL, _subnormal, decisive=False
    ),
    "non-finite": ProbeKind(
        "Rows with NaN or infinity: the others are as ever, and these are refused, or not finite.",
        _USUAL,
        _non_finite,
        decisive=False,
    ),
    "every-feature": ProbeKind(
        "Every feature is active in one row, with few others, and far from any that is not.",
        Sizes(12, 20, 80, 16, 7),
        lambda rng, sizes: next(every_feature(rng, sizes)),
    ),
}

#: Of what an activation takes beside the arrays that every transcoder has: only where it does.
OWN_KINDS = {
    "thresholds": ProbeKind(
        "Sums that are exact in float32, and thresholds at them, or one number of float32 to "
        "either side, which a coarser format does not hold.",
        _POWERS,
        _integers,
    ),
}
