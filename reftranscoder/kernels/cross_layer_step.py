"""A training step of a cross-layer transcoder: forward together, then layer by layer as one alone.

Once it is known how far each reconstruction is off, layer l is a transcoder of (L - l) O outputs
side by side (``reference/cross_layer.py``), and its step that of ``fused_step.py``: backward and
Adam in one pass over its features, without a gradient array, bit for bit the step that
`cross_layer_backward` and Adam would take.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .batch_part import gradient_inputs
from .cross_layer import add_layers, cross_layer_loss
from .decode import decode_forward, sum_rows
from .fused_step import move
from .l1 import l1_backward
from .mse import mse_backward
from .screened_encoder import Encoder
from .skip import skip_forward, skip_weights_backward


class Layer(NamedTuple):
    """What a step overwrites of a layer: dictionaries by the names in ``Params``."""

    arrays: dict[str, np.ndarray]  # W_dec (D, (L - l) O), b_dec zero but for the first O
    m: dict[str, np.ndarray]
    v: dict[str, np.ndarray]
    encoder: Encoder  # kept true to the arrays
    active: np.ndarray  # (D,) bool, set to True where a feature is


def cross_layer_step_in_place(
    layers, x, target, options, *, l1_coeff, selection, unit_norm_decoder=False
):
    """Overwrite ``layers``, of `Layer`, by a step of Adam; return the loss before it, a float64.

    ``x`` (L, B, I) and ``target`` (L, B, O); ``options`` are t, lr, beta1, beta2 and eps, and
    ``selection`` is by the names of `encode_forward`.  The rest is as in `step_in_place`.
    """
    L = len(layers)
    hidden = [layer.encoder.encode(rows, **selection) for layer, rows in zip(layers, x)]
    for layer, of_layer in zip(layers, hidden):
        layer.active[of_layer.indices] = True
    reconstruction = add_layers(map(_written, layers, hidden, x), L)
    loss = cross_layer_loss(target, reconstruction, hidden, l1_coeff)
    G = [mse_backward(*rows) for rows in zip(target, reconstruction, strict=True)]
    for l, (layer, of_layer) in enumerate(zip(layers, hidden)):
        slopes = np.concatenate(G[l:], axis=1)  # (B, (L - l) O)
        dense = {"b_dec": np.zeros_like(layer.arrays["b_dec"])}
        dense["b_dec"][: G[l].shape[1]] = sum_rows(G[l])
        if "W_skip" in layer.arrays:
            W_skip = layer.arrays["W_skip"]
            dense["W_skip"] = skip_weights_backward(slopes, x[l], W_skip)
        penalties = l1_backward(of_layer, l1_coeff).values
        inputs = gradient_inputs(x[l], slopes, of_layer, penalties)
        move(
            layer.arrays, layer.m, layer.v, dense, inputs, None, layer.encoder, options,
            unit_norm_decoder,
        )  # fmt: skip
    return loss


def _written(layer, hidden, x):
    """What a layer writes (B, (L - l) O)."""
    arrays = layer.arrays
    written = decode_forward(hidden, arrays["W_dec"], arrays["b_dec"])
    if "W_skip" in arrays:
        written += skip_forward(x, arrays["W_skip"])
    return written
