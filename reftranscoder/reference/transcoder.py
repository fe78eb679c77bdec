"""The whole transcoder: the operations in a row, and the chain rule through them.

Forward::

    x --affine--> pre --ReLU--> pre_acts --select--> hidden --decode--> reconstruction
    |                                                                       ^
    +------------------------------- skip ----------------------------------+

    loss  =  mse(target, reconstruction)  +  l1(hidden)                                   (C1)

or other losses, by the names of ``losses.py``.

Backward, each arrow against its direction.  hidden reaches the loss by two paths, through the
reconstruction and through the penalty, and so does x, through the encoder and through the skip
connection; the chain rule adds the paths::

    d_reconstruction           from mse                         (M2)
    d_hidden                   from decode  +  from l1          (D2) + (P2)               (C2)
    d_pre                      back through select and ReLU     (T2), (R2)                (C3)
    dx                         from affine  +  from skip        (A2) + (S2)               (C4)

and dW_dec from decode, with the share of a penalty that looks at W_dec, (P8).  The tags M, D, P, T,
R, A and S stand in the files of those operations.

Source: Dunefsky et al. (2024), section 3.1; Edifice, ``Interpretability.Transcoder``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .affine import affine_backward, affine_forward
from .decode import decode_backward, decode_forward
from .encode import ACTIVATIONS
from .losses import DEFAULT, terms_of
from .skip import skip_backward, skip_forward


class Forward(NamedTuple):
    """What `transcoder_forward` returns."""

    pre: Any  # (B, D)
    pre_acts: Any  # (B, D)
    hidden: Any  # (B, D)
    reconstruction: Any  # (B, O)


class Backward(NamedTuple):
    """What `transcoder_backward` returns, in the order in which it is computed."""

    d_reconstruction: Any  # (B, O)
    d_hidden: Any  # (B, D)
    d_pre: Any  # (B, D)
    d_own: Any  # of what the activation takes that no other does, or None
    dW_dec: Any  # (D, O)
    db_dec: Any  # (O,)
    dW_skip: Any  # (O, I), or None without a skip connection
    dW_enc: Any  # (D, I)
    db_enc: Any  # (D,)
    dx: Any  # (B, I)


def transcoder_forward(
    x, W_enc, b_enc, W_dec, b_dec, W_skip=None, *,
    top_k, activation="topk", ties="lowest_index", own=None,
):  # fmt: skip
    """Return a `Forward`: every stage from ``x`` (B, I) to the reconstruction (B, O)."""
    pre = affine_forward(x, W_enc, b_enc)
    pre_acts, hidden = ACTIVATIONS[activation].forward(pre, top_k, ties, own)
    reconstruction = decode_forward(hidden, W_dec, b_dec)
    if W_skip is not None:
        reconstruction = reconstruction + skip_forward(x, W_skip)
    return Forward(pre, pre_acts, hidden, reconstruction)


def transcoder_loss(target, reconstruction, hidden, l1_coeff, W_dec=None, losses=DEFAULT):
    """Return the loss, a scalar, of ``target`` (B, O), ``reconstruction`` and ``hidden`` (B, D).

    ``W_dec`` (D, O) is for ``losses`` that look at it.
    """
    of_error, of_activity = terms_of(losses)
    error = of_error.forward(target, reconstruction)
    penalty = of_activity.forward(hidden, W_dec, l1_coeff, losses)
    return error + penalty  # (C1)


def transcoder_backward(
    x, target, forward, W_enc, W_dec, W_skip=None, *,
    l1_coeff, activation="topk", own=None, losses=DEFAULT,
):  # fmt: skip
    """Return a `Backward`: the derivative of the loss by every stage and every parameter."""
    pre, _, hidden, reconstruction = forward
    of_error, of_activity = terms_of(losses)

    d_reconstruction = of_error.backward(target, reconstruction)
    d_hidden, dW_dec, db_dec = decode_backward(d_reconstruction, hidden, W_dec)
    penalty = of_activity.backward(hidden, W_dec, l1_coeff, losses)
    d_hidden = d_hidden + penalty.d_hidden  # (C2)
    dW_dec = dW_dec if penalty.dW_dec is None else dW_dec + penalty.dW_dec
    activate = ACTIVATIONS[activation]
    d_pre, d_own = activate.backward(d_hidden, pre, hidden, own, penalty.d_active)  # (C3)
    dx, dW_enc, db_enc = affine_backward(d_pre, x, W_enc)

    dW_skip = None
    if W_skip is not None:
        dx_skip, dW_skip = skip_backward(d_reconstruction, x, W_skip)
        dx = dx + dx_skip  # (C4)
    return Backward(
        d_reconstruction, d_hidden, d_pre, d_own, dW_dec, db_dec, dW_skip, dW_enc, db_enc, dx
    )
