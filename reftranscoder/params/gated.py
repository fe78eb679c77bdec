"""What the activation ``"gated"`` takes beside the arrays that every transcoder has."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from ..errors import OptionError
from ..options import finite_number
from .own import Own

if TYPE_CHECKING:
    from . import TranscoderConfig


@dataclasses.dataclass(frozen=True, eq=False)
class Gated(Own):
    """What the activation ``"gated"`` takes: the biases of its two paths, and how much stronger
    the weights of the magnitude path are than those of the gate path, as a logarithm.

    With ``auxiliary_coeff`` or ``gate_l1_coeff`` above 0, the loss has the auxiliary terms by which
    the gate path is trained, with a frozen decoder, and gradients are those of that loss
    (``reference/gated.py``, Rajamanoharan et al. 2024).  Both are coefficients of means, as
    ``l1_coeff`` is: published are 1, and lambda D / O with sums in place of means, all over O.

    Raises:
        ShapeError: an array with more than one axis, an empty one, or several lengths.
        DTypeError: complex numbers, strings, objects.
        NonFiniteError: NaN or infinity.
        OptionError: an ``r_mag`` of which exp(r_mag) is infinite; a coefficient that is negative.

    >>> own = rt.Gated(b_gate=[0.0, -2.0], b_mag=[0.0, 1.0], r_mag=np.log([1.0, 3.0]))
    >>> arrays = {"W_enc": np.eye(2), "b_enc": np.zeros(2), "W_dec": np.eye(2)}
    >>> tc = rt.Transcoder.from_arrays(**arrays, b_dec=np.zeros(2), activation="gated", own=own)
    >>> tc.encode([[1.0, 2.0], [1.0, 2.5]]).toarray()
    array([[1. , 0. ],
           [1. , 8.5]])
    """

    ARRAYS: ClassVar[tuple[str, ...]] = ("b_gate", "b_mag", "r_mag")
    TAKES: ClassVar[str] = "a Gated with the biases of its paths"

    b_gate: np.ndarray  # (D,)
    b_mag: np.ndarray  # (D,)
    r_mag: np.ndarray  # (D,)
    gate_l1_coeff: float = 0.0
    auxiliary_coeff: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        with np.errstate(over="ignore"):
            strengths = self.strengths
        if not np.isfinite(strengths).all():
            largest = np.log(np.finfo(strengths.dtype).max)
            want = f"at most {largest:.0f}, so that exp(r_mag) is finite"
            raise OptionError("r_mag", want, self.r_mag.max())
        for name in ("gate_l1_coeff", "auxiliary_coeff"):
            object.__setattr__(self, name, finite_number(name, getattr(self, name)))

    @classmethod
    def at_the_start(cls, D: int, dtype: np.typing.DTypeLike) -> Self:
        """Return zeros, as the libraries begin: the two paths are one, which is ReLU."""
        zeros = np.zeros(D, dtype)
        return cls(b_gate=zeros, b_mag=zeros, r_mag=zeros)

    @property
    def strengths(self) -> np.ndarray:
        """exp(r_mag) (D,), in float64 or what is wider."""
        wide: np.ndarray = np.exp(self.r_mag.astype(np.result_type(self.r_mag, np.float64)))
        return wide

    @property
    def of_the_reference(self) -> str:
        """An auxiliary loss, where there is one."""
        return "an auxiliary loss" if self.gate_l1_coeff or self.auxiliary_coeff else ""

    @property
    def active_above(self) -> np.ndarray:
        """Where both paths are 0, the higher of the two (D,), in float64."""
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            weak = -self.b_mag / self.strengths
        # Where exp(r_mag) is 0, b_mag alone decides, and 0 / 0 is never positive.
        weak = np.where(np.isnan(weak), np.inf, weak)
        above: np.ndarray = np.fmax(-self.b_gate, weak).astype(np.float64)
        return above

    def check(self, config: TranscoderConfig) -> None:
        """Refuse a ``config`` under which the options make no sense.

        Raises:
            OptionError: an auxiliary loss of an output that is more than what is decoded.
        """
        if self.of_the_reference and (config.skip or config.conventions.changes_output):
            name = "auxiliary_coeff" if self.auxiliary_coeff else "gate_l1_coeff"
            want = "0, with a skip connection or an output that is rescaled"
            raise OptionError(name, want, getattr(self, name))
