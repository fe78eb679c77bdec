"""`evaluate` on Dask arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ShapeError
from ..evaluating import BATCH_ROWS, Evaluated
from ..evaluating.batches import Measured, Merged, measured
from ..options import positive_integer
from ..transcoder import Transcoder
from .mapping import checked, sent_once

_MEAN_ROWS = 4096  # of which sums are made at once, as `Activations.blocks` does


def evaluate(
    tc: Transcoder,
    x: Any,
    target: Any,
    *,
    batch_rows: int = BATCH_ROWS,
    backend: str = "kernels",
) -> Evaluated:
    """`reftranscoder.evaluate` of Dask arrays, where their chunks are: to the bit the same numbers.

    Batches are the same rows as there, whatever the chunks are, and their sums are merged in the
    order of the rows.  What moves to the caller is a few sums and (D,) counts for each batch.

    Args:
        tc: what is measured.
        x: the rows it reads (N, I), and
        target: those it is to predict (N, O): Dask arrays of known sizes.
        batch_rows: rows in a batch, for the definitions that are means over batches.
        backend: what computes, as in `Transcoder.encode`.

    Returns:
        An `Evaluated`, computed.

    Raises:
        ShapeError: rows that do not fit ``tc`` or each other, or of unknown number.
        OptionError: as `encode`.
        NonFiniteError: NaN or infinity, with row and column.

    >>> import dask.array
    >>> x, target, *_ = (dask.array.from_array(a[:100], chunks=40) for a in rt.sample.load()[:2])
    >>> tc = rt.build(input_size=576, output_size=576, dict_size=64, top_k=4)
    >>> found = rt.distributed.evaluate(tc, x, target)
    >>> found.whole == rt.evaluate(tc, x.compute(), target.compute()).whole
    True
    """
    import dask

    batch_rows = positive_integer("batch_rows", batch_rows)
    x = checked(tc, x, backend)
    target = checked(tc, target, backend, "target", tc.config.output_size)
    for name, array in (("x", x), ("target", target)):
        if np.isnan(array.shape[0]) or not array.shape[0]:
            hint = f"Find them out: {name}.compute_chunk_sizes()."
            raise ShapeError(name, "some rows, whose number is known", array.shape, hint)
    if len(x) != len(target):
        raise ShapeError("target", f"({len(x)}, any)", target.shape, "A row for each of x.")
    dtype = tc.params.dtype
    sums, first = dask.delayed(_column_sums, pure=False), dask.delayed(_origin, pure=False)
    of_target = [sums(block, dtype) for block in _blocks(target, _MEAN_ROWS)]
    pairs = list(zip(_blocks(x, batch_rows), _blocks(target, batch_rows), strict=True))
    found, origin = dask.compute(of_target, first(pairs[0][1], dtype))
    mean = sum(found, np.zeros(target.shape[1])) / len(x)  # by ascending rows
    once, about = sent_once(tc), dask.delayed((mean, origin), traverse=False)
    measure = dask.delayed(_measured, pure=False)
    merged = Merged(len(x), batch_rows)
    starts = range(0, len(x), batch_rows)
    batches = [measure(once, *pair, about, backend, n) for n, pair in zip(starts, pairs)]
    for batch in dask.compute(*batches):
        merged.add(batch)
    return merged.result()


def _blocks(array: Any, rows: int) -> list[Any]:
    """``array`` in blocks of so many rows, not computed."""
    return list(array.rechunk({0: rows}).to_delayed().ravel())


def _rows(block: Any, dtype: Any, name: str = "target", first: int = 0) -> np.ndarray:
    """``block``, which begins at row ``first`` of ``name``, as `evaluate` reads it."""
    from ..activations import Activations
    from ..errors import NonFiniteError

    try:
        return Activations(block, name, dtype=dtype).read()
    except NonFiniteError as error:
        at = (error.index[0] + first, error.index[1])
        raise NonFiniteError(name, at, error.value, "Leave such rows out.") from None


def _column_sums(block: Any, dtype: Any) -> np.ndarray:
    sums: np.ndarray = _rows(block, dtype).sum(axis=0, dtype=np.float64)
    return sums


def _origin(block: Any, dtype: Any) -> np.ndarray:
    origin: np.ndarray = np.asarray(_rows(block, dtype), np.float64).mean(axis=0)
    return origin


def _measured(
    tc: Transcoder, x: Any, target: Any, about: Any, backend: str, first: int
) -> Measured:
    dtype = tc.params.dtype
    x, target = _rows(x, dtype, "x", first), _rows(target, dtype, "target", first)
    mean, origin = about
    return measured(tc, x, target, mean, origin, backend)
