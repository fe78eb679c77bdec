"""The skip connection: a dense linear path beside the dictionary.

With x (B, I) and W_skip (O, I), the reconstruction gains::

    skip[b, o]     =  sum_i x[b, i] W_skip[o, i]                                          (S1)

and, with G = d_reconstruction (B, O)::

    dx[b, i]       =  sum_o G[b, o] W_skip[o, i]                                          (S2)
    dW_skip[o, i]  =  sum_b G[b, o] x[b, i]                                               (S3)

Source: Paulo, Shabalin & Belrose (2025), "Transcoders Beat Sparse Autoencoders for
Interpretability", arXiv:2501.18823.
"""

from __future__ import annotations


def skip_forward(x, W_skip):
    """Return ``skip`` (B, O): what ``W_skip`` (O, I) adds to the reconstruction of ``x`` (B, I)."""
    return x @ W_skip.T  # (S1)


def skip_backward(d_reconstruction, x, W_skip):
    """Return ``dx`` (B, I), this path's share, and ``dW_skip`` (O, I), given (B, O)."""
    dx = d_reconstruction @ W_skip  # (S2)
    dW_skip = d_reconstruction.T @ x  # (S3)
    return dx, dW_skip
