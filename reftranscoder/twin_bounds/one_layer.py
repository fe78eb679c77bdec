"""The pairs of a transcoder of one layer: forward, loss and backward."""

from __future__ import annotations

import numpy as np

from ..bounds import (
    FLOAT64,
    add_up,
    matmul_up,
    multiply_up,
    store_bound,
)
from .sums import (
    added,
    apart,
    apart_before_selection,
    chains,
    counts,
    row_sums,
    stored,
    summed,
    transposed,
)


def exact(to, want, **arguments):
    """Zero: values are moved, never computed."""
    return {name: np.zeros_like(value) for name, value in want.items()}


def affine_forward(to, want, x, W, b):
    """Both make I products and an addition in float64, whatever the dtype of the inputs."""
    return {"pre": apart_before_selection(x, W, b)}


def affine_relu_forward(to, want, x, W, b):
    """As `affine_forward`: ReLU takes no two numbers further apart."""
    return {"pre_acts": apart_before_selection(x, W, b)}


def affine_backward(to, want, d_pre, x, W, d_pre_error=None):
    """(K1), with n the nonzero entries of d_pre in the row, for dx, or in the column."""
    rows, columns = counts(d_pre, d_pre_error)
    by_feature = transposed(d_pre_error)
    return {
        "dx": summed(d_pre, W, rows[:, None], to, d_pre_error),
        "dW": summed(d_pre.T, x, columns[:, None], to, by_feature),
        "db": row_sums(d_pre.T, columns, to, by_feature),
    }


def encode_forward(
    to, want, x, W_enc, b_enc, top_k, activation="topk", ties="lowest_index", own=None
):
    """(K2) for what both must select, zero for what neither can, and for the rest the value itself.

    Each room decides on its own float64 sum.  Both of these are within r = 2 ((I + 1) v S + ...) of
    p, a third such sum made here, so that both find what holds for every point of the box p +- r.
    With theta the threshold, 0 but for jumprelu and gated, and K of those that compete kept (|p|
    competes in place of p for abstopk)::

        selected      if p - r > theta and p + r >= this p - r for fewer than K others    (K3)
        not selected  if p + r <= theta or p - r > this p + r for at least K              (K4)

    Otherwise one may select it and the other not, and |p| + r, rounded, is how far apart they are.
    (K3) and (K4) do not depend on how ties are settled.  What is stored for p is p but for gated.
    """
    p = x @ W_enc.T + b_enc
    radius = apart_before_selection(x, W_enc, b_enc)
    rank = np.abs(p) if activation == "abstopk" else p
    low, high = np.nextafter(rank - radius, -np.inf), np.nextafter(rank + radius, np.inf)
    B, D = p.shape
    value, off, theta = _OWN.get(activation, lambda *_: (p, radius, np.zeros(D)))(p, radius, own)
    selected, not_selected = low > theta, high <= theta
    if activation in COMPETING:
        # As many rows as there are competitions, and how many each keeps.
        rows, most = COMPETING[activation](B, D, top_k)
        rivals, betters = _rivals(low.reshape(rows, -1), high.reshape(rows, -1))
        selected &= (rivals < most).reshape(B, D)
        not_selected |= (betters >= most).reshape(B, D)

    either = store_bound(np.zeros(p.shape), add_up(np.abs(value), off), to)
    bound = np.where(selected, store_bound(want["hidden"], off, to), either)
    return {"hidden": np.where(not_selected, 0.0, bound)}


#: Activations of which only so many are kept: how many competitions there are, and how many win.
COMPETING = {
    "topk": lambda B, D, K: (B, K),
    "abstopk": lambda B, D, K: (B, K),
    "batchtopk": lambda B, D, K: (1, B * K),
    "groupmax": lambda B, D, K: (B * K, 1),
}


#: Of what takes more than p: what is stored for p, how far off that is, and the threshold of p.
_OWN = {
    "jumprelu": lambda p, radius, own: (p, radius, np.maximum(own.theta, 0)),
    "gated": lambda p, radius, own: (*_magnitude(p, radius, own.b_mag, own.r_mag), -own.b_gate),
}


def _rivals(low, high):
    """In each row: how many others may be larger, and how many must be."""
    rivals, betters = np.empty(low.shape, int), np.empty(low.shape, int)
    for b in range(len(low)):
        n = low.shape[1]
        rivals[b] = n - np.searchsorted(np.sort(high[b]), low[b], "left") - 1
        betters[b] = n - np.searchsorted(np.sort(low[b]), high[b], "right")
    return rivals, betters


def gated_magnitude(to, want, pre, b_mag, r_mag):
    """A product and an addition in float64, and an exponential."""
    return {"magnitude": _magnitude(pre, 0.0, b_mag, r_mag)[1]}


def gated_forward(to, want, pre, b_gate, b_mag, r_mag):
    """(K2) where the gate is open, by the same pre; rectifying takes no two further apart."""
    off = store_bound(want["hidden"], _magnitude(pre, 0.0, b_mag, r_mag)[1], to)
    return {"hidden": np.where(pre <= -b_gate, 0.0, off)}


def gated_backward(to, want, d_hidden, hidden, b_mag, r_mag, d_hidden_error=None):
    """(K2), with n the nonzero entries of hidden in the column, and two more for a term's own."""
    _, n = counts(hidden)
    E = np.zeros(hidden.shape) if d_hidden_error is None else d_hidden_error
    lever, found = add_up(np.abs(hidden), np.abs(b_mag)), {}
    for name, factor, terms in (("db_mag", 1.0, n), ("dr_mag", lever, n + 2)):
        e, S = (np.sum(factor * size, axis=0) for size in (E, add_up(np.abs(d_hidden), E)))
        found[name] = add_up(2 * e, apart(S, terms + 1, FLOAT64))  # one more: S is rounded here
    _, found["d_pre"] = _magnitude(d_hidden, E, np.zeros_like(b_mag), r_mag)
    return {name: store_bound(want[name], off, to) for name, off in found.items()}


def _magnitude(pre, radius, b_mag, r_mag):
    """The magnitude of ``pre``, and how far apart two are whose pre are within ``radius`` of it.
    NumPy's exp, within 4 units in the last place, is 8 roundings; one more is for the exp here."""
    strength = np.exp(r_mag)
    S = add_up(multiply_up(strength, add_up(np.abs(pre), radius)), np.abs(b_mag))
    off = add_up(multiply_up(2 * strength, radius), apart(S, 2 + 8 + 1, FLOAT64))
    return strength * pre + b_mag, off


def decode_forward(to, want, hidden, W_dec, b_dec, hidden_error=None):
    """(K1), with n the nonzero entries of hidden in the row, and b_dec."""
    rows, _ = counts(hidden, hidden_error)
    return {"reconstruction": summed(hidden, W_dec, rows[:, None] + 1, to, hidden_error, b_dec)}


def decode_backward(to, want, d_reconstruction, hidden, W_dec, G_error=None):
    """(K2) with n = O for d_hidden; (K1) with n the nonzero entries of hidden in the column for
    dW_dec, and with n = B for db_dec."""
    B, O = d_reconstruction.shape  # noqa: E741
    _, columns = counts(hidden)
    by_output = transposed(G_error)
    return {
        "d_hidden": stored(want["d_hidden"], d_reconstruction, W_dec.T, O, to, G_error),
        "dW_dec": summed(d_reconstruction.T, hidden, columns, to, by_output).T,
        "db_dec": row_sums(d_reconstruction.T, B, to, by_output),
    }


def skip_forward(to, want, x, W_skip):
    """(K2), with n = I."""
    return {"skip": stored(want["skip"], x, W_skip.T, x.shape[1], to)}


def skip_backward(to, want, d_reconstruction, x, W_skip, G_error=None):
    """(K1), with n = O for dx and n = B for dW_skip."""
    B, O = d_reconstruction.shape  # noqa: E741
    return {
        "dx": summed(d_reconstruction, W_skip, O, to, G_error),
        "dW_skip": summed(d_reconstruction.T, x, B, to, transposed(G_error)),
    }


def mse_forward(to, want, target, reconstruction):
    """Both in float64, where no terms cancel: a difference, a square, N - 1 additions and a
    division are N + 3 roundings at most, with N = B O; see `_chains`."""
    return {name: chains(value, target.size + 3, FLOAT64) for name, value in want.items()}


def mse_backward(to, want, target, reconstruction):
    """A difference and a division in float64, stored once: (E7) in (K2)."""
    G = want["d_reconstruction"]
    return {"d_reconstruction": store_bound(G, chains(G, 2, FLOAT64), to)}


def l1_forward(to, want, hidden, l1_coeff):
    """Both in float64, where no terms cancel: n - 1 additions, a division, a product."""
    m, underflows = np.count_nonzero(hidden) + 1, 1 + abs(l1_coeff)
    return {name: chains(value, m, FLOAT64, underflows) for name, value in want.items()}


def l1_backward(to, want, hidden, l1_coeff):
    """A division in float64, stored once."""
    d_hidden = want["d_hidden"]
    return {"d_hidden": store_bound(d_hidden, chains(d_hidden, 1, FLOAT64), to)}


def transcoder_forward(
    to, want, x, W_enc, b_enc, W_dec, b_dec, W_skip=None, *,
    top_k, activation="topk", ties="lowest_index", own=None,
):  # fmt: skip
    """The bound of `encode_forward` is the E of `decode_forward`; the skip connection is added."""
    bound = encode_forward(to, want, x, W_enc, b_enc, top_k, activation, ties, own)
    bound |= decode_forward(to, want, want["hidden"], W_dec, b_dec, bound["hidden"])
    if W_skip is not None:
        # This skip is a third sum, beside the kernel's and the reference's.
        skip = skip_forward(to, {"skip": x @ W_skip.T}, x, W_skip)["skip"]
        skip = add_up(skip, apart(matmul_up(x, W_skip.T), x.shape[1], FLOAT64))
        bound["reconstruction"] = added(want["reconstruction"], bound["reconstruction"], skip, to)
    return bound


def transcoder_loss(to, want, target, reconstruction, hidden, l1_coeff, W_dec=None, losses=None):
    """`mse_forward` and `l1_forward`, or their sums, neither negative, and one addition."""
    m = max(target.size + 3, np.count_nonzero(hidden) + 1) + 1
    return {"loss": chains(want["loss"], m, FLOAT64, 2 + abs(l1_coeff))}


def transcoder_backward(
    to, want, x, target, forward, W_enc, W_dec, W_skip=None, *,
    l1_coeff, activation="topk", own=None, losses=None,
):  # fmt: skip
    """The chain rule: the bound of a gradient is the E of those that are made from it."""
    hidden, G = forward.hidden, want["d_reconstruction"]
    bound = mse_backward(to, want, target, forward.reconstruction)
    G_error = bound["d_reconstruction"]

    # This product, and this slope, are third ones, beside the kernel's and the reference's.
    from_decode = G @ W_dec.T
    bound |= decode_backward(to, {"d_hidden": from_decode}, G, hidden, W_dec, G_error)
    product = add_up(bound["d_hidden"], apart(matmul_up(G, W_dec.T), G.shape[1], FLOAT64))
    over = len(hidden) if losses is not None and losses.sparsity_loss == "l1_sum" else hidden.size
    from_l1 = l1_coeff * np.sign(hidden) / over
    slope = l1_backward(to, {"d_hidden": from_l1}, hidden, l1_coeff)["d_hidden"]
    d_hidden = np.where(hidden != 0, added(want["d_hidden"], product, slope, to), 0.0)
    bound |= {"d_hidden": d_hidden, "d_pre": d_hidden}
    # Derivatives by what moves hidden by jumps alone are zero in both rooms.
    bound |= {name: np.zeros_like(want[name]) for name in ("dtheta", "db_gate") if name in want}
    if "dr_mag" in want:
        bound |= gated_backward(to, want, want["d_hidden"], hidden, own.b_mag, own.r_mag, d_hidden)

    through = affine_backward(to, want, want["d_pre"], x, W_enc, bound["d_pre"])
    bound |= {"dx": through["dx"], "dW_enc": through["dW"], "db_enc": through["db"]}
    if W_skip is not None:
        around = skip_backward(to, want, G, x, W_skip, G_error)
        bound |= {"dx": added(want["dx"], through["dx"], around["dx"], to)}
        bound |= {"dW_skip": around["dW_skip"]}
    return bound
