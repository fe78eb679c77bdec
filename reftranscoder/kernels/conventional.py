"""The transcoder under conventions, step by step as in ``reference/conventional.py``.

What the encoder reads is computed in float64 and rounded once to the dtype of the parameters: from
there on the kernels of `kernels` do what they always do.  Where activations are multiplied by the
norms of W_dec, n in float64, the encoder's weights are n W_enc and n b_enc, rounded once to
float64, so that what is selected is decided as precisely as ever.
"""

from __future__ import annotations

import weakref
from typing import NamedTuple

import numpy as np

from ..files.mapped import stretches
from ..params.unpacked import UnpackedParams
from ..sparse import Sparse
from .affine import affine_backward
from .decode import decode_backward, decode_forward, sum_rows
from .decoder_norm import decoder_norms
from .encode import activation_backward
from .engine.threads_and_forks import Lock
from .losses import DEFAULT, RECONSTRUCTION_LOSSES, penalty_backward
from .normalizations import NORMALIZATIONS
from .row_dots import row_dots, row_sums
from .screened_encoder import Encoder
from .skip import skip_backward, skip_forward
from .streamed_encoder import StreamedEncoder

_encoders: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_lock = Lock()


class Read(NamedTuple):
    """What `input_forward` returns."""

    encoder_input: np.ndarray  # (B, I), in the dtype of the parameters
    gain: np.ndarray | float  # (B, 1) float64, or a number: of the way back
    shift: np.ndarray | float  # (B, 1) float64, or a number


class Decoded(NamedTuple):
    """What `conventional_decode` returns."""

    hidden: Sparse  # (B, D)
    written: Sparse  # (B, D), what is decoded
    decoded: np.ndarray  # (B, O)
    reconstruction: np.ndarray  # (B, O)


class ScaledEncoder(NamedTuple):
    """An encoder whose activations are measured by what they write.

    Weights that stay as they are stored are that here, too, and are multiplied when they are read.
    """

    norms: np.ndarray  # (D,) float64, of the rows of W_dec
    W_enc: np.ndarray  # (D, I) float64, times the norms
    b_enc: np.ndarray  # (D,) float64, times the norms
    encoder: Encoder | StreamedEncoder

    def encode(self, x, **selection):
        """Return ``hidden``, a `Sparse` (B, D) in the dtype of ``x`` (B, I), as `Encoder` does."""
        hidden = self.encoder.encode(x.astype(np.float64), **selection)
        return hidden.astype(x.dtype)


def scaled_encoder_of(params):
    """The `ScaledEncoder` of ``params``; as long as they live, one."""
    with _lock:
        found = _encoders.get(params)
        if found is None:
            found = _encoders[params] = _scaled_encoder(params)
        return found


def _scaled_encoder(params):
    if isinstance(params, UnpackedParams):
        norms = np.concatenate([decoder_norms(part) for _, part in stretches(params.W_dec)])
        encoder = StreamedEncoder(params.W_enc, params.b_enc, norms)
        return ScaledEncoder(norms, params.W_enc, params.b_enc, encoder)
    norms = decoder_norms(params.W_dec)
    W_enc = params.W_enc * norms[:, None]
    b_enc = params.b_enc * norms
    theta = getattr(params.own, "theta", None)
    return ScaledEncoder(norms, W_enc, b_enc, Encoder(W_enc, b_enc, theta=theta))


def input_forward(x, b_dec, conventions):
    """Return the `Read` of ``x`` (B, I): in float64, and what the encoder reads rounded once."""
    wide = x.astype(np.float64)
    u, gain, shift = NORMALIZATIONS[conventions.normalize_activations].forward(wide, conventions)
    read = (u - b_dec if conventions.apply_b_dec_to_input else u).astype(x.dtype)
    return Read(read, gain, shift) if conventions.rescale_output else Read(read, 1.0, 0.0)


def conventional_decode(
    hidden, x, read, W_dec, b_dec, W_skip, norms, conventions, decode=decode_forward
):
    """Return the `Decoded` of ``hidden``, a `Sparse` (B, D).

    ``norms`` are those of a `ScaledEncoder`, or None.  The way back is computed in float64, and
    rounded once.  ``decode`` is `decode_forward`, or what returns the same.
    """
    written = _unscaled(hidden, norms)
    decoded = decode(written, W_dec, b_dec)
    skips_x = W_skip is not None and conventions.skip_input == "x"
    if W_skip is not None and not skips_x:
        decoded += skip_forward(read.encoder_input, W_skip)
    reconstruction = decoded
    if conventions.changes_output:
        wide = decoded.astype(np.float64) * read.gain + read.shift
        reconstruction = wide.astype(decoded.dtype)
    if skips_x:
        reconstruction = reconstruction + skip_forward(x, W_skip)
    return Decoded(hidden, written, decoded, reconstruction)


def conventional_backward(
    x, target, read, forward, W_enc, W_dec, W_skip=None, *, l1_coeff, norms, conventions,
    activation, own, losses=DEFAULT,
):  # fmt: skip
    """Return every gradient by name, given a `Read` and a `Decoded`, ``forward``."""
    hidden, written, decoded, reconstruction = forward
    dtype = W_dec.dtype
    of_error = RECONSTRUCTION_LOSSES[losses.reconstruction_loss]
    d_reconstruction = of_error.backward(target, reconstruction)
    d_decoded, d_gain, d_shift = d_reconstruction, 0.0, 0.0
    if conventions.changes_output:
        d_decoded = (d_reconstruction.astype(np.float64) * read.gain).astype(dtype)
        d_gain, d_shift = row_dots(d_reconstruction, decoded), row_sums(d_reconstruction)
    d_written, dW_dec, db_dec = decode_backward(d_decoded, written, W_dec)
    d_hidden, dW_dec, penalty = penalty_backward(
        _unscaled(d_written, norms), dW_dec, hidden, W_dec, l1_coeff, losses
    )
    d_pre, d_own = activation_backward(d_hidden, hidden, activation=activation, own=own)
    d_affine = d_pre
    if norms is not None:
        d_affine = hidden.with_values((d_pre.values * norms[hidden.indices]).astype(dtype))
    if norms is not None and penalty is not None:
        dW_dec += _through_norms(penalty, hidden, norms)[:, None].astype(dtype) * W_dec
    d_read, dW_enc, db_enc = affine_backward(d_affine, read.encoder_input, W_enc)

    dW_skip = dx_skip = None
    if W_skip is not None and conventions.skip_input == "x":
        dx_skip, dW_skip = skip_backward(d_reconstruction, x, W_skip)
    elif W_skip is not None:
        through_skip, dW_skip = skip_backward(d_decoded, read.encoder_input, W_skip)
        d_read += through_skip
    if conventions.apply_b_dec_to_input:
        db_dec -= sum_rows(d_read)
    normalization = NORMALIZATIONS[conventions.normalize_activations]
    wide = d_read.astype(np.float64), d_gain, d_shift, x.astype(np.float64), conventions
    dx = normalization.backward(*wide).astype(dtype)
    return {
        "d_reconstruction": d_reconstruction, "d_decoded": d_decoded, "d_hidden": d_hidden,
        "d_pre": d_pre, "d_own": d_own, "dW_dec": dW_dec, "db_dec": db_dec, "dW_skip": dW_skip,
        "dW_enc": dW_enc, "db_enc": db_enc, "d_encoder_input": d_read,
        "dx": dx if dx_skip is None else dx + dx_skip,
    }  # fmt: skip


def _unscaled(features, norms):
    """The `Sparse` ``features`` over ``norms``: in float64, and rounded once."""
    if norms is None:
        return features
    values = features.values / norms[features.indices]
    return features.with_values(values.astype(features.values.dtype))


def _through_norms(penalty, hidden, norms):
    """What multiplies W_dec[j] (D,): the penalty alone reaches the norms, by ascending rows."""
    squares = np.square(norms)[hidden.indices]
    terms = penalty.values.astype(np.float64) * hidden.values / squares
    return np.bincount(hidden.indices, terms, minlength=len(norms))
