"""The fast encoder of gated: a screen finds every gate that may be open, float64 decides.

A gate is open if p > -b_gate, for p = fl(s + b_enc) with s the sum of products, which is
s + b_enc > -b_gate, as rounding is monotonic.  For any b' above b_enc + b_gate, s + b' > 0 then, so
that the feature is among those which an `Encoder` with the bias b' finds positive; and b', b_enc
and b_gate are multiples of the smallest number of their dtype, so that s + b' is above that, and
not rounded to 0.  These features are few where a gated transcoder is sparse; their p is computed
once more, as `encode_forward` does.
"""

from __future__ import annotations

import numpy as np

from .encode import encode_forward
from .engine.kernel_arrays import as_kernel_array
from .engine.sparse_loops import entry_dots
from .gated import open_entries
from .screened_encoder import Encoder, difference_up

#: Features for each gate that is open, from which a screen pays: more than those which its own
#: `Expectations` ask for, as p of what it finds is computed once more.
_SPARSE = 8


class GatedEncoder:
    """`encode_forward` of gated under ``W_enc`` (D, I), ``b_enc``, ``b_gate`` (D,), of one dtype.

    These must not change.
    """

    def __init__(self, W_enc, b_enc, b_gate):
        self._W, self._b = (as_kernel_array(array, W_enc.dtype) for array in (W_enc, b_enc))
        bias = difference_up(self._b, -b_gate.astype(np.float64))
        self._fits = bool(np.isfinite(bias).all())  # infinity is not above it
        self._screen = Encoder(W_enc, bias)
        self._crowded = False  # too many gates were open, in the last call, for a screen to pay

    def encode(self, x, *, top_k, activation="gated", ties="lowest_index", own=None):
        """Return ``hidden``, a `Sparse` (B, D) of ``x`` (B, I), as `encode_forward` does."""
        if self._crowded or not self._fits:
            selection = {"top_k": top_k, "activation": activation, "ties": ties, "own": own}
            hidden = found = encode_forward(x, self._W, self._b, **selection)
        else:
            x = as_kernel_array(x, self._W.dtype)
            found = self._screen.encode(x, top_k=len(self._W), activation="relu")
            p = entry_dots(found, x, self._W, np.float64) + self._b[found.indices]
            hidden = open_entries(found.with_values(p), own.b_gate, own.b_mag, own.r_mag)
        self._crowded = len(found.indices) * _SPARSE > found.shape[0] * found.shape[1]
        return hidden.astype(x.dtype)
