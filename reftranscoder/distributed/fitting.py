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
    """`reftranscoder.fit` on the cluster of ``client``, a ``distributed.Client``: the same bits.

    Raises:
        OptionError: as `reftranscoder.fit`.
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
