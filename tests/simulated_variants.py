"""Transcoders of the other activations in a chosen arithmetic: right, or with a mistake.

As ``simulated_transcoder.py``: written on its own, from the formulas.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from simulated_transcoder import Case, Machine, random_case, select

import reftranscoder as rt


@dataclasses.dataclass(frozen=True)
class Variant:
    """A case, with what its activation takes: arrays in float64 that the arithmetic can hold."""

    case: Case
    activation: str
    own: dict
    bandwidth: float | None = None
    through: str = "theta"

    def transcoder(self, dtype) -> rt.Transcoder:
        c = self.case
        arrays = {name: a.astype(dtype) for name, a in c.params().items()}
        own = {name: a.astype(dtype) for name, a in self.own.items()}
        made = None
        if self.activation == "jumprelu":
            made = rt.JumpReLU(own["theta"], bandwidth=self.bandwidth, through=self.through)
        if self.activation == "gated":
            made = rt.Gated(own["b_gate"], own["b_mag"], own["r_mag"])
        options = {"top_k": c.top_k, "ties": c.ties}
        return rt.Transcoder.from_arrays(**arrays, activation=self.activation, own=made, **options)


def random_variant(seed, activation, machine, bandwidth=None, through="theta", **sizes) -> Variant:
    case = random_case(seed, machine, **{"K": 6} | sizes)
    rng = np.random.default_rng([seed, 1])
    D = len(case.b_enc)

    def held(a):
        return machine.store(np.asarray(a).astype(machine.inputs))

    own = {}
    if activation == "jumprelu":
        theta = np.where(np.arange(D) % 7 == 3, -0.25, np.abs(rng.standard_normal(D)) / 2)
        own = {"theta": held(theta)}
    if activation == "gated":
        own = {name: held(rng.standard_normal(D) * s) for name, s in
               (("b_gate", 0.5), ("b_mag", 0.5), ("r_mag", 0.6))}  # fmt: skip
    return Variant(case, activation, own, bandwidth, through)


def selected(pre_acts, pre, v: Variant, m: Machine, how: dict):
    """Mask (B, D)."""
    (B, D), K = pre.shape, v.case.top_k + how.get("more", 0)
    if v.activation == "jumprelu":
        theta = np.maximum(v.own["theta"], 0)
        theta = theta * how.get("theta_times", 1)
        if how.get("no_theta"):
            theta = 0 * theta
        if how.get("theta_rolled"):
            theta = np.roll(theta, 1)
        if how.get("one_theta"):
            theta = np.full(D, theta.mean())
        if how.get("inverse"):
            return (pre <= theta) & (pre > 0)
        return pre > theta
    if v.activation == "gated":
        gate = m.store(pre + how.get("gate_sign", 1) * v.own["b_gate"])
        if how.get("gate_of_magnitude"):
            gate = m.store(m.store(m.store(np.exp(v.own["r_mag"])) * pre) + v.own["b_gate"])
        if how.get("no_gates"):
            gate = np.ones_like(gate)
        if how.get("gate_without_bias"):
            gate = pre
        if how.get("gate_rolled"):
            gate = m.store(pre + np.roll(v.own["b_gate"], 1))
        return gate > 0
    if how.get("as_topk"):
        return select(pre_acts, K)
    if v.activation == "batchtopk":
        flat = pre_acts.reshape(1, -1)
        return select(flat, K * B - how.get("too_few", 0)).reshape(B, D)
    if v.activation == "groupmax":
        if how.get("strided"):
            turned = pre_acts.reshape(B, D // K, K).transpose(0, 2, 1)
            mask = select(turned.reshape(B * K, -1), 1).reshape(B, K, D // K)
            return mask.transpose(0, 2, 1).reshape(B, D)
        mask = select(pre_acts.reshape(B * K, -1), how.get("of_each", 1))
        return mask.reshape(B, D)
    ranks = np.abs(pre) if not how.get("signed_ranks") else pre
    return select(ranks, K)


def simulate_variant(v: Variant, m: Machine, **how) -> dict:
    """Every stage; ``how`` says what is done differently, or wrongly."""
    c, out = v.case, {}
    B, O, D = len(c.x), len(c.b_dec), len(c.b_enc)
    pre = m.store(m.product(c.x, c.W_enc.T) + c.b_enc * (not how.get("no_b_enc")))
    out["pre"] = pre
    strength = m.store(np.exp(v.own["r_mag"])) if v.activation == "gated" else None
    if how.get("exp_of_minus"):
        strength = m.store(np.exp(-v.own["r_mag"]))
    if how.get("strength_is_r"):
        strength = v.own["r_mag"]
    if how.get("strength_is_one"):
        strength = np.ones(D)
    if v.activation == "gated":
        b_mag = v.own["b_gate"] if how.get("b_mag_is_b_gate") else v.own["b_mag"]
        magnitude = m.store(m.store(strength * pre) + b_mag * (not how.get("no_b_mag")))
        pre_acts = np.maximum(magnitude, 0)
    else:
        pre_acts = pre if v.activation == "abstopk" else np.maximum(pre, 0)
        if how.get("rectified"):
            pre_acts = np.maximum(pre, 0)
        if how.get("unrectified"):
            pre_acts = pre
        if how.get("less_theta"):
            pre_acts = np.maximum(m.store(pre - np.maximum(v.own["theta"], 0)), 0)
    out["pre_acts"] = pre_acts
    hidden = np.where(selected(pre_acts, pre, v, m, how), pre_acts, 0)
    if how.get("gate_acts"):
        hidden = np.where(hidden != 0, m.store(pre + v.own["b_gate"]), 0)
    if how.get("hidden_less_theta"):
        less = m.store(hidden - np.maximum(v.own["theta"], 0))
        hidden = np.where(hidden != 0, less, 0)
    if how.get("absolute"):
        hidden = np.abs(hidden)
    if how.get("binary"):
        hidden = np.sign(np.abs(hidden))
    if how.get("dropped"):
        hidden[tuple(axis[0] for axis in np.nonzero(hidden))] = 0
    out["hidden"] = hidden
    y = m.store(m.product(hidden, c.W_dec) + c.b_dec * (not how.get("no_b_dec")))
    if c.W_skip is not None and not how.get("no_skip"):
        y = m.store(y + m.matmul(c.x, c.W_skip.T))
    out["reconstruction"] = y
    e = m.store(y - c.target)
    l1 = c.l1_coeff / (B * D)
    penalty = m.store(np.sum(l1 * np.abs(hidden)))
    if how.get("signed_penalty"):
        penalty = m.store(np.sum(l1 * hidden))
    out["loss"] = m.store(m.store(np.sum(m.store(e * e)) / (B * O)) + penalty)
    G = m.store(m.store(2 * e) * (1 / (B * O)))
    out["d_reconstruction"] = G
    sign = np.abs(np.sign(hidden)) if how.get("signless") else np.sign(hidden)
    dense = m.matmul(G, c.W_dec.T)
    d_hidden = m.store(dense + m.store(l1 * sign))
    out["d_hidden"] = d_hidden
    through = hidden != 0
    if how.get("mask") == "positive":
        through = through | (pre_acts > 0)
    if how.get("mask") == "all":
        through = np.ones_like(through)
    d_mag = np.where(through, d_hidden, 0)
    d_pre = d_mag
    if v.activation == "gated" and not how.get("weak_d_pre"):
        d_pre = m.store(strength * d_mag)
    slope = None
    if v.activation == "jumprelu":
        slope, dtheta = straight_through(v, m, pre, d_hidden, how)
        out["dtheta"] = dtheta
        if v.bandwidth and v.through == "theta_and_input" and not how.get("no_slope"):
            d_pre = m.store(d_pre + slope)
    out["d_pre"] = d_pre
    out["dW_dec"] = m.matmul(hidden.T, G)
    out["db_dec"] = m.sum(G)
    if c.W_skip is not None:
        out["dW_skip"] = m.matmul(G.T, c.x)
    out["dW_enc"] = m.matmul(d_pre.T, c.x)
    out["db_enc"] = m.sum(d_pre)
    dx = m.matmul(d_pre, c.W_enc)
    out["dx"] = dx if c.W_skip is None else m.store(dx + m.matmul(G, c.W_skip))
    if v.activation == "gated":
        out |= gate_gradients(v, m, pre, hidden, d_mag, strength, how)
    for name, factor in how.get("times", {}).items():
        out[name] = m.store(out[name] * factor)
    for name in how.get("last_zero", ()):
        out[name] = out[name].copy()
        out[name][..., -1] = 0
    return out


def straight_through(v, m, pre, d_hidden, how):
    """The slope (B, D), and dtheta (D,)."""
    if v.bandwidth is None:
        return None, np.zeros(len(v.own["theta"]))
    width, theta = v.bandwidth * how.get("width_times", 1), v.own["theta"]
    if how.get("theta_rectified"):
        theta = np.maximum(theta, 0)
    u = m.store(m.store(pre - theta) / width)
    inside = np.abs(u) < 0.5
    if how.get("one_side"):
        inside &= u > 0
    if how.get("smooth"):
        kernel = m.store(np.maximum(1 - np.abs(u), 0))
    else:
        kernel = inside.astype(float)
    slope = m.store(m.store(d_hidden * theta) * m.store(kernel / width))
    if how.get("no_theta_factor"):
        slope = m.store(d_hidden * m.store(kernel / width))
    if how.get("no_width"):
        slope = m.store(m.store(d_hidden * theta) * kernel)
    if how.get("factored"):  # the factors of a feature after the sum
        return slope, m.store(m.store(-m.sum(m.store(d_hidden * kernel)) * theta) / width)
    dtheta = m.sum(slope)
    if how.get("of_selected"):
        dtheta = m.sum(np.where(pre > np.maximum(theta, 0), slope, 0))
    return slope, dtheta if how.get("sign") else -dtheta


def gate_gradients(v, m, pre, hidden, d_mag, strength, how):
    strength = m.store(np.exp(v.own["r_mag"])) if strength is None else strength
    seen = m.store(hidden - v.own["b_mag"])
    if how.get("through_pre"):  # as automatic differentiation does
        seen = m.store(strength * pre)
    if how.get("of_hidden"):
        seen = hidden
    if how.get("of_pre"):
        seen = pre
    terms = m.store(d_mag * seen)
    found = {"db_mag": m.sum(d_mag), "dr_mag": m.sum(terms)}
    found["db_gate"] = m.sum(d_mag) if how.get("gate_gradient") else np.zeros(len(strength))
    return found
