"""AuxK, of the dead features alone; the mathematics stands in ``reference/aux_k.py``."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..sparse import Sparse
from .affine import affine_backward, affine_relu_forward
from .decode import decode_backward
from .engine.sparse_loops import combine_rows
from .engine.work_division import row_blocks
from .mse import mse_forward, slopes
from .topk import joined, select_block


class AuxForward(NamedTuple):
    """What `aux_k_forward` returns."""

    hidden: Sparse  # (B, D)
    reconstruction: np.ndarray  # (B, O), of the residual


class AuxBackward(NamedTuple):
    """What `aux_k_backward` returns, in the order in which it is computed."""

    d_reconstruction: np.ndarray  # (B, O)
    d_hidden: Sparse  # (B, D), at the entries of hidden
    d_pre: Sparse  # (B, D), at the entries of hidden
    dW_dec: np.ndarray  # (D, O)
    dW_enc: np.ndarray  # (D, I)
    db_enc: np.ndarray  # (D,)
    dx: np.ndarray  # (B, I)


def aux_k_forward(x, dead, W_enc, b_enc, W_dec, aux_k):
    """Return an `AuxForward` of ``x`` (B, I), with the sums of `encode_forward` and
    `decode_forward`: O(B n I) for n features that are ``dead`` (D,)."""
    hidden = select_dead(x, dead, W_enc, b_enc, aux_k)
    return AuxForward(hidden, combine_rows(hidden, W_dec))


def select_dead(x, dead, W_enc, b_enc, aux_k):
    """Return the ``hidden`` of `aux_k_forward`, a `Sparse` (B, D)."""
    features = np.flatnonzero(dead).astype(np.int32)
    top_k = min(aux_k, len(features))
    if top_k:
        W, b, blocks = W_enc[features], b_enc[features], []
        for rows in row_blocks(len(x), *W.shape):
            pre_acts = affine_relu_forward(x[rows], W, b)
            blocks.append(select_block(pre_acts, top_k, "lowest_index").astype(W.dtype))
        found = joined(blocks, len(features)).astype(W.dtype)
        return found._replace(indices=features[found.indices], shape=(len(x), len(W_enc)))
    starts, none = np.zeros(len(x) + 1, np.int32), np.empty(0, np.int32)
    return Sparse(starts, none, np.empty(0, W_enc.dtype), (len(x), len(W_enc)))


def aux_k_loss(residual, reconstruction, aux_coeff):
    """Return ``aux``, a float64 scalar: the product of aux_coeff with `mse_forward`."""
    return np.float64(aux_coeff) * mse_forward(residual, reconstruction)


def aux_k_slopes(residual, reconstruction, aux_coeff, rows):
    """Return ``d_reconstruction`` (B, O) of a mean over ``rows`` rows, of which these are some:
    computed in float64, rounded once."""
    return slopes(residual, reconstruction, 2 * aux_coeff, rows * residual.shape[1])


def aux_k_backward(x, residual, hidden, reconstruction, W_enc, W_dec, aux_coeff):
    """Return an `AuxBackward`, with the sums of `decode_backward` and `affine_backward`."""
    d_reconstruction = aux_k_slopes(residual, reconstruction, aux_coeff, len(x))
    d_hidden, dW_dec, _ = decode_backward(d_reconstruction, hidden, W_dec)
    dx, dW_enc, db_enc = affine_backward(d_hidden, x, W_enc)
    return AuxBackward(d_reconstruction, d_hidden, d_hidden, dW_dec, dW_enc, db_enc, dx)
