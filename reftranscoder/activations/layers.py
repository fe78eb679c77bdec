"""Inputs and targets of several layers, for the same tokens."""

from __future__ import annotations

from typing import Any

from ..arrays import check_layers
from ..errors import Error, OptionError, ShapeError
from .pair import paired
from .rows import Activations


def paired_layers(
    x: Any, target: Any, *, layers: int | None = None, dtype: Any = "float32"
) -> tuple[tuple[Activations, Activations], ...]:
    """``x``, L of (N, I), and ``target``, L of (N, O), layer by layer as `paired` has them.

    Each is a list of L of whatever `paired` takes, or an array with an axis of layers in front.

    Raises:
        OptionError: no list, or an empty one.
        ShapeError: another number of layers than ``layers`` or in the other list; layers that do
            not have the same sizes and number of rows.
        Error: as `paired`, with the layer.
    """
    lists = [_listed(value, *names) for value, *names in ((x, "x", "I"), (target, "target", "O"))]
    want = len(lists[0]) if layers is None else layers
    for name, found in zip(("x", "target"), lists):
        check_layers(name, found, want)
    pairs: list[tuple[Activations, Activations]] = []
    for l, of_layer in enumerate(zip(*lists)):
        try:
            pair = paired(*of_layer, dtype=dtype)
        except Error as error:
            error.say_where(f"layer {l}")
            raise
        for data, first in zip(pair, pairs[0] if pairs else pair):
            if data.shape != first.shape:
                hint = "Every layer has the same rows and sizes."
                raise ShapeError(f"{data.name} of layer {l}", first.shape, data.shape, hint)
        pairs.append(pair)
    return tuple(pairs)


def _listed(value: Any, name: str, letter: str) -> list[Any]:
    """Its layers."""
    if isinstance(value, list | tuple) and value:
        return list(value)
    if getattr(value, "ndim", None) == 3 and len(value):
        return list(value)
    want = f"a list with an array or a path for each layer, or an array (L, N, {letter})"
    raise OptionError(name, want, value)
