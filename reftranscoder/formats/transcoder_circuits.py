"""transcoder_circuits of Dunefsky et al. (2024): ``.pt`` with ``cfg`` and ``state_dict``.

``sae_training/sparse_autoencoder.py`` of its repository defines it.  The configuration is a pickled
object, of which the attributes are read as data.

A transcoder subtracts ``b_dec`` (I,) from its input and adds ``b_dec_out`` (O,) to its output::

    z = (x - b_dec) W_enc + b_enc  =  x W_enc + (b_enc - b_dec W_enc)

The bracket is ``b_enc`` here, computed in float64 and rounded once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import FileError
from ..files.pickled import Record
from ..files.stored import Stored
from .place import Place
from .published import Decisions, Made, Published, texts_of

_NEEDED = ("W_enc", "b_enc", "W_dec", "b_dec")
#: What a file leaves open, of `Decisions`.
DECIDED = ()


def recognises(place: Place) -> bool:
    """Whether the tensors at ``place``, with the files beside them, are of this format."""
    container = place.container()
    return isinstance(container.values.get("state_dict"), dict) and "cfg" in container.values


def read(place: Place, decisions: Decisions) -> Published:
    """What ``place`` says.

    Raises:
        FileError: arrays are missing, or do not fit what the configuration says.
    """
    values = place.container().values
    given = values["cfg"]
    settings = given.attributes if isinstance(given, Record) else given
    settings = settings if isinstance(settings, dict) else {}
    state = values["state_dict"]
    tensors = {name: value for name, value in state.items() if isinstance(value, Stored)}
    transcoder = "b_dec_out" in tensors
    lacking = [name for name in _NEEDED if name not in tensors]
    if lacking:
        raise FileError(place.path, f"its state_dict lacks {', '.join(lacking)}")
    if bool(settings.get("is_transcoder", transcoder)) != transcoder:
        raise FileError(place.path, "must hold b_dec_out exactly where its cfg has is_transcoder")
    arrays: dict[str, Any] = {name: tensors[name] for name in _NEEDED}
    arrays["W_enc"] = tensors["W_enc"].transposed
    applies = True
    if transcoder:
        arrays["b_dec"], applies = tensors["b_dec_out"], False
        arrays["b_enc"] = _folded(place, tensors)
    hook_in, hook_out, model = texts_of(settings, "hook_point", "out_hook_point", "model_name")
    return Published(
        path=place.path,
        variant="transcoder" if transcoder else "sae",
        arrays=arrays,
        activation="relu",
        conventions={"apply_b_dec_to_input": True} if applies else {},
        layer=place.layer(),
        model=model,
        hook_in=hook_in,
        hook_out=hook_out,
        warnings=("b_dec, which it subtracts from its input, is folded into b_enc",)
        if transcoder
        else (),
    )


def _folded(place: Place, tensors: dict[str, Stored]) -> Made:
    weight, b_enc, b_dec = (tensors[name] for name in ("W_enc", "b_enc", "b_dec"))
    if weight.shape != b_dec.shape + b_enc.shape:
        problem = f"W_enc {weight.shape} does not fit b_dec {b_dec.shape} and b_enc {b_enc.shape}"
        raise FileError(place.path, problem)

    def read() -> np.ndarray:
        narrow = b_enc.read()
        wide = b_dec.read().astype(np.float64) @ weight.read().astype(np.float64)
        return np.asarray((narrow - wide).astype(narrow.dtype))

    return Made(b_enc.shape, [b_enc, b_dec, weight], read)
