"""The absolute activations summed over features, and averaged over rows: D times `l1_forward`'s::

    l1_sum          =  l1_coeff  sum_{b,d} |hidden[b, d]| / B                             (P3)

    d_hidden[b, d]  =  l1_coeff  sign(hidden[b, d]) / B                                   (P4)

**Convention.** sign(0) = 0.  The same l1_coeff weighs as much in a wider dictionary.

Source: Dunefsky et al. (2024), section 3.1; dictionary_learning 0.1.0, ``trainers/standard.py``.
"""

from __future__ import annotations

import numpy as np


def l1_sum_forward(hidden, l1_coeff):
    """Return ``l1_sum``, a scalar, of ``hidden`` (B, D) with B >= 1."""
    return l1_coeff * np.sum(np.abs(hidden)) / len(hidden)  # (P3)


def l1_sum_backward(hidden, l1_coeff):
    """Return this loss's share of ``d_hidden`` (B, D)."""
    return l1_coeff * np.sign(hidden) / len(hidden)  # (P4)
