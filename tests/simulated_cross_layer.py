"""A cross-layer transcoder in a chosen arithmetic, to be audited: right, or with a mistake.

As ``simulated_transcoder.py``: written on its own, from the formulas.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from simulated_transcoder import Machine, select

import reftranscoder as rt


@dataclasses.dataclass(frozen=True)
class LayersCase:
    """What it is given: arrays in float64 that every arithmetic can hold, layer by layer."""

    W_enc: list
    b_enc: list
    W_dec: list  # of (D, L - l, O)
    b_dec: list
    W_skip: list | None  # of (L - l, O, I)
    theta: list | None
    x: np.ndarray
    target: np.ndarray
    top_k: int
    l1_coeff: float
    activation: str

    def transcoder(self, dtype) -> rt.CrossLayerTranscoder:
        names = ("W_enc", "b_enc", "W_dec", "b_dec", "W_skip")
        arrays = {n: getattr(self, n) for n in names if getattr(self, n) is not None}
        arrays = {n: [a.astype(dtype) for a in layers] for n, layers in arrays.items()}
        own = self.theta and [rt.JumpReLU(theta.astype(dtype)) for theta in self.theta]
        options = {"top_k": self.top_k, "activation": self.activation}
        return rt.CrossLayerTranscoder.from_arrays(**arrays, own=own, **options)


def random_layers(
    seed, machine, L=3, B=20, I=12, D=24, O=10, K=4, activation="topk", skip=False, l1_coeff=0.5
) -> LayersCase:
    rng = np.random.default_rng(seed)

    def some(*shape, scale=1.0):
        drawn = scale * rng.standard_normal(shape)
        return machine.store(np.asarray(drawn).astype(machine.inputs))

    return LayersCase(
        W_enc=[some(D, I, scale=I**-0.5) for _ in range(L)],
        b_enc=[some(D, scale=0.3) for _ in range(L)],
        W_dec=[some(D, L - l, O, scale=O**-0.5) for l in range(L)],
        b_dec=[some(O, scale=0.5) for _ in range(L)],
        W_skip=[some(L - l, O, I, scale=I**-0.5) for l in range(L)] if skip else None,
        theta=[np.abs(some(D, scale=0.5)) for _ in range(L)] if activation == "jumprelu" else None,
        x=np.stack([some(B, I) for _ in range(L)]),
        target=np.stack([some(B, O) for _ in range(L)]),
        top_k=min(K, D),
        l1_coeff=l1_coeff,
        activation=activation,
    )


def selected(c: LayersCase, l, pre, pre_acts):
    """Mask (B, D)."""
    if c.activation == "jumprelu":
        return pre > c.theta[l]
    if c.activation == "batchtopk":
        flat = select(pre_acts.reshape(1, -1), len(pre) * c.top_k)
        return flat.reshape(pre.shape)
    return select(pre_acts, c.top_k) if c.activation == "topk" else pre_acts > 0


def simulate_layers(c: LayersCase, m: Machine, wrong: dict | None = None, apart=False) -> dict:
    """Every stage.  ``apart``: what one layer writes to another is stored before it is added.

    ``wrong`` says by what a stage is replaced: a function, by its name and layer, of what is here.
    """
    wrong, L = wrong or {}, len(c.x)
    out = {}

    def keep(name, layers):
        """The layers of a stage, with those that are wrong."""
        found = list(layers)
        for l in range(L):
            if (name, l) in wrong:
                found[l] = wrong[name, l](out | {name: found}, c, m)
        out[name] = found
        return found

    def added(products, more=()):
        """Products (A, B) added up, and terms that are stored."""
        if apart:
            total = 0
            for A, B in products:
                total = m.store(total + m.matmul(A, B))
        else:
            A, B = (np.concatenate(sides, axis=axis) for sides, axis in zip(zip(*products), (1, 0)))
            total = m.product(A, B)
        for term in more:
            total = m.store(total + term)
        return m.store(total)

    B, (D, _, O) = c.x.shape[1], c.W_dec[0].shape
    pre = keep("pre", [m.store(m.product(c.x[l], c.W_enc[l].T) + c.b_enc[l]) for l in range(L)])
    pre_acts = keep("pre_acts", [np.maximum(p, 0) for p in pre])
    hidden = keep(
        "hidden", [np.where(selected(c, l, pre[l], pre_acts[l]), pre_acts[l], 0) for l in range(L)]
    )
    y = []
    for t in range(L):
        products = [(hidden[l], c.W_dec[l][:, t - l]) for l in range(t + 1)]
        if c.W_skip is not None:
            products += [(c.x[l], c.W_skip[l][t - l].T) for l in range(t + 1)]
        y.append(added(products, [c.b_dec[t]]))
    y = keep("reconstruction", y)
    l1 = c.l1_coeff / (B * D)
    loss = 0
    for t in range(L):
        e = m.store(y[t] - c.target[t])
        mse = m.store(np.sum(m.store(e * e)) / (B * O))
        loss = m.store(loss + m.store(mse + m.store(l1 * np.sum(np.abs(hidden[t])))))
    out["loss"] = wrong.get("loss", lambda *_: loss)(out | {"loss": loss}, c, m)
    G = keep(
        "d_reconstruction",
        [m.store(m.store(2 * m.store(y[t] - c.target[t])) / (B * O)) for t in range(L)],
    )
    d_hidden = keep(
        "d_hidden",
        [
            added([(G[t], c.W_dec[l][:, t - l].T) for t in range(l, L)], [l1 * (hidden[l] > 0)])
            for l in range(L)
        ],
    )
    d_pre = keep("d_pre", [np.where(hidden[l] > 0, d_hidden[l], 0) for l in range(L)])
    dW_dec = [
        np.stack([m.matmul(hidden[l].T, G[t]) for t in range(l, L)], axis=1) for l in range(L)
    ]
    keep("dW_dec", dW_dec)
    keep("db_dec", [m.sum(G[t]) for t in range(L)])
    if c.W_skip is not None:
        keep(
            "dW_skip", [np.stack([m.matmul(G[t].T, c.x[l]) for t in range(l, L)]) for l in range(L)]
        )
    keep("dW_enc", [m.matmul(d_pre[l].T, c.x[l]) for l in range(L)])
    keep("db_enc", [m.sum(d_pre[l]) for l in range(L)])
    dx = []
    for l in range(L):
        products = [(d_pre[l], c.W_enc[l])]
        if c.W_skip is not None:
            products += [(G[t], c.W_skip[l][t - l]) for t in range(l, L)]
        dx.append(added(products))
    keep("dx", dx)
    return out
