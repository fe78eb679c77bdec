"""One step of Adam, with g the gradient of parameter p at step t = 1, 2, ...::

    m  <-  beta1 m + (1 - beta1) g                                                        (O1)
    v  <-  beta2 v + (1 - beta2) g^2                                                      (O2)
    p  <-  p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)                   (O3)

m and v start at zero, which pulls them towards it; the divisions in (O3) undo that.

With one v for a row of a matrix, the mean of g^2 over the row takes the place of g^2 in (O2)::

    v  <-  beta2 v + (1 - beta2) mean of g^2                                              (O4)

The entries of a row then keep the proportions that their gradients have.

Sources: Kingma & Ba (2015), "Adam: A Method for Stochastic Optimization", algorithm 1; for (O4)
Zhang et al. (2024), "Adam-mini: Use Fewer Learning Rates To Gain More", algorithm 2, of which a
row, all that a neuron reads, is the block.
"""

from __future__ import annotations

import numpy as np


def adam_step(p, g, m, v, t, lr, beta1, beta2, eps):
    """Return the new ``p``, ``m`` and ``v``, all of the shape of ``p``; ``t`` is 1 at first."""
    m = beta1 * m + (1 - beta1) * g  # (O1)
    v = beta2 * v + (1 - beta2) * g**2  # (O2)
    p = p - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)  # (O3)
    return p, m, v


def adam_row_step(p, g, m, v_rows, t, lr, beta1, beta2, eps):
    """Return the new ``p`` (D, O), ``m`` (D, O) and ``v_rows`` (D, 1); ``t`` is 1 at first."""
    m = beta1 * m + (1 - beta1) * g  # (O1)
    v_rows = beta2 * v_rows + (1 - beta2) * np.mean(g**2, axis=1, keepdims=True)  # (O4)
    p = p - lr * (m / (1 - beta1**t)) / (np.sqrt(v_rows / (1 - beta2**t)) + eps)  # (O3)
    return p, m, v_rows
