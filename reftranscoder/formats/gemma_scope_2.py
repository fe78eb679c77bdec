"""Gemma Scope 2: ``params.safetensors`` in lower case, and ``config.json``.

``affine_skip_connection`` is (I, O), and used as it stands.
"""

from __future__ import annotations

from ..errors import FileError, shown
from .place import Place
from .published import Decisions, Published, texts_of

SETTINGS = "config.json"
_NEEDED = {"w_enc", "b_enc", "w_dec", "b_dec", "threshold"}
#: What a file leaves open, of `Decisions`.
DECIDED = ()


def recognises(place: Place) -> bool:
    """Whether the tensors at ``place``, with the files beside them, are of this format."""
    container = place.container()
    return _NEEDED <= container.tensors.keys()


def read(place: Place, decisions: Decisions) -> Published:
    """What ``place`` says.

    Raises:
        FileError: it is a cross-layer one, or its settings contradict its tensors.
    """
    tensors, settings = place.container().tensors, place.settings(SETTINGS)
    if len(tensors["w_dec"].shape) != 2:
        raise FileError(place.path, "is of several layers: cross-layer transcoders are not read")
    if settings.get("architecture", "jump_relu") != "jump_relu":
        problem = f"its architecture is {shown(settings['architecture'])}, which is not read here"
        raise FileError(place.path, problem)
    skip = "affine_skip_connection" in tensors
    if settings and bool(settings.get("affine_connection")) != skip:
        said = bool(settings.get("affine_connection"))
        raise FileError(place.path, f"its affine_connection is {said}, and its tensors disagree")
    arrays = {
        "W_enc": tensors["w_enc"].transposed,
        "b_enc": tensors["b_enc"],
        "W_dec": tensors["w_dec"],
        "b_dec": tensors["b_dec"],
        "theta": tensors["threshold"],
    }
    if skip:
        arrays["W_skip"] = tensors["affine_skip_connection"].transposed
    hook_in, hook_out, model = texts_of(
        settings, "hf_hook_point_in", "hf_hook_point_out", "model_name"
    )
    kind = settings.get("type")
    return Published(
        path=place.path,
        variant=f"jumprelu {kind if kind in ('sae', 'transcoder') else ''}".strip(),
        arrays=arrays,
        activation="jumprelu",
        layer=place.layer(),
        model=model,
        hook_in=hook_in,
        hook_out=hook_out,
        warnings=() if settings else ("config.json is not beside it",),
    )
