"""The decoder's bias, taken from what the encoder reads.

An autoencoder's b_dec is where its features begin; what they have to explain is the rest.  With u
what is left of x by then (x itself, or its normalization)::

    encoder_input[b, i]  =  u[b, i]  -  b_dec[i]                                          (V1)

    d_u[b, i]            =  d_encoder_input[b, i]                                         (V2)
    db_dec[i]           -=  sum_b d_encoder_input[b, i]                                   (V3)

b_dec is added after decoding as well, so that (V3) is the second of two paths; see (D4).

Source: Bricken et al. (2023), "Towards Monosemanticity", appendix; SAELens,
``apply_b_dec_to_input``; EleutherAI's sparsify, where ``transcode`` is not set.
"""

from __future__ import annotations

import numpy as np


def input_bias_forward(u, b_dec):
    """Return ``encoder_input`` (B, I) of ``u`` (B, I) and ``b_dec`` (I,)."""
    return u - b_dec  # (V1)


def input_bias_backward(d_encoder_input):
    """Return ``d_u`` (B, I) and this path's share of ``db_dec`` (I,), given (B, I)."""
    return d_encoder_input, -np.sum(d_encoder_input, axis=0)  # (V2), (V3)
