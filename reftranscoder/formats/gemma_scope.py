"""Gemma Scope: ``params.npz`` with five arrays, and no file of settings.

Lieberum et al., *Gemma Scope* (2024), arXiv:2408.05147, and the tutorial that goes with it:
features are ``relu(z) [z > threshold]``, and b_dec is not subtracted from the input.
"""

from __future__ import annotations

from .place import Place
from .published import Decisions, Published

_NAMES = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")
#: What a file leaves open, of `Decisions`.
DECIDED = ("apply_b_dec_to_input",)


def recognises(place: Place) -> bool:
    """Whether the tensors at ``place``, with the files beside them, are of this format."""
    container = place.container()
    return container.kind == "npz" and container.tensors.keys() == set(_NAMES)


def read(place: Place, decisions: Decisions) -> Published:
    """What ``place`` says; which layers it reads and writes stands in the names of its folders."""
    tensors = place.container().tensors
    arrays = {name: tensors[name] for name in _NAMES[1:4]}
    return Published(
        path=place.path,
        variant="jumprelu",
        arrays={**arrays, "W_enc": tensors["W_enc"].transposed, "theta": tensors["threshold"]},
        activation="jumprelu",
        conventions={"apply_b_dec_to_input": True} if decisions.apply_b_dec_to_input else {},
        layer=place.layer(),
        warnings=(
            "the file does not say which activations it reads: transcoders read "
            "ln2.hook_normalized and write hook_mlp_out",
        ),
    )
