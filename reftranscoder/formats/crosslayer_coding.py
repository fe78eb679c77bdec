"""crosslayer-coding: ``clt_checkpoint_STEP.safetensors`` and ``cfg.json``.

``clt/models/`` and ``clt/config/clt_config.py`` of curt-tigges/crosslayer-coding at 9499108
(2025-07-03) define it.  ``encoder_module.encoders.l.weight`` is (D, I) and ``.bias_param`` (D,).
Decoders are ``decoder_module.decoders.NAME`` with ``.weight`` (O, D) and ``.bias_param`` (O,), of
which there is, by ``decoder_tying``::

    "none"        one for each pair, "s->t"
    "per_source"  one for each layer that is read, s; its bias is added for every target
    "per_target"  one for each layer that is written to, t; its bias is added once

``decoder_module.skip_weights`` are (O, I): one for each such pair, or, where decoders are tied, one
from each layer to itself.  ``feature_offset`` and ``feature_scale``, which only tied decoders have,
are (D,) for each layer written to: the former is a ``post_enc``, the latter is folded into the
weights, each entry rounded once.  Where several biases are added for a target, their float64 sum is
rounded once here.  JumpReLU's thresholds are the exponentials of ``theta_manager.log_threshold``
(L, D), and a feature is active there *at* its threshold: the number below it is the threshold here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import FileError, shown, words
from ..files.stored import Stored
from .cross_layer import CrossLayerPublished
from .place import Place
from .published import Decisions, Made, texts_of

SETTINGS = "cfg.json"
_ENCODER, _DECODER = "encoder_module.encoders", "decoder_module.decoders"
_SKIP = "decoder_module.skip_weights"
_OFFSET, _SCALE = "decoder_module.feature_offset", "decoder_module.feature_scale"
_THRESHOLD = "theta_manager.log_threshold"
_FIRST = f"{_ENCODER}.0.weight"
_TYINGS = ("none", "per_source", "per_target")
#: What a file leaves open, of `Decisions`.
DECIDED = ()


def recognises(place: Place) -> bool:
    """Whether the tensors at ``place`` are of this format."""
    container = place.container()
    return container.kind == "safetensors" and _FIRST in container.tensors


def read(place: Place, decisions: Decisions) -> CrossLayerPublished:
    """What ``place`` says.

    Raises:
        FileError: settings are missing, or of what is not read here; or tensors are.
    """
    settings = place.settings(SETTINGS)
    if not settings:
        raise FileError(place.path, f"lacks {SETTINGS} beside it, which says the activation")
    activation, tying = settings.get("activation_fn"), settings.get("decoder_tying", "none")
    if activation in ("topk", "batchtopk"):
        problem = f"its {activation} ranks the normalised features of all layers together"
        raise FileError(
            place.path, problem, "Ours competes within a layer: convert it to jumprelu."
        )
    if activation not in ("relu", "jumprelu"):
        raise FileError(
            place.path, f"its activation_fn is {shown(activation)}, not relu or jumprelu"
        )
    if tying not in _TYINGS:
        raise FileError(
            place.path, f"its decoder_tying is {shown(tying)}, not {', '.join(_TYINGS)}"
        )
    tensors = place.container().tensors
    L = 0
    while f"{_ENCODER}.{L}.weight" in tensors:
        L += 1
    _check_names(place, L, tying, settings)
    arrays: dict[str, tuple[Any, ...]] = {
        "W_enc": tuple(tensors[f"{_ENCODER}.{l}.weight"] for l in range(L)),
        "b_enc": tuple(tensors[f"{_ENCODER}.{l}.bias_param"] for l in range(L)),
        "W_dec": tuple(_decoder(tensors, l, L, tying) for l in range(L)),
        "b_dec": tuple(_bias(tensors, t, tying) for t in range(L)),
    }
    if settings.get("skip_connection"):
        arrays["W_skip"] = tuple(_skip(tensors, l, L, tying) for l in range(L))
    if tying != "none" and settings.get("enable_feature_offset"):
        arrays["post_enc"] = tuple(_offset(tensors, l, L) for l in range(L))
    if activation == "jumprelu":
        arrays["theta"] = tuple(_threshold(tensors[_THRESHOLD], l, L) for l in range(L))
    model, hook_in, hook_out = texts_of(
        settings, "model_name", "mlp_input_template", "mlp_output_template"
    )
    normalised = settings.get("normalization_method", "none")
    return CrossLayerPublished(
        path=place.path,
        variant=f"{activation} cross-layer transcoder of {L} layers",
        arrays=arrays,
        activation=activation,
        model=model,
        hook_in=hook_in,
        hook_out=hook_out,
        warnings=()
        if normalised == "none"
        else (f"trained on what {words(normalised)} normalised, by numbers that it does not hold",),
    )


def _name(s: int, t: int, tying: str) -> str:
    """Of the decoder from layer ``s`` to layer ``t``."""
    of = {"none": f"{s}->{t}", "per_source": f"{s}", "per_target": f"{t}"}
    return f"{_DECODER}.{of[tying]}"


def _skips(l: int, L: int, tying: str) -> list[str]:
    """The skip connections from layer ``l``, in the order of the layers that they lead to."""
    if tying != "none":
        return [f"{_SKIP}.{l}"]
    return [f"{_SKIP}.{l}->{t}" for t in range(l, L)]


def _check_names(place: Place, L: int, tying: str, settings: dict[str, Any]) -> None:
    """Refuse tensors that are missing, and others, which would be ignored."""
    held = place.container().tensors.keys()
    decoders = {_name(s, t, tying) for t in range(L) for s in range(t + 1)}
    modules = decoders | {f"{_ENCODER}.{l}" for l in range(L)}
    needed = {f"{module}.{part}" for module in modules for part in ("weight", "bias_param")}
    if settings.get("activation_fn") == "jumprelu":
        needed.add(_THRESHOLD)
    if settings.get("skip_connection"):
        needed |= {name for l in range(L) for name in _skips(l, L, tying)}
    for option, name in (("enable_feature_offset", _OFFSET), ("enable_feature_scale", _SCALE)):
        if tying != "none" and settings.get(option):
            needed |= {f"{name}.{t}" for t in range(L)}
    if missing := sorted(needed - held):
        raise FileError(place.path, f"lacks {words(missing[0])}, by its {SETTINGS}")
    if strange := sorted(held - needed):
        problem = f"also holds {words(strange[0])}, of which no transcoder of ours makes anything"
        raise FileError(place.path, problem)


def _decoder(tensors: dict[str, Stored], s: int, L: int, tying: str) -> Made:
    parts = [tensors[f"{_name(s, t, tying)}.weight"] for t in range(s, L)]
    scales = [tensors[name] for t in range(s, L) if (name := f"{_SCALE}.{t}") in tensors]
    shapes = {part.shape for part in parts}
    O, D = parts[0].shape if len(shapes) == 1 and len(parts[0].shape) == 2 else (0, 0)

    def read() -> np.ndarray:
        rows = [part.transposed.read() for part in parts]
        for k, scale in enumerate(scales):
            rows[k] = rows[k] * scale.read()[:, None]
        return np.stack(rows, axis=1)

    fit = all(scale.shape == (D,) for scale in scales)
    return Made((D if fit else 0, L - s, O), [*parts, *scales], read)


def _offset(tensors: dict[str, Stored], l: int, L: int) -> Made:
    parts = [tensors[f"{_OFFSET}.{t}"] for t in range(l, L)]
    same = len({part.shape for part in parts}) == 1

    def read() -> np.ndarray:
        return np.stack([part.read() for part in parts], axis=1)

    return Made((*parts[0].shape, L - l) if same else (), parts, read)


def _bias(tensors: dict[str, Stored], t: int, tying: str) -> Made:
    sources = (t,) if tying == "per_target" else range(t + 1)
    parts = [tensors[f"{_name(s, t, tying)}.bias_param"] for s in sources]
    shape = parts[0].shape if len({part.shape for part in parts}) == 1 else ()

    def read() -> np.ndarray:
        biases = [part.read() for part in parts]
        total = np.asarray(sum(bias.astype(np.float64) for bias in biases))
        return total.astype(biases[0].dtype)

    return Made(shape, parts, read)


def _skip(tensors: dict[str, Stored], l: int, L: int, tying: str) -> Made:
    parts = [tensors[name] for name in _skips(l, L, tying)]
    shapes = {part.shape for part in parts}
    shape = parts[0].shape if len(shapes) == 1 else ()

    def read() -> np.ndarray:
        found = [part.read() for part in parts]
        return np.stack(found + [np.zeros_like(found[0])] * (L - l - len(found)))

    return Made((L - l, *shape), parts, read)


def _threshold(log_threshold: Stored, l: int, L: int) -> Made:
    def read() -> np.ndarray:
        logarithms = log_threshold.read()
        exact = np.exp(logarithms[l].astype(np.float64))
        theta = exact.astype(log_threshold.dtype).astype(logarithms.dtype)  # as the library has it
        return np.asarray(np.nextafter(theta, theta.dtype.type(0)))

    shape = log_threshold.shape
    return Made(shape[1:] if shape[:1] == (L,) else (), [log_threshold], read)
