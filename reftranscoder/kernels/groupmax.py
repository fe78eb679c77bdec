"""Selection in groups; the mathematics and the convention stand in ``reference/groupmax.py``."""

from __future__ import annotations

import numpy as np

from ..sparse import Sparse
from .topk import select_block


def groupmax_forward(pre_acts, top_k, ties="lowest_index"):
    """Return ``hidden``, a `Sparse` (B, D): the largest of each of ``top_k`` groups of a row.

    Values are moved, not computed: exact.  Zeros are never stored.
    """
    B, D = pre_acts.shape
    width = D // top_k
    groups = select_block(pre_acts.reshape(B * top_k, width), 1, ties)
    first = np.repeat(np.arange(B * top_k, dtype=np.int32) % top_k * width, np.diff(groups.indptr))
    hidden = Sparse(groups.indptr[::top_k], groups.indices + first, groups.values, (B, D))
    return hidden.astype(pre_acts.dtype)
