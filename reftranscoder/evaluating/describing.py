"""`describe`: what there is to see of a transcoder, alone and on data of any size."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..activations import Activations, paired
from ..errors import OptionError
from ..metrics import Evaluation, Firings, Metrics, nearest_neighbours
from ..metrics.firings import STRONGEST
from ..options import LARGEST, instance, integer_in, positive_integer
from ..transcoder import Transcoder
from .description import Decoder, Description, Feature
from .in_context import Reading
from .published import BATCH_ROWS, Evaluated, check_advance, check_width, evaluate, opened
from .tokens import Tokens

FEATURES = 8  # described, if none are chosen


def describe(
    tc: Transcoder,
    x: Any = None,
    target: Any = None,
    *,
    tokens: Any = None,
    features: Any = FEATURES,
    strongest: int = STRONGEST,
    batch_rows: int = BATCH_ROWS,
    backend: str = "kernels",
    advance: Any = None,
) -> Description:
    """Look at ``tc`` alone: norms and cosines of its decoder rows; and on rows ``x`` (N, I): how
    often features fire, where, and how strongly; and against ``target`` (N, O): FVU.

    The data are read in batches, once to measure and once more for the features that are described,
    so that memory does not grow with N; sums are float64.

    Args:
        tc: what is described.
        x: the rows it reads, and
        target: those it is to predict: whatever `paired` takes; or only the former, or neither.
        tokens: the text, as `evaluating.Tokens` or what it takes: token r belongs to row r of the
            file or array that ``x`` is.
        features: the indices of those to describe; or how many, at most, which are then taken from
            all that fire, at equal distances in the order of their firing rates.
        strongest: how many of the strongest firings of each are listed.
        batch_rows: rows in a batch.
        backend: what computes, as in `Transcoder.encode`.
        advance: a function that is called with the number of rows of each batch when it is done,
            twice for each row.

    Returns:
        A `Description`; ``to_dict()`` makes plain values of it, for JSON.

    Raises:
        ShapeError: rows that do not fit ``tc`` or each other.
        RowError: a row without a token.
        OptionError: an option that makes no sense.
        Error: as `paired`.

    >>> x, target, tokens, _ = rt.sample.load()
    >>> tc = rt.build(input_size=576, output_size=576, dict_size=64, top_k=4)
    >>> found = rt.describe(tc, x[:256], target[:256], tokens=tokens, features=[5])
    >>> found.decoder.norms.shape, found.metrics.l0, found.features[0].firings.feature
    ((64,), 4.0, 5)
    """
    instance("tc", tc, Transcoder)
    batch_rows = positive_integer("batch_rows", batch_rows)
    strongest = positive_integer("strongest", strongest)
    chosen = _checked(features, tc.config.dict_size)
    check_advance(advance)
    if x is None and target is not None:
        raise OptionError("x", "given where target is", None)
    rows, targets = (None, None) if x is None else open_rows(tc, x, target)
    text = tokens if tokens is None or isinstance(tokens, Tokens) else Tokens(tokens)
    return _described(tc, rows, targets, text, chosen, strongest, batch_rows, backend, advance)


def open_rows(
    tc: Transcoder, x: Any, target: Any = None, **options: Any
) -> tuple[Activations, Activations | None]:
    """Return the rows that ``tc`` reads and those it is to predict, as `Activations`.

    Further ``options`` are those of `paired`, but for ``dtype``, which is that of ``tc``.

    Args:
        tc: what they must fit.
        x, target: whatever `paired` takes; or the former alone, for rows without a target.

    Raises:
        ShapeError: they do not fit ``tc`` or each other.
        Error: as `paired`.
    """
    options["dtype"] = tc.config.dtype
    if target is None and isinstance(x, str | os.PathLike):
        try:
            x, target = paired(x, **options)
        except OptionError as error:
            if error.name != "target":
                raise
    if target is None:
        rows = x if isinstance(x, Activations) else Activations(x, **options)
        check_width(rows, tc.config.input_size, "(B, I)")
        return rows, None
    return opened(tc, *paired(x, target, **options))


def _checked(features: Any, dict_size: int) -> int | list[int]:
    """How many, or which."""
    if isinstance(features, list | tuple) or getattr(features, "ndim", 0) == 1:
        return [integer_in("features", j, 0, dict_size) for j in features]
    return integer_in("features", features, 0, LARGEST)


def _described(
    tc: Transcoder,
    rows: Activations | None,
    targets: Activations | None,
    text: Tokens | None,
    features: int | list[int],
    strongest: int,
    batch_rows: int,
    backend: str,
    advance: Callable[[int], object] | None,
) -> Description:
    began = time.perf_counter()
    decoder = _decoder(tc)
    metrics, evaluated = None, None
    described: list[Feature] = []
    if rows is not None:
        reading = Reading(tc, rows, text, backend)
        metrics, evaluated = _measured(tc, rows, targets, batch_rows, backend, advance)
        firings = Firings(_chosen(features, metrics), strongest)
        for hidden in _hidden(tc, rows, batch_rows, backend, advance):
            firings.add(hidden)
        described = reading.of(firings.result())
    return Description(
        config=tc.config,
        decoder=decoder,
        x=None if rows is None else rows.name,
        target=None if targets is None else targets.name,
        metrics=metrics,
        evaluated=evaluated,
        features=tuple(described),
        has_text=text is not None,
        seconds=time.perf_counter() - began,
    )


def _decoder(tc: Transcoder) -> Decoder:
    wide = tc.params.W_dec.astype(np.float64)
    norms = np.sqrt(np.square(wide).sum(axis=1))
    if len(wide) == 1:  # which has no neighbour
        return Decoder(norms, None, None)
    return Decoder(norms, *nearest_neighbours(wide))


def _measured(
    tc: Transcoder,
    x: Activations,
    target: Activations | None,
    batch_rows: int,
    backend: str,
    advance: Callable[[int], object] | None,
) -> tuple[Metrics, Evaluated | None]:
    if target is not None:
        found = evaluate(tc, x, target, batch_rows=batch_rows, backend=backend, advance=advance)
        return found.metrics, found
    evaluation = Evaluation()
    for hidden in _hidden(tc, x, batch_rows, backend, advance):
        nothing = np.zeros((hidden.shape[0], 1))  # what stands in for a target
        evaluation.add(nothing, nothing, hidden)
    return evaluation.result(), None


def _hidden(
    tc: Transcoder,
    x: Activations,
    batch_rows: int,
    backend: str,
    advance: Callable[[int], object] | None,
) -> Iterator[Any]:
    for block in x.blocks(batch_rows):
        yield tc.encode(block, backend=backend)
        if advance is not None:
            advance(len(block))


def _chosen(features: int | list[int], metrics: Metrics) -> list[int]:
    """The indices: those given, or ``features`` of those that fire, from often to seldom."""
    if isinstance(features, list):
        return features
    rates = metrics.firing_rates
    assert rates is not None  # features were measured
    by_rate = np.argsort(-rates, kind="stable")[: np.count_nonzero(rates)]
    count = min(features, len(by_rate))
    places = (2 * np.arange(count) + 1) * len(by_rate) // (2 * max(count, 1))
    return [int(j) for j in by_rate[places]]
