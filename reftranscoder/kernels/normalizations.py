"""What is done to x and undone; the mathematics stands in ``reference/normalizations.py``.

Everything is float64: sums over a row in lane order, and the rest entry by entry, so that a row
depends on that row alone and the bits on no processor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .row_dots import row_dots, row_sums


class Normalization(NamedTuple):
    """As in the reference, of float64 arrays."""

    forward: Callable  # (x, conventions) -> u (B, I), gain (B, 1), shift (B, 1)
    backward: Callable  # (d_u, d_gain, d_shift, x, conventions) -> dx (B, I)


def _nothing_forward(x, conventions):
    return x, 1.0, 0.0


def _nothing_backward(d_u, d_gain, d_shift, x, conventions):
    return d_u


def _scale_forward(x, conventions):
    return x * conventions.scale, 1 / conventions.scale, 0.0


def _scale_backward(d_u, d_gain, d_shift, x, conventions):
    return d_u * conventions.scale


def _norm_forward(x, conventions):
    norms = np.sqrt(row_dots(x, x) / x.shape[1])
    return x / norms, norms, 0.0


def _norm_backward(d_u, d_gain, d_shift, x, conventions):
    I = x.shape[1]
    squares = row_dots(x, x)
    norms = np.sqrt(squares / I)
    along = d_gain / (I * norms) - row_dots(d_u, x) / (squares * norms)
    return d_u / norms + along * x


def _layer_forward(x, conventions):
    z, sigma, mean = _centred(x)
    return z / (sigma + conventions.eps), sigma, mean


def _layer_backward(d_u, d_gain, d_shift, x, conventions):
    I = x.shape[1]
    z, sigma, _ = _centred(x)
    wide = sigma + conventions.eps
    d_sigma = d_gain - row_dots(d_u, z) / (wide * wide)
    along = d_sigma / ((I - 1) * np.where(sigma > 0, sigma, 1))
    return (d_u - row_sums(d_u) / I) / wide + d_shift / I + along * z


def _centred(x):
    I = x.shape[1]
    mean = row_sums(x) / I
    z = x - mean
    return z, np.sqrt(row_dots(z, z) / (I - 1)), mean


#: name -> `Normalization`.
NORMALIZATIONS = {
    "none": Normalization(_nothing_forward, _nothing_backward),
    "expected_average_only_in": Normalization(_scale_forward, _scale_backward),
    "constant_norm_rescale": Normalization(_norm_forward, _norm_backward),
    "layer_norm": Normalization(_layer_forward, _layer_backward),
}
