"""What is done to x before the encoder, and undone after the decoder.

Each takes x (B, I) to u (B, I), row by row, and gives what the way back takes, a gain (B, 1) and a
shift (B, 1)::

    reconstruction[b, o]  =  decoded[b, o] gain[b]  +  shift[b]                           (N1)

    d_decoded[b, o]       =  G[b, o] gain[b]                                              (N2)
    d_gain[b]             =  sum_o G[b, o] decoded[b, o]                                  (N3)
    d_shift[b]            =  sum_o G[b, o]                                                (N4)

with G = d_reconstruction.  x reaches the loss through u, through the gain and through the shift;
the backward functions add the paths.  One file each::

    "expected_average_only_in"  a constant                                    constant_scale.py
    "constant_norm_rescale"     every row to the norm sqrt(I)                  constant_norm.py
    "layer_norm"                mean 0 and standard deviation 1, nearly           layer_norm.py

Source: SAELens, ``normalize_activations`` (``saes/sae.py``, release 6.54.12).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .constant_norm import constant_norm_backward, constant_norm_forward
from .constant_scale import constant_scale_backward, constant_scale_forward
from .layer_norm import layer_norm_backward, layer_norm_forward


class Normalization(NamedTuple):
    """How x is made what the encoder reads, and a gradient is taken back.

    ``conventions`` has the ``scale`` and the ``eps``.
    """

    forward: Callable  # (x, conventions) -> u (B, I), gain (B, 1), shift (B, 1)
    backward: Callable  # (d_u, d_gain, d_shift, x, conventions) -> dx (B, I)


def rescale_forward(decoded, gain, shift):
    """Return the reconstruction (B, O) of what is ``decoded`` (B, O)."""
    return decoded * gain + shift  # (N1)


def rescale_backward(d_reconstruction, decoded, gain):
    """Return ``d_decoded`` (B, O), ``d_gain`` (B, 1) and ``d_shift`` (B, 1), given (B, O)."""
    d_decoded = d_reconstruction * gain  # (N2)
    d_gain = np.sum(d_reconstruction * decoded, axis=1, keepdims=True)  # (N3)
    d_shift = np.sum(d_reconstruction, axis=1, keepdims=True)  # (N4)
    return d_decoded, d_gain, d_shift


def _nothing_forward(x, conventions):
    return x, 1, 0


def _nothing_backward(d_u, d_gain, d_shift, x, conventions):
    return d_u


def _scale_forward(x, conventions):
    u, gain = constant_scale_forward(x, conventions.scale)
    return u, gain, 0


def _scale_backward(d_u, d_gain, d_shift, x, conventions):
    return constant_scale_backward(d_u, conventions.scale)


def _norm_forward(x, conventions):
    u, gain = constant_norm_forward(x)
    return u, gain, 0


def _norm_backward(d_u, d_gain, d_shift, x, conventions):
    return constant_norm_backward(d_u, d_gain, x)


def _layer_forward(x, conventions):
    return layer_norm_forward(x, conventions.eps)


def _layer_backward(d_u, d_gain, d_shift, x, conventions):
    return layer_norm_backward(d_u, d_gain, d_shift, x, conventions.eps)


#: name -> `Normalization`.
NORMALIZATIONS = {
    "none": Normalization(_nothing_forward, _nothing_backward),
    "expected_average_only_in": Normalization(_scale_forward, _scale_backward),
    "constant_norm_rescale": Normalization(_norm_forward, _norm_backward),
    "layer_norm": Normalization(_layer_forward, _layer_backward),
}
