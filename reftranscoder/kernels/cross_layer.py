"""A cross-layer transcoder from the kernels of one; ``reference/cross_layer.py`` derives it.

Layer l writes L - l outputs side by side, as one with a ``W_dec`` (D, (L - l) O) does, so that one
pass over the entries of hidden[l] serves all layers that it writes to.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from ..sparse import Sparse
from .affine import affine_backward
from .decode import decode_backward, sum_rows
from .engine.jit import kernel
from .engine.kernel_arrays import as_kernel_array, as_kernel_sparse
from .engine.sparse_loops import by_feature, outer_rows
from .engine.vector import fma
from .engine.work_division import equal_parts
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
    dpost_enc: tuple[np.ndarray | None, ...]  # L of (D, L - l), or None
    dW_enc: tuple[np.ndarray, ...]  # L of (D, I)
    db_enc: tuple[np.ndarray, ...]  # L of (D,)
    dx: tuple[np.ndarray, ...]  # L of (B, I)


def add_layers(written, L):
    """Return ``reconstruction`` (L, B, O) of what each layer writes: L of (B, (L - l) O).

    ``written`` is any iterable, of results of `decode_forward`, plus those of `skip_forward` and
    `post_enc_forward` where there are any.  They are added up in ascending layers in their dtype,
    and the bias is that of the last of them: within n u of the sum of absolute terms, where n
    counts the stored entries in the row of all layers up to t, for a post_enc twice, b_dec, and two
    more a layer for a skip connection.
    """
    out = np.empty(0)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for l, outputs in enumerate(written):
            B, O = len(outputs), outputs.shape[1] // (L - l)
            if l == 0:
                out = np.zeros((L, B, O), outputs.dtype)
            out[l:] += outputs.reshape(B, L - l, O).swapaxes(0, 1)
    return out


def post_enc_forward(hidden, post_enc, W_dec):
    """Return what ``post_enc`` (D, T) adds to what is written (B, T O), by ``W_dec`` (D, T O).

    Sums start at 0 and ascend in the feature index, with one fused multiply-add a term in the dtype
    of ``W_dec``.
    """
    dtype = W_dec.dtype
    hidden = as_kernel_sparse(hidden, dtype)
    out = np.zeros((hidden.shape[0], W_dec.shape[1]), dtype)
    _add_post_enc(
        equal_parts(hidden.indptr),
        hidden.indptr,
        hidden.indices,
        as_kernel_array(post_enc, dtype),
        as_kernel_array(W_dec, dtype),
        out,
    )
    return out


@kernel
def _add_post_enc(firsts, indptr, indices, post_enc, W_dec, out):
    T = post_enc.shape[1]
    O = W_dec.shape[1] // T
    for part in prange(len(firsts) - 1):
        for b in range(firsts[part], firsts[part + 1]):
            for n in range(indptr[b], indptr[b + 1]):
                j = indices[n]
                for k in range(T):
                    for o in range(k * O, (k + 1) * O):
                        out[b, o] = fma(post_enc[j, k], W_dec[j, o], out[b, o])


def post_enc_backward(hidden, G, W_dec, post_enc):
    """Return ``dpost_enc`` (D, T), and what its way adds to ``dW_dec`` (D, T O), given ``G``.

    With S the sums (D, T O) of ``G`` (B, T O) over the rows where a feature is active, ascending in
    the dtype of ``W_dec``, these are the float64 sums of S W_dec over o, and S post_enc, each
    rounded once.
    """
    active = np.ones(len(hidden.values), W_dec.dtype)
    S, _ = outer_rows(by_feature(hidden), active, G)
    D, T = post_enc.shape
    wide = S.reshape(D, T, -1).astype(np.float64)
    slopes = np.sum(wide * W_dec.reshape(D, T, -1), axis=2)
    with np.errstate(over="ignore", under="ignore"):
        added = (wide * post_enc[:, :, None]).reshape(D, -1).astype(W_dec.dtype)
        return slopes.astype(W_dec.dtype), added


def cross_layer_loss(target, reconstruction, hidden, l1_coeff):
    """Return the loss, a float64 scalar: that of one layer, added up in ascending layers."""
    layers = zip(target, reconstruction, hidden, strict=True)
    return sum((transcoder_loss(*layer, l1_coeff) for layer in layers), np.float64(0))


def cross_layer_backward(
    x, target, hidden, reconstruction, W_enc, W_dec, W_skip=None, post_enc=None, *, l1_coeff
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
        dW_skip = dpost_enc = None
        if post_enc is not None:
            dpost_enc, added = post_enc_backward(hidden[l], written, W_dec[l], post_enc[l])
            dW_dec += added
        if W_skip is not None:
            dx_skip, dW_skip = skip_backward(written, x[l], W_skip[l])
            dx += dx_skip
        decoder = dW_dec, sum_rows(G[l]), dW_skip, dpost_enc
        stages.append((G[l], d_hidden, d_hidden, *decoder, dW_enc, db_enc, dx))
    return CrossLayerBackward(*zip(*stages, strict=True))
