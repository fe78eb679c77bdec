"""Selection over the batch: keep the B K largest activations of all B rows together.

That is top-k, of a batch laid out as one row of B D entries (``topk.py``)::

    S  =  the B K largest of all pre_acts[b, d]
    hidden[b, d]      =  pre_acts[b, d]  where (b, d) is in S,  else 0                    (B1)

so that a row may keep more than K and another fewer, K on average.  What a row gives depends on
the rows that it comes with.  The derivative, with S held fixed, is that of top-k: (T2).

For inference a threshold takes the place of S, estimated in training from the least value that was
kept: the transcoder is then a ``"jumprelu"`` one, with the same threshold for every feature.

**Convention.** As top-k's, where "lower index" is that of the batch laid out row after row: of
equal values the earlier row is kept first, and within a row the lower feature.

Source: Bussmann, Leask & Nanda (2024), "BatchTopK Sparse Autoencoders", section 3.
"""

from __future__ import annotations

from .topk import topk_forward


def batchtopk_forward(pre_acts, top_k, ties="lowest_index"):
    """Return ``hidden`` (B, D): the B ``top_k`` largest entries of ``pre_acts`` (B, D), else 0."""
    B, D = pre_acts.shape
    return topk_forward(pre_acts.reshape(1, B * D), B * top_k, ties).reshape(B, D)  # (B1)
