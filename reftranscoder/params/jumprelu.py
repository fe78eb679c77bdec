"""What the activation ``"jumprelu"`` takes beside the arrays that every transcoder has."""

from __future__ import annotations

import dataclasses

import numpy as np

from ..arrays import check_finite, to_array
from ..errors import OptionError, ShapeError
from ..options import finite_number, one_of
from ..ownership import common_dtype, owned, view

THROUGH = ("theta", "theta_and_input")


@dataclasses.dataclass(frozen=True, eq=False)
class JumpReLU:
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

    theta: np.ndarray  # (D,)
    bandwidth: float | None = None
    through: str = "theta"

    def __post_init__(self) -> None:
        theta = to_array(self.theta, "theta")
        if theta.ndim != 1 or not len(theta):
            raise ShapeError("theta", "(any,)", theta.shape, letters="(D,)")
        ours = owned(theta, common_dtype({"theta": theta}, {"theta": self.theta}))
        check_finite(ours, "theta", "No threshold may be: correct the array.")
        object.__setattr__(self, "theta", ours)
        if self.bandwidth is not None:
            bandwidth = finite_number("bandwidth", self.bandwidth)
            if bandwidth <= 0:
                raise OptionError("bandwidth", "above 0, or None", self.bandwidth)
            object.__setattr__(self, "bandwidth", bandwidth)
        one_of("through", self.through, THROUGH)

    def gradient(self, dtheta: np.ndarray) -> JumpReLU:
        """Return the same with a derivative by ``theta`` in its place, which is taken as it is."""
        made = object.__new__(JumpReLU)
        fields = {"theta": view(dtheta), "bandwidth": self.bandwidth, "through": self.through}
        for name, value in fields.items():
            object.__setattr__(made, name, value)
        return made

    def astype(self, dtype: np.dtype) -> JumpReLU:
        """Return the same, each threshold rounded once to ``dtype``.  Raises `NonFiniteError`."""
        if self.theta.dtype == dtype:
            return self
        with np.errstate(over="ignore", under="ignore"):
            return dataclasses.replace(self, theta=self.theta.astype(dtype))
