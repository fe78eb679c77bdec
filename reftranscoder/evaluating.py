"""`evaluate`: a transcoder measured on data of any size, by every published definition; and which
of them gives a number that somebody reported.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .activations import Activations, paired
from .errors import OptionError, ShapeError
from .metrics import DEFINITIONS, Evaluation, Metrics, Sums, sums_of
from .metrics.definitions import ROWS, WHOLE
from .metrics.evaluation import Squares, squares_of
from .metrics.features import active_counts
from .options import instance, positive_integer
from .transcoder import Transcoder

BATCH_ROWS = 4096
_SHARES = ("fvu", "ev")  # names of what may as well be reported as 1 less it


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluated:
    """What `evaluate` found."""

    metrics: Metrics  # of all rows
    whole: Mapping[str, float]  # every one of `metrics.DEFINITIONS` on all rows at once, by name
    batches: Mapping[str, float]  # and as the mean over batches: of their rows, where it is by rows
    batch_rows: int

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
    if advance is not None and not callable(advance):
        raise OptionError("advance", "a function of one argument, or None", advance)
    x, target = _opened(tc, x, target)
    mean = _mean(target)
    merged = Merged(len(x), batch_rows)
    for block, y in zip(x.blocks(batch_rows), target.blocks(batch_rows), strict=True):
        merged.add(measured(tc, block, y, mean, merged.origin_for(y), backend))
        if advance is not None:
            advance(len(block))
    return merged.result()


class Measured(NamedTuple):
    """What `evaluate` needs of a batch of rows."""

    squares: Squares
    counts: np.ndarray  # (D,) in how many rows each feature is active
    about_mean: Sums  # about the mean of all rows
    about_own: Sums  # about that of the batch


def measured(
    tc: Transcoder,
    x: np.ndarray,
    target: np.ndarray,
    mean: np.ndarray,
    origin: np.ndarray,
    backend: str,
) -> Measured:
    """What `evaluate` needs of rows ``x`` (B, I) and ``target`` (B, O): ``mean`` (O,) is that of all
    rows, ``origin`` (O,) of those of the first batch."""
    hidden = tc.encode(x, backend=backend)
    reconstruction = tc.decode(hidden, x, backend=backend)
    y, y_hat = (np.asarray(a, np.float64) for a in (target, reconstruction))
    return Measured(
        squares_of(y, y_hat, None, origin),
        active_counts(hidden)[0],
        sums_of(target, reconstruction, mean, x),
        sums_of(target, reconstruction, None, x),
    )


class Merged:
    """What was `measured` of batches, one after the other, of so many ``rows``."""

    def __init__(self, rows: int, batch_rows: int) -> None:
        self._rows, self._batch_rows = rows, batch_rows
        self._evaluation = Evaluation()
        self._whole: Sums | None = None
        self._of_batches: dict[str, float] = dict.fromkeys(DEFINITIONS, 0.0)
        self._origin: np.ndarray | None = None

    def origin_for(self, target: np.ndarray) -> np.ndarray:
        """The origin (O,) that squares of ``target`` (B, O) are taken about: of the first batch
        that is asked for, its mean."""
        if self._origin is None:
            self._origin = np.asarray(target, np.float64).mean(axis=0)
        return self._origin

    def add(self, batch: Measured) -> None:
        """Add the next batch."""
        self._evaluation.merge(batch.squares, batch.counts)
        whole, own = batch.about_mean, batch.about_own
        self._whole = whole if self._whole is None else self._whole.plus(whole)
        batches = -(-self._rows // self._batch_rows)
        for name, row in DEFINITIONS.items():
            weight = own.rows / self._rows if row.published_on == ROWS else 1 / batches
            self._of_batches[name] += weight * row(own)

    def result(self) -> Evaluated:
        """What all of them give."""
        assert self._whole is not None  # there is a row
        found = {name: row(self._whole) for name, row in DEFINITIONS.items()}
        metrics = self._evaluation.result()
        # Two ways to the same number; one of them is known to 2 n u, whatever the mean.
        whole = found | {"fvu": metrics.fvu}
        return Evaluated(metrics, whole, self._of_batches, self._batch_rows)


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


def _opened(tc: Transcoder, x: Any, target: Any) -> tuple[Activations, Activations]:
    """Both, as wide as ``tc`` takes them."""
    pair = paired(x, target, dtype=tc.config.dtype)
    widths = (tc.config.input_size, "(B, I)"), (tc.config.output_size, "(B, O)")
    for data, (width, letters) in zip(pair, widths):
        if data.shape[1] != width:
            hint = "Is it of another layer or model?"
            raise ShapeError(data.name, f"(any, {width})", data.shape, hint, letters)
    return pair


def _mean(target: Activations) -> np.ndarray:
    """The mean of each column (O,), in float64."""
    sums = np.zeros(target.shape[1])
    for block in target.blocks():
        sums += block.sum(axis=0, dtype=np.float64)
    return sums / len(target)
