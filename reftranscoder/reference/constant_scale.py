"""One constant for all data, so that a row has the norm sqrt(I) on average::

    u[b, i]   =  scale x[b, i]                                                            (F1)
    gain      =  1 / scale                                                                (F2)

    dx[b, i]  =  scale d_u[b, i]                                                          (F3)

The constant is estimated once, as sqrt(I) over the mean of |x| over some data, and does not depend
on the rows at hand.  Whoever trains so folds it into the weights afterwards.

Source: Templeton et al. (2024), "Circuits Updates - April 2024", transformer-circuits.pub;
SAELens, ``"expected_average_only_in"`` (``saes/sae.py``, release 6.54.12).
"""

from __future__ import annotations


def constant_scale_forward(x, scale):
    """Return ``u`` (B, I) of ``x`` (B, I), and the ``gain`` of the way back."""
    return scale * x, 1 / scale  # (F1), (F2)


def constant_scale_backward(d_u, scale):
    """Return ``dx`` (B, I), given ``d_u`` (B, I)."""
    return scale * d_u  # (F3)
