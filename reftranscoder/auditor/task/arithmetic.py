"""In what numbers a candidate computes: which roundings may be made, and where.

A product of matrices is modelled as every accelerator makes it: the operands are rounded to
``inputs``, their products are added in ``accumulator`` in some order, and the sum is stored in
``store``.  What is computed entry by entry, a loss for instance, is computed and stored in
``store``, or in the accumulator and stored once; the bounds allow both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from ...bounds import PRECISIONS, Precision
from ...errors import OptionError
from ...options import one_of, positive_integer, truth
from .stage_graph import ALL_STAGES


class _Format:
    """A field that is given as a `Precision` or as the name of one, and read as a `Precision`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, arithmetic: object, owner: type) -> Precision:
        if arithmetic is None:
            raise AttributeError(self._name)  # there is no default
        found: Precision = vars(arithmetic)[self._name]
        return found

    def __set__(self, arithmetic: object, given: Precision | str) -> None:
        if not isinstance(given, Precision):
            given = PRECISIONS[one_of(self._name, given, PRECISIONS)]
        vars(arithmetic)[self._name] = given


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """The roundings that are allowed.

    A format is a `Precision`, or the name of one: float16, bfloat16, tf32, float32 or float64.

    Attributes:
        inputs: what the operands of a product are rounded to first; a bias that is added to one
            may be, too.
        accumulator: what the products are added up in.
        store: what every result is stored in.
        truncating: whether the accumulator truncates instead of rounding: twice the error a step.
        depth: the height of the tree in which every sum is added up, where it is known: the
            bound grows with it instead of with the number of terms.  None allows any order.
        flushing: whether subnormal numbers count as zero.

    Raises:
        OptionError: an unknown format, or a depth that is no number of steps.

    >>> mine = rt.Arithmetic("mine", inputs="bfloat16", accumulator="float32", store="bfloat16")
    >>> mine.inputs.name, mine.unit == 2**-24
    ('bfloat16', True)
    """

    name: str
    inputs: _Format = _Format()
    accumulator: _Format = _Format()
    store: _Format = _Format()
    truncating: bool = False
    depth: int | None = None
    flushing: bool = False

    def __post_init__(self) -> None:
        for field in "truncating", "flushing":
            object.__setattr__(self, field, truth(field, getattr(self, field)))
        if self.depth is not None:
            object.__setattr__(self, "depth", positive_integer("depth", self.depth))

    @property
    def unit(self) -> float:
        """What one addition may be off by, relative to its result."""
        return self.accumulator.unit * (2 if self.truncating else 1)


#: By name.  ``bfloat16-inputs`` is what a GPU does with float32 arrays under "medium" precision.
ARITHMETICS = {
    a.name: a
    for a in (
        Arithmetic("float64", "float64", "float64", "float64"),
        Arithmetic("float32", "float32", "float32", "float32"),
        Arithmetic("tf32", "tf32", "float32", "float32"),
        Arithmetic("bfloat16-inputs", "bfloat16", "float32", "float32"),
        Arithmetic("bfloat16", "bfloat16", "float32", "bfloat16"),
        Arithmetic("float16", "float16", "float32", "float16"),
    )
}

#: Arithmetics that differ from stage to stage.  Autocast casts products and, for the squared error,
#: what they made back, whose gradient is in the narrow format all the same.
MIXED = {
    "bfloat16-autocast": {
        stage: ARITHMETICS["float32" if stage == "loss" else "bfloat16"] for stage in ALL_STAGES
    }
}


def by_stage(
    arithmetic: str | Arithmetic | Mapping[str, str | Arithmetic],
) -> dict[str, Arithmetic]:
    """Every stage's `Arithmetic`, from one for all, a name, or a mapping (``float32`` elsewhere).

    Raises:
        OptionError: an unknown name or stage.
    """
    if isinstance(arithmetic, str) and arithmetic in MIXED:
        return dict(MIXED[arithmetic])
    if isinstance(arithmetic, Mapping):
        unknown = [s for s in arithmetic if not isinstance(s, str) or s not in ALL_STAGES]
        if unknown:
            raise OptionError("arithmetic", f"for stages among {', '.join(ALL_STAGES)}", unknown[0])
        given = {stage: _one(value) for stage, value in arithmetic.items()}
        return {stage: given.get(stage, ARITHMETICS["float32"]) for stage in ALL_STAGES}
    return dict.fromkeys(ALL_STAGES, _one(arithmetic))


def _one(arithmetic: str | Arithmetic) -> Arithmetic:
    if isinstance(arithmetic, Arithmetic):
        return arithmetic
    if not isinstance(arithmetic, str) or arithmetic not in ARITHMETICS:
        known = ", ".join([*ARITHMETICS, *MIXED])
        raise OptionError("arithmetic", f"an Arithmetic or one of {known}", arithmetic)
    return ARITHMETICS[arithmetic]


def representable(value: np.ndarray, precision: Precision) -> bool:
    """Whether every entry of ``value`` is a number of the format."""
    return bool(np.all(representable_mask(value, precision)))


def representable_mask(value: np.ndarray, precision: Precision) -> np.ndarray:
    """Which entries of ``value`` are numbers of the format."""
    value = np.asarray(value, np.float64)
    if precision.unit <= 2.0**-53:
        return np.ones(value.shape, bool)
    if precision.name == "float32":
        with np.errstate(over="ignore", under="ignore"):
            same: np.ndarray = value.astype(np.float32) == value
            return same
    multiple: np.ndarray = np.mod(value, quantum(value, precision)) == 0
    return multiple


def rounded(a: np.ndarray, to: Precision) -> np.ndarray:
    """Each number as the nearest of a format, in the array's own dtype; infinity and NaN stay.

    Numbers beyond the largest of the format do not become infinity.
    """
    finite = np.isfinite(a)
    wide = np.where(finite, a, 0.0).astype(np.float64)
    step = quantum(wide, to)
    found: np.ndarray = np.where(finite, np.rint(wide / step) * step, a)
    return found.astype(a.dtype)


def quantum(value: np.ndarray, precision: Precision) -> np.ndarray:
    """What numbers of the format as large as ``value`` are multiples of: 2 u 2^e, where 2^e is the
    power of two at or below |value|, or eta."""
    _, exponent = np.frexp(value)
    found: np.ndarray = np.maximum(np.ldexp(2 * precision.unit, exponent - 1), precision.spacing)
    return found
