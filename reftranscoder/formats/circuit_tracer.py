"""circuit-tracer: ``layer_0.safetensors``, ``layer_1.safetensors``, ... and ``config.yaml``.

``transcoder/single_layer_transcoder.py`` of circuit-tracer 0.5.0 defines it.  In its first release
(2025-05-29), a row of ``W_dec`` in the file was one of an output, not of a feature; the shape says
which it is, unless D is O.  ``W_enc`` is (D, I) and ``W_skip`` (O, I) in either.
"""

from __future__ import annotations

import re
from typing import Any

from ..errors import FileError, shown, words
from ..files import plain_yaml
from ..files.stored import Stored
from .place import Place
from .published import Decisions, Published, texts_of

SETTINGS = "config.yaml"
_NEEDED = {"W_enc", "b_enc", "W_dec", "b_dec"}
_THRESHOLD, _K = "activation_function.threshold", "k"
_FILE = re.compile(r"layer_\d+\.safetensors")
#: Where activations are taken, by its settings.
HOOKS = ("feature_input_hook", "feature_output_hook")
_ALL = _NEEDED | {"W_skip", _THRESHOLD, _K}
#: What a file leaves open, of `Decisions`.
DECIDED = ("top_k", "activation", "W_dec_rows")


def recognises(place: Place) -> bool:
    """Whether the tensors at ``place``, with the files beside them, are of this format."""
    container = place.container()
    held = container.tensors.keys()
    # The names of the tensors are not its own: the file's, or what is beside it, must be.
    marked = place.named or _THRESHOLD in held or _FILE.match(place.path.name) is not None
    return marked and container.kind == "safetensors" and _NEEDED <= held <= _ALL


def read(place: Place, decisions: Decisions) -> Published:
    """What ``place`` says.

    Raises:
        FileError: settings are of what is not read here, or the layout cannot be told.
    """
    tensors = dict(place.container().tensors)
    settings = settings_of(place)
    if (kind := settings.get("model_kind", "transcoder_set")) != "transcoder_set":
        problem = f"is of model_kind {shown(kind)} by {SETTINGS}, and not of a transcoder_set"
        raise FileError(place.path, problem)
    activation, top_k = _activation(place, tensors, settings, decisions)
    arrays = {name: tensors[name] for name in ("W_enc", "b_enc", "b_dec")}
    arrays["W_dec"] = _decoder(place, tensors, decisions)
    for name, ours in (("W_skip", "W_skip"), (_THRESHOLD, "theta")):
        if name in tensors:
            arrays[ours] = tensors[name]
    model, hook_in, hook_out = texts_of(settings, "model_name", *HOOKS)
    unsaid = activation == "relu" and "activation" not in settings and not decisions.activation
    return Published(
        path=place.path,
        variant=f"{activation} transcoder",
        arrays=arrays,
        activation=activation,
        top_k=top_k,
        layer=place.layer(),
        model=model,
        hook_in=hook_in,
        hook_out=hook_out,
        warnings=("the file does not say that it is of ReLU: it has no threshold",)
        if unsaid
        else (),
    )


def settings_of(place: Place) -> dict[str, Any]:
    """What ``config.yaml`` beside ``place`` says; empty if there is none.

    Raises:
        FileError: it is more than a table of settings.
    """
    try:
        return plain_yaml.parse(place.text(SETTINGS))
    except ValueError as error:
        path = place.folder / SETTINGS
        raise FileError(path, f"is more than a table of settings: {words(error)}") from None


def _activation(
    place: Place, tensors: dict[str, Stored], settings: dict[str, Any], decisions: Decisions
) -> tuple[str, int | None]:
    """The settings decide; else what the tensors have; as the library has it."""
    found = "jumprelu" if _THRESHOLD in tensors else "topk" if _K in tensors else "relu"
    activation = decisions.activation or settings.get("activation") or found
    if activation == "relu":
        tensors.pop(_THRESHOLD, None)
    if activation != "topk":
        return str(activation), None
    k = decisions.top_k or settings.get("k")
    if k is None and _K in tensors:
        k = tensors[_K].whole()
    if not isinstance(k, int) or k < 1:
        problem = f"its k must be a whole number; it is {shown(k)}"
        raise FileError(place.path, problem, "Say top_k=.")
    if decisions.activation is None:
        problem = f"keeps the {k} largest of a row, be they positive or not, and ours must be"
        hint = "Say activation='topk' to keep only the positive ones of them."
        raise FileError(place.path, problem, hint)
    return "topk", k


def _decoder(place: Place, tensors: dict[str, Stored], decisions: Decisions) -> Stored:
    W_dec = tensors["W_dec"]
    if W_dec.shape[:1] == W_dec.shape[1:] and tensors["b_enc"].shape == tensors["b_dec"].shape:
        if decisions.W_dec_rows not in ("feature", "output"):
            problem = "its W_dec is square, and circuit-tracer has had both layouts"
            hint = "Say W_dec_rows='feature' (since 2025-06) or W_dec_rows='output'."
            raise FileError(place.path, problem, hint)
        return W_dec if decisions.W_dec_rows == "feature" else W_dec.transposed
    outputs_first = W_dec.shape[::-1] == tensors["b_enc"].shape + tensors["b_dec"].shape
    return W_dec.transposed if outputs_first else W_dec
