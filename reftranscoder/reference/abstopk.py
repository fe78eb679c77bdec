"""Selection by magnitude: keep the K entries of each row that are farthest from zero, with sign.

There is no ReLU: pre_acts is pre, and hidden may be negative::

    S(b)  =  the K largest of |pre[b, :]|
    hidden[b, d]      =  pre[b, d]  where d is in S(b),  else 0                           (Q1)

Its derivative, with S(b) held fixed, is that of top-k: (T2).  The penalty's gradient has the sign
of hidden, (P2).

**Convention.** As top-k's, of the absolute values: 2 and -2 tie.

Source: SAELens, architecture ``"abstopk"`` (``saes/abstopk_sae.py``, release 6.54.12).
"""

from __future__ import annotations

import numpy as np

from .topk import topk_forward


def abstopk_forward(pre, top_k, ties="lowest_index"):
    """Return ``hidden`` (B, D): the ``top_k`` of a row of ``pre`` (B, D) farthest from 0."""
    # A complex number, which only a complex step makes, is judged by its real part.
    farthest = topk_forward(np.abs(pre.real), top_k, ties)
    return np.where(farthest != 0, pre, 0)  # (Q1)
