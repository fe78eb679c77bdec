"""`fit` on a cluster."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..declaring import takes
from ..errors import OptionError
from ..training.fitting import Fit, fit_in
from ..training.options import FitOptions
from .cluster import Cluster


@dataclasses.dataclass(frozen=True, eq=False)
class _Client:
    client: Any


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ClusterOptions(FitOptions, _Client):
    """The cluster, the data and every option of `reftranscoder.fit`."""


@takes(ClusterOptions, swapped=("skip", "ties"))
def fit(options: ClusterOptions) -> Fit:
    """`reftranscoder.fit` on the cluster of ``client``, a ``distributed.Client``: to the same bits.

    Rows are what `reftranscoder.fit` takes.  Files are read by the workers, which must see the same
    ones; the chunks of a Dask array are computed once, and stay in the workers' memory; an array in
    memory is sent once, a share to each worker.  Measurements for ``history``, checkpoints (which a
    run here goes on from, and the other way round) and the result are made in this process, which
    has to hold the arrays, Adam's included.  A worker that is lost costs the steps since the last
    of these.  ``accumulate`` cuts a batch in parts that the workers have under way together.

    Features are divided among the workers: what they send each other, and when that pays, stands in
    ``help(rt.distributed)``.  Rows that compete (batchtopk), thresholds and gates, conventions, and
    other losses than mse and l1 are not trained here.

    Returns:
        A `Fit`, as `reftranscoder.fit` does.

    Raises:
        OptionError: as `reftranscoder.fit`; what is not trained here; another client.
        ShapeError, NonFiniteError, FileError: as `reftranscoder.fit`.
        ClusterError: no worker comes back, or one step is lost again and again.
        ImportError: dask.distributed is not installed.
    """
    try:
        from distributed import Client
    except ImportError as error:
        what = "rt.distributed.fit needs dask.distributed: pip install"
        raise ImportError(f'{what} "reftranscoder[distributed]" ({error})') from None
    client = options.client
    if not isinstance(client, Client) or client.asynchronous:
        raise OptionError("client", "a distributed.Client that is not asynchronous", client)
    with Cluster(client) as cluster:
        return fit_in(cluster, options)
