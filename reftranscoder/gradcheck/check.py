"""The check: every array, along random directions, and the entry to blame where one fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays import check_finite, to_matrix
from ..bounds import PRECISIONS, precision
from ..errors import GradientError, KinkError, OptionError, ShapeError
from ..options import finite_number, instance, one_of, positive_integer, random_generator
from ..params import Params, TranscoderConfig, check_activation, check_plain
from .point import Point, Slope


@dataclasses.dataclass(frozen=True)
class GradientCheck:
    """What `check_gradient` compared, all of it within tolerance.  As a string, a table.

    Where rounding could hide a fault as large as the gradient itself, the table says "cannot tell":
    check in float64, or with fewer rows and features.
    """

    slopes: tuple[Slope, ...]

    @property
    def max_ratio(self) -> float:
        """The largest error over tolerance."""
        return max(slope.ratio for slope in self.slopes)

    def __str__(self) -> str:
        columns = ("analytic", "numeric", "error", "tolerance", "floor")
        lines = [f"{'':10}" + "".join(f"{name:>14}" for name in columns)]
        for slope in self.slopes:
            numbers = "".join(f"{getattr(slope, name):14.5e}" for name in columns)
            unclear = "  cannot tell" if slope.tolerance >= slope.size > 0 else ""
            lines.append(f"{slope.block:10}{numbers}{unclear}")
        return "\n".join(lines)


#: The activations whose kinks are known.
CHECKED = ("topk", "relu")
_MOST_DIRECTIONS = 1_000_000


def check_gradient(
    fn: Callable[[Params, np.ndarray, np.ndarray], tuple[Any, Any]],
    config: TranscoderConfig,
    params: Params,
    x: Any,
    target: Any,
    l1_coeff: float = 1e-3,
    *,
    step: float | None = None,
    directions: int = 2,
    arithmetic: str | None = None,
    seed: Any = 0,
) -> GradientCheck:
    """Check that the gradients which ``fn`` returns are the derivatives of the loss it returns.

    ``fn(params, x, target)`` returns ``(loss, grads)``.  ``grads`` is a `Params`, or any mapping or
    object with ``dW_enc`` or ``W_enc`` and so on; ``dx`` or ``x`` is checked if it is there.
    ``fn`` computes the transcoder that ``config`` and ``l1_coeff`` describe, up to a factor of
    the loss (a sum for a mean, say), in the dtype of ``params`` or in a coarser ``arithmetic``,
    one of `reftranscoder.bounds.PRECISIONS`.  Its kinks are those of the reference.

    Along ``directions`` random directions, each array moves by itself, then all parameters
    together.  Each feature (each row, where ``x`` moves) goes as far as half of the way to its
    nearest kink, and stays if that is within rounding.  With a ``step``, all go that far: the
    entries of a direction lie between 1/2 and 1, up to sign.

    Returns:
        A `GradientCheck`, with the slope of every array along every direction.

    Raises:
        GradientError: a gradient that is not the derivative, with an entry where that shows.
        KinkError: there is no derivative here, or ``step`` would cross a kink.
        OptionError: an option that cannot be, or a gradient that is missing.
        ShapeError, DTypeError, NonFiniteError: an array, or a result of ``fn``, of no use.

    >>> tc = rt.build(input_size=6, output_size=4, dict_size=16, top_k=3, dtype="float64")
    >>> def fn(params, x, target):
    ...     return rt.Transcoder(tc.config, params).value_and_grad(x, target)
    >>> x, target = np.random.default_rng(0).normal(size=(2, 8, 6))
    >>> check = rt.check_gradient(fn, tc.config, tc.params, x, target[:, :4])
    >>> check.max_ratio < 1  # every error is within its tolerance
    True
    """
    if not callable(fn):
        raise OptionError("fn", "a function of params, x and target", fn)
    x, target = _checked_rows(config, params, x, target)
    if step is not None and not (step := finite_number("step", step)):
        raise OptionError("step", "above 0, or None", step)
    if arithmetic is not None:
        one_of("arithmetic", arithmetic, PRECISIONS)
    formats = [precision(name) for name in (params.dtype, arithmetic) if name is not None]
    coarsest = max(formats, key=lambda format: format.unit)
    l1_coeff = finite_number("l1_coeff", l1_coeff)
    point = Point(fn, config, params, x, target, l1_coeff, coarsest)

    blocks: list[tuple[str, ...]] = [(name,) for name in point.grads]
    blocks.insert(len(params.arrays()), tuple(params.arrays()))
    rng = random_generator(seed)
    walks = blocks * positive_integer("directions", directions, _MOST_DIRECTIONS)
    return GradientCheck(tuple(_slope(point, block, step, rng) for block in walks))


def _checked_rows(
    config: TranscoderConfig, params: Params, x: Any, target: Any
) -> tuple[np.ndarray, np.ndarray]:
    """``x`` and ``target`` as matrices of finite numbers that fit."""
    check_activation(instance("config", config, TranscoderConfig), CHECKED, "check_gradient")
    check_plain(config, "check_gradient", "Without them: Transcoder.folded.")
    instance("params", params, Params)
    x = to_matrix(x, "x", "(B, I)", config.input_size, params.dtype)
    target = to_matrix(target, "target", "(B, O)", config.output_size, params.dtype)
    if len(x) == 0 or len(target) != len(x):
        want = (max(len(x), 1), config.output_size)
        raise ShapeError("target", want, target.shape, "Rows must pair up, and a mean needs one.")
    for name, array in (("x", x), ("target", target)):
        check_finite(array, name, "Remove such rows.")
    return x, target


def _slope(
    point: Point, block: tuple[str, ...], step: float | None, rng: np.random.Generator
) -> Slope:
    """The slope along a random direction of the arrays in ``block``.  Raises `GradientError`."""
    direction = {name: _random_direction(rng, point.arrays[name].shape) for name in block}
    slope = point.slope(direction, step)
    if not slope.error <= slope.tolerance:
        raise _fault(point, slope, direction)
    return slope


def _random_direction(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Entries in +-[1/2, 1]: none hides, and no two faults cancel as with +1 and -1 they might."""
    return rng.choice(np.array([-1.0, 1.0]), shape) * rng.uniform(0.5, 1, shape)


def _fault(point: Point, slope: Slope, direction: dict[str, np.ndarray]) -> GradientError:
    """What is wrong, along which direction and, where that can be told, at which entry."""
    text = (
        f"the gradient by {slope.block} is not the derivative of the loss: "
        f"along a random direction {_figures(slope)}."
    )
    index = None
    if found := _entry_at_fault(point, direction) if len(direction) == 1 else None:
        index, entry = found
        text += f" At d{slope.block}[{', '.join(map(str, index))}] {_figures(entry)}."
    return GradientError(text, slope.block, slope.analytic, slope.numeric, slope.tolerance, index)


def _figures(slope: Slope) -> str:
    return (
        f"it is {slope.analytic:.6e} and differences give {slope.numeric:.6e}, "
        f"off by {slope.error:.1e} where rounding allows {slope.tolerance:.1e}"
    )


def _entry_at_fault(
    point: Point, direction: dict[str, np.ndarray]
) -> tuple[tuple[int, ...], Slope] | None:
    """An entry where the fault shows, found by halves, and its `Slope`; None where it is spread too
    thinly to show in one.
    """
    ((name, v),) = direction.items()

    def slope(entries: np.ndarray) -> Slope:
        part = np.zeros_like(v)
        part.flat[entries] = v.flat[entries]
        return point.slope({name: part})

    def ratio(entries: np.ndarray) -> float:
        try:
            return slope(entries).ratio
        except KinkError:  # nothing there can move
            return 0.0

    entries = np.arange(v.size)
    while len(entries) > 1:
        entries = max(np.array_split(entries, 2), key=ratio)
    v = np.ones_like(v)  # so that what is reported is the entry itself, not its negative
    if ratio(entries) <= 1:
        return None
    return tuple(int(i) for i in np.unravel_index(entries[0], v.shape)), slope(entries)
