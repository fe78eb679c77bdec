"""Selection: keep the K largest activations of each row.

Let S(b) be the set of the K features kept in row b.  Then::

    hidden[b, d]      =  pre_acts[b, d]  where d is in S(b),  else 0                      (T1)

Held fixed, S(b) makes this linear, and that is its derivative wherever it has one: away from a tie
at the K-th place, a small enough change of pre_acts does not change S(b).  An entry of hidden that
is zero was cut off or inactive; neither passes a gradient::

    d_pre_acts[b, d]  =  d_hidden[b, d]  where hidden[b, d] != 0,  else 0                 (T2)

**Convention.** Exactly K are kept, the lower index first among equal values (``"lowest_index"``),
or everything that is at least the K-th largest value (``"keep_all"``, the threshold rule of
Edifice's ``top_k_sparsify``).  NaN ranks above every number, as NumPy sorts it, so that it is kept
and seen.  A row with fewer than K positive activations simply has fewer: the zeros it keeps are
zeros.

Source: Makhzani & Frey (2013), "k-Sparse Autoencoders", section 2; Gao et al. (2024), "Scaling and
evaluating sparse autoencoders", section 2.3.
"""

from __future__ import annotations

import numpy as np


def topk_forward(pre_acts, top_k, ties="lowest_index"):
    """Return ``hidden`` (B, D): the ``top_k`` largest of a row of ``pre_acts`` (B, D), else 0."""
    # Reversed, sorted stably and reversed again: descending, the lower index first among equals.
    D = pre_acts.shape[1]
    ascending = np.argsort(pre_acts.real[:, ::-1], axis=1, kind="stable")
    descending = D - 1 - ascending[:, ::-1]  # (B, D)
    if ties == "keep_all":
        kth = np.take_along_axis(pre_acts.real, descending[:, top_k - 1 : top_k], axis=1)  # (B, 1)
        kept = (pre_acts.real >= kth) | (pre_acts != pre_acts)  # NaN is above every kth
    else:
        kept = np.zeros(pre_acts.shape, dtype=bool)
        np.put_along_axis(kept, descending[:, :top_k], True, axis=1)
    return np.where(kept, pre_acts, 0)  # (T1)


def topk_backward(d_hidden, hidden):
    """Return ``d_pre_acts`` (B, D), given ``d_hidden`` (B, D) and ``hidden`` (B, D)."""
    return np.where(hidden != 0, d_hidden, 0)  # (T2)
