"""Activations measured by what they write: times the norm of their rows of W_dec.

A feature may write the same with a large activation and a short row, or the other way round.  What
selection compares, and what a penalty sees, is made independent of that::

    n[d]           =  |W_dec[d]|  =  sqrt(sum_o W_dec[d, o]^2)                            (W1)
    pre[b, d]      =  n[d] affine[b, d]                                                   (W2)
    written[b, d]  =  hidden[b, d] / n[d]  where hidden[b, d] != 0,  else 0               (W3)

with affine from (A1); written is what is decoded.  Backward::

    d_hidden[b, d]  =  d_written[b, d] / n[d]  +  the penalty's P[b, d]                   (W4)
    d_affine[b, d]  =  n[d] d_pre[b, d]                                                   (W5)

n itself gets d_pre affine from (W2) and -d_written hidden / n^2 from (W3).  These cancel but for
the penalty and, with straight-through gradients, but for what d_pre has beside d_hidden.  What is
left is no difference of large numbers::

    d_n[d]      =  sum_b (P[b, d] hidden[b, d] / n[d]  +  e[b, d] affine[b, d])           (W6)
    e[b, d]     =  d_pre[b, d]  -  d_hidden[b, d]  where hidden[b, d] != 0,  else d_pre[b, d]
    dW_dec     +=  d_n[d] W_dec[d, o] / n[d]                                              (W7)

**Convention.** A feature whose row is zero is never active, and (W7) is 0 for it.

Source: SAELens, ``rescale_acts_by_decoder_norm`` of its TopK (``saes/topk_sae.py``, release
6.54.12).
"""

from __future__ import annotations

import numpy as np


def decoder_norms(W_dec):
    """Return ``n`` (D,), the norms of the rows of ``W_dec`` (D, O)."""
    return np.sqrt(np.sum(W_dec * W_dec, axis=1))  # (W1)


def decoder_norm_forward(affine, n):
    """Return ``pre`` (B, D) of ``affine`` (B, D) and ``n`` (D,)."""
    return affine * n  # (W2)


def decoder_norm_inverse(hidden, n):
    """Return ``written`` (B, D), what is decoded in place of ``hidden`` (B, D)."""
    return hidden / _nonzero(n)  # (W3)


def decoder_norm_backward(d_pre, d_hidden, penalty, hidden, affine, W_dec):
    """Return ``d_affine`` (B, D), and this path's share of ``dW_dec`` (D, O).

    All but ``W_dec`` (D, O) are (B, D); ``penalty`` is its share of ``d_hidden``.
    """
    n = decoder_norms(W_dec)
    e = d_pre - np.where(hidden != 0, d_hidden, 0)
    d_n = np.sum(penalty * hidden / _nonzero(n) + e * affine, axis=0)  # (W6)
    return d_pre * n, (d_n / _nonzero(n))[:, None] * W_dec  # (W5), (W7)


def _nonzero(n):
    """``n`` with 1 for 0: what is divided by it is 0 there."""
    return np.where(n == 0, 1, n)
