"""How many features are active, as a penalty: in three forms.

With L0[b] the number of active features of a row, and t the number that is wanted (``target_l0``)::

    l0_step        =  l1_coeff  sum_b L0[b] / B                                           (P9)
    l0_quadratic   =  l1_coeff  sum_b (2 / t) (L0[b] - t)^2 / B                           (P10)
    l0_target      =  l1_coeff  (sum_b L0[b] / (B t)  -  1)^2                             (P11)

A number of features moves by jumps alone: every derivative is 0 where there is one.  Write
active[b, d] = H(pre[b, d] - theta[d]) for the step whose sum is L0[b].  What a *straight-through*
gradient of theta is made from, (J6) in ``jumprelu.py``, is the slope by it::

    d_active[b, d]  =  l1_coeff / B                                of l0_step             (P12)
    d_active[b, d]  =  l1_coeff  (4 / t) (L0[b] - t) / B           of l0_quadratic        (P13)
    d_active[b, d]  =  2 l1_coeff  (sum_b L0[b] / (B t) - 1) / (B t)   of l0_target       (P14)

for every feature, active or not.  No activation but jumprelu with a bandwidth makes anything of it.

A smooth count sees how strongly a feature writes, with n[d] the norms of (W1) and s ``tanh_scale``;
its gradients are derivatives, and reach hidden and W_dec::

    u[b, d]         =  tanh(s |hidden[b, d]| n[d])
    l0_tanh         =  l1_coeff  sum_{b,d} u[b, d] / B                                    (P15)

    d_hidden[b, d]  =  l1_coeff  s n[d] (1 - u[b, d]^2) sign(hidden[b, d]) / B            (P16)
    d_n[d]          =  l1_coeff  s sum_b |hidden[b, d]| (1 - u[b, d]^2) / B               (P17)

and dW_dec by (P8) in ``l1_decoder_weighted.py``.

**Convention.** In (P16) sign(0) is 1.  There is no derivative at 0, and nothing that is inactive
passes any on; but a straight-through gradient (J4) asks for the slope by what would become active,
and that is the one from the right.

Source: (P9) Rajamanoharan et al. (2024), "Jumping Ahead", equation 9; (P10) SAELens's
``"quadratic"`` (``saes/jumprelu_sae.py``, release 6.54.12), for Gemma Scope 2; (P11)
dictionary_learning 0.1.0, ``trainers/jumprelu.py``, whose step is taken of hidden, so that its
window has no lower half; (P15) Conerly et al. (2025), "Dictionary Learning Optimization
Techniques", transformer-circuits.pub, January 2025, and SAELens's ``"tanh"``.
"""

from __future__ import annotations

import numpy as np

from .decoder_norm import decoder_norms
from .l1_decoder_weighted import through_norms


def l0_step_forward(hidden, l1_coeff):
    """Return the loss, a scalar, of ``hidden`` (B, D) with B >= 1."""
    return l1_coeff * np.sum(_counts(hidden)) / len(hidden)  # (P9)


def l0_step_backward(hidden, l1_coeff):
    """Return ``d_active`` (B, 1), for every feature of a row."""
    return 0 * _counts(hidden) + l1_coeff / len(hidden)  # (P12)


def l0_quadratic_forward(hidden, l1_coeff, target_l0):
    """Return the loss, a scalar, of ``hidden`` (B, D) with B >= 1."""
    off = _counts(hidden) - target_l0
    return l1_coeff * np.sum(2 * off**2 / target_l0) / len(hidden)  # (P10)


def l0_quadratic_backward(hidden, l1_coeff, target_l0):
    """Return ``d_active`` (B, 1), for every feature of a row."""
    return l1_coeff * 4 * (_counts(hidden) - target_l0) / (target_l0 * len(hidden))  # (P13)


def l0_target_forward(hidden, l1_coeff, target_l0):
    """Return the loss, a scalar, of ``hidden`` (B, D) with B >= 1."""
    return l1_coeff * (np.sum(_counts(hidden)) / (len(hidden) * target_l0) - 1) ** 2  # (P11)


def l0_target_backward(hidden, l1_coeff, target_l0):
    """Return ``d_active`` (B, 1), for every feature of a row."""
    counts, most = _counts(hidden), len(hidden) * target_l0
    return 0 * counts + 2 * l1_coeff * (np.sum(counts) / most - 1) / most  # (P14)


def l0_tanh_forward(hidden, W_dec, l1_coeff, tanh_scale):
    """Return the loss, a scalar, of ``hidden`` (B, D), with ``W_dec`` (D, O) and B >= 1."""
    u = np.tanh(tanh_scale * np.abs(hidden) * decoder_norms(W_dec))
    return l1_coeff * np.sum(u) / len(hidden)  # (P15)


def l0_tanh_backward(hidden, W_dec, l1_coeff, tanh_scale):
    """Return this loss's share of ``d_hidden`` (B, D) and of ``dW_dec`` (D, O)."""
    size, n = np.abs(hidden), decoder_norms(W_dec)
    slope = l1_coeff * tanh_scale * (1 - np.tanh(tanh_scale * size * n) ** 2) / len(hidden)
    d_n = np.sum(size * slope, axis=0)  # (P17)
    return slope * n * np.where(hidden < 0, -1, 1), through_norms(d_n, W_dec)  # (P16)


def _counts(hidden):
    """L0 (B, 1)."""
    return np.sum(hidden != 0, axis=1, keepdims=True)
