"""Llama Scope (OpenMOSS): ``checkpoints/final.safetensors`` and ``hyperparams.json`` above it.

He et al., *Llama Scope* (2024), arXiv:2410.20526.  Top-k ones are published as JumpReLU with one
threshold, of activations whose mean norm is sqrt(I); like the library that trained them, this
scales x to that, and the reconstruction back.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError, shown
from ..files import schema
from ..files.container import inside, json_of
from .place import Place
from .published import Decisions, Published, texts_of

SETTINGS = "hyperparams.json"
_ARRAYS = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "decoder.bias": "b_dec"}
#: What a file leaves open, of `Decisions`.
DECIDED = ()


def recognises(place: Place) -> bool:
    """Whether the tensors at ``place``, with the files beside them, are of this format."""
    container = place.container()
    names_ours = {*_ARRAYS, "decoder.weight"}
    return container.kind == "safetensors" and container.tensors.keys() == names_ours


def read(place: Place, decisions: Decisions) -> Published:
    """What ``place`` says.

    Raises:
        FileError: settings are missing, or are not numbers.
    """
    settings = _settings(place.folder)
    if not settings:
        raise FileError(place.path, f"lacks {SETTINGS} in the folder above it")
    tensors = place.container().tensors
    arrays: dict[str, Any] = {ours: tensors[theirs] for theirs, ours in _ARRAYS.items()}
    arrays["W_dec"] = tensors["decoder.weight"].transposed
    norms = settings.get("dataset_average_activation_norm")
    norm = norms.get("in") if isinstance(norms, dict) else None
    norm = _number(place, "norm of activations", norm)
    threshold = _number(place, "jump_relu_threshold", settings.get("jump_relu_threshold"))
    if not norm:
        raise FileError(place.path, f"its norm of activations in {SETTINGS} must be above 0")
    scale = math.sqrt(arrays["b_dec"].shape[0]) / norm if arrays["b_dec"].shape else 1.0
    hook_in, hook_out = texts_of(settings, "hook_point_in", "hook_point_out")
    return Published(
        path=place.path,
        variant="jumprelu",
        arrays={**arrays, "theta": np.array(threshold, np.float32)},
        activation="jumprelu",
        conventions={"normalize_activations": "expected_average_only_in", "scale": scale},
        layer=place.layer(),
        hook_in=hook_in,
        hook_out=hook_out,
    )


def _number(place: Place, name: str, value: Any) -> float:
    if not schema.is_finite(value) or value < 0:
        problem = f"its {name} in {SETTINGS} must be a number; it is {shown(value)}"
        raise FileError(place.path, problem)
    return float(value)


def _settings(folder: Path) -> dict[str, Any]:
    for place in (folder, folder.absolute().parent):
        if (place / SETTINGS).is_file():
            return json_of(inside(place, SETTINGS))
    return {}
