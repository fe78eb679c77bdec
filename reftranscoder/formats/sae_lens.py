"""SAELens: a folder with ``cfg.json`` and ``sae_weights.safetensors``.

``sae_lens/saes/`` and ``loading/pretrained_sae_loaders.py`` of sae-lens 6.54.12 define it, and the
latter what files of before version 6 mean.  Two things differ from the library on purpose: an
``activation_fn`` that it silently runs as ReLU is refused, and so is a ``scaling_factor``.
Gated ones have no ``b_enc``: the bias that both paths share here is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..errors import FileError, shown
from ..files import schema
from ..files.stored import Stored
from ..params import Gated
from .place import Place, layer_in
from .published import Decisions, Published, texts_of

SETTINGS = "cfg.json"
_WEIGHTS = {"W_enc", "b_enc", "W_dec", "b_dec"}
_GATED = {"W_enc", "W_dec", "b_dec", *Gated.ARRAYS}


class _Architecture(NamedTuple):
    """What an architecture computes, and whether its target is another layer."""

    activation: str
    transcoder: bool = False
    skip: bool = False


ARCHITECTURES = {
    "standard": _Architecture("relu"),
    "topk": _Architecture("topk"),
    "abstopk": _Architecture("abstopk"),
    "batchtopk": _Architecture("batchtopk"),
    "matryoshka_batchtopk": _Architecture("batchtopk"),
    "jumprelu": _Architecture("jumprelu"),
    "gated": _Architecture("gated"),
    "transcoder": _Architecture("relu", transcoder=True),
    "skip_transcoder": _Architecture("relu", transcoder=True, skip=True),
    "jumprelu_transcoder": _Architecture("jumprelu", transcoder=True),
    "jumprelu_skip_transcoder": _Architecture("jumprelu", transcoder=True, skip=True),
}
_NORMALIZATIONS = {
    "none": "none",
    "expected_average_only_in": "none",  # its factor is folded into the weights as they are saved
    "constant_norm_rescale": "constant_norm_rescale",
    "layer_norm": "layer_norm",
}
#: What a file leaves open, of `Decisions`.
DECIDED = ("apply_b_dec_to_input", "top_k")


def recognises(place: Place) -> bool:
    """Whether the tensors at ``place``, with the files beside them, are of this format."""
    container = place.container()
    needed = {"W_enc", "W_dec", "b_dec"}  # gated ones have no b_enc
    return SETTINGS in place.names and needed <= container.tensors.keys()


def read(place: Place, decisions: Decisions) -> Published:
    """What ``place`` says.

    Raises:
        FileError: settings are missing or contradict the tensors, or are of what is not read here.
    """
    settings = _modern(place.settings(SETTINGS))
    name = settings.get("architecture", "standard")
    architecture = ARCHITECTURES.get(name) if schema.is_text(name) else None
    if architecture is None:
        known = ", ".join(ARCHITECTURES)
        problem = f"its architecture is {shown(name)}, which is not read here"
        raise FileError(place.path, problem, f"Known: {known}.")
    tensors = dict(place.container().tensors)
    _check_scaling(place, settings, tensors.pop("scaling_factor", None))
    theta = _threshold(tensors)
    activation = architecture.activation
    named = (_GATED if activation == "gated" else _WEIGHTS) | (
        {"W_skip"} if architecture.skip else set()
    )
    if lacking := sorted(named - tensors.keys()):
        raise FileError(place.path, f"is a {name}, and lacks {', '.join(lacking)}")
    arrays: dict[str, Stored | np.ndarray] = {n: tensors.pop(n) for n in sorted(named)}
    arrays["W_enc"] = place.container().tensors["W_enc"].transposed
    if activation == "gated":
        arrays["b_enc"] = np.zeros(arrays["b_gate"].shape, np.float32)
    if activation == "jumprelu" or (activation == "batchtopk" and theta is not None):
        if theta is None:
            raise FileError(place.path, f"is a {name}, and lacks threshold")
        arrays["theta"], activation = theta, "jumprelu"  # as the library uses it once it is trained
    if tensors:
        held = ", ".join(map(shown, sorted(tensors)[:4]))
        raise FileError(place.path, f"is a {name}, and also holds {held}")
    metadata = settings.get("metadata")
    model, hook_in, hook_out = texts_of(
        metadata if schema.is_object(metadata) else {}, "model_name", "hook_name", "hook_name_out"
    )
    return Published(
        path=place.path,
        variant=name,
        arrays=arrays,
        activation=activation,
        top_k=_top_k(place, settings, activation, decisions),
        conventions=_conventions(place, settings, architecture, decisions),
        layer=place.layer() if hook_in is None or (at := layer_in(hook_in)) is None else at,
        model=model,
        hook_in=hook_in,
        hook_out=hook_out,
    )


def _modern(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as version 6 writes them, from those of before by the library's own rules."""
    if _major(settings) >= 6:
        return settings
    renamed = {"hook_point": "hook_name", "activation_fn_str": "activation_fn"}
    settings = {renamed.get(name, name): value for name, value in settings.items()}
    options = settings.get("activation_fn_kwargs")
    if settings.get("activation_fn") == "topk" and schema.is_object(options) and "k" in options:
        settings |= {"architecture": "topk", "k": options["k"], "activation_fn": "relu"}
    normalized = settings.get("normalize_activations")
    if normalized is None or isinstance(normalized, bool):
        settings["normalize_activations"] = "expected_average_only_in" if normalized else "none"
    if "hook_z" in str(settings.get("hook_name", ""))[:200]:
        settings.setdefault("reshape_activations", "hook_z")
    return settings | {"metadata": settings}


def _major(settings: Mapping[str, Any]) -> int:
    metadata = settings.get("metadata")
    inner = metadata if schema.is_object(metadata) else {}
    version = settings.get("sae_lens_version") or inner.get("sae_lens_version")
    first = str(version)[:20].partition(".")[0]
    return int(first) if first.isdecimal() else 0


def _threshold(tensors: dict[str, Stored]) -> Stored | np.ndarray | None:
    """The thresholds, by whichever of the names that the library has had for them."""
    if "log_threshold" in tensors:
        logarithms = tensors.pop("log_threshold").read()
        return np.asarray(np.exp(logarithms))
    for name in ("threshold", "topk_threshold"):
        if name in tensors:
            return tensors.pop(name)
    return None


def _top_k(
    place: Place, settings: Mapping[str, Any], activation: str, decisions: Decisions
) -> int | None:
    if activation not in ("topk", "abstopk", "batchtopk"):
        return None
    k = settings.get("k") if decisions.top_k is None else decisions.top_k
    if not schema.is_finite(k) or k != int(k) or k < 1:
        raise FileError(place.folder / SETTINGS, f"its k must be a whole number; it is {shown(k)}")
    return int(k)


def _conventions(
    place: Place,
    settings: Mapping[str, Any],
    architecture: _Architecture,
    decisions: Decisions,
) -> dict[str, Any]:
    normalized = settings.get("normalize_activations", "none")
    if not schema.is_text(normalized) or normalized not in _NORMALIZATIONS:
        problem = f"its normalize_activations is {shown(normalized)}, which is not read here"
        raise FileError(place.path, problem)
    function = settings.get("activation_fn", "relu")
    if function not in ("relu", "topk"):
        raise FileError(place.path, f"its activation_fn is {shown(function)}, not among ours")
    applies = decisions.apply_b_dec_to_input
    if applies is None:
        applies = bool(settings.get("apply_b_dec_to_input", True))
    chosen: dict[str, Any] = {}
    if applies and not architecture.transcoder:
        chosen["apply_b_dec_to_input"] = True
    if _NORMALIZATIONS[normalized] != "none":
        chosen["normalize_activations"] = normalized
        if architecture.transcoder:
            chosen["rescale_output"] = False
    if settings.get("rescale_acts_by_decoder_norm"):
        chosen["rescale_acts_by_decoder_norm"] = True
    return chosen


def _check_scaling(place: Place, settings: Mapping[str, Any], factor: Stored | None) -> None:
    if factor is not None and (factor.read() != 1).any():
        raise FileError(place.path, "its features have a scaling_factor, which is not among ours")
    if settings.get("finetuning_scaling_factor") and factor is None:
        raise FileError(place.path, "its scaling_factor is missing")
