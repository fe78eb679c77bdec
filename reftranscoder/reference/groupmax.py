"""Selection in groups: of each of K groups of neighbouring features, keep the largest activation.

Group g of D / K features begins at feature g D / K.  That is top-1 of each group (``topk.py``)::

    hidden[b, d]      =  pre_acts[b, d]  where it is the largest of its group,  else 0    (G1)

Its derivative, with what is largest held fixed, is that of top-k: (T2).

**Convention.** As top-k's: of equal values in a group the lowest index is kept, or all of them.  A
group without a positive activation keeps a zero.  K divides D.

Source: EleutherAI's sparsify, activation ``"groupmax"`` (``fused_encoder.py``, release 1.3.3).
"""

from __future__ import annotations

from .topk import topk_forward


def groupmax_forward(pre_acts, top_k, ties="lowest_index"):
    """Return ``hidden`` (B, D): the largest of each of ``top_k`` groups of ``pre_acts`` (B, D)."""
    B, D = pre_acts.shape
    groups = pre_acts.reshape(B * top_k, D // top_k)
    return topk_forward(groups, 1, ties).reshape(B, D)  # (G1)
