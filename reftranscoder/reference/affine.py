"""The dense layer, and the encoder's first half: dense + ReLU.

With x (B, I), W (D, I), b (D,)::

    pre[b, d]  =  sum_i x[b, i] W[d, i]  +  b[d]                                          (A1)

Write d_pre for dL/dpre.  Each pre[b, d] depends on x[b, :], on W[d, :] and on b[d]; the chain rule
sums over every path by which an entry reaches the loss::

    dx[b, i]   =  sum_d d_pre[b, d] W[d, i]                                               (A2)
    dW[d, i]   =  sum_b d_pre[b, d] x[b, i]                                               (A3)
    db[d]      =  sum_b d_pre[b, d]                                                       (A4)

Source: Dunefsky et al. (2024), "Transcoders Find Interpretable LLM Feature Circuits", section 3.1,
whose encoder is the ReLU of (A1).
"""

from __future__ import annotations

import numpy as np

from .relu import relu_forward


def affine_forward(x, W, b):
    """Return ``pre`` (B, D), what ``x`` (B, I) gives under ``W`` (D, I) and ``b`` (D,)."""
    return x @ W.T + b  # (A1)


def affine_relu_forward(x, W, b):
    """Return ``pre_acts`` (B, D): `affine_forward`, then `relu_forward`."""
    return relu_forward(affine_forward(x, W, b))


def affine_backward(d_pre, x, W):
    """Return ``dx`` (B, I), ``dW`` (D, I) and ``db`` (D,), given ``d_pre`` (B, D)."""
    dx = d_pre @ W  # (A2)
    dW = d_pre.T @ x  # (A3)
    db = np.sum(d_pre, axis=0)  # (A4)
    return dx, dW, db
