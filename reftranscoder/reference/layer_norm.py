"""Every row to mean 0 and standard deviation 1, without weights of its own.

With mean and sigma those of a row, sigma over I - 1 as of a sample::

    z[b, i]     =  x[b, i] - mean[b],   sigma[b]  =  sqrt(sum_i z[b, i]^2 / (I - 1))      (Y1)
    u[b, i]     =  z[b, i] / (sigma[b] + eps)                                             (Y2)
    gain[b]     =  sigma[b],            shift[b]  =  mean[b]                              (Y3)

eps is added to sigma, not to the variance, and the way back multiplies by sigma without it.

By x[b, i] the derivative of z[b, j] is [i = j] - 1 / I, and that of sigma is
z[b, i] / ((I - 1) sigma), as the z add up to zero.  Write q for sigma + eps::

    dx[b, i]    =  (d_u[b, i]  -  sum_j d_u[b, j] / I) / q  +  d_shift[b] / I             (Y4)
                   +  (d_gain[b]  -  sum_j d_u[b, j] z[b, j] / q^2) z[b, i] / ((I - 1) sigma)   (Y5)

**Convention.** Where all of a row is equal, sigma is 0 and has no derivative: (Y5) is 0 there.

Source: OpenAI's sparse_autoencoder, ``LN`` (``model.py``), used by Gao et al. (2024), "Scaling and
evaluating sparse autoencoders"; SAELens, ``"layer_norm"`` (``saes/sae.py``, release 6.54.12), which
is the same, with the same eps of 1e-5.
"""

from __future__ import annotations

import numpy as np


def layer_norm_forward(x, eps):
    """Return ``u`` (B, I) of ``x`` (B, I); the ``gain`` and ``shift`` (B, 1) of the way back."""
    z, sigma, mean = _centred(x)
    return z / (sigma + eps), sigma, mean  # (Y2), (Y3)


def layer_norm_backward(d_u, d_gain, d_shift, x, eps):
    """Return ``dx`` (B, I), given ``d_u`` (B, I), ``d_gain`` (B, 1) and ``d_shift`` (B, 1)."""
    I = x.shape[1]
    z, sigma, _ = _centred(x)
    q = sigma + eps
    direct = (d_u - np.mean(d_u, axis=1, keepdims=True)) / q + d_shift / I  # (Y4)
    d_sigma = d_gain - np.sum(d_u * z, axis=1, keepdims=True) / (q * q)
    return direct + d_sigma * z / ((I - 1) * np.where(sigma == 0, 1, sigma))  # (Y5)


def _centred(x):
    mean = np.mean(x, axis=1, keepdims=True)
    z = x - mean
    sigma = np.sqrt(np.sum(z * z, axis=1, keepdims=True) / (x.shape[1] - 1))  # (Y1)
    return z, sigma, mean
