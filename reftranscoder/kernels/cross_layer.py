"""A cross-layer transcoder from the kernels of one; ``reference/cross_layer.py`` derives it.

Layer l writes L - l outputs side by side, as one with a ``W_dec`` (D, (L - l) O) does, so that one
pass over the entries of hidden[l] serves all layers that it writes to.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..sparse import Sparse
from .affine import affine_backward
from .decode import decode_backward, sum_rows
from .l1 import l1_backward
from .mse import mse_backward
from .skip import skip_backward
from .transcoder import transcoder_loss


class CrossLayerBackward(NamedTuple):
    """What `cross_layer_backward` returns: of each stage, a tuple of its L layers."""

    d_reconstruction: tuple[np.ndarray, ...]  # L of (B, O)
    d_hidden: tuple[Sparse, ...]  # L of (B, D), at the entries of hidden
    d_pre: tuple[Sparse, ...]  # L of (B, D), at the entries of hidden
    dW_dec: tuple[np.ndarray, ...]  # L of (D, (L - l) O)
    db_dec: tuple[np.ndarray, ...]  # L of (O,)
    dW_skip: tuple[np.ndarray | None, ...]  # L of ((L - l) O, I), or None
    dW_enc: tuple[np.ndarray, ...]  # L of (D, I)
    db_enc: tuple[np.ndarray, ...]  # L of (D,)
    dx: tuple[np.ndarray, ...]  # L of (B, I)


def add_layers(written, L):
    """Return ``reconstruction`` (L, B, O) of what each layer writes: L of (B, (L - l) O).

    ``written`` is any iterable, of results of `decode_forward`, plus those of `skip_forward` where
    there are skip connections.  They are added up in ascending layers in their dtype, and the bias
    is that of the last of them: within n u of the sum of absolute terms, for n stored entries in
    the row of all layers up to t, b_dec, and two more a layer for a skip connection.
    """
    out = np.empty(0)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for l, outputs in enumerate(written):
            B, O = len(outputs), outputs.shape[1] // (L - l)
            if l == 0:
                out = np.zeros((L, B, O), outputs.dtype)
            out[l:] += outputs.reshape(B, L - l, O).swapaxes(0, 1)
    return out


def cross_layer_loss(target, reconstruction, hidden, l1_coeff):
    """Return the loss, a float64 scalar: that of one layer, added up in ascending layers."""
    layers = zip(target, reconstruction, hidden, strict=True)
    return sum((transcoder_loss(*layer, l1_coeff) for layer in layers), np.float64(0))


def cross_layer_backward(
    x, target, hidden, reconstruction, W_enc, W_dec, W_skip=None, *, l1_coeff
):  # fmt: skip
    """Return a `CrossLayerBackward`; ``W_dec[l]`` is (D, (L - l) O), ``W_skip[l]`` ((L - l) O, I).

    Each layer is as in `transcoder_backward`, with the slopes of all that it writes to side by
    side: an entry of ``d_hidden`` is one float64 dot product over them, rounded once.
    """
    G = [mse_backward(*layer) for layer in zip(target, reconstruction, strict=True)]
    stages = []
    for l in range(len(x)):
        written = np.concatenate(G[l:], axis=1)  # (B, (L - l) O)
        d_hidden, dW_dec, _ = decode_backward(written, hidden[l], W_dec[l])
        penalty = l1_backward(hidden[l], l1_coeff)
        d_hidden = d_hidden.with_values(d_hidden.values + penalty.values)
        dx, dW_enc, db_enc = affine_backward(d_hidden, x[l], W_enc[l])
        dW_skip = None
        if W_skip is not None:
            dx_skip, dW_skip = skip_backward(written, x[l], W_skip[l])
            dx += dx_skip
        db_dec = sum_rows(G[l])
        stages.append((G[l], d_hidden, d_hidden, dW_dec, db_dec, dW_skip, dW_enc, db_enc, dx))
    return CrossLayerBackward(*zip(*stages, strict=True))
