"""One step away from the point where a gradient is checked, as long as the cell allows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..arrays import check_finite, to_array
from ..bounds import Precision, dot_bound, precision
from ..errors import KinkError, OptionError, ShapeError
from ..params import Params, TranscoderConfig
from .kinks import kink_free_radius, slack
from .rounding import Stages, pre_bound

Arrays = dict[str, np.ndarray]

#: What the pre-activations depend on: the arrays that meet kinks as they move.
ENCODER = {"W_enc", "b_enc", "x"}


@dataclasses.dataclass(frozen=True)
class Slope:
    """The derivative of the loss along one direction, by the gradient and by differences.

    The direction has length 1, so that the numbers have the size of a gradient's entries.
    """

    block: str  # the array that moved: W_enc, ..., x; or "parameters", all but x
    analytic: float  # the gradient times the direction
    numeric: float  # (G1) or (G2)
    error: float  # the difference of the two
    tolerance: float  # how far apart rounding alone can take the two
    step: float  # the length of the step
    size: float  # root mean square of what this gradient gives along such directions
    moved: float  # the fraction of the entries that could move

    @property
    def ratio(self) -> float:
        """Error over tolerance: at most 1 where the gradient is right."""
        return self.error / self.tolerance if self.error else 0.0

    @property
    def floor(self) -> float:
        """How large a fault, relative to the gradient, could hide behind the tolerance."""
        return self.tolerance / self.size if self.size else math.inf


class Point:
    """Where a gradient is checked: the arrays, and what ``fn`` and the reference make of them."""

    def __init__(
        self,
        fn: Callable[[Params, np.ndarray, np.ndarray], tuple[Any, Any]],
        config: TranscoderConfig,
        params: Params,
        x: np.ndarray,
        target: np.ndarray,
        l1_coeff: float,
        arithmetic: Precision,
    ) -> None:
        self.fn, self.config, self.arithmetic = fn, config, arithmetic
        self.l1_coeff, self.target = l1_coeff, target
        self.dtype = params.dtype
        self.wide = np.result_type(self.dtype, np.float64)
        self.arrays = params.arrays() | {"x": np.ascontiguousarray(x)}

        loss, self.grads = self._evaluate(self.arrays)
        self.stages = self._stages(self.arrays)
        self.grad_errors = self.stages.gradient_errors()
        self.scale = self._scale(loss)

    def slope(self, direction: Arrays, step: float | None = None) -> Slope:
        """Compare along ``direction``: by ``step`` times it, or as far as the cell allows."""
        weights, over = {1: 1, -1: -1}, 2  # (G1)
        if len(direction) > 1:
            weights, over = {1: 8, -1: -8, 2: -1, -2: 1}, 12  # (G2)
        block = "parameters" if len(direction) > 1 else next(iter(direction))
        self._refuse_kinks(block, direction, step, max(weights))
        moves = self._longest(direction, max(weights)) if step is None else _times(step, direction)
        moves = {name: move.astype(self.dtype) for name, move in moves.items()}
        move = _flat(moves, moves).astype(self.wide)
        length = float(np.linalg.norm(move))
        if length == 0:
            raise KinkError(f"no entry of {block} can move: kinks are within rounding.", step, 0.0)

        losses = {times: self._loss(_times(times, moves)) for times in weights}
        terms = np.array([weight * losses[times][0] for times, weight in weights.items()]) / over
        numeric = np.sum(terms)
        tolerance = sum(abs(weight) * losses[times][1] for times, weight in weights.items()) / over

        products = _flat(self.grads, moves) * move
        analytic = np.sum(products)
        tolerance += self.scale * self._gradient_error(moves)
        for summed in (terms, products):  # here, in the wide dtype
            S = float(np.sum(np.abs(summed)))
            tolerance += dot_bound(S, len(summed), precision(self.wide))
        return Slope(
            block=block,
            analytic=float(analytic) / length,
            numeric=float(numeric) / length,
            error=float(abs(analytic - numeric)) / length,
            tolerance=float(tolerance) / length,
            step=length,
            size=float(np.linalg.norm(products)) / length,
            moved=np.count_nonzero(move) / len(move),
        )

    def _evaluate(self, arrays: Arrays) -> tuple[Any, Arrays]:
        """The loss and the gradients by name, from ``fn``, in the wide dtype."""
        params = Params.adopt(**{name: array for name, array in arrays.items() if name != "x"})
        result = self.fn(params, arrays["x"].copy(), self.target.copy())
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise OptionError("fn", "a function that returns (loss, grads)", result)
        loss, returned = result
        loss = to_array(loss, "loss")
        if loss.size != 1:
            raise ShapeError("loss", (), loss.shape, "Return a scalar.")
        check_finite(loss, "loss", "The parameters are finite.")
        grads = {}
        for name, array in arrays.items():
            grad = _gradient(returned, name)
            if grad is not None:
                grads[name] = _checked(grad, f"d{name}", array.shape).astype(self.wide)
            elif name != "x":
                want = f"a Params, or hold d{name} or {name}"
                raise OptionError("grads", want, type(returned).__name__)
        return loss.astype(self.wide).reshape(())[()], grads

    def _stages(self, arrays: Arrays) -> Stages:
        """The reference's stages, in the wide dtype."""
        wide = {name: array.astype(self.wide) for name, array in arrays.items()}
        target = self.target.astype(self.wide)
        return Stages(wide, target, self.config, self.l1_coeff, self.arithmetic)

    def _scale(self, loss: Any) -> float:
        """At least what ``fn`` multiplies our loss by; exactly 1 where it may well be ours."""
        ours, error = self.stages.loss, self.stages.loss_error
        if abs(loss - ours) <= error or loss == 0 or ours == 0:
            return 1.0
        return abs(float(loss / ours)) * (1 + float(error / ours))

    def _loss(self, moves: Arrays) -> tuple[Any, Any]:
        """The loss ``moves`` away from the point, and how far rounding may have taken it."""
        arrays = dict(self.arrays)
        rest: Arrays = {}
        for name, move in moves.items():
            arrays[name], rest[name] = _two_sum(self.arrays[name], move)
        loss, grads = self._evaluate(arrays)
        stages = self._stages(arrays)
        error = self.scale * stages.loss_error
        if self.scale == 1:
            # What fn's rounding did is what the two losses differ by: ours is that much finer.
            finer = precision(self.wide).unit / self.arithmetic.unit
            error = min(error, abs(loss - stages.loss) + finer * error)
        # The nearest representable point is off by `rest`.  The gradient there leads back, up to
        # terms of second order in the unit roundoff.
        back = sum(np.sum(grads[name] * rest[name]) for name in moves)
        return loss + back, error

    def _gradient_error(self, moves: Arrays) -> Any:
        """How far rounding may take the sum of the gradient times ``moves``.

        The signs of the moves, row by row, are independent of each other and of the gradient: by
        Hoeffding's inequality, rows that are off by c each make a sum that is off by more than
        8 |c| with a probability of at most 2 exp(-32) = 3e-14.
        """
        errors = {name: self.grad_errors[name] * np.abs(move) for name, move in moves.items()}
        c = np.concatenate([np.sum(e.reshape(len(e), -1), axis=1) for e in errors.values()])
        return min(np.sum(c), 8 * np.linalg.norm(c))

    def _refuse_kinks(self, block: str, direction: Arrays, step: float | None, times: int) -> None:
        """Raise `KinkError` at a kink, or for a ``step`` that, made ``times`` times, meets one."""
        moving = ENCODER & direction.keys()
        if not moving:
            return
        farthest, arithmetic = dict(self.arrays), precision(self.wide)
        if step is not None:
            arithmetic = self.arithmetic
            for name in moving:
                farthest[name] = np.abs(farthest[name]) + times * step * np.abs(direction[name])
        # Without a step, what is within fn's rounding of a kink stays where it is: only the
        # reference's own rounding can then hide that the point is on one.
        rounding = pre_bound(farthest["x"], farthest["W_enc"], farthest["b_enc"], arithmetic)
        rates = sum(self._rate(name, direction[name]) for name in moving)
        rate = np.broadcast_to(rates, rounding.shape)
        pre, config = self.stages.forward.pre, self.config
        radius = float(kink_free_radius(pre, rate, config.top_k, config.ties, rounding)) / times
        if radius == 0:
            raise KinkError(
                f"the loss has no derivative by {block} here: within rounding, features tie at the "
                "top_k-th place, or one that could enter is zero. Change x or the parameters a "
                "little.",
                step,
                radius,
            )
        if step is not None and step >= radius:
            raise KinkError(
                f"step = {step} along {block} would cross a kink: it must be below {radius:.3g}. "
                "Pass a smaller one, or none.",
                step,
                radius,
            )

    def _longest(self, direction: Arrays, times: int) -> Arrays:
        """``direction``, scaled to stay in the cell, ``times`` over, and to change the
        reconstruction by no more than it is wrong: from there on rounding grows with the step.
        """
        stages, config = self.stages, self.config
        room = slack(stages.forward.pre, config.top_k, config.ties)
        # Half of it will be left at the far end, where the features on both sides are rounded.
        room = np.where(room > 4 * stages.pre_error, room, 0)
        speed = sum(self._speed(name, direction[name]) for name in ENCODER & direction.keys())
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            reach = np.where(speed > 0, room / speed, np.inf).min(axis=int("x" in direction))
        reach = np.where(np.isfinite(reach), reach, 1)

        residual = stages.residual
        wanted = np.linalg.norm(residual) or np.linalg.norm(stages.forward.reconstruction) or 1
        moves = {}
        for name, move in direction.items():
            limit = np.inf
            if name in ENCODER:
                move, limit = (reach * move.T).T, 1 / (2 * times)
            change = np.linalg.norm(np.broadcast_to(self._change(name, move), residual.shape))
            moves[name] = min(limit, wanted / (times * change) if change else 1) * move
        return moves

    def _rate(self, name: str, move: np.ndarray) -> Any:
        """How fast pre (B, D) changes as ``name``, one of `ENCODER`, moves."""
        if name == "W_enc":
            return self.stages.arrays["x"] @ move.T
        if name == "x":
            return move @ self.stages.arrays["W_enc"].T
        return move[None]

    def _speed(self, name: str, move: np.ndarray) -> Any:
        """The absolute `_rate`, and the rounding that grows with the move."""
        if name == "b_enc":
            return np.abs(move)[None]
        x, W_enc = self.stages.arrays["x"], self.stages.arrays["W_enc"]
        x, W_enc = (move, W_enc) if name == "x" else (x, move)
        return np.abs(x @ W_enc.T) + 4 * pre_bound(x, W_enc, 0, self.arithmetic)

    def _change(self, name: str, move: np.ndarray) -> Any:
        """How fast the reconstruction (B, O) changes as ``name`` moves."""
        arrays, hidden = self.stages.arrays, self.stages.forward.hidden
        if name == "W_dec":
            return hidden @ move
        if name == "b_dec":
            return move
        if name == "W_skip":
            return arrays["x"] @ move.T
        change = np.where(hidden != 0, self._rate(name, move), 0) @ arrays["W_dec"]
        if name == "x" and "W_skip" in arrays:
            change = change + move @ arrays["W_skip"].T
        return change


def _gradient(returned: Any, name: str) -> Any:
    """The gradient by ``name``, under either spelling, in a mapping or as an attribute; or None."""
    for key in (f"d{name}", name):
        is_mapping = isinstance(returned, Mapping)
        found = returned.get(key) if is_mapping else getattr(returned, key, None)
        if found is not None:
            return found
    return None


def _checked(grad: Any, name: str, shape: tuple[int, ...]) -> np.ndarray:
    array = to_array(grad, name)
    if array.shape != shape:
        transposed = array.ndim == 2 and array.shape == shape[::-1]
        hint = f"It looks transposed: return {name}.T." if transposed else ""
        raise ShapeError(name, shape, array.shape, hint)
    check_finite(array, name, "The derivative of a finite loss is finite.")
    return array


def _two_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``a + b`` in its dtype, and exactly what that leaves out (Knuth's two-sum)."""
    total = a + b
    b_part = total - a
    return total, (a - (total - b_part)) + (b - b_part)


def _times(factor: float, arrays: Arrays) -> Arrays:
    return {name: factor * array for name, array in arrays.items()}


def _flat(arrays: Arrays, names: Iterable[str]) -> np.ndarray:
    return np.concatenate([arrays[name].ravel() for name in names])
