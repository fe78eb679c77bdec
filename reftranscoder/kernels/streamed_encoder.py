"""The encoder of weights that stay where they are: in their file, in half precision, not packed.

They are read once for all rows of a call, a stretch of features after the other, and a stretch is
all of them that is held.  What a stretch gives is a `Sparse` of float64 p, as `encode_forward`
decides on it: p of a feature does not depend on which others it is computed with.  Where features
compete, what is kept of a stretch is chosen from together with what was kept of those before, and
the choice among these is the choice among all (``feature_slices.py``); under batchtopk the same is
true of the whole batch.

Whatever is below what the rows have kept so far is out, so that after the first stretch the screen
of ``screened_encoder.py`` leaves few candidates.  It pays where there are enough rows for the
packing of a stretch, and where few features of one are wanted; else all are computed.
"""

from __future__ import annotations

import numpy as np

from ..files.mapped import stretches
from .batchtopk import largest_entries
from .encode import encode_forward
from .engine.kernel_arrays import as_kernel_array
from .feature_slices import COMPETING, choose, side_by_side
from .screen.expectations import DENSE
from .screened_encoder import SCREENED_ACTIVATIONS, Encoder
from .stored_weights import widened

#: Rows from which it takes less time to pack a stretch than to multiply by it.
FEWEST_ROWS = 32


class StreamedEncoder:
    """`encode_forward` under ``W_enc`` (D, I), as it is stored, and ``b_enc`` (D,).

    ``b_enc`` has the dtype of the parameters.  ``norms`` (D,) float64, if given, multiply both, and
    x is float64 then.  None of them may change.
    """

    def __init__(self, W_enc, b_enc, norms=None):
        self._W, self._b, self._norms = W_enc, b_enc, norms

    def encode(self, x, *, top_k, activation="topk", ties="lowest_index", own=None):
        """Return ``hidden``, a `Sparse` (B, D) of ``x`` (B, I), as `encode_forward` does."""
        wide = as_kernel_array(x, np.float64)
        screened = activation in SCREENED_ACTIVATIONS and len(x) >= FEWEST_ROWS
        width = len(self._b) // top_k if activation == "groupmax" else 1  # no group is divided
        kept = Kept(x, top_k, activation, ties)
        for W, b, theirs in self._stretches(width, own):
            encoder = None
            if screened and kept.few:
                encoder = Encoder(W, b, theta=None if theirs is None else theirs.theta)
            if encoder is not None and encoder.screens:
                kept.add(encoder.of_rows(x, len(b), True, kept.levels))
                continue
            k = len(b) // width if activation == "groupmax" else min(top_k, len(b))
            selection = {"top_k": k, "activation": activation, "ties": ties, "own": theirs}
            kept.add(encode_forward(wide, W, b, **selection))  # in float64: not rounded
        return kept.hidden()

    def _stretches(self, width, own):
        """Weights, biases and what the activation takes, of one stretch of the features after the
        other: the memory of one is that of the next."""
        memory = None
        for first, stored in stretches(self._W, width):
            here = slice(first, first + len(stored))
            if memory is None:
                memory = np.empty(stored.shape, self._b.dtype)
            W, b = widened(stored, memory[: len(stored)]), self._b[here]
            if self._norms is not None:
                W, b = W * self._norms[here, None], b * self._norms[here]
            theirs = own
            if own is not None:
                arrays = {n: a[here] for n, a in own._asdict().items() if isinstance(a, np.ndarray)}
                theirs = own._replace(**arrays)
            yield W, b, theirs


class Kept:
    """What is kept of ``x`` (B, I) among the features so far."""

    def __init__(self, x, top_k, activation, ties):
        self._B, self._dtype = len(x), x.dtype
        self._top_k, self._activation, self._ties = top_k, activation, ties
        self._parts = []  # one `Sparse` in float64, where features compete
        self._competing = activation in (*COMPETING, "batchtopk")
        #: Below which p (B,) float32 a feature is out, whatever it is.
        self.levels = np.zeros(self._B, np.float32)
        #: Whether few of the next features are expected to reach these: as of the last ones.
        self.few = False

    def add(self, hidden):
        """Take ``hidden``, a `Sparse` (B, n) in float64: of the next n features, whatever may be
        kept of them."""
        n = hidden.shape[1]
        if not self._competing:
            self._parts.append(hidden.astype(self._dtype))
            self.few = len(hidden.values) <= DENSE * self._B * n
            return
        found = side_by_side([*self._parts, hidden])
        if self._activation == "batchtopk":
            most = self._B * self._top_k
            found = largest_entries(found, most, self._ties)
            if len(found.values) >= most > 0:
                self.levels[:] = _not_above(found.values.min())
        else:
            found = choose(found, self._top_k, self._activation, self._ties)
            self.levels = _not_above(_least(found, self._top_k))
        self._parts = [found]
        self.few = self._top_k <= DENSE * n

    def hidden(self):
        """The `Sparse` (B, D) of all of them, in the dtype of x."""
        return side_by_side(self._parts).astype(self._dtype)


def _least(kept, top_k):
    """The least p (B,) of each row of a `Sparse` (B, D), or 0 where there are fewer than
    ``top_k``."""
    counts = np.diff(kept.indptr)
    least = np.zeros(len(counts))
    some = counts > 0
    if some.any():
        least[some] = np.minimum.reduceat(kept.values, kept.indptr[:-1][some])
    least[counts < top_k] = 0
    return least


def _not_above(p):
    """``p`` (B,) rounded down to float32; a NaN is above all numbers, and gives 0: no level."""
    with np.errstate(over="ignore", under="ignore"):
        level = np.asarray(p).astype(np.float32)
    level = np.where(level > p, np.nextafter(level, np.float32(-np.inf)), level)
    return np.fmax(level, np.float32(0))
