"""What one activation takes beside the arrays that every transcoder has, whichever it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np

from ..arrays import check_finite, to_array
from ..errors import ShapeError
from ..ownership import common_dtype, locked, owned, view

if TYPE_CHECKING:
    from . import TranscoderConfig

O = TypeVar("O", bound="Own")


@dataclasses.dataclass(frozen=True, eq=False)
class Own:
    """Arrays with a number for each feature, which are parameters, and options beside them.

    Raises:
        ShapeError: an array with more than one axis, an empty one, or several lengths.
        DTypeError: complex numbers, strings, objects.
        NonFiniteError: NaN or infinity.
    """

    ARRAYS: ClassVar[tuple[str, ...]]  # the fields that are arrays
    TAKES: ClassVar[str]  # this class in a sentence

    def __post_init__(self) -> None:
        given = self.arrays()
        arrays = {name: to_array(value, name) for name, value in given.items()}
        dtype = common_dtype(arrays, given)
        D = None
        for name, array in arrays.items():
            if array.ndim != 1 or not len(array) or D not in (None, len(array)):
                want = "(any,)" if D is None else (D,)
                raise ShapeError(name, want, array.shape, letters="(D,)")
            D = len(array)
            ours = owned(array, dtype)
            check_finite(ours, name, "No parameter may be: correct the array.")
            object.__setattr__(self, name, ours)

    @classmethod
    def at_the_start(cls, D: int, dtype: np.typing.DTypeLike) -> Self | None:
        """Return what a transcoder begins with; None where it has to be said."""
        return None

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {name: getattr(self, name) for name in self.ARRAYS}

    def options(self) -> dict[str, Any]:
        """Return the other fields by name."""
        names = (field.name for field in dataclasses.fields(self))
        return {name: getattr(self, name) for name in names if name not in self.ARRAYS}

    def check(self, config: TranscoderConfig) -> None:
        """Refuse a ``config`` under which the options make no sense.

        Raises:
            OptionError: naming what does not go with what.
        """

    @property
    def of_the_reference(self) -> str:
        """What of this the gradients of the reference alone know, in words; "" if nothing."""
        return ""

    @property
    def active_above(self) -> np.ndarray:
        """What ``pre`` must exceed for a feature to be active, but for rounding: (D,), float64."""
        raise NotImplementedError

    def gradient(self, gradients: Mapping[str, np.ndarray]) -> Self:
        """Return the same with derivatives for arrays, by their names with a d, taken as they
        are."""
        arrays = {name: view(gradients[f"d{name}"]) for name in self.ARRAYS}
        return _put_together(type(self), arrays, self.options())

    def astype(self, dtype: np.dtype) -> Self:
        """Return the same, each number rounded once to ``dtype``.  Raises `NonFiniteError`."""
        if all(array.dtype == dtype for array in self.arrays().values()):
            return self
        with np.errstate(over="ignore", under="ignore"):
            return self.each(lambda array: array.astype(dtype))

    def each(self, change: Callable[[np.ndarray], np.ndarray]) -> Self:
        """Return the same with each array put through ``change``.  Raises as the class does."""
        changed: dict[str, Any] = {name: change(array) for name, array in self.arrays().items()}
        return dataclasses.replace(self, **changed)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.arrays(), self.options())

    def __deepcopy__(self, memo: object) -> Self:
        return self  # a value


def _restored(kind: type[O], arrays: dict[str, np.ndarray], options: dict[str, Any]) -> O:
    """What was pickled: nobody else holds ``arrays``."""
    return _put_together(kind, {name: locked(array) for name, array in arrays.items()}, options)


def _put_together(kind: type[O], arrays: dict[str, np.ndarray], options: dict[str, Any]) -> O:
    """A ``kind`` of read-only arrays and options that need no check."""
    made = object.__new__(kind)
    for name, value in (arrays | options).items():
        object.__setattr__(made, name, value)
    return made
