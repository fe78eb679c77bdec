"""The two paths of gated on intervals: which gates are open, and how strongly features fire.

The formulas are those of ``reference/gated.py``, cited by their tags.  Candidates differ in

- exp(r_mag), which numpy, the C libraries and CUDA compute to within 4 units in the last place of
  their format, 8 u; where r_mag is no number of that format, it is rounded first;
- whether the gate is pre with its bias added, or one sum with that bias in place of b_enc.
"""

from __future__ import annotations

import functools

import numpy as np

from ...bounds import FLOAT64, Precision, add_up, multiply_up
from ..task.arithmetic import Arithmetic, representable, representable_mask
from ..task.definition import Definition
from .interval import TIERS, Interval, entrywise, growth, stored

_EXP = 8.0  # u: 4 units in the last place


class Gates:
    """Both paths of one transcoder: b_gate, b_mag and r_mag (D,) in float64, and ``I`` inputs."""

    def __init__(
        self,
        own: dict[str, np.ndarray],
        definition: Definition,
        arithmetic: dict[str, Arithmetic],
        I: int,
    ) -> None:
        self.definition, self.arithmetic, self.I = definition, arithmetic, I
        self.b_gate = own["b_gate"].astype(np.float64)
        self.b_mag = own["b_mag"].astype(np.float64) * definition.b_mag
        self.r_mag = own["r_mag"].astype(np.float64)

    @functools.cached_property
    def strengths(self) -> np.ndarray:
        """exp(r_mag) (D,)."""
        if self.definition.strengths == "none":
            return np.ones(len(self.r_mag))
        if self.definition.strengths == "r_mag":
            return self.r_mag
        strengths: np.ndarray = np.exp(self.r_mag)
        return strengths

    def strengths_error(self, stage: str) -> np.ndarray:
        """How far off a candidate's exp(r_mag) may be (D,), in every tier."""
        store = self.arithmetic[stage].store
        cast = np.where(representable_mask(self.r_mag, store), 0.0, store.unit)
        relative = 1.01 * (np.expm1(cast * np.abs(self.r_mag)) + _EXP * (store.unit + FLOAT64.unit))
        error: np.ndarray = add_up(
            multiply_up(relative, np.abs(self.strengths)), 2 * store.spacing + _EXP * cast
        )
        return error

    def magnitudes(self, pre: Interval) -> Interval:
        """(Z2).  Roundings: the product, the sum, and the store."""
        arithmetic = self.arithmetic["pre_acts"]
        product = self.times_strengths(pre, slice(None), "pre_acts")
        value = product.value + self.b_mag
        own = _bias_error(self.b_mag, arithmetic.store)
        own = add_up(own, multiply_up(4 * FLOAT64.unit, np.abs(product.value) + np.abs(self.b_mag)))
        summed = Interval(value, product.each(lambda e: add_up(e, own)))
        return stored(summed, arithmetic, times=2)

    def times_strengths(
        self, interval: Interval, columns: np.ndarray | slice, stage: str
    ) -> Interval:
        """Times exp(r_mag) of these ``columns``, rounded once."""
        factor, error = self.strengths[columns], self.strengths_error(stage)[columns]
        value, arithmetic = interval.value * factor, self.arithmetic[stage]

        def grown(e: np.ndarray | float) -> np.ndarray:
            most = add_up(np.abs(interval.value), e)
            spread = add_up(multiply_up(e, np.abs(factor)), multiply_up(error, most))
            rounding = entrywise(add_up(np.abs(value), spread), 1, arithmetic)
            total: np.ndarray = add_up(spread, rounding)
            return total

        return Interval(value, interval.each(grown))

    def gate(self, pre: Interval) -> Interval:
        """(Z1), of which only the sign counts; exactly known where pre is.

        A sum of two numbers has the right sign.  Where pre is not given the gate may be one sum of
        its own, with n + 1 terms, of which b_gate is one.
        """
        value = pre.value + self.b_gate
        arithmetic, size = self.arithmetic["pre"], np.abs(self.b_gate)
        if pre.errors is None and representable(self.b_gate, arithmetic.inputs):
            return Interval(value)
        factors = growth(self.I + 2, pre.value.size, arithmetic)
        own = add_up(
            _bias_error(self.b_gate, arithmetic.inputs), multiply_up(4 * FLOAT64.unit, size)
        )
        own = add_up(own, entrywise(size, 1, arithmetic))
        errors = (
            add_up(pre.error(t), own, multiply_up(factors[t], size)) for t in range(len(TIERS))
        )
        return Interval(value, tuple(errors))

    def behind(self, pre_acts: Interval, gate: Interval) -> Interval:
        """What is positive where a feature is active: the lesser of its gate and its magnitude."""
        if self.definition.gates == "none":
            return pre_acts
        if self.definition.gates == "reaching":
            gate = Interval(np.where(gate.value == 0, FLOAT64.spacing, gate.value), gate.errors)
        lesser = np.minimum(pre_acts.value, gate.value)
        value = np.maximum(lesser, 0.0)
        if pre_acts.errors is None and gate.errors is None:
            return Interval(value)
        errors = []
        for tier in range(len(TIERS)):
            e, f = pre_acts.error(tier), gate.error(tier)
            gap = gate.value - pre_acts.value
            sure = np.abs(gap) > add_up(e, f)
            error = np.where(sure, np.where(gap > 0, e, f), np.maximum(e, f))
            errors.append(_rectified(lesser, error))
        return Interval(value, tuple(errors))


def _rectified(value: np.ndarray, error: np.ndarray) -> np.ndarray:
    return np.where(value + error <= 0, 0.0, error)


def _bias_error(bias: np.ndarray, to: Precision) -> np.ndarray:
    """What rounding a bias to a format may move it by, where it is no number of it."""
    error: np.ndarray = np.where(
        representable_mask(bias, to), 0.0, add_up(multiply_up(to.unit, np.abs(bias)), to.spacing)
    )
    return error
