"""How far each kernel may be from its reference.

A function here is called as ``f(to, want, **arguments)``: the `Precision` of the kernel's dtype,
the outputs of the reference in float64 by name, and the arguments of both.  It returns, by the same
names, a bound on |kernel - reference| for every entry.  In the letters of `reftranscoder.bounds`,
with v for the unit roundoff of float64 and E for what came in uncertain (zero, except in the
composed functions), a bound is the sum of what E becomes, what the kernel rounds and what the
reference rounds.  For a sum of n products that the kernel makes in its dtype, and for one that it
makes in float64 and stores once, that is by (E5) and (E6)::

    E   +  n u S + n (1 + n u) eta / 2  +  n v S + ...                                    (K1)
    E'  +  u (|want| + E') + eta / 2,  where E' = E + 2 (n v S + ...)                     (K2)

An uncertain factor makes E by (E8), and S larger by as much.  Where the terms of a sum are plain
numbers, (E4) takes the place of (E5).
"""

from __future__ import annotations

import numpy as np

from .bounds import (
    FLOAT64,
    add_up,
    chain_bound,
    dot_bound,
    matmul_up,
    multiply_up,
    store_bound,
    sum_bound,
)


def exact(to, want, **arguments):
    """Zero: values are moved, never computed."""
    return {name: np.zeros_like(value) for name, value in want.items()}


def affine_forward(to, want, x, W, b):
    """Both make I products and an addition in float64, whatever the dtype of the inputs."""
    return {"pre": _apart_before_selection(x, W, b)}


def affine_relu_forward(to, want, x, W, b):
    """As `affine_forward`: ReLU takes no two numbers further apart."""
    return {"pre_acts": _apart_before_selection(x, W, b)}


def affine_backward(to, want, d_pre, x, W, d_pre_error=None):
    """(K1), with n the nonzero entries of d_pre in the row, for dx, or in the column."""
    rows, columns = _counts(d_pre, d_pre_error)
    by_feature = _transposed(d_pre_error)
    return {
        "dx": _summed(d_pre, W, rows[:, None], to, d_pre_error),
        "dW": _summed(d_pre.T, x, columns[:, None], to, by_feature),
        "db": _row_sums(d_pre.T, columns, to, by_feature),
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
    radius = _apart_before_selection(x, W_enc, b_enc)
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
    _, n = _counts(hidden)
    E = np.zeros(hidden.shape) if d_hidden_error is None else d_hidden_error
    lever, found = add_up(np.abs(hidden), np.abs(b_mag)), {}
    for name, factor, terms in (("db_mag", 1.0, n), ("dr_mag", lever, n + 2)):
        e, S = (np.sum(factor * size, axis=0) for size in (E, add_up(np.abs(d_hidden), E)))
        found[name] = add_up(2 * e, _apart(S, terms + 1, FLOAT64))  # one more: S is rounded here
    _, found["d_pre"] = _magnitude(d_hidden, E, np.zeros_like(b_mag), r_mag)
    return {name: store_bound(want[name], off, to) for name, off in found.items()}


def _magnitude(pre, radius, b_mag, r_mag):
    """The magnitude of ``pre``, and how far apart two are whose pre are within ``radius`` of it.
    NumPy's exp, within 4 units in the last place, is 8 roundings; one more is for the exp here."""
    strength = np.exp(r_mag)
    S = add_up(multiply_up(strength, add_up(np.abs(pre), radius)), np.abs(b_mag))
    off = add_up(multiply_up(2 * strength, radius), _apart(S, 2 + 8 + 1, FLOAT64))
    return strength * pre + b_mag, off


def decode_forward(to, want, hidden, W_dec, b_dec, hidden_error=None):
    """(K1), with n the nonzero entries of hidden in the row, and b_dec."""
    rows, _ = _counts(hidden, hidden_error)
    return {"reconstruction": _summed(hidden, W_dec, rows[:, None] + 1, to, hidden_error, b_dec)}


def decode_backward(to, want, d_reconstruction, hidden, W_dec, G_error=None):
    """(K2) with n = O for d_hidden; (K1) with n the nonzero entries of hidden in the column for
    dW_dec, and with n = B for db_dec."""
    B, O = d_reconstruction.shape  # noqa: E741
    _, columns = _counts(hidden)
    by_output = _transposed(G_error)
    return {
        "d_hidden": _stored(want["d_hidden"], d_reconstruction, W_dec.T, O, to, G_error),
        "dW_dec": _summed(d_reconstruction.T, hidden, columns, to, by_output).T,
        "db_dec": _row_sums(d_reconstruction.T, B, to, by_output),
    }


def skip_forward(to, want, x, W_skip):
    """(K2), with n = I."""
    return {"skip": _stored(want["skip"], x, W_skip.T, x.shape[1], to)}


def skip_backward(to, want, d_reconstruction, x, W_skip, G_error=None):
    """(K1), with n = O for dx and n = B for dW_skip."""
    B, O = d_reconstruction.shape  # noqa: E741
    return {
        "dx": _summed(d_reconstruction, W_skip, O, to, G_error),
        "dW_skip": _summed(d_reconstruction.T, x, B, to, _transposed(G_error)),
    }


def mse_forward(to, want, target, reconstruction):
    """Both in float64, where no terms cancel: a difference, a square, N - 1 additions and a
    division are N + 3 roundings at most, with N = B O; see `_chains`."""
    return {"mse": _chains(want["mse"], target.size + 3, FLOAT64)}


def mse_backward(to, want, target, reconstruction):
    """A difference and a division in float64, stored once: (E7) in (K2)."""
    G = want["d_reconstruction"]
    return {"d_reconstruction": store_bound(G, _chains(G, 2, FLOAT64), to)}


def l1_forward(to, want, hidden, l1_coeff):
    """Both in float64, where no terms cancel: n - 1 additions, a division, a product."""
    return {"l1": _chains(want["l1"], np.count_nonzero(hidden) + 1, FLOAT64, 1 + abs(l1_coeff))}


def l1_backward(to, want, hidden, l1_coeff):
    """A division in float64, stored once."""
    d_hidden = want["d_hidden"]
    return {"d_hidden": store_bound(d_hidden, _chains(d_hidden, 1, FLOAT64), to)}


def adam_step(to, want, p, g, m, v, t, lr, beta1, beta2, eps):
    """The kernel rounds everything in its dtype, the scalars too, once each.

    m and v are sums of two terms, of absolute values Sm and Sv, that pass three roundings and four;
    the reference has two and three.  The change of p is N / D, with N = lr m / c1 and
    D = sqrt(v / c2) + eps, where c = 1 - beta^t; their arguments are off by Em and Ev::

        EN  =  lr Em / c1,  and four roundings                                            (K5)
        ED  =  min(sqrt(Ev / c2), (Ev / c2) / sqrt(v / c2)),  and five roundings          (K6)
        Eq  =  (EN + |N / D| ED) / (D - ED)                                               (K7)

    since |sqrt(a) - sqrt(b)| is |a - b| / (sqrt(a) + sqrt(b)) and at most sqrt(|a - b|), and since
    N'/D' - N/D = (N' - N)/D' - (N/D)(D' - D)/D'.  The division and the subtraction round twice.
    Eight float64 roundings stand for the reference's in (K5) to (K7) and for those made here.
    """
    return _adam(to, want, p, g, m, v, (np.square(g), 4, 5), (t, lr, beta1, beta2, eps))


def adam_row_step(to, want, p, g, m, v_rows, t, lr, beta1, beta2, eps):
    """As `adam_step`, with a mean of O squares in float64 that is rounded once more."""
    squares = np.mean(np.square(g), axis=1, keepdims=True), 5, 8 + 2 * p.shape[1]
    bound = _adam(to, want, p, g, m, v_rows, squares, (t, lr, beta1, beta2, eps))
    return {"p": bound["p"], "m": bound["m"], "v_rows": bound["v"]}


def _adam(to, want, p, g, m, v, made_of, options):
    """The same for v made of squares, after so many roundings, narrow and wide."""
    (squares, narrow, wide), (t, lr, beta1, beta2, eps), eta = made_of, options, to.spacing
    Sm = add_up(multiply_up(beta1, np.abs(m)), multiply_up(1 - beta1, np.abs(g)))
    Sv = add_up(multiply_up(beta2, np.abs(v)), multiply_up(1 - beta2, squares))
    Em = add_up(chain_bound(Sm, 3, to), chain_bound(Sm, 4, FLOAT64), 4 * eta)
    Ev = add_up(chain_bound(Sv, narrow, to), chain_bound(Sv, wide, FLOAT64), 4 * eta)

    c1, c2 = 1 - beta1**t, 1 - beta2**t
    N, EN = lr * np.abs(want["m"]) / c1, lr * Em / c1
    EN = add_up(EN, chain_bound(N + EN, 4, to), chain_bound(N + EN, 8, FLOAT64), 2 * (1 + lr) * eta)

    root, off = np.sqrt(want.get("v", want.get("v_rows")) / c2), Ev / c2 + 2 * eta
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        ED = np.fmin(np.sqrt(off), off / root)
        D = root + eps
        ED = add_up(ED, chain_bound(D + ED, 5, to), chain_bound(D + ED, 8, FLOAT64))
        q = N / D
        Eq = np.where(D > ED, (EN + q * ED) / (D - ED), np.inf)
    S = add_up(np.abs(p), q, Eq)
    Ep = add_up(Eq, chain_bound(S, 2, to), chain_bound(S, 8, FLOAT64), 2 * eta)
    return {"p": Ep, "m": Em, "v": Ev}


def average_step(to, want, average, p, t, decay):
    """A rounded weight, at most 1, a difference, a product and a sum; each may underflow."""
    S = add_up(2 * np.abs(average), np.abs(p))
    return {"average": add_up(chain_bound(S, 4, to), chain_bound(S, 4, FLOAT64), 4 * to.spacing)}


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
        skip = add_up(skip, _apart(matmul_up(x, W_skip.T), x.shape[1], FLOAT64))
        bound["reconstruction"] = _added(want["reconstruction"], bound["reconstruction"], skip, to)
    return bound


def transcoder_loss(to, want, target, reconstruction, hidden, l1_coeff):
    """`mse_forward` and `l1_forward`, neither negative, and one addition."""
    m = max(target.size + 3, np.count_nonzero(hidden) + 1) + 1
    return {"loss": _chains(want["loss"], m, FLOAT64, 2 + abs(l1_coeff))}


def transcoder_backward(
    to, want, x, target, forward, W_enc, W_dec, W_skip=None, *,
    l1_coeff, activation="topk", own=None,
):  # fmt: skip
    """The chain rule: the bound of a gradient is the E of those that are made from it."""
    hidden, G = forward.hidden, want["d_reconstruction"]
    bound = mse_backward(to, want, target, forward.reconstruction)
    G_error = bound["d_reconstruction"]

    # This product, and this slope, are third ones, beside the kernel's and the reference's.
    from_decode = G @ W_dec.T
    bound |= decode_backward(to, {"d_hidden": from_decode}, G, hidden, W_dec, G_error)
    product = add_up(bound["d_hidden"], _apart(matmul_up(G, W_dec.T), G.shape[1], FLOAT64))
    from_l1 = l1_coeff * np.sign(hidden) / hidden.size
    slope = l1_backward(to, {"d_hidden": from_l1}, hidden, l1_coeff)["d_hidden"]
    d_hidden = np.where(hidden != 0, _added(want["d_hidden"], product, slope, to), 0.0)
    bound |= {"d_hidden": d_hidden, "d_pre": d_hidden}
    # Derivatives by what moves hidden by jumps alone are zero in both rooms.
    bound |= {name: np.zeros_like(want[name]) for name in ("dtheta", "db_gate") if name in want}
    if "dr_mag" in want:
        bound |= gated_backward(to, want, want["d_hidden"], hidden, own.b_mag, own.r_mag, d_hidden)

    through = affine_backward(to, want, want["d_pre"], x, W_enc, bound["d_pre"])
    bound |= {"dx": through["dx"], "dW_enc": through["dW"], "db_enc": through["db"]}
    if W_skip is not None:
        around = skip_backward(to, want, G, x, W_skip, G_error)
        bound |= {"dx": _added(want["dx"], through["dx"], around["dx"], to)}
        bound |= {"dW_skip": around["dW_skip"]}
    return bound


def aux_k_forward(to, want, x, dead, W_enc, b_enc, W_dec, aux_k):
    """`transcoder_forward` of the dead features by themselves, without b_dec."""
    found, some = np.zeros(want["hidden"].shape), np.flatnonzero(dead)
    if len(some):
        made, K = {"hidden": want["hidden"][:, some]}, min(aux_k, len(some))
        found[:, some] = encode_forward(to, made, x, W_enc[some], b_enc[some], K)["hidden"]
    return {"hidden": found} | decode_forward(to, want, want["hidden"], W_dec, 0.0, found)


def aux_k_loss(to, want, residual, reconstruction, aux_coeff):
    """As `mse_forward`, with a product more."""
    return {"aux": _chains(want["aux"], residual.size + 4, FLOAT64, 1 + abs(aux_coeff))}


def aux_k_backward(to, want, x, residual, hidden, reconstruction, W_enc, W_dec, aux_coeff):
    """A difference, a product and a division in float64, stored once; then the chain rule."""
    G = want["d_reconstruction"]
    G_error = store_bound(G, _chains(G, 3, FLOAT64, 2), to)
    bound = decode_backward(to, want, G, hidden, W_dec, G_error)
    d_hidden = np.where(hidden != 0, bound["d_hidden"], 0.0)
    through = affine_backward(to, want, want["d_pre"], x, W_enc, d_hidden)
    bound = {"dW_dec": bound["dW_dec"], "d_hidden": d_hidden, "d_reconstruction": G_error}
    return bound | dict(zip(("dx", "dW_enc", "db_enc"), through.values())) | {"d_pre": d_hidden}


def _apart(S, n, to, bound=dot_bound):
    """Two rooms, two roundings: the kernel in ``to``, the reference in float64."""
    return add_up(bound(S, n, to), bound(S, n, FLOAT64))


def _apart_before_selection(x, W, b):
    return _apart(add_up(matmul_up(x, W.T), np.abs(b)), x.shape[1] + 1, FLOAT64)


def _summed(A, B, n, to, A_error=None, plus=0.0, bound=dot_bound):
    """(K1) for ``A @ B + plus``, where the kernel's A is within ``A_error``."""
    if A_error is None:
        return _apart(add_up(matmul_up(A, B), np.abs(plus)), n, to, bound)
    S = add_up(matmul_up(add_up(np.abs(A), A_error), B), np.abs(plus))
    return add_up(matmul_up(A_error, B), _apart(S, n, to, bound))


def _row_sums(A, n, to, A_error):
    ones = np.ones((A.shape[1], 1))
    return _summed(A, ones, np.reshape(n, (-1, 1)), to, A_error, bound=sum_bound)[:, 0]


def _stored(value, A, B, n, to, A_error=None):
    """(K2) for ``A @ B``; ``value`` is the reference's."""
    return store_bound(value, _summed(A, B, n, FLOAT64, A_error), to)


def _added(want, a_error, b_error, to):
    """One addition, in either room, of two numbers that come in uncertain."""
    return store_bound(want, add_up(a_error, b_error, _chains(want, 1, FLOAT64)), to)


def _chains(want, m, arithmetic, underflows=1.0):
    """(E7) for both rooms, and ``underflows`` times eta for each.

    ``want`` is not the exact value but the reference's: where the factor g of (E7) is at most 1/2,
    the exact one is at most 2 g |want| larger.
    """
    exact_value = add_up(np.abs(want), multiply_up(2, chain_bound(want, m, arithmetic)))
    return add_up(
        multiply_up(2, chain_bound(exact_value, m, arithmetic)),
        multiply_up(2, underflows, arithmetic.spacing),
    )


def _counts(A, A_error=None):
    """How many entries the kernel may add up in each row and in each column of a sparse ``A``."""
    stored = A != 0 if A_error is None else (A != 0) | (A_error > 0)
    return stored.sum(axis=1), stored.sum(axis=0)


def _transposed(error):
    return None if error is None else error.T
