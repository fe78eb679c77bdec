"""A transcoder on a Dask array, chunk by chunk: nothing is computed before it is asked for.

A row depends on that row alone, so that the bits are those of the whole, however it is divided.
"""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np

from ..activations.dask_rows import is_dask
from ..arrays import check_finite as refuse_non_finite
from ..backends import check_backend
from ..errors import NonFiniteError, OptionError, ShapeError
from ..options import instance
from ..params import check_activation
from ..transcoder import Transcoder

#: The activations of which a row does not depend on the rows it comes with.
BY_ROWS = ("topk", "relu", "groupmax", "abstopk", "jumprelu", "gated")


def encode(tc: Transcoder, x: Any, *, backend: str = "kernels") -> Any:
    """The active features of ``x`` (N, I), a Dask array, chunk by chunk.

    ``hidden.compute()`` gathers all of it in one ``scipy.sparse.csr_array``;
    ``hidden.blocks[n].compute()`` is one chunk; ``hidden.to_delayed()`` leaves all where they are,
    for work of your own.  SciPy's sparse arrays have two axes: what reduces one of them, such as
    ``hidden.sum(axis=0)`` of Dask, does not know them.

    Args:
        tc: what encodes; sent once, not once a chunk.
        x: rows, in chunks of any size.
        backend: what computes, as in `Transcoder.encode`.

    Returns:
        A Dask array (N, D) of ``csr_array`` blocks, not computed; the bits of ``tc.encode``.

    Raises:
        ShapeError: ``x`` is not as wide as ``tc`` takes it.
        OptionError: ``x`` is no Dask array; batchtopk, where the rows of a call compete.
        NonFiniteError: when it is computed: NaN or infinity, with row and column.

    >>> import dask.array
    >>> tc = rt.build(input_size=4, output_size=3, dict_size=8, top_k=2)
    >>> hidden = rt.distributed.encode(tc, dask.array.ones((6, 4), chunks=(4, 4)))
    >>> hidden.numblocks, hidden.compute().shape
    ((2, 1), (6, 8))
    """
    from scipy.sparse import csr_array

    meta = csr_array((0, instance("tc", tc, Transcoder).config.dict_size), dtype=tc.params.dtype)
    return _mapped("encode", _encoded, tc, x, backend, meta)


def predict(tc: Transcoder, x: Any, *, backend: str = "kernels") -> Any:
    """The reconstruction of ``x`` (N, I), a Dask array, chunk by chunk; otherwise as `encode`.

    Returns:
        A Dask array (N, O), not computed; the bits of ``tc(x)``.

    Raises:
        ShapeError, OptionError, NonFiniteError: as `encode`.

    >>> import dask.array
    >>> tc = rt.build(input_size=4, output_size=3, dict_size=8, top_k=2)
    >>> rt.distributed.predict(tc, dask.array.ones((6, 4), chunks=(4, 4))).shape
    (6, 3)
    """
    meta = np.empty((0, instance("tc", tc, Transcoder).config.output_size), tc.params.dtype)
    return _mapped("predict", _predicted, tc, x, backend, meta)


def checked(tc: Transcoder, x: Any, backend: str, name: str = "x", width: int | None = None) -> Any:
    """``x``, a Dask array of rows that ``tc`` takes, in one chunk along the columns.

    Raises:
        ShapeError, OptionError: as `encode`.
    """
    instance("tc", tc, Transcoder)
    check_backend(backend, tc.config.dtype)
    check_activation(tc.config, BY_ROWS, "rt.distributed (or use with_threshold)")
    if not is_dask(x):
        raise OptionError(name, "a Dask array", type(x).__name__, "Of an array: rt.Transcoder.")
    width = tc.config.input_size if width is None else width
    if x.ndim != 2 or x.shape[1] != width:
        raise ShapeError(name, f"(any, {width})", x.shape)
    return x.rechunk({1: -1}) if x.numblocks[1] > 1 else x


def sent_once(tc: Transcoder) -> Any:
    """``tc`` as one task that all chunks depend on."""
    from dask import delayed

    return delayed(tc, name=f"transcoder-{uuid.uuid4().hex}", traverse=False)


def _mapped(name: str, function: Any, tc: Transcoder, x: Any, backend: str, meta: Any) -> Any:
    x = checked(tc, x, backend)
    chunks = (x.chunks[0], (meta.shape[1],))
    options = {"dtype": meta.dtype, "chunks": chunks, "meta": meta}
    options["name"] = f"{name}-{uuid.uuid4().hex}"
    return x.map_blocks(function, sent_once(tc), backend, **options)


def _encoded(x: Any, tc: Transcoder, backend: str, block_info: Any = None) -> Any:
    return tc.encode(_finite(x, block_info), backend=backend)


def _predicted(x: Any, tc: Transcoder, backend: str, block_info: Any = None) -> Any:
    return tc(_finite(x, block_info), backend=backend)


def _finite(x: Any, block_info: Any) -> Any:
    """The chunk ``x``, if its entries are finite; else named by their row in the whole."""
    x = np.asarray(x)
    try:
        refuse_non_finite(x, "x", "Leave such rows out.")
    except NonFiniteError as error:
        first = block_info[0]["array-location"][0][0]
        row, column = error.index
        at = (row + int(first), column) if np.isfinite(first) else error.index
        raise NonFiniteError("x", at, error.value, "Leave such rows out.") from None
    return x
