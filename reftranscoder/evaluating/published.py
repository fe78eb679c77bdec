"""A transcoder by every published definition, and which of them gives a number that somebody
reported.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..activations import Activations, paired
from ..errors import OptionError, ShapeError
from ..metrics import DEFINITIONS, Evaluation, Metrics, Sums, sums_of
from ..metrics.definitions import ROWS, WHOLE
from ..options import instance, positive_integer
from ..transcoder import Transcoder

BATCH_ROWS = 4096
_SHARES = ("fvu", "ev")  # names of what may as well be reported as 1 less it


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluated:
    """What `evaluate` found."""

    metrics: Metrics  # of all rows
    whole: Mapping[str, float]  # every one of `metrics.DEFINITIONS` on all rows at once, by name
    batches: Mapping[str, float]  # and as the mean over batches: of their rows, where it is by rows
    batch_rows: int
    fvu_by_column: np.ndarray  # (O,) of each column of the target; NaN where that is constant

    @property
    def rows(self) -> int:
        """How many there were."""
        return self.metrics.rows

    @cached_property
    def published(self) -> dict[str, float]:
        """Every definition on that which it is published on, by name."""
        return {
            name: (self.whole if row.published_on == WHOLE else self.batches)[name]
            for name, row in DEFINITIONS.items()
        }


def evaluate(
    tc: Transcoder,
    x: Any,
    target: Any = None,
    *,
    batch_rows: int = BATCH_ROWS,
    backend: str = "kernels",
    advance: Any = None,
) -> Evaluated:
    """Measure ``tc`` on rows ``x`` (N, I) and ``target`` (N, O), reading a batch at a time.

    Targets are read twice: for their mean, then for the rest.  Sums are float64.

    Args:
        tc: what is measured.
        x: the rows it reads, and
        target: those it is to predict: whatever `paired` takes.
        batch_rows: rows in a batch, for the definitions that are means over batches.
        backend: what computes, as in `Transcoder.encode`.
        advance: a function that is called with the number of rows of each batch when it is done.

    Returns:
        An `Evaluated`.

    Raises:
        ShapeError: rows that do not fit ``tc`` or each other.
        Error: as `paired`.

    >>> x, target, *_ = rt.sample.load()
    >>> tc = rt.build(input_size=576, output_size=576, dict_size=64, top_k=4)
    >>> found = rt.evaluate(tc, x[:100], target[:100])
    >>> found.rows, found.metrics.fvu == found.whole["fvu"]
    (100, True)
    """
    instance("tc", tc, Transcoder)
    batch_rows = positive_integer("batch_rows", batch_rows)
    check_advance(advance)
    x, target = opened(tc, x, target)
    evaluation, mean = Evaluation(), _mean(target)
    whole: Sums | None = None
    of_batches: dict[str, float] = dict.fromkeys(DEFINITIONS, 0.0)
    batches = -(-len(x) // batch_rows)
    for block, y in zip(x.blocks(batch_rows), target.blocks(batch_rows), strict=True):
        hidden = tc.encode(block, backend=backend)
        reconstruction = tc.decode(hidden, block, backend=backend)
        evaluation.add(y, reconstruction, hidden)
        sums = sums_of(y, reconstruction, mean, block)
        whole = sums if whole is None else whole.plus(sums)
        batch = sums_of(y, reconstruction, None, block)
        for name, row in DEFINITIONS.items():
            weight = batch.rows / len(x) if row.published_on == ROWS else 1 / batches
            of_batches[name] += weight * row(batch)
        if advance is not None:
            advance(len(block))
    assert whole is not None  # there is a row
    found = {name: row(whole) for name, row in DEFINITIONS.items()}
    metrics = evaluation.result()
    # Two ways to the same number; one of them is known to 2 n u, whatever the mean.
    found["fvu"] = metrics.fvu
    return Evaluated(metrics, found, of_batches, batch_rows, _by_column(whole))


def check_advance(advance: Any) -> None:
    """Refuse what is neither a function nor None.

    Raises:
        OptionError: it is neither.
    """
    if advance is not None and not callable(advance):
        raise OptionError("advance", "a function of one argument, or None", advance)


def _by_column(whole: Sums) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(whole.errors / whole.squares)


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
    widths = (tc.config.input_size, "(B, I)"), (tc.config.output_size, "(B, O)")
    for data, (width, letters) in zip(pair, widths):
        check_width(data, width, letters)
    return pair


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
