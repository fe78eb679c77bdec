"""What is audited against, and how its stages follow from each other."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...params import Params
from .arithmetic import Arithmetic
from .definition import Definition


class Sizes(NamedTuple):
    """B rows, I input_size, D dict_size, O output_size."""

    B: int
    I: int  # noqa: E741
    D: int
    O: int  # noqa: E741


class Problem(NamedTuple):
    """What is audited against: everything but the candidate."""

    params: Params
    definition: Definition
    arithmetic: dict[str, Arithmetic]
    x: np.ndarray  # (B, I) float64
    target: np.ndarray | None  # (B, O) float64
    l1_coeff: float
    part_of: Problem | None = None  # what some rows or features of which these are
    copies: bool = False  # whether stages may be rounded copies of what the next ones read
    # What is known of the params, which are in float64 then: to be filled and shared.
    operands: dict[int, Any] | None = None
    # How many products that are stored one by one may be added up for one result.
    parts: int = 1

    @property
    def sizes(self) -> Sizes:
        D, I = self.params.W_enc.shape
        return Sizes(len(self.x), I, D, len(self.params.b_dec))

    @property
    def whole(self) -> Problem:
        return self if self.part_of is None else self.part_of

    @property
    def undefined(self) -> set[str]:
        """The stages that the definition itself makes no number of, as it divides by zero here."""
        found, x, target = set(), self.whole.x, self.whole.target
        if target is not None and (
            (self.definition.mse == "fvu" and self._vanishes(target - target.mean(axis=0), None))
            or (self.definition.mse in ("over_norm", "over_square") and self._vanishes(target, 1))
        ):
            found |= {"loss", "d_reconstruction"}
        if self.definition.l1 == "over_input_norm" and self._vanishes(x, 1):
            found |= {"loss", "d_hidden"}
        return found

    def _vanishes(self, a: np.ndarray, axis: int | None) -> bool:
        """Whether some sum of squares is zero, or so small that it may be in this arithmetic."""
        store = self.arithmetic["loss"].store
        smallest = store.spacing / (2 * store.unit)
        with np.errstate(over="ignore"):
            return bool(np.any(np.square(a).sum(axis=axis) < smallest))
