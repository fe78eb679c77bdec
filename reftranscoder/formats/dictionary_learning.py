"""dictionary_learning: ``ae.pt``, a state dict of PyTorch's, and ``config.json``.

``dictionary.py`` and ``trainers/`` of dictionary-learning 0.1.0 define it; what class it is, stands
in config.json as ``trainer.dict_class``.  ``AutoEncoder.from_pretrained`` of that library rescales
features so that the rows of the decoder have norm 1, unless told not to; here, and in its training,
arrays are used as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..errors import FileError, shown
from ..files import schema
from ..files.container import Container
from ..files.stored import Stored
from .place import Place
from .published import Decisions, Published, texts_of

SETTINGS = "config.json"


class _Class(NamedTuple):
    """What a class of the library calls the arrays, and what it computes.

    ``arrays`` gives our name for each; those in ``turned`` have a column for each feature.
    """

    arrays: Mapping[str, str]
    turned: frozenset[str]
    activation: str
    applies_b_dec: bool


_LINEAR = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "decoder.weight": "W_dec"}
_DECODER = frozenset({"W_dec"})
_ENCODER = frozenset({"W_enc"})
_GATED = {
    "encoder.weight": "W_enc",
    "decoder.weight": "W_dec",
    "decoder_bias": "b_dec",
    "gate_bias": "b_gate",
    "mag_bias": "b_mag",
    "r_mag": "r_mag",
}
_PLAIN = {"W_enc": "W_enc", "b_enc": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}

CLASSES = {
    "AutoEncoder": _Class(_LINEAR | {"bias": "b_dec"}, _DECODER, "relu", True),
    "AutoEncoderNew": _Class(_LINEAR | {"decoder.bias": "b_dec"}, _DECODER, "relu", False),
    "AutoEncoderTopK": _Class(_LINEAR | {"b_dec": "b_dec"}, _DECODER, "topk", True),
    "BatchTopKSAE": _Class(_LINEAR | {"b_dec": "b_dec"}, _DECODER, "batchtopk", True),
    "MatryoshkaBatchTopKSAE": _Class(_PLAIN, _ENCODER, "batchtopk", True),
    "JumpReluAutoEncoder": _Class(_PLAIN, _ENCODER, "jumprelu", False),
    "GatedAutoEncoder": _Class(_GATED, _DECODER, "gated", True),
}
#: What a file leaves open, of `Decisions`.
DECIDED = ("apply_b_dec_to_input", "top_k")


def recognises(place: Place) -> bool:
    """Whether the tensors at ``place``, with the files beside them, are of this format."""
    container = place.container()
    content = _state(container)
    linear = {"encoder.weight", "decoder.weight"} <= content.keys() and "pre_bias" not in content
    plain = _PLAIN.keys() <= content.keys() and SETTINGS in place.names
    return container.kind == "torch" and (linear or plain)


def read(place: Place, decisions: Decisions) -> Published:
    """What ``place`` says.

    Raises:
        FileError: the class is not named, or not read here, or its arrays are not what it has.
    """
    tensors = _state(place.container())
    said = place.settings(SETTINGS).get("trainer")
    trainer = said if schema.is_object(said) else {}
    name = trainer.get("dict_class")
    if not schema.is_text(name) or name not in CLASSES:
        known = ", ".join(CLASSES)
        problem = f"the dict_class that config.json names for it is {shown(name)}"
        raise FileError(place.path, problem, f"Known: {known}.")
    row = CLASSES[name]
    lacking = sorted(row.arrays.keys() - tensors.keys())
    if lacking:
        raise FileError(place.path, f"is a {name}, and lacks {', '.join(lacking)}")
    arrays: dict[str, Stored | np.ndarray]
    arrays = {
        ours: tensors[theirs].transposed if ours in row.turned else tensors[theirs]
        for theirs, ours in row.arrays.items()
    }
    if row.activation == "gated":  # has no bias that both paths share: it is 0 here
        arrays["b_enc"] = np.zeros(arrays["b_gate"].shape, np.float32)
    activation, top_k = row.activation, None
    warnings: tuple[str, ...] = ()
    if activation in ("topk", "batchtopk"):
        top_k = decisions.top_k or _number(place, tensors, "k")
    if activation == "batchtopk":
        activation, top_k, warnings = "jumprelu", None, _unset(place, tensors)
    if activation == "jumprelu":
        arrays["theta"] = tensors["threshold"]
    model, hook_in = texts_of(trainer, "lm_name", "submodule_name")
    applies = decisions.apply_b_dec_to_input
    return Published(
        path=place.path,
        variant=name,
        arrays=arrays,
        activation=activation,
        top_k=top_k,
        conventions={"apply_b_dec_to_input": True}
        if (row.applies_b_dec if applies is None else applies)
        else {},
        layer=trainer["layer"] if schema.is_whole(trainer.get("layer")) else place.layer(),
        model=model,
        hook_in=hook_in,
        warnings=warnings,
    )


def _state(container: Container) -> Mapping[str, Stored]:
    """The tensors by name, in a checkpoint under ``ae``."""
    nested = container.values.get("ae")
    if container.tensors or not isinstance(nested, dict):
        return container.tensors
    return {name: value for name, value in nested.items() if isinstance(value, Stored)}


def _number(place: Place, tensors: Mapping[str, Stored], name: str) -> int:
    number = tensors[name].whole() if name in tensors else None
    if number is None:
        raise FileError(place.path, f"its {name} must be one whole number", f"Say top_{name}=.")
    return number


def _unset(place: Place, tensors: Mapping[str, Stored]) -> tuple[str, ...]:
    if "threshold" not in tensors or tensors["threshold"].shape:
        raise FileError(place.path, "its threshold must be one number")
    if tensors["threshold"].read() >= 0:
        return ()
    return ("its threshold was never set, so that every positive activation is kept",)
