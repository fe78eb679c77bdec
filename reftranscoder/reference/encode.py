"""The encoder: dense, then an activation.

::

    x --affine--> pre --ReLU--> pre_acts --select--> hidden                               (E1)

Which features are selected is what one activation differs from another by; each has a file::

    "topk"         the top_k largest of a row                                        topk.py
    "relu"         every positive one                                                relu.py
    "batchtopk"    the B top_k largest of the batch                             batchtopk.py
    "groupmax"     the largest of each of top_k groups of features               groupmax.py
    "abstopk"      the top_k of a row that are farthest from zero; without ReLU   abstopk.py
    "jumprelu"     every one above the threshold of its feature                  jumprelu.py
    "gated"        every one whose gate is open, by how strong it is; pre_acts      gated.py
                   are the positive magnitudes

Backward, the same path against its direction::

    d_hidden --select--> d_pre_acts --ReLU--> d_pre --affine--> dx, dW_enc, db_enc        (E2)

Each arrow is an equation of the file of that operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .abstopk import abstopk_forward
from .affine import affine_forward
from .batchtopk import batchtopk_forward
from .gated import (
    gated_auxiliary_backward,
    gated_auxiliary_forward,
    gated_backward,
    gated_forward,
    gated_magnitude,
)
from .groupmax import groupmax_forward
from .jumprelu import jumprelu_backward, jumprelu_forward
from .relu import relu_backward, relu_forward
from .topk import topk_backward, topk_forward


class JumpReLU(NamedTuple):
    """What ``"jumprelu"`` takes beside pre."""

    theta: Any  # (D,)
    bandwidth: Any = None  # of the straight-through gradients, or None
    through: str = "theta"  # or "theta_and_input"


class Frozen(NamedTuple):
    """What the auxiliary loss of ``"gated"`` is about, and holds fixed."""

    target: Any  # (B, O)
    W_dec: Any  # (D, O)
    b_dec: Any  # (O,)


class Gated(NamedTuple):
    """What ``"gated"`` takes beside pre."""

    b_gate: Any  # (D,)
    b_mag: Any  # (D,)
    r_mag: Any  # (D,)
    gate_l1_coeff: Any = 0
    auxiliary_coeff: Any = 0
    frozen: Frozen | None = None  # without it there is no auxiliary loss


def _no_loss(pre, own):
    return 0


class Activation(NamedTuple):
    """How an activation gets from pre to hidden, and a gradient back.

    ``own`` is what it takes that no other does, as `JumpReLU`, or None; and d_own its gradient.
    ``d_active`` is what a penalty has by the number of active features (``l0.py``).
    ``loss`` is what it adds to the loss beside hidden, whose gradient ``backward`` includes.
    """

    forward: Callable  # (pre, top_k, ties, own) -> pre_acts, hidden, all (B, D)
    backward: Callable  # (d_hidden, pre, hidden, own, d_active=None) -> d_pre (B, D), d_own
    loss: Callable = _no_loss  # (pre, own) -> a scalar


def _of_positives(select):
    """The activation that selects among rectified activations by ``select``."""

    def forward(pre, top_k, ties, own):
        pre_acts = relu_forward(pre)
        return pre_acts, select(pre_acts, top_k, ties)

    def backward(d_hidden, pre, hidden, own, d_active=None):
        return relu_backward(topk_backward(d_hidden, hidden), pre), None

    return Activation(forward, backward)


def _relu_forward(pre, top_k, ties, own):
    pre_acts = relu_forward(pre)
    return pre_acts, pre_acts


def _relu_backward(d_hidden, pre, hidden, own, d_active=None):
    return relu_backward(d_hidden, pre), None


def _abstopk_forward(pre, top_k, ties, own):
    return pre, abstopk_forward(pre, top_k, ties)


def _abstopk_backward(d_hidden, pre, hidden, own, d_active=None):
    return topk_backward(d_hidden, hidden), None


def _jumprelu_forward(pre, top_k, ties, own):
    return relu_forward(pre), jumprelu_forward(pre, own.theta)


def _jumprelu_backward(d_hidden, pre, hidden, own, d_active=None):
    d_pre, d_theta = jumprelu_backward(d_hidden, pre, *own, d_active)
    return d_pre, own._replace(theta=d_theta)


def _gated_forward(pre, top_k, ties, own):
    magnitude = gated_magnitude(pre, own.b_mag, own.r_mag)
    return relu_forward(magnitude), gated_forward(pre, own.b_gate, own.b_mag, own.r_mag)


def _gated_backward(d_hidden, pre, hidden, own, d_active=None):
    d_pre, db_mag, dr_mag = gated_backward(d_hidden, hidden, own.b_mag, own.r_mag)
    db_gate = np.zeros_like(own.b_gate)
    if own.frozen is not None:
        d_gate = gated_auxiliary_backward(*_auxiliary(pre, own))
        d_pre, db_gate = d_pre + d_gate, np.sum(d_gate, axis=0)
    return d_pre, own._replace(b_gate=db_gate, b_mag=db_mag, r_mag=dr_mag)


def _gated_loss(pre, own):
    return 0 if own.frozen is None else gated_auxiliary_forward(*_auxiliary(pre, own))


def _auxiliary(pre, own):
    target, W_dec, b_dec = own.frozen
    return target, pre, own.b_gate, W_dec, b_dec, own.gate_l1_coeff, own.auxiliary_coeff


#: name -> `Activation`.  Another activation is another row, and a file for its selection.
ACTIVATIONS = {
    "topk": _of_positives(topk_forward),
    "relu": Activation(_relu_forward, _relu_backward),
    "batchtopk": _of_positives(batchtopk_forward),
    "groupmax": _of_positives(groupmax_forward),
    "abstopk": Activation(_abstopk_forward, _abstopk_backward),
    "jumprelu": Activation(_jumprelu_forward, _jumprelu_backward),
    "gated": Activation(_gated_forward, _gated_backward, _gated_loss),
}


def encode_forward(x, W_enc, b_enc, *, top_k, activation="topk", ties="lowest_index", own=None):
    """Return ``hidden`` (B, D) of ``x`` (B, I), with ``W_enc`` (D, I) and ``b_enc`` (D,)."""
    pre = affine_forward(x, W_enc, b_enc)
    _, hidden = ACTIVATIONS[activation].forward(pre, top_k, ties, own)  # (E1)
    return hidden
