"""circuit-tracer's cross-layer transcoders: ``W_enc_0.safetensors``, ``W_dec_0.safetensors``, and
so on for each layer, and ``config.yaml``.

``transcoder/cross_layer_transcoder.py`` of circuit-tracer 0.5.0 defines it: ``W_enc_l`` (D, I),
``b_enc_l`` (D,), ``W_dec_l`` (D, L - l, O), ``b_dec_l`` (O,), which is that of the layer written
to, and for JumpReLU ``threshold_l`` (D,).  Without thresholds it is of ReLU.  The library's own
``encode_sparse`` also sets the features of a text's first token to zero, which is left to callers
here.  A skip connection is not in these files.
"""

from __future__ import annotations

import re

from ..errors import FileError, shown
from ..files.container import inside, open_container
from ..files.stored import Stored
from .circuit_tracer import HOOKS, settings_of
from .cross_layer import CrossLayerPublished
from .place import Place
from .published import Decisions, texts_of

_KIND = "cross_layer_transcoder"
_TENSOR = re.compile(r"W_(enc|dec)_\d+")
_FIRST = "W_enc_0.safetensors"
#: What a file leaves open, of `Decisions`.
DECIDED = ()


def recognises(place: Place) -> bool:
    """Whether the tensors at ``place`` are of this format."""
    container = place.container()
    return container.kind == "safetensors" and any(map(_TENSOR.fullmatch, container.tensors))


def read(place: Place, decisions: Decisions) -> CrossLayerPublished:
    """What the files beside ``place``, which must be that of the first encoder, say.

    Raises:
        FileError: it is another of them, one is missing, or does not hold what its name says.
    """
    if place.path.name != _FIRST:
        problem = "is a part of a cross-layer transcoder"
        raise FileError(place.path, problem, f"Load its folder, or {_FIRST} in it.")
    settings = settings_of(place)
    if (kind := settings.get("model_kind", _KIND)) != _KIND:
        raise FileError(place.path, f"is of model_kind {shown(kind)} by config.yaml, not {_KIND}")
    L = 0
    while f"W_enc_{L}.safetensors" in place.names:
        L += 1
    files = [_layer(place, l) for l in range(L)]
    model, hook_in, hook_out = texts_of(settings, "model_name", *HOOKS)
    activation = "jumprelu" if "theta" in files[0] else "relu"
    if any(file.keys() != files[0].keys() for file in files):
        raise FileError(place.path, "has thresholds in some of its layers, and not in all")
    return CrossLayerPublished(
        path=place.path,
        variant=f"{activation} cross-layer transcoder of {L} layers",
        arrays={name: tuple(file[name] for file in files) for name in files[0]},
        activation=activation,
        model=model,
        hook_in=hook_in,
        hook_out=hook_out,
    )


def _layer(place: Place, l: int) -> dict[str, Stored]:
    """The arrays of layer ``l`` by the names of `CrossLayerPublished`."""
    names = {f"W_enc_{l}": "W_enc", f"b_enc_{l}": "b_enc", f"b_dec_{l}": "b_dec"}
    found = _tensors(place, f"W_enc_{l}", names, {f"threshold_{l}": "theta"})
    return found | _tensors(place, f"W_dec_{l}", {f"W_dec_{l}": "W_dec"}, {})


def _tensors(
    place: Place, file: str, needed: dict[str, str], optional: dict[str, str]
) -> dict[str, Stored]:
    name = f"{file}.safetensors"
    if name not in place.names:
        raise FileError(place.folder / name, "is missing", "A layer has an encoder and a decoder.")
    container = open_container(inside(place.folder, name))
    held = container.tensors
    if not needed.keys() <= held.keys() <= needed.keys() | optional.keys():
        problem = f"must hold {', '.join(needed)}; it holds {', '.join(map(shown, sorted(held)))}"
        raise FileError(container.path, problem)
    return {(needed | optional)[tensor]: stored for tensor, stored in held.items()}
