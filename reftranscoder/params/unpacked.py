"""`Params` whose weights stay as they lie: in their file, in half precision too.

Nothing is derived from them that would be kept: the kernels read them stretch by stretch, and no
packed copy is made.  What needs weights in memory is refused, in one line.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..arrays import check_finite, to_array
from ..errors import OptionError
from ..files.mapped import DTYPES, mapped_again, place_of, read_only_map, stretches
from ..files.stored import Stored
from ..options import instance
from ..ownership import common_dtype, locked, owned, view
from . import NAMES, Params
from .own import Own
from .shapes import check_own, check_shapes

#: The arrays of which no copy is made.
WEIGHTS = frozenset({"W_enc", "W_dec"})
_REMEDY = "Load it without pack=False."


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class UnpackedParams(Params):
    """The arrays of a transcoder, of which ``W_enc`` and ``W_dec`` stay what they are.

    A read-only memory map of float16, bfloat16, float32 or float64 is shared, in whatever order its
    entries lie; of an array in memory a copy is made, in its own dtype.  The other arrays are
    those of any `Params`, of `dtype`: that which holds all numbers exactly, at least float32.

    Raises:
        ShapeError, DTypeError, NonFiniteError: as `Params`; all is read once, a stretch at a time.

    >>> from reftranscoder.params.unpacked import UnpackedParams
    >>> halves = {"W_enc": np.eye(3, dtype="float16"), "W_dec": np.eye(3, dtype="float16")}
    >>> params = UnpackedParams(**halves, b_enc=np.float32([0, 0, 0]), b_dec=np.float32([0, 0, 0]))
    >>> params.W_enc.dtype, params.dtype
    (dtype('float16'), dtype('float32'))
    """

    def __post_init__(self) -> None:
        given = {**{name: getattr(self, name) for name in NAMES[:4]}, **self.arrays()}
        arrays = {n: _as_it_is(a, n) if n in WEIGHTS else to_array(a, n) for n, a in given.items()}
        taken = {}
        if self.own is not None:
            taken = instance("own", self.own, Own, "a JumpReLU or a Gated").arrays()
        dtype = common_dtype({**arrays, **taken}, {**given, **taken})
        if self.own is not None:
            object.__setattr__(self, "own", self.own.astype(dtype))
        check_shapes(arrays)
        check_own(self.own, len(arrays["b_enc"]))
        for name, array in arrays.items():
            ours = _kept(array, dtype) if name in WEIGHTS else owned(array, dtype)
            _check_finite(ours, name)
            object.__setattr__(self, name, ours)

    @property
    def dtype(self) -> np.dtype:
        """Of what is computed: that of the biases."""
        return self.b_enc.dtype

    def check_in_memory(self, what: str) -> None:
        """As `Params.check_in_memory`: always."""
        raise OptionError("pack", f"True, for {what}", False, _REMEDY)

    def astype(self, dtype: Any) -> Params:
        """Return itself, if ``dtype`` is its own.

        Raises:
            OptionError: another one.
        """
        if np.dtype(dtype) != self.dtype:
            self.check_in_memory("another dtype")
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        places = {n: place_of(a) if n in WEIGHTS else None for n, a in self.arrays().items()}
        return _restored, (
            {name: places[name] or array for name, array in self.arrays().items()},
            self.own,
        )


def _restored(places: dict[str, Any], own: Own | None) -> UnpackedParams:
    """What was pickled: of a map its place, which is mapped again, and was checked before."""
    made = object.__new__(UnpackedParams)
    for name in NAMES:
        value = places.get(name)
        if isinstance(value, Stored):
            value = mapped_again(value)
        elif value is not None:
            value = locked(value)
        object.__setattr__(made, name, value)
    object.__setattr__(made, "own", own)
    return made


def _as_it_is(value: Any, name: str) -> np.ndarray:
    """``value`` itself, if it is of a map and can be read as it is; else as `to_array` has it."""
    if isinstance(value, np.ndarray) and read_only_map(value) is not None:
        if value.dtype.name in DTYPES and value.dtype.isnative:
            return value
    return to_array(value, name)


def _kept(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """``array`` as it is, or its copy if it is in memory, unless it holds more than ``dtype``."""
    if array.dtype.name not in DTYPES or np.result_type(array.dtype, dtype) != dtype:
        return owned(array, dtype)
    return view(array) if read_only_map(array) is not None else owned(array, array.dtype)


def _check_finite(array: np.ndarray, name: str) -> None:
    """As `check_finite`, letting go of what was looked at."""
    seen = 0
    for first, part in stretches(array):
        seen = first + len(part)
        if not np.isfinite(part).all():
            break
    else:
        return
    check_finite(array[:seen], name, "No parameter may be: correct the array.")
