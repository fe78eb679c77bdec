"""What is added to an active feature before it is decoded, by a number of its own::

    written[b, d]  =  hidden[b, d] + post_enc[d]  where hidden[b, d] != 0,  else 0        (Z1)

With what is active held fixed, and G = d_written (B, D)::

    d_hidden[b, d]  +=  G[b, d]  where hidden[b, d] != 0                                  (Z2)
    dpost_enc[d]     =  sum_b G[b, d]  where hidden[b, d] != 0                            (Z3)

(Z2) is left to the activation, which passes nothing where a feature is inactive: (T2).

Source: EleutherAI's clt-training, ``post_enc`` (``sparse_coder.py``, commit cf9821f), where a
cross-layer transcoder has such numbers for each layer that is written to.
"""

from __future__ import annotations

import numpy as np


def post_enc_forward(hidden, post_enc):
    """Return ``written`` (B, D) of ``hidden`` (B, D) with ``post_enc`` (D,)."""
    return np.where(hidden != 0, hidden + post_enc, 0)  # (Z1)


def post_enc_backward(d_written, hidden):
    """Return ``dpost_enc`` (D,), given ``d_written`` (B, D)."""
    return np.sum(np.where(hidden != 0, d_written, 0), axis=0)  # (Z3)
