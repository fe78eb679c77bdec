"""The whole transcoder under conventions: what stands before its encoder, and after its decoder.

Forward; each pair of brackets is an option, and without it the arrow is an identity::

    x --[normalize]--> u --[- b_dec]--> encoder_input --affine--> --[times n]--> pre
    pre --activation--> hidden --[over n]--> --decode--> decoded --[rescale]--> reconstruction

    skip reads x and adds to reconstruction, or reads encoder_input and adds to decoded   (X1)

Backward, each arrow against its direction, with the paths that meet added up::

    d_decoded        from rescale                                (N2)
    d_hidden         from decode  +  from the penalty            (D2) or (W4)  +  (P2)    (X2)
    d_encoder_input  from affine  [+  from skip]                 (A2) + (S2)              (X3)
    db_dec           from decode  [+  from the input's]          (D4) + (V3)              (X4)
    dW_dec           from decode  [+  from its norms]            (D3) + (W7), (P8)        (X5)
    dx               from normalize  [+  from skip]              (H4), (Y4) + (S2)        (X6)

The tags stand in the files of those operations.  ``conventions`` is anything with the fields of
`reftranscoder.Conventions`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .affine import affine_backward, affine_forward
from .decode import decode_backward, decode_forward
from .decoder_norm import (
    decoder_norm_backward,
    decoder_norm_forward,
    decoder_norm_inverse,
    decoder_norms,
)
from .encode import ACTIVATIONS
from .input_bias import input_bias_backward, input_bias_forward
from .losses import DEFAULT, terms_of
from .normalizations import NORMALIZATIONS, rescale_backward, rescale_forward
from .skip import skip_backward, skip_forward


class Read(NamedTuple):
    """What `input_forward` returns."""

    encoder_input: Any  # (B, I)
    gain: Any  # (B, 1), or a number: of the way back
    shift: Any  # (B, 1), or a number


class ConventionalForward(NamedTuple):
    """What `conventional_forward` returns."""

    encoder_input: Any  # (B, I)
    gain: Any  # (B, 1), or a number: of the way back
    shift: Any  # (B, 1), or a number
    affine: Any  # (B, D), pre but for the norms of W_dec
    pre: Any  # (B, D)
    pre_acts: Any  # (B, D)
    hidden: Any  # (B, D)
    written: Any  # (B, D), what is decoded
    decoded: Any  # (B, O)
    reconstruction: Any  # (B, O)


class ConventionalBackward(NamedTuple):
    """What `conventional_backward` returns, in the order in which it is computed."""

    d_reconstruction: Any  # (B, O)
    d_decoded: Any  # (B, O)
    d_hidden: Any  # (B, D)
    d_pre: Any  # (B, D)
    d_own: Any  # of what the activation takes that no other does, or None
    dW_dec: Any  # (D, O)
    db_dec: Any  # (O,)
    dW_skip: Any  # (O, I), or None without a skip connection
    dW_enc: Any  # (D, I)
    db_enc: Any  # (D,)
    d_encoder_input: Any  # (B, I)
    dx: Any  # (B, I)


def input_forward(x, b_dec, conventions):
    """Return a `Read`: what the encoder reads of ``x`` (B, I), and what the way back takes."""
    u, gain, shift = NORMALIZATIONS[conventions.normalize_activations].forward(x, conventions)
    read = input_bias_forward(u, b_dec) if conventions.apply_b_dec_to_input else u
    return Read(read, gain, shift) if conventions.rescale_output else Read(read, 1, 0)


def conventional_forward(
    x, read, W_enc, b_enc, W_dec, b_dec, W_skip=None, *, top_k, activation, ties, own, conventions
):
    """Return a `ConventionalForward` of ``x`` (B, I) and what `input_forward` made of it."""
    affine = pre = affine_forward(read.encoder_input, W_enc, b_enc)
    if conventions.rescale_acts_by_decoder_norm:
        pre = decoder_norm_forward(affine, decoder_norms(W_dec))
    pre_acts, hidden = ACTIVATIONS[activation].forward(pre, top_k, ties, own)
    decoded = conventional_decode(hidden, x, read, W_dec, b_dec, W_skip, conventions)
    return ConventionalForward(*read, affine, pre, pre_acts, hidden, *decoded)


def conventional_decode(hidden, x, read, W_dec, b_dec, W_skip, conventions):
    """Return ``written`` (B, D), ``decoded`` and ``reconstruction`` (B, O) of ``hidden`` (B, D)."""
    written = hidden
    if conventions.rescale_acts_by_decoder_norm:
        written = decoder_norm_inverse(hidden, decoder_norms(W_dec))
    decoded = decode_forward(written, W_dec, b_dec)
    if W_skip is not None and conventions.skip_input != "x":
        decoded = decoded + skip_forward(read.encoder_input, W_skip)  # (X1)
    reconstruction = rescale_forward(decoded, read.gain, read.shift)
    if W_skip is not None and conventions.skip_input == "x":
        reconstruction = reconstruction + skip_forward(x, W_skip)
    return written, decoded, reconstruction


def conventional_backward(
    x, target, forward, W_enc, W_dec, W_skip=None, *,
    l1_coeff, activation, own, conventions, losses=DEFAULT,
):  # fmt: skip
    """Return a `ConventionalBackward`: the derivative of the loss by every stage and parameter."""
    hidden = forward.hidden
    of_error, of_activity = terms_of(losses)
    d_reconstruction = of_error.backward(target, forward.reconstruction)
    d_decoded, d_gain, d_shift = rescale_backward(d_reconstruction, forward.decoded, forward.gain)

    d_written, dW_dec, db_dec = decode_backward(d_decoded, forward.written, W_dec)
    penalty, of_norms, d_active = of_activity.backward(hidden, W_dec, l1_coeff, losses)
    dW_dec = dW_dec if of_norms is None else dW_dec + of_norms
    n = decoder_norms(W_dec) if conventions.rescale_acts_by_decoder_norm else None
    d_hidden = (d_written if n is None else decoder_norm_inverse(d_written, n)) + penalty  # (X2)
    activate = ACTIVATIONS[activation]
    d_pre, d_own = activate.backward(d_hidden, forward.pre, hidden, own, d_active)
    d_affine = d_pre
    if n is not None:
        d_affine, through_norms = decoder_norm_backward(
            d_pre, d_hidden, penalty, hidden, forward.affine, W_dec
        )
        dW_dec = dW_dec + through_norms  # (X5)
    d_read, dW_enc, db_enc = affine_backward(d_affine, forward.encoder_input, W_enc)

    dW_skip = dx_skip = None
    if W_skip is not None and conventions.skip_input == "x":
        dx_skip, dW_skip = skip_backward(d_reconstruction, x, W_skip)
    elif W_skip is not None:
        through_skip, dW_skip = skip_backward(d_decoded, forward.encoder_input, W_skip)
        d_read = d_read + through_skip  # (X3)
    d_u = d_read
    if conventions.apply_b_dec_to_input:
        d_u, db_dec_input = input_bias_backward(d_read)
        db_dec = db_dec + db_dec_input  # (X4)
    if not conventions.rescale_output:
        d_gain = d_shift = 0
    normalization = NORMALIZATIONS[conventions.normalize_activations]
    dx = normalization.backward(d_u, d_gain, d_shift, x, conventions)
    dx = dx if dx_skip is None else dx + dx_skip  # (X6)
    return ConventionalBackward(
        d_reconstruction, d_decoded, d_hidden, d_pre, d_own, dW_dec, db_dec, dW_skip,
        dW_enc, db_enc, d_read, dx,
    )  # fmt: skip
