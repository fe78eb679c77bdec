"""Selection over the batch; the mathematics and the convention stand in
``reference/batchtopk.py``."""

from __future__ import annotations

import numpy as np

from ..sparse import Sparse, row_starts
from .topk import select_block


def batchtopk_forward(pre_acts, top_k, ties="lowest_index"):
    """Return ``hidden``, a `Sparse` (B, D): the B ``top_k`` largest entries of ``pre_acts``.

    Values are moved, not computed: exact.  Zeros are never stored.
    """
    B, D = pre_acts.shape
    flat = select_block(pre_acts.reshape(1, B * D), B * top_k, ties)
    rows, indices = np.divmod(flat.indices, D)
    starts = row_starts(np.bincount(rows, minlength=B))
    return Sparse(starts, indices, flat.values, (B, D)).astype(pre_acts.dtype)


def largest_entries(hidden, most, ties):
    """Return the `Sparse` of the ``most`` largest of the entries of ``hidden``, all positive.

    In a `Sparse` the lower index stands first, so that among equals the first ones are kept.
    """
    values = hidden.values
    if len(values) <= most:
        return hidden
    least = np.partition(values, len(values) - most)[len(values) - most]  # NaN is put last
    above = (values > least) | ((values != values) & (least == least))
    level = (values == least) | ((values != values) & (least != least))
    if ties != "keep_all":
        level &= np.cumsum(level) <= most - np.count_nonzero(above)
    return hidden.only(above | level)
