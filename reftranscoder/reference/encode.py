"""The encoder: dense, ReLU, selection.

::

    x --affine--> pre --ReLU--> pre_acts --select--> hidden                               (E1)

Which features are selected is what one activation differs from another by: ``"topk"`` keeps the
top_k largest, ``"relu"`` every positive one.  Backward, the same path against its direction::

    d_hidden --select--> d_pre_acts --ReLU--> d_pre --affine--> dx, dW_enc, db_enc        (E2)

Each arrow is an equation of the file of that operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .affine import affine_forward
from .relu import relu_backward, relu_forward
from .topk import topk_backward, topk_forward


class Activation(NamedTuple):
    """How an activation gets from pre to hidden, and a gradient back."""

    forward: Callable  # (pre, top_k, ties) -> pre_acts, hidden, all (B, D)
    backward: Callable  # (d_hidden, pre, hidden) -> d_pre, all (B, D)


def _relu_forward(pre, top_k, ties):
    pre_acts = relu_forward(pre)
    return pre_acts, pre_acts


def _relu_backward(d_hidden, pre, hidden):
    return relu_backward(d_hidden, pre)


def _topk_forward(pre, top_k, ties):
    pre_acts = relu_forward(pre)
    return pre_acts, topk_forward(pre_acts, top_k, ties)


def _topk_backward(d_hidden, pre, hidden):
    return relu_backward(topk_backward(d_hidden, hidden), pre)


#: name -> `Activation`.  Another activation is another row, and a file for its selection.
ACTIVATIONS = {
    "relu": Activation(_relu_forward, _relu_backward),
    "topk": Activation(_topk_forward, _topk_backward),
}


def encode_forward(x, W_enc, b_enc, *, top_k, activation="topk", ties="lowest_index"):
    """Return ``hidden`` (B, D) of ``x`` (B, I), with ``W_enc`` (D, I) and ``b_enc`` (D,)."""
    pre = affine_forward(x, W_enc, b_enc)
    _, hidden = ACTIVATIONS[activation].forward(pre, top_k, ties)  # (E1)
    return hidden
