"""The gradients of a batch that comes in parts, added up before anything moves.

Each sum goes on where that of the part before stopped, in the order of `transcoder_backward`: into
however many parts the rows of a batch are divided, the bits are those of the whole.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from .batch_part import batch_part
from .decode import sum_rows
from .engine.jit import kernel
from .engine.work_division import equal_parts
from .fused_step import gradient, loss_of
from .mse import in_order
from .row_dots import row_dots
from .skip import skip_weights_backward


def gradient_sums(arrays, parts, rows, encoder, l1_coeff, selection, aux=None, active=None):
    """Return the gradients by the names of ``arrays``, and the loss, of ``parts``: pairs of ``x``
    (B, I) and ``target`` (B, O), together a batch of ``rows`` rows.

    The other arguments are those of `batch_part`; ``active`` (D,) is set to True where a feature
    is.
    """
    sums = {name: np.zeros_like(array) for name, array in arrays.items()}
    squares, absolutes = [], []
    for x, target in parts:
        part = batch_part(arrays, x, target, rows, encoder, l1_coeff, selection, aux)
        if active is not None:
            active |= part.active
        sum_rows(part.d_reconstruction, sums["b_dec"])
        if "W_skip" in arrays:
            skip_weights_backward(part.d_reconstruction, x, arrays["W_skip"], sums["W_skip"])
        add_of_features(sums, (part.x, part.G, part.hidden), arrays["W_dec"])
        squares.append(part.squares)
        absolutes.append(part.sums)
    D, O = arrays["W_dec"].shape
    loss = loss_of(np.concatenate(squares), np.concatenate(absolutes), O, D, l1_coeff)
    return sums, loss


def add_of_features(sums, inputs, W_dec):
    """Add to ``sums``, by name, the gradients of features, which are sums over ``inputs``
    (`gradient_inputs`)."""
    x, G, hidden = inputs
    names = ("W_enc", "b_enc", "W_dec")
    _add(equal_parts(hidden.starts), hidden, x, G, W_dec, *(sums[name] for name in names))


def clip_gradients(gradients, clip_norm):
    """Multiply ``gradients`` by clip_norm / norm, rounded once, where their norm is larger.

    The norm is that of all entries together, in the order of their names in ``Params``: of each row
    the squares are summed in float64 in lane order, then the rows in order.  Returns it.
    """
    norm = math.sqrt(sum(float(in_order(row_dots(a, a)[:, 0])) for a in _as_rows(gradients)))
    if norm > clip_norm:
        for array in gradients.values():
            array *= array.dtype.type(clip_norm / norm)
    return norm


def _as_rows(gradients):
    return [np.atleast_2d(array) for array in gradients.values()]


@kernel
def _add(firsts, hidden, x, G, W_dec, dW_enc, db_enc, dW_dec):
    for part in prange(len(firsts) - 1):
        for j in range(firsts[part], firsts[part + 1]):
            db_enc[j] = gradient(j, hidden, x, G, W_dec, dW_enc[j], db_enc[j], dW_dec[j])
