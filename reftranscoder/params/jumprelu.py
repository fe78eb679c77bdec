"""What the activation ``"jumprelu"`` takes beside the arrays that every transcoder has."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from ..errors import OptionError
from ..options import finite_number, one_of
from .own import Own

THROUGH = ("theta", "theta_and_input")


@dataclasses.dataclass(frozen=True, eq=False)
class JumpReLU(Own):
    """What the activation ``"jumprelu"`` takes: the threshold of each feature.

    With a ``bandwidth``, gradients are straight-through ones of that bandwidth, which are not
    derivatives; without one the derivative by ``theta`` is zero, as it is wherever there is one
    (``reference/jumprelu.py``).  ``through`` is ``"theta"`` (Rajamanoharan et al. 2024) or
    ``"theta_and_input"`` (Conerly et al. 2025).

    Raises:
        ShapeError: ``theta`` has more than one axis, or is empty.
        DTypeError: complex numbers, strings, objects.
        NonFiniteError: NaN or infinity in ``theta``.
        OptionError: a ``bandwidth`` that is not a number above zero, or another ``through``.

    >>> own = rt.JumpReLU([0.5, 2.0])
    >>> arrays = {"W_enc": np.eye(2), "b_enc": np.zeros(2), "W_dec": np.eye(2)}
    >>> tc = rt.Transcoder.from_arrays(**arrays, b_dec=np.zeros(2), activation="jumprelu", own=own)
    >>> tc.encode([[1.0, 1.0]]).toarray()
    array([[1., 0.]])
    """

    ARRAYS: ClassVar[tuple[str, ...]] = ("theta",)
    TAKES: ClassVar[str] = "a JumpReLU with its thresholds"

    theta: np.ndarray  # (D,)
    bandwidth: float | None = None
    through: str = "theta"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bandwidth is not None:
            bandwidth = finite_number("bandwidth", self.bandwidth)
            if bandwidth <= 0:
                raise OptionError("bandwidth", "above 0, or None", self.bandwidth)
            object.__setattr__(self, "bandwidth", bandwidth)
        one_of("through", self.through, THROUGH)

    @property
    def of_the_reference(self) -> str:
        """A bandwidth, where there is one."""
        return "" if self.bandwidth is None else "a bandwidth"

    @property
    def active_above(self) -> np.ndarray:
        """The thresholds (D,), 0 for those below zero, in float64."""
        return np.fmax(self.theta.astype(np.float64), 0.0)
