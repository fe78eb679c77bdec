"""The rectifier::

    pre_acts[b, d]  =  max(pre[b, d], 0)                                                  (R1)

Its derivative is 1 where pre > 0 and 0 where pre < 0, hence::

    d_pre[b, d]     =  0  where pre[b, d] <= 0,  else d_pre_acts[b, d]                    (R2)

**Convention.** At pre = 0 there is no derivative; ReLU'(0) = 0 here.  Both zeros give +0, and NaN,
which is not less than or equal to zero, passes both ways.  A complex number, which only a complex
step makes, is judged by its real part.
"""

from __future__ import annotations

import numpy as np


def relu_forward(pre):
    """Return ``pre_acts`` (B, D), the positive part of ``pre`` (B, D)."""
    return np.where(pre.real <= 0, 0, pre)  # (R1)


def relu_backward(d_pre_acts, pre):
    """Return ``d_pre`` (B, D), given ``d_pre_acts`` (B, D) and the ``pre`` (B, D) it came from."""
    return np.where(pre.real <= 0, 0, d_pre_acts)  # (R2)
