"""Backward and Adam in one pass over the features: a training step without a gradient array.

A feature's weights, their gradients and their means in Adam take part in nothing that another
feature does.  So the thread that owns feature j reads ``W_dec[j]`` once, walks the rows where j is
active, and has d_hidden, d_pre and the rows j of both gradients in its cache when it overwrites
``W_enc[j]``, ``W_dec[j]`` and ``b_enc[j]``, and rounds the former to the 8 bits that the next step
screens with.  A feature without entries has the gradient 0; its weights move on by what Adam
remembers.

Every sum is that of `transcoder_backward`, in the same order, and every update that of `adam_step`:
bit for bit the step that these two would take.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import prange

from .adam import Moments, adam_entry, adam_factors, adam_step
from .decode import decode_forward, sum_rows
from .engine.jit import kernel, routine
from .engine.kernel_arrays import as_kernel_array
from .engine.sparse_loops import by_feature, four_dots
from .engine.vector import LANES, fma, lane_sum, load, load_tail, zeros
from .engine.work_division import equal_parts
from .l1 import l1_backward
from .mse import mse_backward
from .screen.quantised import quantise_feature
from .screened_encoder import Encoder
from .skip import skip_forward, skip_weights_backward
from .transcoder import transcoder_loss

#: Adam on the weights of a feature takes as long as so many entries: 1.2 us, and each of these
#: 0.5 us, where I = O = 768.
_ROW_WORK = 2


class HiddenByFeature(NamedTuple):
    """``hidden`` as `ByFeature` has it, and its ``penalties``, the gradient of the l1 loss."""

    starts: np.ndarray  # (D + 1,) int32
    rows: np.ndarray  # (nnz,) int32
    entries: np.ndarray  # (nnz,) int32
    values: np.ndarray  # (nnz,), row by row
    penalties: np.ndarray  # (nnz,), row by row


def step_in_place(
    arrays,
    m,
    v,
    x,
    target,
    t,
    lr,
    beta1,
    beta2,
    eps,
    *,
    l1_coeff,
    top_k,
    activation="topk",
    ties="lowest_index",
    unit_norm_decoder=False,
    encoder=None,
):
    """Overwrite ``arrays``, ``m`` and ``v`` by step ``t``; return the loss before it, a float64.

    The three are dictionaries of C-contiguous arrays of one dtype, by the names in ``Params``, with
    or without ``W_skip``; ``x`` is (B, I) and ``target`` (B, O).  With ``unit_norm_decoder`` each
    row of ``W_dec`` is then divided by its norm, unless that is 0: the squares are summed in
    float64 in lane order, and the root is rounded once.  ``encoder``, an `Encoder` of ``W_enc`` and
    ``b_enc``, is kept true to them for the next step.
    """
    W_enc, b_enc, W_dec, b_dec = (arrays[name] for name in ("W_enc", "b_enc", "W_dec", "b_dec"))
    dtype = W_enc.dtype
    x = as_kernel_array(x, dtype)
    encoder = encoder or Encoder(W_enc, b_enc)
    hidden = encoder.encode(x, top_k=top_k, activation=activation, ties=ties)
    reconstruction = decode_forward(hidden, W_dec, b_dec)
    if "W_skip" in arrays:
        reconstruction += skip_forward(x, arrays["W_skip"])
    loss = transcoder_loss(target, reconstruction, hidden, l1_coeff)
    d_reconstruction = as_kernel_array(mse_backward(target, reconstruction), dtype)

    options = t, lr, beta1, beta2, eps
    dense = {"b_dec": sum_rows(d_reconstruction)}
    if "W_skip" in arrays:
        dense["W_skip"] = skip_weights_backward(d_reconstruction, x, arrays["W_skip"])
    for name, gradient in dense.items():
        adam_step(arrays[name], gradient, m[name], v[name], *options)

    transpose = by_feature(hidden)
    order, quantised = encoder.rewrite()
    _step_features(
        _parts(np.diff(transpose.starts)[order], quantised.per_panel),
        as_kernel_array(order, np.int32),
        HiddenByFeature(
            *transpose,
            as_kernel_array(hidden.values, dtype),
            as_kernel_array(l1_backward(hidden, l1_coeff).values, dtype),
        ),
        x,
        d_reconstruction,
        *(Moments(arrays[name], m[name], v[name]) for name in ("W_enc", "b_enc", "W_dec")),
        adam_factors(dtype, *options),
        bool(unit_norm_decoder),
        quantised,
    )
    return loss


def _parts(entries, together):
    """`equal_parts` of features with so many ``entries``, which end where ``together`` do."""
    firsts = equal_parts(np.concatenate([[0], np.cumsum(entries)]), _ROW_WORK)
    firsts[1:-1] -= firsts[1:-1] % together
    return firsts


@kernel
def _step_features(
    firsts, order, hidden, x, G, W_enc, b_enc, W_dec, factors, unit_norm_decoder, quantised
):
    # The routine writes: what a parallel loop itself writes to an array in a tuple is lost.
    for part in prange(len(firsts) - 1):
        _step_part(
            order[firsts[part] : firsts[part + 1]], firsts[part], hidden, x, G, W_enc, b_enc, W_dec,
            factors, unit_norm_decoder, quantised,
        )  # fmt: skip


@routine
def _step_part(
    order, first, hidden, x, G, W_enc, b_enc, W_dec, factors, unit_norm_decoder, quantised
):
    """Make the step of the features ``order``, the first of which is at place ``first``."""
    dW_enc = np.empty(W_enc.p.shape[1], W_enc.p.dtype)
    dW_dec = np.empty(W_dec.p.shape[1], W_dec.p.dtype)
    p, m, v = b_enc
    for n in range(len(order)):
        j = order[n]
        dW_enc[:] = 0
        dW_dec[:] = 0
        db_enc = _gradient(j, hidden, x, G, W_dec.p, dW_enc, dW_dec)
        _move(j, W_enc, dW_enc, factors)
        _move(j, W_dec, dW_dec, factors)
        p[j], m[j], v[j] = adam_entry(p[j], db_enc, m[j], v[j], factors)
        if unit_norm_decoder:
            _normalize(j, W_dec.p)
        if len(quantised.panels):
            quantise_feature(W_enc.p, j, p, quantised, first + n)


@routine
def _gradient(j, hidden, x, G, W_dec, dW_enc, dW_dec):
    """Add the gradients of feature ``j`` to the rows ``dW_enc`` and ``dW_dec``; return db_enc."""
    starts, rows, entries, values, penalties = hidden
    I, O = x.shape[1], G.shape[1]
    last = starts[j + 1] - 1
    db_enc = G.dtype.type(0)
    # Four at a time, to read and write the gradients less as well.
    # Past the end, the last again, whose dot product is not used.
    for n in range(starts[j], last + 1, 4):
        n1, n2, n3 = min(n + 1, last), min(n + 2, last), min(n + 3, last)
        b0, b1, b2, b3 = rows[n], rows[n1], rows[n2], rows[n3]
        s0, s1, s2, s3 = four_dots(W_dec, j, G, b0, b1, b2, b3)
        d0 = G.dtype.type(s0) + penalties[entries[n]]
        d1 = G.dtype.type(s1) + penalties[entries[n1]]
        d2 = G.dtype.type(s2) + penalties[entries[n2]]
        d3 = G.dtype.type(s3) + penalties[entries[n3]]
        h0, h1 = values[entries[n]], values[entries[n1]]
        h2, h3 = values[entries[n2]], values[entries[n3]]
        if n + 3 <= last:
            db_enc = db_enc + d0 + d1 + d2 + d3
            for o in range(O):
                g = fma(h1, G[b1, o], fma(h0, G[b0, o], dW_dec[o]))
                dW_dec[o] = fma(h3, G[b3, o], fma(h2, G[b2, o], g))
            for i in range(I):
                g = fma(d1, x[b1, i], fma(d0, x[b0, i], dW_enc[i]))
                dW_enc[i] = fma(d3, x[b3, i], fma(d2, x[b2, i], g))
        else:
            for k in range(last + 1 - n):
                b, h, d = rows[n + k], (h0, h1, h2)[k], (d0, d1, d2)[k]
                db_enc = db_enc + d
                for o in range(O):
                    dW_dec[o] = fma(h, G[b, o], dW_dec[o])
                for i in range(I):
                    dW_enc[i] = fma(d, x[b, i], dW_enc[i])
    return db_enc


@routine
def _move(j, moments, g, factors):
    """Make a step of Adam with row ``j``, whose gradient is ``g``."""
    p, m, v = moments
    for n in range(p.shape[1]):
        p[j, n], m[j, n], v[j, n] = adam_entry(p[j, n], g[n], m[j, n], v[j, n], factors)


@routine
def _normalize(j, W):
    """Divide row ``j`` by its norm; a row of zeros stays."""
    O = W.shape[1]
    whole = O - O % LANES
    squares = zeros()
    for o in range(0, whole, LANES):
        w = load(W, j, o)
        squares = fma(w, w, squares)
    if whole < O:
        w = load_tail(W, j, whole)
        squares = fma(w, w, squares)
    norm = W.dtype.type(math.sqrt(lane_sum(squares)))
    if norm > 0:
        for o in range(O):
            W[j, o] /= norm
