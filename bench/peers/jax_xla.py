"""JAX, compiled by XLA: the engine under Edifice's EXLA."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..work import Work


class Jax:
    """Every race but the start."""

    name = "JAX"
    calls_blas = True
    l1_coeff = 1e-3
    own = staticmethod(jnp.asarray)

    def __init__(self, work: Work) -> None:
        self.parameters = {n: jnp.asarray(a) for n, a in work.tc.params.arrays().items()}
        zeros = {name: jnp.zeros_like(a) for name, a in self.parameters.items()}
        self.m, self.v, self.t = zeros, dict(zeros), 0
        self.top_k = work.tc.config.top_k
        self._encode = jax.jit(partial(encode, top_k=self.top_k))
        self._predict = jax.jit(lambda p, x: forward(p, x, self.top_k)[1])
        self._gradients = jax.jit(
            jax.value_and_grad(partial(loss, top_k=self.top_k, l1_coeff=self.l1_coeff))
        )
        self._adam = jax.jit(adam)

    def encode(self, x):
        return jax.block_until_ready(self._encode(self.parameters, x))

    row = encode

    def predict(self, x):
        return jax.block_until_ready(self._predict(self.parameters, x))

    def step(self, x, target):
        self.t += 1
        _, grads = self._gradients(self.parameters, x, target)
        new = self._adam(self.parameters, grads, self.m, self.v, self.t)
        self.parameters, self.m, self.v = jax.block_until_ready(new)

    def results(self, x, target):
        x, target = self.own(x), self.own(target)
        values, indices = self._encode(self.parameters, x)
        value, grads = self._gradients(self.parameters, x, target)
        made = {"values": values, "indices": indices, "loss": value}
        made["reconstruction"] = self._predict(self.parameters, x)
        made |= {f"d{name}": grad for name, grad in grads.items()}
        return {name: np.asarray(array) for name, array in made.items()}


def encode(p, x, top_k):
    """Values and indices of the ``top_k`` largest."""
    return jax.lax.top_k(jax.nn.relu(x @ p["W_enc"].T + p["b_enc"]), top_k)


def forward(p, x, top_k):
    """``hidden`` (B, D), dense, and the reconstruction."""
    values, indices = encode(p, x, top_k)
    rows = jnp.arange(len(x))[:, None]
    hidden = jnp.zeros((len(x), len(p["W_enc"])), x.dtype).at[rows, indices].set(values)
    return hidden, hidden @ p["W_dec"] + p["b_dec"]


def loss(p, x, target, top_k, l1_coeff):
    """As ours: both means are over all entries."""
    hidden, reconstruction = forward(p, x, top_k)
    return jnp.mean((target - reconstruction) ** 2) + l1_coeff * jnp.mean(jnp.abs(hidden))


def adam(p, grads, m, v, t):
    """One step of every array: the new parameters and means."""
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, v, grads)

    def moved(p, m, v):
        return p - 1e-3 * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)

    return jax.tree.map(moved, p, m, v), m, v


ENTRANTS = [Jax]
