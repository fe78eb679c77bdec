"""How far rounding can take the loss of a transcoder, and its gradients, from the exact ones.

The bounds of `reftranscoder.bounds`, handed on from stage to stage as the values are.  They hold
for any order of summation, with fused multiplication or without, and for sums in a wider format
that are stored once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import reference
from ..bounds import (
    Precision,
    Reals,
    add_up,
    chain_bound,
    dot_bound,
    matmul_up,
    product_bound,
    store_bound,
    sum_bound,
)
from ..params import TranscoderConfig


class Stages:
    """The stages at one point, by the reference, and how far off those in ``arithmetic`` may be.

    Attributes: ``forward`` (a `reference.Forward`), ``loss``, ``loss_error``, ``pre_error`` (B, D).
    """

    def __init__(
        self,
        arrays: dict[str, np.ndarray],  # x (B, I) and the parameters, by name
        target: np.ndarray,  # (B, O)
        config: TranscoderConfig,
        l1_coeff: float,
        arithmetic: Precision,
    ):
        self.arrays, self.arithmetic, self.l1_coeff = arrays, arithmetic, l1_coeff
        self.forward = reference.transcoder_forward(
            **arrays, top_k=config.top_k, activation=config.activation, ties=config.ties
        )
        pre, _, hidden, reconstruction = self.forward
        self.residual = reconstruction - target
        self.loss = reference.transcoder_loss(target, reconstruction, hidden, l1_coeff)

        self.pre_error = pre_bound(arrays["x"], arrays["W_enc"], arrays["b_enc"], arithmetic)
        stored = store_bound(hidden, self.pre_error, arithmetic)
        self.hidden_error = np.where(hidden != 0, stored, 0)
        self.residual_error = self._residual_error()
        self.loss_error = self._loss_error()

    def _residual_error(self) -> Any:
        """Of ``residual`` (B, O): hidden W_dec + b_dec + x W_skip, stored, less the target."""
        hidden, W_dec = self.forward.hidden, self.arrays["W_dec"]
        S = add_up(matmul_up(_add(hidden, self.hidden_error), W_dec), np.abs(self.arrays["b_dec"]))
        n = np.count_nonzero(hidden, axis=1)[:, None] + 1
        if "W_skip" in self.arrays:
            S = add_up(S, matmul_up(self.arrays["x"], self.arrays["W_skip"].T))
            n = n + self.arrays["x"].shape[1]
        error = add_up(matmul_up(self.hidden_error, W_dec), dot_bound(S, n, self.arithmetic))
        error = store_bound(self.forward.reconstruction, error, self.arithmetic)
        return store_bound(self.residual, error, self.arithmetic)

    def _loss_error(self) -> Any:
        """Of ``loss``: a mean of squares, a mean of absolute values, a product and a sum."""
        e, e_error = self.residual, self.residual_error
        square_error = store_bound(e**2, product_bound(e, e_error, e, e_error), self.arithmetic)
        mse_error = self._mean_error(e**2, square_error, e.size)
        h, h_error = self.forward.hidden, self.hidden_error
        l1_error = self.l1_coeff * self._mean_error(np.abs(h), h_error, h.size)
        # l1_coeff itself is rounded, and its product.
        l1 = reference.l1_forward(h, self.l1_coeff)
        l1_error = add_up(l1_error, chain_bound(add_up(l1, l1_error), 2, self.arithmetic))
        return store_bound(self.loss, add_up(mse_error, l1_error), self.arithmetic)

    def _mean_error(self, values: np.ndarray, errors: np.ndarray, size: int) -> Any:
        """Of the sum of ``values`` >= 0, zeros among them, times the rounded 1 / ``size``."""
        a, total = self.arithmetic, np.sum(values)
        S = np.sum(add_up(values, errors))
        error = add_up(np.sum(errors), sum_bound(S, int(np.count_nonzero(values)), a)) / size
        return add_up(error, chain_bound(add_up(total / size, error), 2, a), a.spacing)

    def gradient_errors(self) -> dict[str, np.ndarray]:
        """Of each gradient, by the name of its array, entry by entry."""
        x, W_enc, W_dec = (self.arrays[name] for name in ("x", "W_enc", "W_dec"))
        hidden, a = self.forward.hidden, self.arithmetic
        kept = hidden != 0

        factor = 2 / self.residual.size
        G, G_error = factor * self.residual, factor * self.residual_error
        # 2 / (B O) is rounded, multiplied in one way or another, and stored: four roundings.
        G_error = add_up(G_error, chain_bound(_add(G, G_error), 4, a), 2 * a.spacing)

        def product(
            A: np.ndarray, A_error: np.ndarray, B: np.ndarray, B_error: np.ndarray, terms: Reals
        ) -> Any:
            S = matmul_up(_add(A, A_error), _add(B, B_error))
            error = add_up(product_bound(A, A_error, B, B_error, matmul_up), dot_bound(S, terms, a))
            return add_up(error, 0.5 * a.spacing)

        l1 = self.l1_coeff / hidden.size
        d_hidden = G @ W_dec.T + l1 * kept
        exact = np.zeros_like
        d_error = product(G, G_error, W_dec.T, exact(W_dec.T), G.shape[1])
        d_error = add_up(d_error, chain_bound(l1, 3, a))
        d_pre = np.where(kept, d_hidden, 0)
        d_pre_error = np.where(kept, store_bound(d_hidden, d_error, a), 0)

        rows, ones, active = len(x), np.ones((1, len(x))), np.count_nonzero(kept, axis=1)
        errors = {
            "W_enc": product(d_pre.T, d_pre_error.T, x, exact(x), rows),
            "b_enc": product(ones, exact(ones), d_pre, d_pre_error, rows)[0],
            "W_dec": product(hidden.T, self.hidden_error.T, G, G_error, rows),
            "b_dec": product(ones, exact(ones), G, G_error, rows)[0],
            "x": product(d_pre, d_pre_error, W_enc, exact(W_enc), active[:, None]),
        }
        if "W_skip" in self.arrays:
            W_skip = self.arrays["W_skip"]
            errors["W_skip"] = product(G.T, G_error.T, x, exact(x), rows)
            skip_error = product(G, G_error, W_skip, exact(W_skip), G.shape[1])
            dx = np.abs(d_pre @ W_enc) + np.abs(G @ W_skip)
            errors["x"] = store_bound(dx, add_up(errors["x"], skip_error), a)
        return errors


def pre_bound(x: np.ndarray, W_enc: np.ndarray, b_enc: Reals, arithmetic: Precision) -> Any:
    """How far off the pre-activations (B, D) may be.  It grows with the absolute values."""
    S = add_up(matmul_up(x, W_enc.T), np.abs(b_enc))
    return dot_bound(S, x.shape[1] + 1, arithmetic)


def _add(value: Reals, error: Reals) -> Any:
    """The largest absolute value within ``error`` of ``value``."""
    return add_up(np.abs(value), error)
