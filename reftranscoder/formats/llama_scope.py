"""Llama Scope (OpenMOSS): ``checkpoints/final.safetensors`` and ``hyperparams.json`` above it.

He et al., *Llama Scope* (2024), arXiv:2410.20526.  Top-k ones are published as JumpReLU with one
threshold.  They were trained on x times s, whose mean norm is sqrt(I), to predict y times t, whose
mean norm is sqrt(O): ``dataset_average_activation_norm`` has the mean norms of x, ``in``, and of y,
``out``, which are one and the same in an autoencoder.  The threshold is of activations in the units
of x, hence times s for ours (``sae_lens/loading/pretrained_sae_loaders.py`` of sae-lens 6.54.12).
Of a transcoder that loader knows one factor alone, s; the library that trained them divides the
decoder and its bias by t (``standardize_parameters_of_dataset_norm`` in OpenMOSS'
Language-Model-SAEs), and so are they here, each entry computed in float64 and rounded once.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError, shown
from ..files import schema
from ..files.container import inside, json_of
from ..files.stored import Stored
from .place import Place
from .published import Decisions, Made, Published, texts_of

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
    threshold = _number(place, "jump_relu_threshold", settings.get("jump_relu_threshold"))
    hook_in, hook_out = texts_of(settings, "hook_point_in", "hook_point_out")
    transcoder = hook_in != hook_out
    s, t = (_scale(place, settings, name) for name in ("in", "out" if transcoder else "in"))
    conventions = {"normalize_activations": "expected_average_only_in", "scale": s}
    if transcoder:
        conventions["rescale_output"] = False
        arrays |= {name: _divided(arrays[name], t) for name in ("W_dec", "b_dec")}
    return Published(
        path=place.path,
        variant="jumprelu transcoder" if transcoder else "jumprelu SAE",
        arrays={**arrays, "theta": np.array(threshold * s, np.float32)},
        activation="jumprelu",
        conventions=conventions,
        layer=place.layer(),
        hook_in=hook_in,
        hook_out=hook_out,
    )


def _number(place: Place, name: str, value: Any) -> float:
    if not schema.is_finite(value) or value < 0:
        problem = f"its {name} in {SETTINGS} must be a number; it is {shown(value)}"
        raise FileError(place.path, problem)
    return float(value)


def _scale(place: Place, settings: dict[str, Any], name: str) -> float:
    """What the activations ``in`` or ``out`` are multiplied by so that their mean norm is as it
    was in training."""
    norms = settings.get("dataset_average_activation_norm")
    norm = norms.get(name) if schema.is_object(norms) else None
    norm = _number(place, f"norm of activations {name!r}", norm)
    width = _number(place, "d_model", settings.get("d_model"))
    if not norm or not width:
        raise FileError(place.path, f"its norms and d_model in {SETTINGS} must be above 0")
    return math.sqrt(width) / norm


def _divided(array: Stored, by: float) -> Made:
    def read() -> np.ndarray:
        wide = array.read()
        return np.asarray((wide.astype(np.float64) / by).astype(wide.dtype))

    return Made(array.shape, [array], read)


def _settings(folder: Path) -> dict[str, Any]:
    for place in (folder, folder.absolute().parent):
        if (place / SETTINGS).is_file():
            return json_of(inside(place, SETTINGS))
    return {}
