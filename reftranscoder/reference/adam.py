"""One step of Adam, with g the gradient of parameter p at step t = 1, 2, ...::

    m  <-  beta1 m + (1 - beta1) g                                                        (O1)
    v  <-  beta2 v + (1 - beta2) g^2                                                      (O2)
    p  <-  p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)                   (O3)

m and v start at zero, which pulls them towards it; the divisions in (O3) undo that.

Source: Kingma & Ba (2015), "Adam: A Method for Stochastic Optimization", algorithm 1.
"""

from __future__ import annotations

import numpy as np


def adam_step(p, g, m, v, t, lr, beta1, beta2, eps):
    """Return the new ``p``, ``m`` and ``v``, all of the shape of ``p``; ``t`` is 1 at first."""
    m = beta1 * m + (1 - beta1) * g  # (O1)
    v = beta2 * v + (1 - beta2) * g**2  # (O2)
    p = p - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)  # (O3)
    return p, m, v
