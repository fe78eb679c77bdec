"""A transcoder by every published definition, and which of them gives a number that somebody
reported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple, overload

import numpy as np

from ..activations import Activations, paired
from ..activations.layers import paired_layers
from ..errors import OptionError, ShapeError
from ..metrics import DEFINITIONS
from ..metrics.definitions import WHOLE
from ..options import instance, positive_integer
from ..params import Sizes
from ..transcoder import Transcoder
from ..transcoder.cross_layer import CrossLayerTranscoder
from .batches import Evaluated, LayersEvaluated, Merged, measured, measured_of

BATCH_ROWS = 4096
_SHARES = ("fvu", "ev")  # names of what may as well be reported as 1 less it


@overload
def evaluate(
    tc: Transcoder,
    x: Any,
    target: Any = None,
    *,
    batch_rows: int = BATCH_ROWS,
    backend: str = "kernels",
    advance: Any = None,
) -> Evaluated: ...


@overload
def evaluate(
    tc: CrossLayerTranscoder,
    x: Any,
    target: Any = None,
    *,
    batch_rows: int = BATCH_ROWS,
    backend: str = "kernels",
    advance: Any = None,
) -> LayersEvaluated: ...


def evaluate(
    tc: Transcoder | CrossLayerTranscoder,
    x: Any,
    target: Any = None,
    *,
    batch_rows: int = BATCH_ROWS,
    backend: str = "kernels",
    advance: Any = None,
) -> Evaluated | LayersEvaluated:
    """Measure ``tc`` on rows ``x`` (N, I) and ``target`` (N, O), reading a batch at a time.

    Targets are read twice: for their mean, then for the rest.  Sums are float64.

    Args:
        tc: what is measured.
        x: the rows it reads, and
        target: those it is to predict: whatever `paired` takes; of a `CrossLayerTranscoder` a list
            of that for each layer, or an array with an axis of layers in front.
        batch_rows: rows in a batch, for the definitions that are means over batches.
        backend: what computes, as in `Transcoder.encode`.
        advance: a function that is called with the number of rows of each batch when it is done.

    Returns:
        An `Evaluated`; of a `CrossLayerTranscoder` a `LayersEvaluated`, which has one for each of
        its ``layers``.

    Raises:
        ShapeError: rows that do not fit ``tc`` or each other.
        Error: as `paired`.

    >>> x, target, *_ = rt.sample.load()
    >>> tc = rt.build(input_size=576, output_size=576, dict_size=64, top_k=4)
    >>> found = rt.evaluate(tc, x[:100], target[:100])
    >>> found.rows, found.metrics.fvu == found.whole["fvu"]
    (100, True)
    """
    batch_rows = positive_integer("batch_rows", batch_rows)
    check_advance(advance)
    if isinstance(tc, CrossLayerTranscoder):
        return _of_layers(tc, x, target, batch_rows, backend, advance)
    instance("tc", tc, Transcoder)
    x, target = opened(tc, x, target)
    mean = _mean(target)
    merged = Merged(len(x), batch_rows)
    for block, y in zip(x.blocks(batch_rows), target.blocks(batch_rows), strict=True):
        merged.add(measured(tc, block, y, mean, merged.origin_for(y), backend))
        if advance is not None:
            advance(len(block))
    return merged.result()


def _of_layers(
    clt: CrossLayerTranscoder,
    x: Any,
    target: Any,
    batch_rows: int,
    backend: str,
    advance: Any,
) -> LayersEvaluated:
    """The same of several layers, all on the same rows."""
    pairs = paired_layers(x, target, layers=clt.config.layers, dtype=clt.config.dtype)
    check_widths(clt.config, pairs[0])  # those of all layers are the same
    means = [_mean(y) for _, y in pairs]
    merged = [Merged(len(pairs[0][0]), batch_rows) for _ in pairs]
    inputs, targets = (zip(*(d.blocks(batch_rows) for d in side)) for side in zip(*pairs))
    for blocks, y in zip(inputs, targets, strict=True):
        block = np.stack(blocks)
        hidden = clt.encode(block, backend=backend)
        made = hidden, block, y, clt.decode(hidden, block, backend=backend), means, merged
        for h, of_x, of_y, y_hat, mean, found in zip(*made):
            found.add(measured_of(h, of_x, of_y, y_hat, mean, found.origin_for(of_y)))
        if advance is not None:
            advance(block.shape[1])
    return LayersEvaluated(tuple(found.result() for found in merged))


def check_advance(advance: Any) -> None:
    """Refuse what is neither a function nor None.

    Raises:
        OptionError: it is neither.
    """
    if advance is not None and not callable(advance):
        raise OptionError("advance", "a function of one argument, or None", advance)


class Match(NamedTuple):
    """A way to come to a number that was reported."""

    rows: str  # which rows, in words
    name: str  # of the definition, or ``1 - name``
    on: str  # all rows at once, or batches
    value: float
    published: bool  # whether it is published so: on this, not only by this formula


def matches(reported: str, found: Mapping[str, Evaluated]) -> list[Match]:
    """Which definitions, on which rows, give the number ``reported`` as far as it is written out.

    ``0.31`` is anything from 0.305 to 0.315.  ``found`` has what `evaluate` found by words for the
    rows.  Definitions published so come first, then the closest.

    Raises:
        OptionError: ``reported`` is no number.

    >>> from reftranscoder.evaluating import matches
    >>> x, target, *_ = rt.sample.load()
    >>> tc = rt.build(input_size=576, output_size=576, dict_size=64, top_k=4)
    >>> found = rt.evaluate(tc, x[:100], target[:100])
    >>> matches(f"{found.whole['mse_sum']:.6f}", {"all rows": found})[0].name
    'mse_sum'
    """
    number, half = _read(reported)
    ways = []
    for rows, evaluated in found.items():
        for name in DEFINITIONS:
            for on, value, published in _values(name, evaluated):
                ways.append(Match(rows, name, on, value, published))
                if name.startswith(_SHARES):
                    ways.append(Match(rows, f"1 - {name}", on, 1 - value, published))
    near = [way for way in ways if abs(way.value - number) <= half]
    return sorted(near, key=lambda way: (not way.published, abs(way.value - number)))


def _values(name: str, found: Evaluated) -> list[tuple[str, float, bool]]:
    """On what, the value, and whether it is published on that."""
    at_once, by_batch = found.whole[name], found.batches[name]
    if math.isclose(at_once, by_batch, rel_tol=1e-9):  # it does not depend on the batches
        return [("any batches", at_once, True)]
    whole = DEFINITIONS[name].published_on == WHOLE
    batches = f"batches of {found.batch_rows}"
    return [("all rows at once", at_once, whole), (batches, by_batch, not whole)]


def _read(reported: str) -> tuple[float, float]:
    """The number, and half a unit of its last digit."""
    try:
        number = Decimal(reported.strip().removesuffix("%"))
        exponent = number.as_tuple().exponent
        if not isinstance(exponent, int) or abs(exponent) > 300:
            raise InvalidOperation
    except (InvalidOperation, AttributeError):
        raise OptionError("reported", "a number, as it was written: 0.31", reported) from None
    scale = 100 if reported.strip().endswith("%") else 1
    # Wider by what float64 makes of the edges of the interval.
    half = 0.5 * 10.0**exponent * (1 + 1e-9)
    return float(number) / scale, half / scale


def opened(tc: Transcoder, x: Any, target: Any) -> tuple[Activations, Activations]:
    """Return ``x`` and ``target``, whatever `paired` takes, if they fit ``tc``.

    Raises:
        ShapeError: they are not, or do not fit each other.
        Error: as `paired`.
    """
    pair = paired(x, target, dtype=tc.config.dtype)
    check_widths(tc.config, pair)
    return pair


def check_widths(config: Sizes, pair: tuple[Activations, Activations]) -> None:
    """Refuse a ``pair`` that is not (any, I) and (any, O).

    Raises:
        ShapeError: it is not.
    """
    for data, (width, letters) in zip(
        pair, ((config.input_size, "(B, I)"), (config.output_size, "(B, O)"))
    ):
        check_width(data, width, letters)


def check_width(data: Activations, width: int, letters: str) -> None:
    """Refuse ``data`` that are not (any, ``width``).

    Raises:
        ShapeError: they are not.
    """
    if data.shape[1] != width:
        hint = "Is it of another layer or model?"
        raise ShapeError(data.name, f"(any, {width})", data.shape, hint, letters)


def _mean(target: Activations) -> np.ndarray:
    """The mean of each column (O,), in float64."""
    sums = np.zeros(target.shape[1])
    for block in target.blocks():
        sums += block.sum(axis=0, dtype=np.float64)
    return sums / len(target)
