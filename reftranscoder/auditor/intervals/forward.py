"""The forward stages on intervals: their float64 values, and how far off each may be.

Each function takes what is upstream of its stage, as intervals over a block of rows, and returns
the stage.  Upstream is the candidate's own result wherever it gave one (an exact interval: whatever
it is, the next stage read it), so that a fault is found at the stage that made it and nowhere else.

The formulas are those of `reftranscoder.reference`; its equations are cited by their tags.  A
"store" is one rounding to what results are kept in.  Where implementations differ in the number of
stores (a bias added in the accumulator or to the stored product), the bound allows the most.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from ...bounds import FLOAT64, PRECISIONS, add_up, multiply_up, store_bound
from ...params import Params
from ..task.arithmetic import Arithmetic, rounded
from ..task.definition import Definition
from .gates import Gates
from .interval import (
    TIERS,
    Errors,
    Interval,
    cast,
    entry_by_entry,
    entrywise,
    growth,
    made,
    sum_of_two,
)
from .normalizations import normalized
from .products import Operand, Sum, by_rows, sparse_product
from .sparse_interval import SparseInterval


class Forward:
    """The forward stages of one transcoder, under one definition, in a declared arithmetic.

    ``shape`` is (B, D, O) of the whole batch.  ``operands`` holds what is known of ``params``,
    which are in float64 then, from another definition's `Forward`.  ``parts`` is how many layers'
    products, stored one by one, may be added up for a result.
    """

    def __init__(
        self,
        params: Params,
        definition: Definition,
        arithmetic: dict[str, Arithmetic],
        shape: tuple[int, int, int],
        operands: dict[int, Operand] | None = None,
        parts: int = 1,
    ) -> None:
        self.definition, self.arithmetic, self.parts = definition, arithmetic, parts
        self._operands: dict[int, Operand] = {}
        self._shared = operands
        self.B, self.D, self.O = shape
        arrays = {name: a.astype(np.float64, copy=False) for name, a in params.arrays().items()}
        self._own = {id(a) for a in arrays.values()}
        self.W_enc, self.W_dec = arrays["W_enc"], arrays["W_dec"]
        self.W_skip = arrays.get("W_skip")
        own, I = params.all_arrays(), params.W_enc.shape[1]
        self.theta = own["theta"].astype(np.float64) if "theta" in own else None
        self.gates = Gates(own, definition, arithmetic, I) if "b_gate" in own else None
        self.b_enc = arrays["b_enc"] * definition.b_enc
        self.subtracted, self.b_dec = arrays["b_dec"], arrays["b_dec"] * definition.b_dec
        if definition.W_enc == "transposed":
            self.W_enc = np.ascontiguousarray(self.W_enc.T)
        if definition.W_dec == "transposed":
            self.W_dec = np.ascontiguousarray(self.W_dec.T)
        self.W_back = self.W_dec
        if definition.W_dec == "transposed backwards":
            self.W_back = np.ascontiguousarray(self.W_dec.T)
        if definition.W_skip == "none":
            self.W_skip = None
        if definition.W_skip == "transposed" and self.W_skip is not None:
            self.W_skip = np.ascontiguousarray(self.W_skip.T)

    @functools.cached_property
    def norms(self) -> np.ndarray:
        """|W_dec[j]| (D,)."""
        norms: np.ndarray = np.linalg.norm(self.W_dec, axis=1)
        return norms

    @functools.cached_property
    def inverse_norms(self) -> np.ndarray:
        """1 / |W_dec[j]|.  A feature that writes nothing is neither scaled nor ever unscaled."""
        inverse: np.ndarray = 1 / np.where(self.norms > 0, self.norms, np.inf)
        return inverse

    def operand(self, W: np.ndarray) -> Operand:
        """One of the matrices above, for products."""
        held = self._operands
        if self._shared is not None and id(W) in self._own:
            held = self._shared
        return held.setdefault(id(W), Operand(W))

    def encoder_input(self, x: Interval) -> Interval:
        """What the encoder reads: x, or x - b_dec, rounded once; x normalized, where it is."""
        if self.definition.normalize != "none":
            x = normalized(x.value, self.definition, self.arithmetic["pre"]).read
        return self.minus_b_dec(x, "pre") if self.definition.input != "x" else x

    def skip_input(self, x: Interval) -> Interval:
        """What the skip connection reads."""
        if self.definition.skip_input == "x":
            return x
        if self.definition.normalize != "none":
            x = normalized(x.value, self.definition, self.arithmetic["reconstruction"]).read
        subtracted = self.definition.skip_input == "x - b_dec"
        return self.minus_b_dec(x, "reconstruction") if subtracted else x

    def pre(self, x: Interval) -> Interval:
        """(A1).  Stores: the product, and the sum with the bias."""
        arithmetic = self.arithmetic["pre"]
        total = Sum(arithmetic)
        read = self.times(self.definition.x, self.encoder_input(x), "pre")
        total.add(by_rows, read, self.operand(self.W_enc), x.value.shape[1])
        total.plus(*_bias(self.b_enc, arithmetic))
        pre = total.stored(2, self.b_enc)
        if self.definition.norms == "pre":
            pre = self.normed(pre, self.norms, "pre")
        return self.mistaken("pre", pre)

    def _tied(self, pre: Interval, x: Interval) -> Interval:
        """``pre`` as the magnitude path of gated may have it where it is not given: with weights
        that exp(r_mag) multiplied first, each of them stored or cast."""
        if pre.errors is None:
            return pre
        arithmetic = self.arithmetic["pre"]
        read = np.abs(self.encoder_input(x).value)
        unit = 1.01 * max(arithmetic.store.unit, arithmetic.inputs.unit)
        off = multiply_up(unit, read @ np.abs(self.W_enc).T)
        return Interval(pre.value, pre.each(lambda error: add_up(error, off)))

    def pre_acts(self, pre: Interval, x: Interval) -> Interval:
        """(R1): monotone, and no further than its argument; exact where that is.

        Of gated, the rectified magnitudes.
        """
        read = pre if self.gates is None else self.gates.magnitudes(self._tied(pre, x))
        return self.mistaken("pre_acts", self._pre_acts(read))

    def _pre_acts(self, pre: Interval) -> Interval:
        if not self.definition.rectified:
            return pre
        value = np.where(pre.value <= 0, 0.0, pre.value)
        return Interval(value, pre.errors and _rectified(pre.value, pre.errors))

    def ranks(self, pre_acts: Interval) -> Interval:
        """What the selection compares: pre_acts, or these times |W_dec[j]|."""
        if self.definition.norms in ("none", "pre"):
            return pre_acts
        return self.normed(pre_acts, self.norms, "hidden")

    @functools.cached_property
    def thresholds(self) -> np.ndarray | None:
        """What activations must be above to count (D,); None where that is zero."""
        if self.theta is None or self.definition.thresholds == "none":
            return None
        theta = np.fmax(self.theta, 0.0)
        if self.definition.thresholds != "theta":
            theta = rounded(theta, PRECISIONS[self.definition.thresholds])
        if self.definition.reaching:
            theta = np.nextafter(theta, 0.0)
        return theta

    def above_thresholds(self, ranks: Interval) -> Interval:
        """(J1): how far activations (B, D) are above their thresholds, and zero where they are not.

        A difference of two numbers of float64 has the right sign, and is zero only of equals.
        """
        theta = self.thresholds
        if theta is None:
            return ranks
        above = ranks.value - theta
        value = np.maximum(above, 0.0)
        return Interval(value, ranks.errors and _rectified(above, ranks.errors, 2 * FLOAT64.unit))

    def kept(self, pre_acts: Interval, ranks: Interval) -> Interval:
        """The values that hidden holds where it selects."""
        return pre_acts if self.definition.norms in ("none", "ranks") else ranks

    def reconstruction(self, hidden: SparseInterval, x: Interval) -> Interval:
        """(D1) and (S1).  Stores: the products, and their sums with each other and the bias."""
        arithmetic = self.arithmetic["reconstruction"]
        total = Sum(arithmetic)
        written = self.written(hidden, "reconstruction")
        written = self.times(self.definition.decoded, written, "reconstruction")
        total.add(
            sparse_product(hidden.pattern), written, self.operand(self.W_dec), hidden.counts()
        )
        total.plus(*_bias(self.b_dec, arithmetic))
        result = total.stored(2, self.b_dec, self.parts)
        late = self.definition.skip_input == "x"
        if not late:
            result = self._with_skip(result, x)
        result = self._rescaled(result, x)
        return self.mistaken("reconstruction", self._with_skip(result, x) if late else result)

    def _with_skip(self, result: Interval, x: Interval) -> Interval:
        if self.W_skip is None:
            return result
        skipped = self.times(self.definition.skipped, self.skip(x), "reconstruction")
        return sum_of_two(result, skipped, self.arithmetic["reconstruction"])

    def _rescaled(self, decoded: Interval, x: Interval) -> Interval:
        """(N1): in the units of x again, where that is undone.  Stores: the product, the sum."""
        if not self.definition.rescaled:
            return decoded
        arithmetic = self.arithmetic["reconstruction"]
        _, gain, shift = normalized(x.value, self.definition, arithmetic)
        return sum_of_two(self._gained(decoded, gain, "reconstruction"), shift, arithmetic)

    def d_decoded(self, d_reconstruction: Interval | None, x: Interval) -> Interval | None:
        """(N2), where there is anything to make it of.  Stores: the product."""
        if d_reconstruction is None or not self.definition.rescaled:
            return d_reconstruction
        gain = normalized(x.value, self.definition, self.arithmetic["d_hidden"]).gain
        return self._gained(d_reconstruction, gain, "d_hidden")

    def _gained(self, rows: Interval, gain: Interval, stage: str) -> Interval:
        value = rows.value * gain.value
        errors = []
        for tier in range(len(TIERS)):
            largest = add_up(np.abs(gain.value), gain.error(tier))
            seen = multiply_up(rows.error(tier), largest)
            spread = add_up(seen, multiply_up(np.abs(rows.value), gain.error(tier)))
            rounding = entrywise(add_up(np.abs(value), spread), 2, self.arithmetic[stage])
            errors.append(add_up(spread, rounding))
        return Interval(value, tuple(errors))

    def skip(self, x: Interval) -> Interval:
        """(S1), where there is a skip connection: x @ W_skip.T, stored."""
        W_skip, arithmetic = made(self.W_skip), self.arithmetic["reconstruction"]
        total = Sum(arithmetic)
        total.add(by_rows, self.skip_input(x), self.operand(W_skip), W_skip.shape[1])
        return total.stored(parts=self.parts)

    def written(self, hidden: SparseInterval, stage: str) -> Interval:
        """What multiplies W_dec (nnz,): hidden, or hidden over |W_dec[j]| where that scales it."""
        if self.definition.norms in ("none", "ranks"):
            return hidden.entries
        return self.normed(hidden.entries, self.inverse_norms[hidden.pattern.indices], stage)

    def minus_b_dec(self, x: Interval, stage: str) -> Interval:
        value = x.value - self.subtracted
        rounding = entrywise(value, 1, self.arithmetic[stage])
        return Interval(value, x.each(lambda e: add_up(e, rounding)))

    def normed(self, interval: Interval, factor: np.ndarray, stage: str) -> Interval:
        """Times ``factor``, |W_dec[j]| or its inverse, which the candidate knows to some error."""
        arithmetic = self.arithmetic[stage]
        relative = self.relative(self.O, stage)
        value = interval.value * factor
        rounding = entrywise(value, 4, arithmetic)
        errors = []
        for tier in range(len(TIERS)):
            grown = multiply_up(interval.error(tier), np.abs(factor), 1 + relative[tier])
            errors.append(add_up(grown, rounding, multiply_up(relative[tier], np.abs(value))))
        return Interval(value, tuple(errors))

    def relative(self, n: int, stage: str) -> tuple[float, ...]:
        """The relative error of a norm of ``n`` entries, in every tier."""
        arithmetic = self.arithmetic[stage]
        casts = 2 * arithmetic.inputs.unit + 4 * arithmetic.store.unit
        return tuple(1.01 * (float(c) + casts) for c in growth(n, self.B * n, arithmetic))

    def times(self, factor: float, interval: Interval, stage: str) -> Interval:
        """``factor`` times an interval: rounded twice, as the factor may be, too."""
        if factor == 1:
            return interval
        value = factor * interval.value
        rounding = entrywise(value, 2, self.arithmetic[stage])
        errors = interval.each(lambda e: add_up(multiply_up(e, abs(factor)), rounding))
        return Interval(value, errors)

    def mistaken(self, stage: str, interval: Interval) -> Interval:
        """What the definition says is wrong with the result of a stage as a whole."""
        interval = self.times(self.definition.factor(stage), interval, stage)
        coarser = self.definition.format(stage)
        if coarser is not None:
            to = PRECISIONS[coarser]
            value = interval.value
            interval = Interval(value, interval.each(lambda e: store_bound(value, e, to)))
        if stage in self.definition.flipped:
            interval = Interval(interval.value.T, interval.each(np.transpose))
        return interval


def _rectified(
    value: np.ndarray, errors: Sequence[np.ndarray], own: float = 0.0
) -> Sequence[np.ndarray]:
    """Errors, and ``own`` of the value, which are zero where all that they allow is."""

    def rectified(value: np.ndarray, *errors: np.ndarray) -> list[np.ndarray]:
        found = []
        for error in errors:
            if own:
                error = add_up(error, multiply_up(own, np.abs(value)))
            found.append(np.where(value + error <= 0, 0.0, error))
        return found

    some = (errors,) if isinstance(errors, Errors) else tuple(errors)
    return entry_by_entry(rectified, value, *some)


def _bias(bias: np.ndarray, arithmetic: Arithmetic) -> Interval:
    """A bias as an affine layer sees it: torch's ``linear`` casts it as it casts the operands."""
    return cast(Interval(bias), arithmetic)
