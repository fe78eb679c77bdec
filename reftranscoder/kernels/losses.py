"""The losses by name, as in ``reference/losses.py``: of the reconstruction, and of what is active.

Those that are not files of their own are made here in float64 from what `mse_forward` and
`l1_forward` are made of: squares summed by row in lane order, rows in ascending order, and sums
over the stored entries of a row or of a feature in ascending order.  Every gradient is computed in
float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .decoder_norm import decoder_norms
from .l1 import l1_backward, l1_forward
from .l1_sum import l1_sum_backward, l1_sum_forward
from .mse import in_order, mse_backward, mse_forward, row_squares
from .mse_sum import mse_sum_backward, mse_sum_forward
from .row_dots import row_dots


class Losses(NamedTuple):
    """Which losses are added up; anything with these fields does, `reftranscoder.Losses` too."""

    reconstruction_loss: str = "mse"
    sparsity_loss: str = "l1"
    target_l0: float | None = None
    tanh_scale: float = 4.0


DEFAULT = Losses()


class ReconstructionLoss(NamedTuple):
    """A loss of the reconstruction, and its gradient."""

    forward: Callable  # (target, reconstruction) -> a float64 scalar
    backward: Callable  # (target, reconstruction) -> d_reconstruction (B, O)


class SparsityLoss(NamedTuple):
    """A loss of what is active, and its gradients."""

    forward: Callable  # (hidden, W_dec, l1_coeff, losses) -> a float64 scalar
    backward: Callable  # the same -> d_hidden, a `Sparse`, or None; dW_dec (D, O), or None


def _divided(sizes):
    """The loss in which row b is divided by ``sizes(target)[b]``, (B, 1) in float64."""

    def forward(target, reconstruction):
        squares = row_squares(target, reconstruction)
        return in_order(squares / sizes(target.astype(np.float64))[:, 0])

    def backward(target, reconstruction):
        wide = target.astype(np.float64)
        slope = 2 * (reconstruction.astype(np.float64) - wide) / sizes(wide)
        return slope.astype(reconstruction.dtype)

    return ReconstructionLoss(forward, backward)


def _sizes_of_norms(target):
    return np.sqrt(row_dots(target, target)) * target.size  # (M6)


def _sizes_of_squares(target):
    return row_dots(target, target) * len(target)  # (M9)


def _size_of_variance(target):
    sums = np.add.accumulate(target, axis=0)[-1]  # by ascending rows
    off = target - sums / len(target)
    return np.broadcast_to(in_order(row_dots(off, off)[:, 0]), (len(target), 1))  # (M11)


def _of_hidden(forward, backward):
    return SparsityLoss(
        lambda hidden, W_dec, l1_coeff, losses: forward(hidden, l1_coeff),
        lambda hidden, W_dec, l1_coeff, losses: (backward(hidden, l1_coeff), None),
    )


def _of_norms(value):
    """The loss of |hidden| n: ``value(u, losses)`` are, of such, terms of it and their slopes."""

    def terms(hidden, W_dec, losses):
        size, n = np.abs(hidden.values.astype(np.float64)), decoder_norms(W_dec)
        return size, n, *value(size * n[hidden.indices], losses)

    def forward(hidden, W_dec, l1_coeff, losses):
        _, _, found, _ = terms(hidden, W_dec, losses)
        of_rows = np.bincount(hidden.rows(), found, minlength=hidden.shape[0])
        return np.float64(l1_coeff) * (in_order(of_rows) / hidden.shape[0])

    def backward(hidden, W_dec, l1_coeff, losses):
        size, n, _, slope = terms(hidden, W_dec, losses)
        slope = np.float64(l1_coeff) / hidden.shape[0] * slope
        d_n = np.bincount(hidden.indices, size * slope, minlength=len(n))
        d_hidden = slope * n[hidden.indices] * np.sign(hidden.values)
        dW_dec = (d_n / np.where(n == 0, 1, n))[:, None] * W_dec  # (P8)
        with np.errstate(over="ignore", under="ignore"):
            dtype = hidden.values.dtype
            return hidden.with_values(d_hidden.astype(dtype)), dW_dec.astype(dtype)

    return SparsityLoss(forward, backward)


def _linear(u, losses):
    return u, np.ones_like(u)  # (P5)


def _tanh(u, losses):
    bent = np.tanh(losses.tanh_scale * u)
    return bent, losses.tanh_scale * (1 - bent**2)  # (P15)


def _of_counts(value):
    """The loss of the active features of each row (B,), whose derivatives are zero."""

    def forward(hidden, W_dec, l1_coeff, losses):
        counts = np.diff(hidden.indptr).astype(np.float64)
        return np.float64(l1_coeff) * value(counts, losses.target_l0)

    def backward(hidden, W_dec, l1_coeff, losses):
        return None, None

    return SparsityLoss(forward, backward)


#: name -> `ReconstructionLoss`.
RECONSTRUCTION_LOSSES = {
    "mse": ReconstructionLoss(mse_forward, mse_backward),
    "mse_sum": ReconstructionLoss(mse_sum_forward, mse_sum_backward),
    "mse_over_norm": _divided(_sizes_of_norms),
    "nmse": _divided(_sizes_of_squares),
    "fvu": _divided(_size_of_variance),
}

#: name -> `SparsityLoss`.
SPARSITY_LOSSES = {
    "l1": _of_hidden(l1_forward, l1_backward),
    "l1_sum": _of_hidden(l1_sum_forward, l1_sum_backward),
    "l1_decoder_weighted": _of_norms(_linear),
    "l0_step": _of_counts(lambda counts, t: in_order(counts) / len(counts)),
    "l0_quadratic": _of_counts(lambda counts, t: in_order(2 * (counts - t) ** 2 / t) / len(counts)),
    "l0_target": _of_counts(lambda counts, t: (in_order(counts) / (len(counts) * t) - 1) ** 2),
    "l0_tanh": _of_norms(_tanh),
}


def penalty_backward(d_hidden, dW_dec, hidden, W_dec, l1_coeff, losses):
    """Return what `decode_backward` gives with the shares of the sparsity loss: ``d_hidden``, a
    `Sparse`, ``dW_dec`` (D, O), and the share of ``d_hidden``, or None."""
    share, of_weights = SPARSITY_LOSSES[losses.sparsity_loss].backward(
        hidden, W_dec, l1_coeff, losses
    )
    if share is not None:
        d_hidden = hidden.with_values(d_hidden.values + share.values)
    return d_hidden, dW_dec if of_weights is None else dW_dec + of_weights, share
