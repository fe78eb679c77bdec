"""The norms of what features write; the mathematics stands in ``reference/decoder_norm.py``."""

from __future__ import annotations

import numpy as np

from .row_dots import row_dots


def decoder_norms(W_dec):
    """Return the norms (D,) of the rows of ``W_dec`` (D, O), in float64."""
    return np.sqrt(row_dots(W_dec, W_dec))[:, 0]
