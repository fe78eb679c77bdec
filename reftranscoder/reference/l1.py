"""The sparsity penalty: the mean absolute activation over all B * D entries, times l1_coeff::

    l1              =  l1_coeff  sum_{b,d} |hidden[b, d]| / (B D)                         (P1)

    d_hidden[b, d]  =  l1_coeff  sign(hidden[b, d]) / (B D)                               (P2)

**Convention.** sign(0) = 0.  The mean runs over all D features, not over the K kept, so that the
same l1_coeff weighs less in a wider dictionary.  A complex step needs hidden in place of |hidden|:
the absolute value of a complex number has lost the step.

Source: Edifice, ``Interpretability.Transcoder.loss``.  Dunefsky et al. (2024), section 3.1, sum
over the features instead.
"""

from __future__ import annotations

import numpy as np


def l1_forward(hidden, l1_coeff):
    """Return ``l1``, a scalar, of ``hidden`` (B, D) with B >= 1."""
    return l1_coeff * np.mean(np.abs(hidden))  # (P1)


def l1_backward(hidden, l1_coeff):
    """Return this loss's share of ``d_hidden`` (B, D)."""
    return l1_coeff * np.sign(hidden) / hidden.size  # (P2)
