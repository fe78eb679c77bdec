"""The decoder: each active feature writes its row of W_dec.

With hidden (B, D), W_dec (D, O), b_dec (O,)::

    reconstruction[b, o]  =  sum_d hidden[b, d] W_dec[d, o]  +  b_dec[o]                  (D1)

and, with G = d_reconstruction (B, O)::

    d_hidden[b, d]        =  sum_o G[b, o] W_dec[d, o]                                    (D2)
    dW_dec[d, o]          =  sum_b hidden[b, d] G[b, o]                                   (D3)
    db_dec[o]             =  sum_b G[b, o]                                                (D4)

The skip connection, where there is one, adds to (D1); see ``skip``.

Source: Dunefsky et al. (2024), section 3.1.
"""

from __future__ import annotations

import numpy as np


def decode_forward(hidden, W_dec, b_dec):
    """Return ``reconstruction`` (B, O) of ``hidden`` (B, D) by ``W_dec`` (D, O), ``b_dec`` (O,)."""
    return hidden @ W_dec + b_dec  # (D1)


def decode_backward(d_reconstruction, hidden, W_dec):
    """Return ``d_hidden`` (B, D), ``dW_dec`` (D, O), ``db_dec`` (O,), given (B, O)."""
    d_hidden = d_reconstruction @ W_dec.T  # (D2)
    dW_dec = hidden.T @ d_reconstruction  # (D3)
    db_dec = np.sum(d_reconstruction, axis=0)  # (D4)
    return d_hidden, dW_dec, db_dec
