"""The absolute activations, each times the norm of what its feature writes; over rows the mean.

With n (D,) the norms of the rows of W_dec, from (W1) in ``decoder_norm.py``::

    l1_decoder_weighted  =  l1_coeff  sum_{b,d} |hidden[b, d]| n[d] / B                   (P5)

    d_hidden[b, d]       =  l1_coeff  sign(hidden[b, d]) n[d] / B                         (P6)
    d_n[d]               =  l1_coeff  sum_b |hidden[b, d]| / B                            (P7)
    dW_dec[d, o]        +=  d_n[d] W_dec[d, o] / n[d]                                     (P8)

so that a penalty cannot be evaded by small activations and long rows.

**Convention.** sign(0) = 0.  A feature whose row of W_dec is zero has no derivative by it: (P8) is
0 there.

Source: Conerly et al. (2024), "Update on how we train SAEs", transformer-circuits.pub, April 2024;
SAELens, ``saes/standard_sae.py``, release 6.54.12, with its ``lp_norm`` at 1.
"""

from __future__ import annotations

import numpy as np

from .decoder_norm import decoder_norms


def l1_decoder_weighted_forward(hidden, W_dec, l1_coeff):
    """Return the loss, a scalar, of ``hidden`` (B, D), with ``W_dec`` (D, O) and B >= 1."""
    return l1_coeff * np.sum(np.abs(hidden) * decoder_norms(W_dec)) / len(hidden)  # (P5)


def l1_decoder_weighted_backward(hidden, W_dec, l1_coeff):
    """Return this loss's share of ``d_hidden`` (B, D) and of ``dW_dec`` (D, O)."""
    d_hidden = l1_coeff * np.sign(hidden) * decoder_norms(W_dec) / len(hidden)  # (P6)
    d_n = l1_coeff * np.sum(np.abs(hidden), axis=0) / len(hidden)  # (P7)
    return d_hidden, through_norms(d_n, W_dec)


def through_norms(d_n, W_dec):
    """Return what ``d_n`` (D,) gives ``dW_dec`` (D, O)."""
    n = decoder_norms(W_dec)
    return (d_n / np.where(n == 0, 1, n))[:, None] * W_dec  # (P8)
