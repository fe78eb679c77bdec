"""Encoder and selection together, block by block: no (B, D) array is ever made.

The mathematics stands in ``reference/affine.py``, ``relu.py`` and the file of each selection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .abstopk import abstopk_forward
from .affine import affine_block
from .batchtopk import largest_entries
from .engine.work_division import row_blocks
from .gated import gated_backward, gated_magnitude, open_magnitudes
from .groupmax import groupmax_forward
from .jumprelu import above
from .topk import joined, select_block


class Activation(NamedTuple):
    """How an activation selects, in float64.

    ``select`` takes a block of rows, rectified unless ``signed``; where rows compete, it keeps what
    may be kept, and ``among`` of what all blocks so far kept that for so many rows.
    """

    select: Callable  # (pre_acts or pre (B, D), top_k, ties, own) -> hidden, a `Sparse`
    signed: bool = False
    among: Callable | None = None  # (hidden, number of entries, ties) -> hidden


def _topk(pre_acts, top_k, ties, own):
    return select_block(pre_acts, top_k, ties)


def _positive(pre_acts, top_k, ties, own):
    return above(pre_acts, np.zeros(pre_acts.shape[1]))


def _groupmax(pre_acts, top_k, ties, own):
    return groupmax_forward(pre_acts, top_k, ties)


def _abstopk(pre, top_k, ties, own):
    return abstopk_forward(pre, top_k, ties)


def _jumprelu(pre_acts, top_k, ties, own):
    return above(pre_acts, own.theta)


def _gated(pre, top_k, ties, own):
    return open_magnitudes(pre, own.b_gate, own.b_mag, own.r_mag)


#: name -> `Activation`.
ACTIVATIONS = {
    "topk": Activation(_topk),
    "relu": Activation(_positive),
    "batchtopk": Activation(_positive, among=largest_entries),
    "groupmax": Activation(_groupmax),
    "abstopk": Activation(_abstopk, signed=True),
    "jumprelu": Activation(_jumprelu),
    "gated": Activation(_gated, signed=True),
}


def _rectified(pre, own=None):
    return np.where(pre <= 0, 0, pre)


#: name -> (pre, own) -> pre_acts (B, D), where they are not what is rectified of pre.
PRE_ACTS = {
    "abstopk": lambda pre, own: pre,
    "gated": lambda pre, own: _rectified(gated_magnitude(pre, own.b_mag, own.r_mag)),
}


def activate(pre, *, top_k, activation="topk", ties="lowest_index", own=None):
    """Return ``pre_acts`` (B, D) and ``hidden``, a `Sparse` (B, D), of ``pre`` (B, D), float64."""
    kind = ACTIVATIONS[activation]
    pre_acts = PRE_ACTS.get(activation, _rectified)(pre, own)
    hidden = kind.select(pre if kind.signed else pre_acts, top_k, ties, own)
    if kind.among:
        hidden = kind.among(hidden, len(pre) * top_k, ties)
    return pre_acts, hidden


def activation_backward(d_hidden, hidden, *, activation="topk", own=None):
    """Return ``d_pre``, a `Sparse` (B, D), and ``d_own``, the derivatives of what the activation
    takes that no other does, or None; ``d_hidden`` has the entries of ``hidden``."""
    return BACKWARD.get(activation, _identity)(d_hidden, hidden, own)


def _identity(d_hidden, hidden, own):
    return d_hidden, None


def _jumprelu_backward(d_hidden, hidden, own):
    return d_hidden, own._replace(theta=np.zeros_like(own.theta))


def _gated_backward(d_hidden, hidden, own):
    d_pre, db_mag, dr_mag = gated_backward(d_hidden, hidden, own.b_mag, own.r_mag)
    return d_pre, own._replace(b_gate=np.zeros_like(own.b_gate), b_mag=db_mag, r_mag=dr_mag)


#: name -> (d_hidden, hidden, own) -> d_pre, d_own, where d_pre is not d_hidden or there is d_own.
BACKWARD = {"jumprelu": _jumprelu_backward, "gated": _gated_backward}


def encode_forward(x, W_enc, b_enc, *, top_k, activation="topk", ties="lowest_index", own=None):
    """Return ``hidden``, a `Sparse` (B, D) of ``x`` (B, I) under ``W_enc`` (D, I), ``b_enc`` (D,).

    Selection (sign, order, ties) is decided on p, the float64 sums of `affine_forward`; a kept
    value is p rounded once to the dtype of ``x``, and is not stored where that is zero.  So a
    value is within u |p| + (I + 1) 2^-53 of the sum of absolute terms, and a row depends on that
    row alone, except where the activation has rows compete.
    """
    D, I = W_enc.shape
    kind = ACTIVATIONS[activation]
    blocks = []
    pre_acts = np.empty((0, D))
    for rows in row_blocks(len(x), D, I):
        size = rows.stop - rows.start
        if len(pre_acts) < size:
            pre_acts = np.empty((size, D))
        affine_block(x[rows], W_enc, b_enc, not kind.signed, pre_acts[:size])
        hidden = kind.select(pre_acts[:size], top_k, ties, own)
        if kind.among:  # so that what cannot be kept any more takes no memory
            blocks = [kind.among(joined([*blocks, hidden], D), len(x) * top_k, ties)]
        else:
            blocks.append(hidden.astype(x.dtype))
    return joined(blocks, D).astype(x.dtype)
