"""The encoder of a transcoder: made once, kept as long as its parameters live."""

from __future__ import annotations

import weakref

from ..params import Gated
from ..params.unpacked import UnpackedParams
from .engine.threads_and_forks import Lock
from .gated_encoder import GatedEncoder
from .screened_encoder import Encoder
from .streamed_encoder import StreamedEncoder

_encoders: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_lock = Lock()


def encoder_of(params):
    """What encodes with ``params``, a `Params`; as long as they live, one and the same."""
    with _lock:
        encoder = _encoders.get(params)
        if encoder is None:
            encoder = _encoders[params] = _encoder(params)
        return encoder


def _encoder(params):
    weights, own = (params.W_enc, params.b_enc), params.own
    if isinstance(params, UnpackedParams):
        return StreamedEncoder(*weights)
    if isinstance(own, Gated):
        return GatedEncoder(*weights, own.b_gate)
    return Encoder(*weights, theta=None if own is None else own.theta)
