"""Gated: whether a feature is active, and how strongly, are told by two paths with one weight.

With pre (B, D), b_gate, b_mag and r_mag (D,)::

    gate[b, d]       =  pre[b, d]  +  b_gate[d]                                           (Z1)
    magnitude[b, d]  =  exp(r_mag[d]) pre[b, d]  +  b_mag[d]                              (Z2)
    hidden[b, d]     =  magnitude[b, d]  where gate[b, d] > 0 and magnitude[b, d] > 0,
                        else 0                                                            (Z3)

so that the weights of the magnitude path are those of the gate path, exp(r_mag) times: they are
tied.  With what is active held fixed hidden is (Z2), and as exp(r_mag) pre = hidden - b_mag there::

    d_mag[b, d]      =  d_hidden[b, d]  where hidden[b, d] != 0,  else 0
    d_pre[b, d]      =  exp(r_mag[d]) d_mag[b, d]                                         (Z4)
    db_mag[d]        =  sum_b d_mag[b, d]                                                 (Z5)
    dr_mag[d]        =  sum_b d_mag[b, d] (hidden[b, d] - b_mag[d])                       (Z6)

These are derivatives, wherever there are any.  b_gate moves hidden by jumps alone, so that the
derivative by it is 0 wherever there is one, and nothing could be trained by it.

**The auxiliary loss** is how the gate path is trained.  Its activations are rectified, penalised,
and decoded by what is called a frozen decoder, W_dec* and b_dec*::

    gate_acts[b, d]  =  max(gate[b, d], 0)                                                (Z7)
    auxiliary        =  gate_l1_coeff  sum_{b,d} gate_acts[b, d] / (B D)
                        +  auxiliary_coeff  mse(target, gate_acts @ W_dec* + b_dec*)      (Z8)

    d_gate[b, d]     =  auxiliary_coeff  sum_o G*[b, o] W_dec*[d, o]
                        +  gate_l1_coeff / (B D)     where gate[b, d] > 0,  else 0        (Z9)

with G* (B, O) from (M2).  d_gate adds to d_pre, and its sum over b is db_gate.  W_dec* and b_dec*
have the values of W_dec and b_dec and are held fixed.  With the gradients of both losses added,
what there is by x, W_enc, b_gate, b_mag and r_mag is the derivative of the sum of the losses.  *By
W_dec and b_dec it is not*: these have no share in (Z8), but for what b_dec moves where it is
subtracted from the encoder's input.

**Convention.** At gate = 0 or magnitude = 0 a feature is inactive.  A complex number is judged by
its real part.  pre has a bias of its own, b_enc, which both paths share: it is 0 in what is
published.  The penalty is not weighted by the norms of W_dec, which the source keeps at 1.

Source: Rajamanoharan et al. (2024), "Improving Dictionary Learning with Gated Sparse Autoencoders",
section 3.2; sums over d and o where there are means here.
"""

from __future__ import annotations

import numpy as np

from .decode import decode_backward, decode_forward
from .l1 import l1_backward, l1_forward
from .mse import mse_backward, mse_forward
from .relu import relu_backward, relu_forward


def gated_magnitude(pre, b_mag, r_mag):
    """Return ``magnitude`` (B, D) of ``pre`` (B, D), with ``b_mag`` and ``r_mag`` (D,)."""
    return np.exp(r_mag) * pre + b_mag  # (Z2)


def gated_forward(pre, b_gate, b_mag, r_mag):
    """Return ``hidden`` (B, D) of ``pre`` (B, D), with ``b_gate``, ``b_mag``, ``r_mag`` (D,)."""
    gate = pre + b_gate  # (Z1)
    magnitude = relu_forward(gated_magnitude(pre, b_mag, r_mag))
    return np.where(gate.real <= 0, 0, magnitude)  # (Z3)


def gated_backward(d_hidden, hidden, b_mag, r_mag):
    """Return ``d_pre`` (B, D), ``db_mag`` and ``dr_mag`` (D,), given ``d_hidden`` (B, D)."""
    d_mag = np.where(hidden != 0, d_hidden, 0)
    d_pre = np.exp(r_mag) * d_mag  # (Z4)
    db_mag = np.sum(d_mag, axis=0)  # (Z5)
    dr_mag = np.sum(d_mag * (hidden - b_mag), axis=0)  # (Z6)
    return d_pre, db_mag, dr_mag


def gated_auxiliary_forward(target, pre, b_gate, W_dec, b_dec, gate_l1_coeff, auxiliary_coeff):
    """Return ``auxiliary``, a scalar, of ``target`` (B, O) and ``pre`` (B, D).

    ``b_gate`` (D,), and the frozen ``W_dec`` (D, O) and ``b_dec`` (O,).
    """
    gate_acts = relu_forward(pre + b_gate)  # (Z7)
    error = mse_forward(target, decode_forward(gate_acts, W_dec, b_dec))
    return l1_forward(gate_acts, gate_l1_coeff) + auxiliary_coeff * error  # (Z8)


def gated_auxiliary_backward(target, pre, b_gate, W_dec, b_dec, gate_l1_coeff, auxiliary_coeff):
    """Return ``d_gate`` (B, D), of the arguments of `gated_auxiliary_forward`."""
    gate = pre + b_gate  # (Z1)
    gate_acts = relu_forward(gate)
    d_decoded = auxiliary_coeff * mse_backward(target, decode_forward(gate_acts, W_dec, b_dec))
    through_decoder, _, _ = decode_backward(d_decoded, gate_acts, W_dec)  # W_dec, b_dec are frozen
    return relu_backward(through_decoder + l1_backward(gate_acts, gate_l1_coeff), gate)  # (Z9)
