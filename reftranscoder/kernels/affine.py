"""The dense layer, and with it ReLU; the mathematics stands in ``reference/affine.py``."""

from __future__ import annotations

import numpy as np
from numba import prange

from .engine.jit import kernel, routine
from .engine.kernel_arrays import as_kernel_array
from .engine.sparse_loops import by_feature, combine_rows, outer_rows
from .engine.vector import LANES, fma, lane_sum, load, zeros
from .engine.work_division import row_blocks
from .screen.cpu_target import TILE


def affine_forward(x, W, b):
    """Return ``pre`` (B, D), always float64, of ``x`` (B, I) under ``W`` (D, I) and ``b`` (D,).

    Each is a float64 dot product in lane order (see ``engine/vector.py``), then + b: the definition
    of p on which everything is decided.  Within (I + 1) 2^-53 of the sum of absolute terms.
    """
    return _dense(x, W, b, rectify=False)


def affine_relu_forward(x, W, b):
    """Return ``pre_acts`` (B, D), always float64: `affine_forward` and ReLU in one pass.

    ReLU adds no error, and both zeros give +0.
    """
    return _dense(x, W, b, rectify=True)


def affine_backward(d_pre, x, W):
    """Return ``dx`` (B, I), ``dW`` (D, I) and ``db`` (D,), given ``d_pre``, a `Sparse` (B, D).

    Only stored entries are touched: O(nnz I).  ``dx`` sums over ascending features, ``dW`` and
    ``db`` over ascending rows, with one fused multiply-add a term, in the dtype of ``W``: within n
    u of the sum of absolute terms, for n stored terms.
    """
    dx = combine_rows(d_pre, W)
    dW, db = outer_rows(by_feature(d_pre), d_pre.values, as_kernel_array(x, W.dtype))
    return dx, dW, db


def _dense(x, W, b, rectify):
    out = np.empty((len(x), len(W)))
    for rows in row_blocks(len(x), len(W), x.shape[1]):
        affine_block(x[rows], W, b, rectify, out[rows])
    return out


def affine_block(x, W, b, rectify, out):
    """Write `affine_forward` of a block of rows to ``out``, a C-contiguous float64 array (B, D)."""
    B, I = x.shape
    padded = np.zeros((B, I + -I % LANES))
    padded[:, :I] = x
    W = as_kernel_array(W, W.dtype)
    _affine(as_kernel_array(padded, np.float64), W, as_kernel_array(b, W.dtype), rectify, out)


@routine
def two_rows(x, r, panel):
    """Sums of rows ``r`` and r + 1 of ``x`` times the four of ``panel``, in 8 registers.

    Past the end, the last row again.
    """
    s = min(r + 1, len(x) - 1)
    r0, r1, r2, r3 = zeros(), zeros(), zeros(), zeros()
    s0, s1, s2, s3 = zeros(), zeros(), zeros(), zeros()
    for i in range(0, x.shape[1], LANES):
        xr, xs = load(x, r, i), load(x, s, i)
        w = load(panel, 0, i)
        r0, s0 = fma(xr, w, r0), fma(xs, w, s0)
        w = load(panel, 1, i)
        r1, s1 = fma(xr, w, r1), fma(xs, w, s1)
        w = load(panel, 2, i)
        r2, s2 = fma(xr, w, r2), fma(xs, w, s2)
        w = load(panel, 3, i)
        r3, s3 = fma(xr, w, r3), fma(xs, w, s3)
    return (
        (lane_sum(r0), lane_sum(r1), lane_sum(r2), lane_sum(r3)),
        (lane_sum(s0), lane_sum(s1), lane_sum(s2), lane_sum(s3)),
    )


@routine
def four_rows(x, r, panel):
    """The same of four rows, in 16 registers: half as much is loaded for each product."""
    last = len(x) - 1
    s, t, u = min(r + 1, last), min(r + 2, last), min(r + 3, last)
    r0, r1, r2, r3 = zeros(), zeros(), zeros(), zeros()
    s0, s1, s2, s3 = zeros(), zeros(), zeros(), zeros()
    t0, t1, t2, t3 = zeros(), zeros(), zeros(), zeros()
    u0, u1, u2, u3 = zeros(), zeros(), zeros(), zeros()
    for i in range(0, x.shape[1], LANES):
        xr, xs, xt, xu = load(x, r, i), load(x, s, i), load(x, t, i), load(x, u, i)
        w = load(panel, 0, i)
        r0, s0, t0, u0 = fma(xr, w, r0), fma(xs, w, s0), fma(xt, w, t0), fma(xu, w, u0)
        w = load(panel, 1, i)
        r1, s1, t1, u1 = fma(xr, w, r1), fma(xs, w, s1), fma(xt, w, t1), fma(xu, w, u1)
        w = load(panel, 2, i)
        r2, s2, t2, u2 = fma(xr, w, r2), fma(xs, w, s2), fma(xt, w, t2), fma(xu, w, u2)
        w = load(panel, 3, i)
        r3, s3, t3, u3 = fma(xr, w, r3), fma(xs, w, s3), fma(xt, w, t3), fma(xu, w, u3)
    return (
        (lane_sum(r0), lane_sum(r1), lane_sum(r2), lane_sum(r3)),
        (lane_sum(s0), lane_sum(s1), lane_sum(s2), lane_sum(s3)),
        (lane_sum(t0), lane_sum(t1), lane_sum(t2), lane_sum(t3)),
        (lane_sum(u0), lane_sum(u1), lane_sum(u2), lane_sum(u3)),
    )


# As many rows as there are registers of eight lanes for; with half as many, a third more time.
_ROWS, _sums = (4, four_rows) if TILE.lanes == 16 else (2, two_rows)


@kernel
def _affine(x, W, b, rectify, out):
    # Some rows by four features at a time, so that their sums stay in registers.  The features
    # are widened to float64 once for all rows.  Past an edge, the last row or feature again.
    B, padded = x.shape
    D, I = W.shape
    for tile in prange((D + 3) // 4):
        j = 4 * tile
        panel = np.zeros((4, padded))
        for k in range(4):
            for i in range(I):
                panel[k, i] = W[min(j + k, D - 1), i]
        for r in range(0, B, _ROWS):
            sums = _sums(x, r, panel)
            for row in range(_ROWS):
                for k in range(4):
                    column = min(j + k, D - 1)
                    if j + k == column:
                        p = sums[row][k] + b[column]
                        if rectify and p <= 0:
                            p = 0.0
                        out[min(r + row, B - 1), column] = p
