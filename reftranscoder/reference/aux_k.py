"""AuxK: what the features in use leave over is shown to those that are dead.

A feature that is never among the K largest gets no gradient, and stays so.  The auxiliary loss
lets the dead features reconstruct the residual, e = target - reconstruction, which is held fixed.
Let S(b) be the aux_k dead features of the largest activations in row b.  Then::

    hidden[b, d]          =  pre_acts[b, d]  where d is in S(b),  else 0                  (X1)
    reconstruction[b, o]  =  sum_d hidden[b, d] W_dec[d, o]                               (X2)
    aux                   =  aux_coeff  sum_{b,o} (e[b, o] - reconstruction[b, o])^2 / (B O)
                                                                                          (X3)

These are the operations of the transcoder with e for the target, another selection and no bias, so
that the gradients are theirs as well::

    d_reconstruction      =  aux_coeff  times that of mse       (M2)                      (X4)
    d_hidden, dW_dec      from decode                           (D2), (D3)
    d_pre                 back through selection and ReLU       (T2), (R2)
    dW_enc, db_enc, dx    from affine                           (A2), (A3), (A4)

and are added to those of the loss.  b_dec gets none: it is in e, which is held fixed.

**Convention.** Only positive activations reconstruct: a dead feature without any in a row takes no
part in it.  Which features are dead is known before the step (``training/dead_features.py``); such
a one may be active in the batch again, and then learns from both.

Source: Gao et al. (2024), "Scaling and evaluating sparse autoencoders", section 2.4 and appendix
A.2, where aux_coeff is 1/32 and the loss is divided by that of predicting the mean: in training
units (U1) that is nearly 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .affine import affine_backward, affine_relu_forward
from .decode import decode_backward, decode_forward
from .mse import mse_backward, mse_forward
from .topk import topk_backward, topk_forward


class AuxForward(NamedTuple):
    """What `aux_k_forward` returns."""

    hidden: Any  # (B, D)
    reconstruction: Any  # (B, O), of the residual


class AuxBackward(NamedTuple):
    """What `aux_k_backward` returns, in the order in which it is computed."""

    d_reconstruction: Any  # (B, O)
    d_hidden: Any  # (B, D)
    d_pre: Any  # (B, D)
    dW_dec: Any  # (D, O)
    dW_enc: Any  # (D, I)
    db_enc: Any  # (D,)
    dx: Any  # (B, I)


def aux_k_forward(x, dead, W_enc, b_enc, W_dec, aux_k):
    """Return an `AuxForward` of ``x`` (B, I): the residual as the features ``dead`` (D,) have it.

    ``dead`` is True for a dead feature; ``aux_k`` of them are kept in a row, 1 to D.
    """
    pre_acts = affine_relu_forward(x, W_enc, b_enc)
    hidden = topk_forward(np.where(dead, pre_acts, 0), aux_k)  # (X1)
    return AuxForward(hidden, decode_forward(hidden, W_dec, 0))  # (X2)


def aux_k_loss(residual, reconstruction, aux_coeff):
    """Return ``aux``, a scalar, of ``residual`` (B, O) and its ``reconstruction`` (B, O)."""
    return aux_coeff * mse_forward(residual, reconstruction)  # (X3)


def aux_k_backward(x, residual, hidden, reconstruction, W_enc, W_dec, aux_coeff):
    """Return an `AuxBackward`: the derivative of ``aux`` by all that it depends on."""
    d_reconstruction = aux_coeff * mse_backward(residual, reconstruction)  # (X4)
    d_hidden, dW_dec, _ = decode_backward(d_reconstruction, hidden, W_dec)
    d_pre = topk_backward(d_hidden, hidden)  # an entry of hidden is not 0 only where pre > 0
    dx, dW_enc, db_enc = affine_backward(d_pre, x, W_enc)
    return AuxBackward(d_reconstruction, d_hidden, d_pre, dW_dec, dW_enc, db_enc, dx)
