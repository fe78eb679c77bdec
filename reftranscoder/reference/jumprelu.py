"""JumpReLU: a rectifier that jumps, at a threshold of each feature.

With theta (D,)::

    hidden[b, d]  =  pre[b, d]  where pre[b, d] > theta[d] and pre[b, d] > 0,  else 0     (J1)

With what is active held fixed this is linear in pre, and that is its derivative wherever it has
one, away from the jump::

    d_pre[b, d]   =  d_hidden[b, d]  where hidden[b, d] != 0,  else 0                     (J2)

theta moves hidden by jumps alone, so that the derivative by theta is 0 wherever there is one, and
nothing could be trained by it.

**Straight-through gradients** take the place of that zero in training.  *They are not derivatives.*
The step H(pre - theta) is treated as if it had a slope within a bandwidth of the jump, with the
rectangle K(u) = 1 for |u| < 1/2, else 0::

    window[b, d]  =  K((pre[b, d] - theta[d]) / bandwidth) / bandwidth                    (J3)
    d_theta[d]    =  - sum_b d_hidden[b, d] theta[d] window[b, d]                         (J4)

The expectation of (J4) over data is an estimate of the derivative of the expected loss, which theta
moves smoothly where pre has a density.  ``through="theta_and_input"`` gives pre the same slope::

    d_pre[b, d]  +=  d_hidden[b, d] theta[d] window[b, d]                                 (J5)

A penalty of the number of active features (``l0.py``) has a slope by the step itself, d_active.
Where d_hidden theta stands above, it is then::

    slope[b, d]   =  (d_hidden[b, d] theta[d]  +  d_active[b, d]) window[b, d]            (J6)

**Convention.** At pre = theta a feature is inactive; a negative threshold acts as zero does.  The
rectangle is open.  A complex number is judged by its real part.

Source: Rajamanoharan et al. (2024), "Jumping Ahead: Improving Reconstruction Fidelity with JumpReLU
Sparse Autoencoders", section 4, equations 11 and 12.  (J5), and (J6) in it: Conerly et al. (2025),
"Dictionary Learning Optimization Techniques", transformer-circuits.pub, January 2025.
"""

from __future__ import annotations

import numpy as np


def jumprelu_forward(pre, theta):
    """Return ``hidden`` (B, D) of ``pre`` (B, D) with thresholds ``theta`` (D,)."""
    active = (pre.real > theta.real) & (pre.real > 0)
    return np.where(active | (pre != pre), pre, 0)  # (J1); NaN is kept, and seen


def jumprelu_backward(d_hidden, pre, theta, bandwidth=None, through="theta", d_active=None):
    """Return ``d_pre`` (B, D) and ``d_theta`` (D,), given ``d_hidden`` (B, D).

    Without a ``bandwidth`` these are derivatives, and ``d_theta`` is zero.
    """
    d_pre = np.where(jumprelu_forward(pre, theta) != 0, d_hidden, 0)  # (J2)
    if bandwidth is None:
        return d_pre, np.zeros_like(theta)
    inside = 2 * np.abs(pre.real - theta.real) < bandwidth
    of_jump = d_hidden * theta if d_active is None else d_hidden * theta + d_active
    slope = np.where(inside, of_jump, 0) / bandwidth  # (J3), (J6)
    d_theta = -np.sum(slope, axis=0)  # (J4)
    if through == "theta_and_input":
        d_pre = d_pre + slope  # (J5)
    return d_pre, d_theta
