"""openai/sparse_autoencoder: ``LAYER.pt``, a flat dict with the names of its class.

``sparse_autoencoder/model.py`` of its commit of June 2024 defines it.  Top-k ones normalize each
row of x first, dividing by the standard deviation plus 1e-5, and take the reconstruction back by
the standard deviation.
"""

from __future__ import annotations

from typing import Any

from ..errors import FileError, shown
from .place import Place
from .published import Decisions, Published

_ARRAYS = {"encoder.weight": "W_enc", "latent_bias": "b_enc", "pre_bias": "b_dec"}
_ACTIVATIONS = {"ReLU": "relu", "TopK": "topk"}
#: What a file leaves open, of `Decisions`.
DECIDED = ("top_k",)


def recognises(place: Place) -> bool:
    """Whether the tensors at ``place``, with the files beside them, are of this format."""
    container = place.container()
    return container.kind == "torch" and _ARRAYS.keys() <= container.tensors.keys()


def read(place: Place, decisions: Decisions) -> Published:
    """What ``place`` says.

    Raises:
        FileError: another activation, or a decoder that is missing.
    """
    tensors, values = place.container().tensors, place.container().values
    name = values.get("activation", "ReLU")
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        raise FileError(place.path, f"its activation is {shown(name)}, which is not among ours")
    if "decoder.weight" not in tensors:
        raise FileError(place.path, "lacks decoder.weight")
    arrays = {ours: tensors[theirs] for theirs, ours in _ARRAYS.items()}
    normalized = {"normalize_activations": "layer_norm"} if name == "TopK" else {}
    return Published(
        path=place.path,
        variant=name,
        arrays={**arrays, "W_dec": tensors["decoder.weight"].transposed},
        activation=_ACTIVATIONS[name],
        top_k=_top_k(place, values, decisions) if name == "TopK" else None,
        conventions={"apply_b_dec_to_input": True, **normalized},
        layer=place.layer(),
    )


def _top_k(place: Place, values: dict[str, Any], decisions: Decisions) -> int:
    state = values.get("activation_state_dict")
    state = state if isinstance(state, dict) else {}
    k = decisions.top_k or state.get("k")
    if not isinstance(k, int) or k < 1:
        problem = f"its k must be a whole number; it is {shown(k)}"
        raise FileError(place.path, problem, "Say top_k=.")
    if state.get("postact_fn", "ReLU") != "ReLU":
        problem = f"its postact_fn is {shown(state['postact_fn'])}, which is not among ours"
        raise FileError(place.path, problem)
    return k
