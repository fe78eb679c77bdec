"""A batch, or a part of its rows, up to where the gradients of the weights begin.

With AuxK every row stands twice: for the transcoder, with its gradient of the reconstruction, and
for what the dead features make of the residual, with theirs.  The two follow each other, so that a
feature's sums over rows have one order, into however many parts a batch is divided.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..sparse import Sparse, row_starts
from .aux_k import aux_k_forward, aux_k_slopes
from .decode import decode_forward
from .engine.kernel_arrays import as_kernel_array
from .engine.sparse_loops import by_feature
from .l1 import l1_slopes, row_sums
from .mse import row_squares, slopes_in_place
from .skip import skip_forward


class Aux(NamedTuple):
    """AuxK in a step: see ``reference/aux_k.py``."""

    dead: np.ndarray  # (D,) bool, before the step
    aux_k: int
    aux_coeff: float


class HiddenByFeature(NamedTuple):
    """``hidden`` as `ByFeature` has it, and its ``penalties``, the gradient of the l1 loss."""

    starts: np.ndarray  # (D + 1,) int32
    rows: np.ndarray  # (nnz,) int32
    entries: np.ndarray  # (nnz,) int32
    values: np.ndarray  # (nnz,), row by row
    penalties: np.ndarray  # (nnz,), row by row


class Part(NamedTuple):
    """What the gradients of the weights are made from; R is B, or 2 B with AuxK."""

    squares: np.ndarray  # (B,) of the errors, summed
    sums: np.ndarray  # (B,) of the absolute activations
    d_reconstruction: np.ndarray  # (B, O)
    x: np.ndarray  # (R, I)
    G: np.ndarray  # (R, O)
    hidden: HiddenByFeature  # (R, D)
    active: np.ndarray  # (D,) bool, without AuxK


def batch_part(arrays, x, target, rows, encoder, l1_coeff, selection, aux=None):
    """Return the `Part` of ``x`` (B, I) and ``target`` (B, O), of a batch of ``rows`` rows."""
    dtype = arrays["W_enc"].dtype
    x = as_kernel_array(x, dtype)
    hidden = encoder.encode(x, **selection)
    reconstruction = decode_forward(hidden, arrays["W_dec"], arrays["b_dec"])
    if "W_skip" in arrays:
        reconstruction += skip_forward(x, arrays["W_skip"])
    O = target.shape[1]
    squares = row_squares(target, reconstruction)
    penalties = l1_slopes(hidden, l1_coeff, rows)
    active = np.zeros(hidden.shape[1], bool)
    active[hidden.indices] = True
    sums = row_sums(hidden)
    found = aux_G = None
    if aux is not None and aux.dead.any():
        residual = target - reconstruction
        found, of_residual = aux_k_forward(
            x, aux.dead, *(arrays[name] for name in ("W_enc", "b_enc", "W_dec")), aux.aux_k
        )
        aux_G = aux_k_slopes(residual, of_residual, aux.aux_coeff, rows)
    slopes = slopes_in_place(target, reconstruction, 2, rows * O)
    G = d_reconstruction = as_kernel_array(slopes, dtype)
    inputs = gradient_inputs(x, G, hidden, penalties, found, aux_G)
    return Part(squares, sums, d_reconstruction, *inputs, active)


def gradient_inputs(x, G, hidden, penalties, found=None, aux_G=None):
    """Return ``x``, ``G`` and ``hidden`` of a `Part`: what gradients of features are sums over.

    ``found``, a `Sparse` (B, D), and ``aux_G`` (B, O) are AuxK's, if features are dead.
    """
    dtype = G.dtype
    if found is not None:
        x, G = np.repeat(x, 2, axis=0), np.stack([G, aux_G], axis=1).reshape(-1, G.shape[1])
        hidden, first = interleaved(hidden, found)
        both = np.zeros(len(hidden.values), dtype)
        both[first] = penalties
        penalties = both
    by = HiddenByFeature(
        *by_feature(hidden),
        as_kernel_array(hidden.values, dtype),
        as_kernel_array(penalties, dtype),
    )
    return as_kernel_array(x, dtype), as_kernel_array(G, dtype), by


def interleaved(first, second):
    """The rows of two `Sparse` (B, D) by turns, (2 B, D), and the places (nnz,) of the first's."""
    counts = np.stack([np.diff(first.indptr), np.diff(second.indptr)], axis=1).reshape(-1)
    starts = row_starts(counts)
    indices = np.empty(starts[-1], np.int32)
    values = np.empty(starts[-1], first.values.dtype)
    places = []
    for turn, matrix in enumerate((first, second)):
        rows = matrix.rows()
        place = np.arange(len(rows)) - matrix.indptr[rows] + starts[2 * rows + turn]
        indices[place], values[place] = matrix.indices, matrix.values
        places.append(place)
    B, D = first.shape
    return Sparse(starts, indices, values, (2 * B, D)), places[0]
