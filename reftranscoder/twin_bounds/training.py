"""The pairs that only training has: steps of Adam, averages, AuxK."""

from __future__ import annotations

import numpy as np

from ..bounds import (
    FLOAT64,
    add_up,
    chain_bound,
    multiply_up,
    store_bound,
)
from .one_layer import affine_backward, decode_backward, decode_forward, encode_forward
from .sums import chains


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


def aux_k_forward(to, want, x, dead, W_enc, b_enc, W_dec, aux_k):
    """`transcoder_forward` of the dead features by themselves, without b_dec."""
    found, some = np.zeros(want["hidden"].shape), np.flatnonzero(dead)
    if len(some):
        made, K = {"hidden": want["hidden"][:, some]}, min(aux_k, len(some))
        found[:, some] = encode_forward(to, made, x, W_enc[some], b_enc[some], K)["hidden"]
    return {"hidden": found} | decode_forward(to, want, want["hidden"], W_dec, 0.0, found)


def aux_k_loss(to, want, residual, reconstruction, aux_coeff):
    """As `mse_forward`, with a product more."""
    return {"aux": chains(want["aux"], residual.size + 4, FLOAT64, 1 + abs(aux_coeff))}


def aux_k_backward(to, want, x, residual, hidden, reconstruction, W_enc, W_dec, aux_coeff):
    """A difference, a product and a division in float64, stored once; then the chain rule."""
    G = want["d_reconstruction"]
    G_error = store_bound(G, chains(G, 3, FLOAT64, 2), to)
    bound = decode_backward(to, want, G, hidden, W_dec, G_error)
    d_hidden = np.where(hidden != 0, bound["d_hidden"], 0.0)
    through = affine_backward(to, want, want["d_pre"], x, W_enc, d_hidden)
    bound = {"dW_dec": bound["dW_dec"], "d_hidden": d_hidden, "d_reconstruction": G_error}
    return bound | dict(zip(("dx", "dW_enc", "db_enc"), through.values())) | {"d_pre": d_hidden}
