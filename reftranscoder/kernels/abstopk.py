"""Selection by magnitude; the mathematics and the convention stand in ``reference/abstopk.py``."""

from __future__ import annotations

import numpy as np

from .topk import topk_forward


def abstopk_forward(pre, top_k, ties="lowest_index"):
    """Return ``hidden``, a `Sparse` (B, D): the ``top_k`` of each row of ``pre`` farthest from 0.

    Values are moved, not computed: exact.  Zeros are never stored.
    """
    farthest = topk_forward(np.abs(pre), top_k, ties)
    return farthest.with_values(np.asarray(pre)[farthest.rows(), farthest.indices])
