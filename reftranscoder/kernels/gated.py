"""Gated; the mathematics and the conventions stand in ``reference/gated.py``."""

from __future__ import annotations

import numpy as np
from numba import prange

from .engine.jit import kernel
from .engine.kernel_arrays import as_kernel_array
from .jumprelu import above


def gated_magnitude(pre, b_mag, r_mag):
    """Return ``magnitude`` (B, D), always float64, of ``pre`` (B, D), ``b_mag``, ``r_mag`` (D,).

    A product and an addition in float64, of which exp(r_mag) in float64 is a factor.
    """
    always = np.full(len(b_mag), np.inf)
    return _magnitudes(pre, always, b_mag, r_mag)


def gated_forward(pre, b_gate, b_mag, r_mag):
    """Return ``hidden``, a `Sparse` (B, D), of ``pre`` (B, D) and the others (D,).

    `gated_magnitude` where that is positive and the gate is open, rounded once.  The sign of the
    float64 sum of pre and b_gate is that of the exact one.
    """
    return open_magnitudes(pre, b_gate, b_mag, r_mag).astype(pre.dtype)


def open_magnitudes(pre, b_gate, b_mag, r_mag):
    """Return `gated_forward` in float64."""
    magnitudes = _magnitudes(pre, b_gate, b_mag, r_mag)
    return above(magnitudes, np.zeros(len(b_gate)))


def open_entries(pre, b_gate, b_mag, r_mag):
    """Return `open_magnitudes` of ``pre``, a `Sparse` (B, D) in float64, at its entries alone."""
    j, p = pre.indices, pre.values
    with np.errstate(over="ignore", invalid="ignore"):
        magnitudes = _strengths(r_mag)[j] * p + b_mag[j].astype(np.float64)
        inactive = (p + b_gate[j].astype(np.float64) <= 0) | (magnitudes <= 0)
    return pre.with_values(magnitudes).only(np.logical_not(inactive))


def gated_backward(d_hidden, hidden, b_mag, r_mag):
    """Return ``d_pre``, a `Sparse` (B, D), and ``db_mag`` and ``dr_mag`` (D,).

    ``d_hidden`` has the entries of ``hidden``, both `Sparse` (B, D).  Products in float64, sums in
    float64 over ascending rows, each rounded once to the dtype of ``b_mag``: O(nnz + D).
    """
    dtype, j = b_mag.dtype, hidden.indices
    d_mag = d_hidden.values.astype(np.float64)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        d_pre = d_hidden.with_values((_strengths(r_mag)[j] * d_mag).astype(dtype))
        by_strength = d_mag * (hidden.values.astype(np.float64) - b_mag[j])
        sums = (np.bincount(j, terms, minlength=len(b_mag)) for terms in (d_mag, by_strength))
        return d_pre, *(total.astype(dtype) for total in sums)


def _magnitudes(pre, b_gate, b_mag, r_mag):
    """`gated_magnitude` where the gate is open, else 0."""
    pre = as_kernel_array(pre, np.float64)
    biases = (as_kernel_array(bias, np.float64) for bias in (b_gate, b_mag))
    out = np.empty(pre.shape)
    _fill(pre, *biases, as_kernel_array(_strengths(r_mag), np.float64), out)
    return out


def _strengths(r_mag):
    return np.exp(np.asarray(r_mag, np.float64))


@kernel
def _fill(pre, b_gate, b_mag, strengths, out):
    B, D = pre.shape
    for b in prange(B):
        for d in range(D):
            shut = pre[b, d] + b_gate[d] <= 0  # NaN passes
            out[b, d] = 0.0 if shut else strengths[d] * pre[b, d] + b_mag[d]
