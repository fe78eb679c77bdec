"""How far each kernel may be from its reference.

A function here is called as ``f(to, want, **arguments)``: the `Precision` of the kernel's dtype,
the outputs of the reference in float64 by name, and the arguments of both.  It returns, by the same
names, a bound on |kernel - reference| for every entry.  In the letters of `reftranscoder.bounds`,
with v for the unit roundoff of float64 and E for what came in uncertain (zero, except in the
composed functions), a bound is the sum of what E becomes, what the kernel rounds and what the
reference rounds.  For a sum of n products that the kernel makes in its dtype, and for one that it
makes in float64 and stores once, that is by (E5) and (E6)::

    E   +  n u S + n (1 + n u) eta / 2  +  n v S + ...                                    (K1)
    E'  +  u (|want| + E') + eta / 2,  where E' = E + 2 (n v S + ...)                     (K2)

An uncertain factor makes E by (E8), and S larger by as much.  Where the terms of a sum are plain
numbers, (E4) takes the place of (E5).

In reading order:

- ``one_layer.py``: the pairs of a transcoder, from the products of the encoder to its gradients.
- ``training.py``: the pairs that only training has.
- ``sums.py``: what sums and products add up to, which both read.
"""

from __future__ import annotations

from .one_layer import (
    affine_backward,
    affine_forward,
    affine_relu_forward,
    decode_backward,
    decode_forward,
    encode_forward,
    exact,
    gated_backward,
    gated_forward,
    gated_magnitude,
    l1_backward,
    l1_forward,
    mse_backward,
    mse_forward,
    skip_backward,
    skip_forward,
    transcoder_backward,
    transcoder_forward,
    transcoder_loss,
)
from .training import (
    adam_row_step,
    adam_step,
    aux_k_backward,
    aux_k_forward,
    aux_k_loss,
    average_step,
)

__all__ = [
    "adam_row_step",
    "adam_step",
    "affine_backward",
    "affine_forward",
    "affine_relu_forward",
    "aux_k_backward",
    "aux_k_forward",
    "aux_k_loss",
    "average_step",
    "decode_backward",
    "decode_forward",
    "encode_forward",
    "exact",
    "gated_backward",
    "gated_forward",
    "gated_magnitude",
    "l1_backward",
    "l1_forward",
    "mse_backward",
    "mse_forward",
    "skip_backward",
    "skip_forward",
    "transcoder_backward",
    "transcoder_forward",
    "transcoder_loss",
]
