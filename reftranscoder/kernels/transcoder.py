"""The whole transcoder, step by step as in ``reference/transcoder.py``, where it is derived."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..sparse import Sparse
from .affine import affine_backward
from .decode import decode_backward, decode_forward
from .encode import activation_backward, encode_forward
from .losses import DEFAULT, RECONSTRUCTION_LOSSES, SPARSITY_LOSSES, penalty_backward
from .skip import skip_backward, skip_forward


class Forward(NamedTuple):
    """What `transcoder_forward` returns."""

    pre: None  # dense (B, D) arrays are not made here: `affine_forward` and
    pre_acts: None  # `affine_relu_forward` return them
    hidden: Sparse  # (B, D)
    reconstruction: np.ndarray  # (B, O)


class Backward(NamedTuple):
    """What `transcoder_backward` returns, in the order in which it is computed."""

    d_reconstruction: np.ndarray  # (B, O)
    d_hidden: Sparse  # (B, D), at the entries of hidden
    d_pre: Sparse  # (B, D), at the entries of hidden
    d_own: NamedTuple | None  # of what the activation takes that no other does: derivatives alone
    dW_dec: np.ndarray  # (D, O)
    db_dec: np.ndarray  # (O,)
    dW_skip: np.ndarray | None  # (O, I), or None without a skip connection
    dW_enc: np.ndarray  # (D, I)
    db_enc: np.ndarray  # (D,)
    dx: np.ndarray  # (B, I)


def transcoder_forward(
    x, W_enc, b_enc, W_dec, b_dec, W_skip=None, *,
    top_k, activation="topk", ties="lowest_index", own=None,
):  # fmt: skip
    """Return a `Forward` of ``x`` (B, I), without any (B, D) array."""
    selection = {"top_k": top_k, "activation": activation, "ties": ties, "own": own}
    hidden = encode_forward(x, W_enc, b_enc, **selection)
    reconstruction = decode_forward(hidden, W_dec, b_dec)
    if W_skip is not None:
        reconstruction += skip_forward(x, W_skip)
    return Forward(None, None, hidden, reconstruction)


def transcoder_loss(target, reconstruction, hidden, l1_coeff, W_dec=None, losses=DEFAULT):
    """Return the loss, a float64 scalar, of ``target`` and ``reconstruction`` and ``hidden``.

    ``W_dec`` (D, O) is for ``losses`` that look at it.
    """
    error = RECONSTRUCTION_LOSSES[losses.reconstruction_loss].forward(target, reconstruction)
    penalty = SPARSITY_LOSSES[losses.sparsity_loss].forward(hidden, W_dec, l1_coeff, losses)
    return error + penalty


def transcoder_backward(
    x, target, forward, W_enc, W_dec, W_skip=None, *,
    l1_coeff, activation="topk", own=None, losses=DEFAULT,
):  # fmt: skip
    """Return a `Backward`; of ``forward``, only ``hidden`` and ``reconstruction`` are looked at.

    An entry is stored where its feature is active, and nothing else passes a gradient.
    """
    hidden, reconstruction = forward.hidden, forward.reconstruction

    of_error = RECONSTRUCTION_LOSSES[losses.reconstruction_loss]
    d_reconstruction = of_error.backward(target, reconstruction)
    d_hidden, dW_dec, db_dec = decode_backward(d_reconstruction, hidden, W_dec)
    d_hidden, dW_dec, _ = penalty_backward(d_hidden, dW_dec, hidden, W_dec, l1_coeff, losses)
    d_pre, d_own = activation_backward(d_hidden, hidden, activation=activation, own=own)
    dx, dW_enc, db_enc = affine_backward(d_pre, x, W_enc)

    dW_skip = None
    if W_skip is not None:
        dx_skip, dW_skip = skip_backward(d_reconstruction, x, W_skip)
        dx += dx_skip
    return Backward(
        d_reconstruction, d_hidden, d_pre, d_own, dW_dec, db_dec, dW_skip, dW_enc, db_enc, dx
    )
