"""The squared error summed over outputs; the mathematics stands in ``reference/mse_sum.py``."""

from __future__ import annotations

from .mse import in_order, row_squares, slopes


def mse_sum_forward(target, reconstruction):
    """Return ``mse_sum``, a float64 scalar, of ``target`` and ``reconstruction``, both (B, O).

    The sums are those of `mse_forward`, in the same order, and so is their bound.
    """
    return in_order(row_squares(target, reconstruction)) / len(target)


def mse_sum_backward(target, reconstruction):
    """Return ``d_reconstruction`` (B, O): computed in float64, rounded once to the dtype."""
    return slopes(target, reconstruction, 2, len(target))
