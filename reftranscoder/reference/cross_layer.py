"""The cross-layer transcoder: features of one layer write to that layer and to every later one.

Of L layers, each has its own input x[l] (B, I), its own features and its own target.  Layer l
encodes as a transcoder does, and what layer t is to be is made of all layers up to it; feature d
of layer l has a row W_dec[l][d] (L - l, O), one output for each layer that it writes to::

    hidden[l]             of x[l] by W_enc[l], b_enc[l]                                   (E1)
    reconstruction[t]  =  sum_{l <= t} hidden[l] @ W_dec[l][:, t - l]  +  b_dec[t]        (L1)
    loss               =  sum_l mse(target[l], reconstruction[l])  +  l1(hidden[l])       (L2)

Layers are summed, and within each the means are those of (M1) and (P1).

Backward, with G[t] = d_reconstruction[t] from (M2).  hidden[l] reaches the loss through every
reconstruction from l on and through its own penalty; nothing else joins two layers::

    d_hidden[l]           =  sum_{t >= l} G[t] @ W_dec[l][:, t - l].T  +  from l1         (L3)
    dW_dec[l][:, t - l]   =  hidden[l].T @ G[t]                                           (L4)
    db_dec[t]             =  sum_b G[t][b]                                                (L5)
    d_pre[l], dx[l], ...     from d_hidden[l], as in a transcoder                         (C3), (A2)

so that layer l is a transcoder with (L - l) O outputs side by side, added to those of the others.

Skip connections, where there are any, lead from each layer to itself and to every later one, by
W_skip[l] (L - l, O, I)::

    reconstruction[t]    +=  sum_{l <= t} x[l] @ W_skip[l][t - l].T                       (L6)
    dx[l]                +=  sum_{t >= l} G[t] @ W_skip[l][t - l]                         (L7)
    dW_skip[l][t - l]     =  G[t].T @ x[l]                                                (L8)

Where features have a post_enc[l] (D, L - l), what of layer l is decoded for layer t, in (L1) and
(L4), is not hidden[l] but ``post_enc_forward(hidden[l], post_enc[l][:, t - l])``: ``post_enc.py``.

Source: Ameisen et al. (2025), "Circuit Tracing: Revealing Computational Graphs in Language Models",
transformer-circuits.pub, section "Cross-Layer Transcoder".  Its loss sums the squares over outputs,
and has another penalty.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .affine import affine_backward, affine_forward
from .decode import decode_backward
from .encode import ACTIVATIONS
from .l1 import l1_backward
from .mse import mse_backward
from .post_enc import post_enc_backward, post_enc_forward
from .skip import skip_backward, skip_forward
from .transcoder import transcoder_loss


class CrossLayerForward(NamedTuple):
    """What `cross_layer_forward` returns: of each stage, a tuple of its L layers."""

    pre: Any  # L of (B, D)
    pre_acts: Any  # L of (B, D)
    hidden: Any  # L of (B, D)
    reconstruction: Any  # L of (B, O)


class CrossLayerBackward(NamedTuple):
    """What `cross_layer_backward` returns: of each stage, a tuple of its L layers."""

    d_reconstruction: Any  # L of (B, O)
    d_hidden: Any  # L of (B, D)
    d_pre: Any  # L of (B, D)
    d_own: Any  # L of what the activation takes that no other does, or of None
    dW_dec: Any  # L of (D, L - l, O)
    db_dec: Any  # L of (O,)
    dW_skip: Any  # L of (L - l, O, I), or of None without skip connections
    dpost_enc: Any  # L of (D, L - l), or of None without these
    dW_enc: Any  # L of (D, I)
    db_enc: Any  # L of (D,)
    dx: Any  # L of (B, I)


def cross_layer_forward(
    x, W_enc, b_enc, W_dec, b_dec, W_skip=None, post_enc=None, *,
    top_k, activation="topk", ties="lowest_index", own=None,
):  # fmt: skip
    """Return a `CrossLayerForward` of ``x``, L of (B, I); ``own`` is L of `JumpReLU`, or None.

    ``W_enc`` is L of (D, I), ``b_enc`` L of (D,), ``W_dec`` L of (D, L - l, O), ``b_dec`` L of
    (O,), ``W_skip`` L of (L - l, O, I), or None, and ``post_enc`` L of (D, L - l), or None.
    """
    select, stages = ACTIVATIONS[activation].forward, []
    for l, of_layer in enumerate(own or [None] * len(x)):
        pre = affine_forward(x[l], W_enc[l], b_enc[l])
        stages.append((pre, *select(pre, top_k, ties, of_layer)))  # (E1)
    pre, pre_acts, hidden = zip(*stages, strict=True)
    reconstruction = cross_layer_decode(hidden, W_dec, b_dec, x, W_skip, post_enc)
    return CrossLayerForward(pre, pre_acts, hidden, reconstruction)


def cross_layer_decode(hidden, W_dec, b_dec, x=None, W_skip=None, post_enc=None):
    """Return ``reconstruction``, L of (B, O), of ``hidden``, L of (B, D)."""
    layers = range(len(b_dec))
    decoded = [
        sum(_written(hidden, post_enc, l, t) @ W_dec[l][:, t - l] for l in range(t + 1)) + b_dec[t]
        for t in layers
    ]  # (L1)
    if W_skip is None:
        return tuple(decoded)
    return tuple(
        decoded[t] + sum(skip_forward(x[l], W_skip[l][t - l]) for l in range(t + 1))  # (L6)
        for t in layers
    )


def _written(hidden, post_enc, l, t):
    """What of ``hidden[l]`` (B, D) is decoded for layer ``t``."""
    return hidden[l] if post_enc is None else post_enc_forward(hidden[l], post_enc[l][:, t - l])


def cross_layer_loss(target, reconstruction, hidden, l1_coeff):
    """Return the loss, a scalar, of ``target`` and ``reconstruction``, both L of (B, O)."""
    layers = zip(target, reconstruction, hidden, strict=True)
    return sum(transcoder_loss(*layer, l1_coeff) for layer in layers)  # (L2)


def cross_layer_backward(
    x, target, forward, W_enc, W_dec, W_skip=None, post_enc=None, *,
    l1_coeff, activation="topk", own=None,
):  # fmt: skip
    """Return a `CrossLayerBackward`: the derivative of the loss by every stage and parameter."""
    pre, _, hidden, reconstruction = forward
    G = [mse_backward(*layer) for layer in zip(target, reconstruction, strict=True)]
    stages = []
    for l, of_layer in enumerate(own or [None] * len(x)):
        parts = [
            decode_backward(G[t], _written(hidden, post_enc, l, t), W_dec[l][:, t - l])
            for t in range(l, len(x))
        ]
        d_hidden = sum(part[0] for part in parts) + l1_backward(hidden[l], l1_coeff)  # (L3)
        dW_dec = np.stack([part[1] for part in parts], axis=1)  # (L4)
        db_dec = parts[0][2]  # (L5)
        d_pre, d_own = ACTIVATIONS[activation].backward(d_hidden, pre[l], hidden[l], of_layer)
        dx, dW_enc, db_enc = affine_backward(d_pre, x[l], W_enc[l])
        dW_skip = dpost_enc = None
        if post_enc is not None:
            slopes = [post_enc_backward(part[0], hidden[l]) for part in parts]
            dpost_enc = np.stack(slopes, axis=1)
        if W_skip is not None:
            around = [skip_backward(G[t], x[l], W_skip[l][t - l]) for t in range(l, len(x))]
            dx = dx + sum(part[0] for part in around)  # (L7)
            dW_skip = np.stack([part[1] for part in around])  # (L8)
        decoder = dW_dec, db_dec, dW_skip, dpost_enc
        stages.append((G[l], d_hidden, d_pre, d_own, *decoder, dW_enc, db_enc, dx))
    return CrossLayerBackward(*zip(*stages, strict=True))
