"""What arithmetic the errors of ``pre`` look like, whatever was declared.

The errors are measured in units of u S, with u of float32 and S the sum of the absolute values of
the terms.  Rounded to nearest, in any reasonable order, their root mean square is below 1 (see
`typical`); every coarser arithmetic leaves a mark of its own:

- **Inputs rounded** to TF32, bfloat16 or float16: the same sum of rounded operands explains the
  errors almost completely.  Nothing else does that, no order of summation in particular: that
  arithmetic is proved, and if it is coarser than the one declared, this is a fault.  Errors that
  float32 itself makes prove nothing: where sums are nearly exact, any rounding may fit them.
- **Storage** in a narrower format: every number is one of that format, and within its rounding of
  what it should be.  That is proved as well.
- **A coarser accumulator**: errors of float16's or bfloat16's size.  The bounds are the judge.
- **Truncation**: errors that point towards zero.  An unlucky order can do that too, so that it is
  said and not judged.
- **A wider accumulator**: errors of one rounding, the last.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from ...bounds import PRECISIONS, Precision
from ..intervals.backward import Backward
from ..intervals.interval import Interval
from ..judging.verdict import StageResult
from ..task.arithmetic import representable
from ..task.candidate import Candidate
from ..task.problem import Problem

_LEAST = 1000  # values, below which nothing is concluded
_ROWS, _FEATURES = 64, 256  # that are looked at
_DECISIVE = 8  # how many times smaller the errors are once their cause is taken away
_UNIT = PRECISIONS["float32"].unit
_TINY = 2.0**-100  # sums of absolute values below which underflow hides rounding


class Inputs(NamedTuple):
    """A format that operands may have been rounded to."""

    name: str
    precision: Precision
    truncated: bool = False


_INPUTS = (
    Inputs("float32 inputs", PRECISIONS["float32"]),
    Inputs("TF32 or float16 inputs", PRECISIONS["tf32"]),
    Inputs("TF32 inputs, truncated", PRECISIONS["tf32"], truncated=True),
    Inputs("bfloat16 inputs", PRECISIONS["bfloat16"]),
    Inputs("bfloat16 inputs, truncated", PRECISIONS["bfloat16"], truncated=True),
)


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """What the errors of pre look like."""

    looks_like: str
    rms: float  # of the errors over u S, u that of float32
    signed_mean: float  # of the same, positive away from zero
    values: int
    terms: int  # of each sum
    contradicts: bool  # whether it is coarser than what was declared

    def sentence(self, declared: str) -> str:
        low, high = typical(self.terms)
        numbers = f"rms {self.rms:.2g} against {low:.2g} to {high:.2g}"
        if self.contradicts:
            return f"declared {declared}, but pre looks like {self.looks_like} ({numbers})"
        return f"pre looks like {self.looks_like} ({numbers}, in units of u S of float32)"


def typical(terms: int) -> tuple[float, float]:
    """The range of the rms of float32 sums of ``terms`` random products, any good library's.

    Measured with normal operands: from a correctly rounded result to a plain loop.
    """
    low = np.interp(np.log(terms), np.log([4, 16, 64, 256, 1024, 4096]), _LOW)
    high = np.interp(np.log(terms), np.log([4, 16, 64, 256, 1024, 4096]), _HIGH)
    return float(low), float(high)


_LOW = (0.25, 0.15, 0.08, 0.04, 0.02, 0.01)
_HIGH = (0.6, 0.6, 0.6, 0.6, 0.6, 0.6)


def fingerprint(problem: Problem, candidate: Candidate) -> Fingerprint | None:
    """The `Fingerprint` of pre; None without it, with less than 1000 values, and for float64."""
    declared = problem.arithmetic["pre"]
    if "pre" not in candidate or declared.accumulator.unit < _UNIT:
        return None
    got, x, W, b = _sample(problem, candidate)
    usable = np.isfinite(got) & np.isfinite(x).all(axis=1, keepdims=True)
    x = np.where(np.isfinite(x), x, 0.0)
    S = np.abs(x) @ np.abs(W).T + np.abs(b)
    usable &= S > _TINY
    if usable.sum() < _LEAST:
        return None

    def errors(rounded_x: np.ndarray, rounded_W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        exact = rounded_x @ rounded_W.T + b
        with np.errstate(invalid="ignore", divide="ignore"):
            return (((got - exact) / (_UNIT * S))[usable], exact)

    plain, exact = errors(_cast(x, declared.inputs), _cast(W, declared.inputs))
    ordinary = _rms(plain) <= typical(x.shape[1] + 1)[1]
    best, cause, coarser = plain, None, False
    for inputs in _INPUTS:
        coarse = inputs.precision
        if coarse.unit == declared.inputs.unit:
            continue
        seen_x, seen_W = (_cast(a, coarse, inputs.truncated) for a in (x, W))
        residue, _ = errors(seen_x, seen_W)
        if _rms(residue) * _DECISIVE < _rms(plain) and _rms(residue) < 0.99 * _rms(best):
            best, cause, coarser = residue, inputs.name, coarse.unit > declared.inputs.unit
    toward_zero = float(np.mean(best * np.sign(exact[usable])))
    narrow = _narrower(got, x, W, b, usable, declared.store)
    looks_like = cause or narrow
    if looks_like is None and declared.store.unit > _UNIT:
        looks_like = declared.name  # its last rounding hides the others
    if looks_like is None:
        looks_like = _accumulator(best, exact[usable], S[usable], toward_zero)
    return Fingerprint(
        looks_like=looks_like,
        rms=_rms(plain),
        signed_mean=float(np.mean(plain * np.sign(exact[usable]))),
        values=int(usable.sum()),
        terms=x.shape[1] + 1,
        contradicts=not ordinary and (coarser or bool(narrow)),
    )


def judge_arithmetic(
    found: Fingerprint | None, declared: str, results: dict[str, StageResult]
) -> dict[str, StageResult]:
    """``results``, where pre is at fault if it was made in a coarser arithmetic than declared."""
    if found is None or not found.contradicts or results["pre"].verdict == "not given":
        return results
    worst = dataclasses.replace(
        results["pre"], verdict="fault", tier=None, explanation=found.sentence(declared)
    )
    return results | {"pre": worst}


def _sample(
    problem: Problem, candidate: Candidate
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Some of pre, and the rows of x and W_enc and the biases that it was made from."""
    B, D = candidate.B, candidate.D
    # Fewer of the ones leave room for more of the others.
    many = max(_ROWS, _ROWS * _FEATURES // D)
    rows = np.unique(np.linspace(0, B - 1, min(B, many)).astype(int))
    many = max(_FEATURES, _ROWS * _FEATURES // len(rows))
    features = np.unique(np.linspace(0, D - 1, min(D, many)).astype(int))
    part = candidate.part(rows=rows)
    got = part.rows("pre", slice(0, len(rows)))[:, features]
    shape = (len(problem.x), *problem.params.W_dec.shape)
    intervals = Backward(
        problem.params,
        dataclasses.replace(problem.definition, mse="mean"),
        problem.arithmetic,
        shape,
        problem.l1_coeff,
    )
    read = intervals.encoder_input(Interval(problem.x[rows].astype(np.float64))).value
    if problem.definition.norms == "pre":
        scale = intervals.norms[features]
        return (
            got,
            read,
            intervals.W_enc[features] * scale[:, None],
            intervals.b_enc[features] * scale,
        )
    return got, read, intervals.W_enc[features], intervals.b_enc[features]


def _cast(a: np.ndarray, to: Precision, truncated: bool = False) -> np.ndarray:
    """``a`` rounded to nearest, or cut off, at the format's number of bits; of any magnitude."""
    if to.unit <= _UNIT:
        return a
    fraction, exponent = np.frexp(a)
    scaled = np.ldexp(fraction, int(-np.log2(to.unit)))
    whole = np.trunc(scaled) if truncated else np.rint(scaled)
    cut: np.ndarray = np.ldexp(whole, exponent) * to.unit
    return cut


def _narrower(
    got: np.ndarray,
    x: np.ndarray,
    W: np.ndarray,
    b: np.ndarray,
    usable: np.ndarray,
    store: Precision,
) -> str | None:
    """The narrow format that every value is a number of, and rounded to, though the exact ones
    are not."""
    for name in ("bfloat16", "float16"):
        to = PRECISIONS[name]
        if to.unit <= store.unit or not representable(got[usable], to):
            continue
        if any(_is_rounded(got, *seen, b, usable, to) for seen in _as_seen(x, W, to)):
            return f"storage in {name}"
    return None


def _as_seen(
    x: np.ndarray, W: np.ndarray, to: Precision
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """The operands as they are, and as a product sees them that is all in the narrow format."""
    return (x, W), (_cast(x, to), _cast(W, to))


def _is_rounded(
    got: np.ndarray,
    x: np.ndarray,
    W: np.ndarray,
    b: np.ndarray,
    usable: np.ndarray,
    to: Precision,
) -> bool:
    """Whether most entries of ``got`` are not exact, and all as near as float32 sums, then stored,
    once with the bias and perhaps once without, must be."""
    product = x @ W.T
    exact = product + b
    # Sums of small integers are numbers of any format.
    if np.mean((got != exact)[usable]) <= 0.5:
        return False
    summed = (x.shape[1] + 1) * _UNIT * (np.abs(x) @ np.abs(W).T + np.abs(b))
    stored = to.unit * (np.abs(product) + np.abs(exact) + to.unit * np.abs(product)) + to.spacing
    # To first order in the units, of which the largest is 2^-8.
    bound = (stored + summed * (1 + 2 * to.unit)) * (1 + _UNIT)
    return bool(np.all(np.abs(got - exact)[usable] <= bound[usable]))


def _accumulator(errors: np.ndarray, exact: np.ndarray, S: np.ndarray, toward_zero: float) -> str:
    rms = _rms(errors)
    with np.errstate(over="ignore"):
        once = _rms((exact.astype(np.float32) - exact) / (_UNIT * S))
    if rms == 0:
        return "exact arithmetic"
    if rms <= 1.05 * once:
        return "a wider accumulator, rounded once"
    for name in ("bfloat16", "float16"):
        if rms > 0.05 * PRECISIONS[name].unit / _UNIT:
            return f"accumulation in {name}"
    spread = np.sqrt(len(errors))
    if toward_zero < -0.4 * rms and -toward_zero * spread > 8 * rms:
        return "a truncating float32 accumulator"
    return "float32"


def _rms(a: np.ndarray) -> float:
    return float(np.sqrt(np.mean(a**2))) if a.size else 0.0
