"""What one writes in NumPy: float32 products, argpartition, a gather, dense gradients."""

from __future__ import annotations

import numpy as np

from reftranscoder.reference import adam_step

from ..work import Work


class PlainNumPy:
    """Every race but the start, which is that of NumPy itself."""

    name = "NumPy"
    calls_blas = True
    l1_coeff = 1e-3

    def __init__(self, work: Work) -> None:
        self.arrays = {name: array.copy() for name, array in work.tc.params.arrays().items()}
        self.means = {name: (np.zeros_like(a),) * 2 for name, a in self.arrays.items()}
        self.top_k, self.t = work.tc.config.top_k, 0

    def own(self, array: np.ndarray) -> np.ndarray:
        return array

    def encode(self, x):
        pre_acts = np.maximum(x @ self.arrays["W_enc"].T + self.arrays["b_enc"], 0)
        indices = np.argpartition(pre_acts, -self.top_k, axis=1)[:, -self.top_k :]
        return indices, np.take_along_axis(pre_acts, indices, axis=1)

    row = encode

    def predict(self, x):
        return self._decode(*self.encode(x))[1]

    def step(self, x, target):
        loss, grads = self._gradients(x, target)
        self.t += 1
        for name, grad in grads.items():
            m, v = self.means[name]
            new = adam_step(self.arrays[name], grad, m, v, self.t, 1e-3, 0.9, 0.999, 1e-8)
            self.arrays[name], *self.means[name] = new
        return loss

    def results(self, x, target):
        indices, values = self.encode(x)
        reconstruction = self._decode(indices, values)[1]
        loss, grads = self._gradients(x, target)
        gradients = {f"d{name}": grad for name, grad in grads.items()}
        stages = {"indices": indices, "values": values, "reconstruction": reconstruction}
        return stages | {"loss": loss} | gradients

    def _decode(self, indices, values):
        hidden = np.zeros((len(indices), len(self.arrays["W_enc"])), values.dtype)
        np.put_along_axis(hidden, indices, values, axis=1)
        return hidden, hidden @ self.arrays["W_dec"] + self.arrays["b_dec"]

    def _gradients(self, x, target):
        hidden, reconstruction = self._decode(*self.encode(x))
        error = reconstruction - target
        loss = np.mean(error**2) + self.l1_coeff * np.mean(hidden)
        d_reconstruction = error * np.float32(2 / error.size)
        d_hidden = d_reconstruction @ self.arrays["W_dec"].T
        d_pre = np.where(hidden > 0, d_hidden + np.float32(self.l1_coeff / hidden.size), 0)
        grads = {"W_enc": d_pre.T @ x, "b_enc": d_pre.sum(axis=0)}
        grads |= {"W_dec": hidden.T @ d_reconstruction, "b_dec": d_reconstruction.sum(axis=0)}
        return loss, grads


ENTRANTS = [PlainNumPy]
