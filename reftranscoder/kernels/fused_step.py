"""Backward and Adam in one pass over the features: a training step without a gradient array.

A feature's weights, their gradients and their means in Adam take part in nothing that another
feature does.  So the thread that owns feature j reads ``W_dec[j]`` once, walks the rows where j is
active, and has d_hidden, d_pre and the rows j of both gradients in its cache when it overwrites
``W_enc[j]``, ``W_dec[j]`` and ``b_enc[j]``, and rounds the former to the 8 bits that the next step
screens with.  A feature without entries has the gradient 0; its weights move on by what Adam
remembers.

Every sum is that of `transcoder_backward`, in the same order, and every update that of `adam_step`:
bit for bit the step that these two would take.

A batch in several parts, or one whose gradient is clipped, has to be differentiated before anything
moves: ``gradient_sums.py`` adds the gradients up, and `apply_gradients` makes the step.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import prange

from .adam import Moments, adam_entry, adam_factors, adam_row, adam_step
from .batch_part import HiddenByFeature, batch_part
from .decode import sum_rows
from .engine.jit import kernel, routine
from .engine.kernel_arrays import as_kernel_array
from .engine.prefetch import fetch_row
from .engine.sparse_loops import four_dots, row_dot
from .engine.vector import fma
from .engine.work_division import equal_parts
from .mse import in_order
from .screen.quantised import quantise_feature
from .screened_encoder import Encoder
from .skip import skip_weights_backward

#: Adam on the weights of a feature takes as long as so many entries: 1.2 us, and each of these
#: 0.5 us, where I = O = 768.
_ROW_WORK = 2


class OfFeatures(NamedTuple):
    """Gradients that have been made before, or arrays without rows."""

    W_enc: np.ndarray  # (D, I) or (0, I)
    b_enc: np.ndarray  # (D,) or (0,)
    W_dec: np.ndarray  # (D, O) or (0, O)


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
    aux=None,
    active=None,
):
    """Overwrite ``arrays``, ``m`` and ``v`` by step ``t``; return the loss before it, a float64.

    The three are dictionaries of C-contiguous arrays of one dtype, by the names in ``Params``, with
    or without ``W_skip``; ``x`` is (B, I) and ``target`` (B, O).  Where ``v`` of ``W_enc`` and
    ``W_dec`` is (D, 1) their step is that of `adam_row_step`.  With ``unit_norm_decoder`` the
    gradient of each row of ``W_dec`` loses what is parallel to the row, and the row is afterwards
    divided by its norm, unless that is 0 (``reference/unit_norm.py``): dot products are summed in
    float64 in lane order, and rounded once.  ``encoder``, an `Encoder` of ``W_enc`` and
    ``b_enc``, is kept true to them for the next step.  With ``aux``, an `Aux`, dead features learn
    from the residual; the loss is without theirs.  ``active`` (D,) is set to True where a feature
    is.
    """
    encoder = encoder or Encoder(arrays["W_enc"], arrays["b_enc"])
    selection = {"top_k": top_k, "activation": activation, "ties": ties}
    part = batch_part(arrays, x, target, len(x), encoder, l1_coeff, selection, aux)
    if active is not None:
        active |= part.active
    dense = {"b_dec": sum_rows(part.d_reconstruction)}
    if "W_skip" in arrays:
        dense["W_skip"] = skip_weights_backward(part.d_reconstruction, x, arrays["W_skip"])
    options = t, lr, beta1, beta2, eps
    inputs = part.x, part.G, part.hidden
    move(arrays, m, v, dense, inputs, None, encoder, options, unit_norm_decoder)
    return loss_of(part.squares, part.sums, target.shape[1], len(arrays["b_enc"]), l1_coeff)


def loss_of(squares, sums, O, D, l1_coeff):  # noqa: E741
    """`transcoder_loss`, a float64, from what `Part` has of all rows."""
    rows = len(squares)
    l1 = np.float64(l1_coeff) * (in_order(sums) / (rows * D))
    return in_order(squares) / (rows * O) + l1


def apply_gradients(arrays, m, v, gradients, options, encoder, unit_norm_decoder):
    """Overwrite ``arrays``, ``m`` and ``v`` by the step that `step_in_place` takes where the
    gradients are ``gradients``, by the same names; ``options`` are t, lr, beta1, beta2 and eps."""
    dense = {name: gradients[name] for name in ("b_dec", "W_skip") if name in gradients}
    given = OfFeatures(
        *(as_kernel_array(gradients[name], gradients[name].dtype) for name in OfFeatures._fields)
    )
    move(arrays, m, v, dense, None, given, encoder, options, unit_norm_decoder)


def move(arrays, m, v, dense, inputs, given, encoder, options, unit_norm_decoder):
    """Adam on the arrays of features, and on those that ``dense`` has the gradients of by name.

    The gradients of features are the sums over ``inputs``, which are `gradient_inputs`, or
    ``given``, an `OfFeatures`.
    """
    for name, gradient in dense.items():
        adam_step(arrays[name], gradient, m[name], v[name], *options)
    dtype = arrays["W_enc"].dtype
    D, I = arrays["W_enc"].shape
    O = arrays["W_dec"].shape[1]
    if given is None:
        x, G, hidden = inputs
        sizes = (0, I), 0, (0, O)
        given = OfFeatures(*(as_kernel_array(np.empty(size, dtype), dtype) for size in sizes))
    else:
        x, G, hidden = no_rows(D, I, O, dtype)
    order, quantised = encoder.rewrite()
    _step_features(
        _parts(np.diff(hidden.starts)[order], quantised.per_panel),
        as_kernel_array(order, np.int32),
        hidden,
        x,
        G,
        given,
        *(Moments(arrays[name], m[name], v[name]) for name in ("W_enc", "b_enc", "W_dec")),
        adam_factors(dtype, *options),
        bool(unit_norm_decoder),
        quantised,
    )


def no_rows(D, I, O, dtype):  # noqa: E741
    """``x``, ``G`` and ``hidden`` of no rows."""
    places = [np.zeros(n, np.int32) for n in (D + 1, 0, 0)]
    numbers = [np.zeros(0, dtype) for _ in range(2)]
    hidden = HiddenByFeature(
        *(as_kernel_array(a, np.int32) for a in places),
        *(as_kernel_array(a, dtype) for a in numbers),
    )
    x, G = (as_kernel_array(np.zeros((0, n), dtype), dtype) for n in (I, O))
    return x, G, hidden


def _parts(entries, together):
    """`equal_parts` of features with so many ``entries``, which end where ``together`` do."""
    firsts = equal_parts(np.concatenate([[0], np.cumsum(entries)]), _ROW_WORK)
    firsts[1:-1] -= firsts[1:-1] % together
    return firsts


@kernel
def _step_features(
    firsts, order, hidden, x, G, given, W_enc, b_enc, W_dec, factors, unit_norm_decoder, quantised
):
    # The routine writes: what a parallel loop itself writes to an array in a tuple is lost.
    for part in prange(len(firsts) - 1):
        _step_part(
            order[firsts[part] : firsts[part + 1]], firsts[part], hidden, x, G, given, W_enc, b_enc,
            W_dec, factors, unit_norm_decoder, quantised,
        )  # fmt: skip


@routine
def _step_part(
    order, first, hidden, x, G, given, W_enc, b_enc, W_dec, factors, unit_norm_decoder, quantised
):
    """Make the step of the features ``order``, the first of which is at place ``first``."""
    dW_enc = np.empty(W_enc.p.shape[1], W_enc.p.dtype)
    dW_dec = np.empty(W_dec.p.shape[1], W_dec.p.dtype)
    p, m, v = b_enc
    for n in range(len(order)):
        j = order[n]
        following = order[min(n + 1, len(order) - 1)]
        if len(given.b_enc):
            for i in range(len(dW_enc)):
                dW_enc[i] = given.W_enc[j, i]
            for o in range(len(dW_dec)):
                dW_dec[o] = given.W_dec[j, o]
            db_enc = given.b_enc[j]
        else:
            dW_enc[:] = 0
            dW_dec[:] = 0
            db_enc = gradient(j, hidden, x, G, W_dec.p, dW_enc, G.dtype.type(0), dW_dec)
        if unit_norm_decoder:
            _remove_parallel(j, W_dec.p, dW_dec)
        _fetch(hidden, x, G, hidden.starts[following], hidden.starts[following + 1])
        _move(j, W_enc, dW_enc, factors)
        _move(j, W_dec, dW_dec, factors)
        p[j], m[j], v[j] = adam_entry(p[j], db_enc, m[j], v[j], factors)
        if unit_norm_decoder:
            _normalize(j, W_dec.p)
        if len(quantised.panels):
            quantise_feature(W_enc.p, j, p, quantised, first + n)


@routine
def gradient(j, hidden, x, G, W_dec, dW_enc, db_enc, dW_dec):
    """Add the gradients of feature ``j`` to the rows ``dW_enc`` and ``dW_dec``, and return its sum
    with ``db_enc``."""
    starts, rows, entries, values, penalties = hidden
    I, O = x.shape[1], G.shape[1]
    last = starts[j + 1] - 1
    # Four at a time, to read and write the gradients less as well.
    # Past the end, the last again, whose dot product is not used.
    for n in range(starts[j], last + 1, 4):
        _fetch(hidden, x, G, n + 4, last + 1)
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
def _fetch(hidden, x, G, first, end):
    """Ask for the rows of the entries from ``first`` to below ``end``, of the first four."""
    for n in range(first, min(first + 4, end)):
        fetch_row(G, hidden.rows[n])
        fetch_row(x, hidden.rows[n])


@routine
def _move(j, moments, g, factors):
    """Make a step of Adam with row ``j``, whose gradient is ``g``."""
    p, m, v = moments
    if v.shape[1] < p.shape[1]:
        adam_row(j, p, g.reshape(1, len(g)), 0, m, v, factors)
    else:
        for n in range(p.shape[1]):
            p[j, n], m[j, n], v[j, n] = adam_entry(p[j, n], g[n], m[j, n], v[j, n], factors)


@routine
def _remove_parallel(j, W, g):
    """Take from ``g`` what is parallel to row ``j``, whose norm is 1 or 0."""
    along = W.dtype.type(row_dot(W, j, g.reshape(1, len(g)), 0))
    for o in range(len(g)):
        g[o] -= along * W[j, o]


@routine
def _normalize(j, W):
    """Divide row ``j`` by its norm; a row of zeros stays."""
    norm = W.dtype.type(math.sqrt(row_dot(W, j, W, j)))
    if norm > 0:
        for o in range(W.shape[1]):
            W[j, o] /= norm
