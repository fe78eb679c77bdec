"""Every row to one norm.

With c the factor of a row, and s the sum of its squares::

    s[b]        =  sum_i x[b, i]^2,      c[b]  =  sqrt(I / s[b])                          (H1)
    u[b, i]     =  c[b] x[b, i],         so that |u[b]| = sqrt(I)                         (H2)
    gain[b]     =  1 / c[b]                                                               (H3)

x[b, i] moves u[b, j] directly for j = i, and for all j by way of c, whose derivative is
-c x[b, i] / s.  That of 1 / c is c x[b, i] / I, since c^2 s = I::

    dx[b, i]    =  c (d_u[b, i]  -  x[b, i] sum_j d_u[b, j] x[b, j] / s)                  (H4)
                   +  d_gain[b] c x[b, i] / I                                             (H5)

**Convention.** A row of zeros has no direction: it gives NaN.

Source: SAELens, ``"constant_norm_rescale"`` (``saes/sae.py``, release 6.54.12).
"""

from __future__ import annotations

import numpy as np


def constant_norm_forward(x):
    """Return ``u`` (B, I) of ``x`` (B, I), and the ``gain`` (B, 1) of the way back."""
    _, c = _factor(x)
    return c * x, 1 / c  # (H2), (H3)


def constant_norm_backward(d_u, d_gain, x):
    """Return ``dx`` (B, I), given ``d_u`` (B, I) and ``d_gain`` (B, 1)."""
    I = x.shape[1]
    s, c = _factor(x)
    along = np.sum(d_u * x, axis=1, keepdims=True)
    return c * (d_u - x * along / s) + d_gain * c * x / I  # (H4), (H5)


def _factor(x):
    s = np.sum(x * x, axis=1, keepdims=True)
    return s, np.sqrt(x.shape[1] / s)  # (H1)
