"""A transcoder in a chosen arithmetic, to be audited: right, under a convention, or with a mistake.

Written on its own, from the formulas: it shares no line with the package.  Operands of products are
rounded to the arithmetic's inputs, products are added in its accumulator in one of several orders,
and every result is rounded to what it is stored in.
"""

from __future__ import annotations

import dataclasses

import ml_dtypes
import numpy as np

DTYPES = {
    "float64": (np.float64, np.float64, np.float64),
    "float32": (np.float32, np.float32, np.float32),
    "bfloat16": (ml_dtypes.bfloat16, np.float32, ml_dtypes.bfloat16),
    "bfloat16-inputs": (ml_dtypes.bfloat16, np.float32, np.float32),
    "float16": (np.float16, np.float32, np.float16),
}


class Machine:
    """Arithmetic: every operation of the transcoder below goes through it."""

    def __init__(self, name: str, order: str = "blas") -> None:
        self.inputs, self.accumulator, self.stored = DTYPES[name]
        self.order = order

    def store(self, a):
        """Round to what results are stored in; the value comes back in float64."""
        with np.errstate(over="ignore"):
            return np.asarray(a, np.float64).astype(self.stored).astype(np.float64)

    def product(self, A, B):
        """``A @ B``, before it is stored."""
        with np.errstate(over="ignore"):
            A = np.asarray(A, np.float64).astype(self.inputs).astype(self.accumulator)
            B = np.asarray(B, np.float64).astype(self.inputs).astype(self.accumulator)
        return ORDERS[self.order](A, B).astype(np.float64)

    def matmul(self, A, B):
        return self.store(self.product(A, B))

    def sum(self, a):
        """The sum of the rows of ``a``."""
        return self.matmul(np.ones((1, len(a))), a)[0]


def _loop(A, B):
    total = np.zeros((len(A), B.shape[1]), A.dtype)
    for k in range(A.shape[1]):
        total = total + A[:, k, None] * B[None, k]
    return total


def _permuted(A, B):
    order = np.random.default_rng(A.shape[1]).permutation(A.shape[1])
    return _loop(A[:, order], B[order])


def _blocked(A, B):
    parts = [_loop(A[:, k : k + 8], B[k : k + 8]) for k in range(0, A.shape[1], 8)]
    total = np.zeros((len(A), B.shape[1]), A.dtype)
    for part in parts:
        total = total + part
    return total


def _fma(A, B):
    """A fused multiply-add, up to the double rounding of float64 to float32."""
    total = np.zeros((len(A), B.shape[1]), A.dtype)
    for k in range(A.shape[1]):
        exact = A[:, k, None].astype(np.longdouble) * B[None, k] + total
        total = exact.astype(A.dtype)
    return total


def _sorted(A, B):
    terms = A[:, :, None] * B[None]  # (m, k, n)
    terms = np.sort(terms, axis=1)
    total = np.zeros((len(A), B.shape[1]), A.dtype)
    for k in range(A.shape[1]):
        total = total + terms[:, k]
    return total


def _truncated(A, B):
    """Every addition cuts off what does not fit."""
    total = np.zeros((len(A), B.shape[1]), A.dtype)
    for k in range(A.shape[1]):
        exact = total.astype(np.float64) + A[:, k, None].astype(np.float64) * B[None, k]
        near = exact.astype(np.float32)
        over = np.abs(near.astype(np.float64)) > np.abs(exact)
        total = np.where(over, np.nextafter(near, np.float32(0)), near)
    return total


ORDERS = {
    "blas": np.matmul,
    "loop": _loop,
    "permuted": _permuted,
    "blocked": _blocked,
    "fma": _fma,
    "sorted": _sorted,
    "truncated": _truncated,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """What a transcoder is given: arrays in float64 that every arithmetic can hold."""

    W_enc: np.ndarray
    b_enc: np.ndarray
    W_dec: np.ndarray
    b_dec: np.ndarray
    W_skip: np.ndarray | None
    x: np.ndarray
    target: np.ndarray
    top_k: int
    l1_coeff: float
    activation: str = "topk"
    ties: str = "lowest_index"

    def params(self) -> dict:
        names = ("W_enc", "b_enc", "W_dec", "b_dec", "W_skip")
        return {n: getattr(self, n) for n in names if getattr(self, n) is not None}


def _nonzero(a):
    return np.where(a == 0, 1.0, a)


def select(ranks, top_k: int, ties: str = "lowest_index"):
    """Mask (B, D) of the ``top_k`` largest of each row."""
    D = ranks.shape[1]
    order = np.argsort(-ranks, axis=1, kind="stable")[:, :top_k]
    mask = np.zeros(ranks.shape, bool)
    np.put_along_axis(mask, order, True, axis=1)
    if ties == "keep_all" and top_k <= D:
        mask = ranks >= np.take_along_axis(ranks, order[:, -1:], axis=1)
    return mask


def simulate(case: Case, machine: Machine, given: dict | None = None, **how) -> dict:
    """Every stage.  ``how`` says what is done differently; ``given`` replaces upstream stages."""
    given = given or {}
    m, c = machine, case
    B, O, D = len(c.x), len(c.b_dec), len(c.b_enc)
    out = {}

    def keep(name, value):
        out[name] = value
        return given.get(name, value)

    def has(name):
        return how.get(name)

    W_enc, W_dec, W_skip = c.W_enc, c.W_dec, c.W_skip
    if has("transposed_W_enc"):
        W_enc = W_enc.T
    if has("transposed_W_dec"):
        W_dec = W_dec.T
    if has("transposed_W_skip"):
        W_skip = W_skip.T
    if has("no_skip"):
        W_skip = None
    norms = m.store(np.sqrt(m.store(np.sum(m.store(W_dec * W_dec), axis=1))))
    read = m.store(c.x - c.b_dec) if has("x_minus_b_dec") else c.x
    skip_read = m.store(c.x - c.b_dec) if has("skip_x_minus_b_dec") else c.x
    pre = m.product(read, W_enc.T)
    if not has("no_b_enc"):
        pre = (m.store(pre) if has("unfused") else pre) + c.b_enc * how.get("b_enc_sign", 1)
    pre = m.store(pre)
    if has("pre_row"):
        row, factor = how["pre_row"]
        pre[:, row] = m.store(pre[:, row] * factor)
    if has("norms") == "pre":
        pre = m.store(pre * norms)
    pre = keep("pre", pre)
    pre_acts = pre if has("unrectified") else np.maximum(pre, 0)
    if has("leaky"):
        pre_acts = np.where(pre > 0, pre, m.store(0.01 * pre))
    if has("absolute"):
        pre_acts = np.abs(pre)
    pre_acts = keep("pre_acts", pre_acts)
    ranks = m.store(pre_acts * norms) if has("norms") in ("ranks", "hidden") else pre_acts
    K = c.top_k + how.get("more", 0)
    if c.activation == "relu" or has("no_topk"):
        K = D
    if has("smallest"):
        mask = select(np.where(pre_acts > 0, -ranks, -np.inf), K)
    elif has("by_magnitude"):
        mask = select(np.abs(pre), K)
    elif has("per_batch"):
        mask = (ranks.ravel() >= np.sort(ranks.ravel())[-K * B]).reshape(B, D)
    elif has("shifted"):
        mask = np.roll(select(ranks, K), 1, axis=1)
    elif has("prefers_last"):
        mask = select(ranks[:, ::-1], K)[:, ::-1]
    else:
        mask = select(ranks, K, how.get("ties", c.ties))
    hidden = np.where(mask, ranks if has("norms") == "hidden" else pre_acts, 0)
    if has("binary"):
        hidden = (hidden != 0).astype(float)
    if has("dropped"):
        hidden = hidden.copy()
        rows, columns = np.nonzero(hidden)
        hidden[rows[0], columns[0]] = 0
    if has("next_feature"):
        hidden = np.roll(hidden, 1, axis=1)
    hidden = keep("hidden", hidden)
    written = m.store(hidden / norms) if has("norms") in ("pre", "hidden") else hidden
    recon = m.product(written, W_dec)
    if not has("no_b_dec"):
        recon = recon + c.b_dec * how.get("b_dec_times", 1)
    recon = m.store(recon)
    if W_skip is not None:
        recon = m.store(recon + m.matmul(skip_read, W_skip.T))
    if has("relu_out"):
        recon = np.maximum(recon, 0)
    recon = keep("reconstruction", recon)

    target = c.x if has("against_x") else c.target
    e = m.store(recon - target)
    weight = {
        "mean": 1 / (B * O),
        "row_sum": 1 / B,
        "sum": 1.0,
        "over_norm": 1 / (B * O * _nonzero(np.linalg.norm(target, axis=1, keepdims=True))),
        "over_square": 1 / (B * _nonzero(np.sum(target**2, axis=1, keepdims=True))),
        "fvu": 1 / _nonzero(np.sum((target - target.mean(axis=0)) ** 2)),
    }[how.get("mse", "mean")] * (0.5 if has("half") else 1)
    l1_weight = (
        c.l1_coeff
        * {
            "mean": 1 / (B * D),
            "row_sum": 1 / B,
            "sum": 1.0,
            "kept": 1 / (B * c.top_k),
            "over_input_norm": 1 / (B * _nonzero(np.linalg.norm(c.x, axis=1, keepdims=True))),
        }[how.get("l1", "mean")]
    )
    l1_weight = l1_weight * (norms if has("l1_weighted") else 1.0)
    squares = m.store(e * e)
    mse = m.store(m.accumulator(np.sum(weight * squares)))
    l1 = m.store(np.sum(l1_weight * np.abs(hidden)) * how.get("l1_loss", 1))
    loss = m.store(mse + l1)
    if has("loss_sqrt"):
        loss = m.store(np.sqrt(loss))
    out["loss"] = loss

    G = m.store(m.store(2 * e) * weight * how.get("G_times", 1))
    if has("G_row_zero"):
        G = G.copy()
        G[-1] = 0
    if has("G_no_target"):
        G = m.store(2 * weight * recon)
    G = keep("d_reconstruction", G)

    d_hidden = m.matmul(G, (W_dec.T if has("back_W_dec") else W_dec).T)
    if has("norms") in ("pre", "hidden"):
        d_hidden = m.store(d_hidden / norms)
    penalty = m.store(l1_weight * how.get("l1_grad", 1)) * np.sign(hidden)
    if has("l1_everywhere"):
        penalty = m.store(l1_weight + np.zeros_like(hidden))
    if has("l1_value"):
        penalty = m.store(l1_weight * hidden)
    d_hidden = keep("d_hidden", m.store(d_hidden + penalty))
    through = hidden != 0
    kind = how.get("mask")
    if kind == "active":
        through = through | (pre_acts > 0)
    if kind == "largest":
        through = through | mask
    if kind == "all":
        through = np.ones_like(through)
    if kind == "at_K":
        through = through & (pre_acts < pre_acts.max(axis=1, keepdims=True))
    if kind == "inverse":
        through = ~through
    d_pre = np.where(through, d_hidden, 0)
    if has("norms") == "hidden":
        d_pre = m.store(d_pre * norms)
    if has("d_pre_times"):
        d_pre = m.store(d_pre * how["d_pre_times"])
    if has("times_pre"):
        d_pre = m.store(d_pre * pre_acts)
    d_pre = keep("d_pre", d_pre)
    d_affine = m.store(d_pre * norms) if has("norms") == "pre" else d_pre

    wide = np.where(pre_acts > 0, d_hidden, 0)
    dW_dec = m.matmul((pre_acts if has("dW_dec_pre_acts") else written).T, G)
    if has("norms") in ("pre", "hidden") or has("l1_weighted"):
        if not has("detached"):
            share = np.sum(np.abs(penalty) * hidden / norms, axis=0) / norms
            # Where the norm scales both what is penalised and the penalty, it counts twice.
            share = share * ((has("norms") in ("pre", "hidden")) + bool(has("l1_weighted")))
            dW_dec = m.store(dW_dec + m.store(share[:, None] * W_dec))
    out["dW_dec"] = dW_dec
    db_dec = m.sum(G)
    if has("x_minus_b_dec") and not has("b_dec_detached"):
        db_dec = m.store(db_dec - m.sum(m.matmul(d_affine, W_enc)))
    if has("skip_x_minus_b_dec"):
        db_dec = m.store(db_dec - m.sum(m.matmul(G, W_skip)))
    out["db_dec"] = db_dec
    if W_skip is not None:
        out["dW_skip"] = m.matmul(G.T, skip_read)
    out["dW_enc"] = m.matmul((wide if has("dW_enc_pre_acts") else d_affine).T, read)
    if has("dW_enc_minus"):
        out["dW_enc"] = m.matmul(d_affine.T, m.store(c.x - c.x.mean(axis=0)))
    out["db_enc"] = m.sum(wide if has("db_enc_pre_acts") else d_affine)
    dx = m.matmul(d_affine, W_enc)
    if has("dx_W_dec"):
        dx = m.matmul(d_affine, c.W_dec)
    if W_skip is not None and not has("dx_no_skip"):
        skip = m.matmul(G, W_skip.T if has("dx_skip_transposed") else W_skip)
        dx = skip if has("dx_no_encoder") else m.store(dx + skip)
    out["dx"] = dx
    for name, factor in how.get("times", {}).items():
        out[name] = m.store(out[name] * factor)
    for name in how.get("flipped", ()):
        out[name] = out[name].T
    for name in how.get("last_zero", ()):
        out[name] = out[name].copy()
        out[name][..., -1] = 0
    return out


def random_case(
    seed: int, machine: Machine, B=24, I=16, D=48, O=16, K=6, few=False, skip=True, **more
) -> Case:
    """``few``: most rows have fewer positive activations than K."""
    rng = np.random.default_rng(seed)

    def normal(*shape, scale=1.0):
        return machine.store(np.asarray(scale * rng.standard_normal(shape)).astype(machine.inputs))

    b_enc = normal(D, scale=0.3) - (1.9 if few else 0.0)
    return Case(
        W_enc=normal(D, I, scale=I**-0.5),
        b_enc=machine.store(b_enc.astype(machine.inputs)),
        W_dec=normal(D, O, scale=O**-0.5),
        b_dec=normal(O, scale=0.5),
        W_skip=normal(O, I, scale=I**-0.5) if skip else None,
        x=normal(B, I),
        target=normal(B, O),
        top_k=K,
        l1_coeff=more.pop("l1_coeff", 0.5),
        **more,
    )
