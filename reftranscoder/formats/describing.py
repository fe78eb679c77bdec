"""What the formats of other libraries say of a transcoder: the files of each, by name.

Each function here gives the files that a format has in a folder, the one that is read first, or
raises `CannotSay`, naming what would be lost: nothing is lost in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..params import Conventions
from .native import AnyModel, CrossLayerModel, Model

#: By the names of the files: the arrays in one, or the text.
Files = dict[str, dict[str, np.ndarray] | str]


class CannotSay(Exception):
    """A format has no words for what is named, which is so of the transcoder."""


def sparsify(model: AnyModel) -> Files:
    """``sae.safetensors`` and ``cfg.json``."""
    model = _of_one_layer(model)
    config, arrays = model.config, model.params.arrays()
    chosen = dict(config.conventions.chosen)
    chosen.pop("apply_b_dec_to_input", None)
    can_say = {
        f"the activation {config.activation}": config.activation in ("topk", "groupmax"),
        _OF_ANOTHER_SIZE: config.input_size == config.output_size,
        _in_words(chosen): not chosen,
    }
    _check(model, can_say)
    names = {"W_enc": "encoder.weight", "b_enc": "encoder.bias"}
    settings = {
        "activation": config.activation,
        "expansion_factor": max(1, config.dict_size // config.input_size),
        "normalize_decoder": False,
        "num_latents": config.dict_size,
        "k": config.top_k,
        "multi_topk": False,
        "skip_connection": config.skip,
        "transcode": not config.conventions.apply_b_dec_to_input,
        "d_in": config.input_size,
    }
    tensors = {names.get(name, name): array for name, array in arrays.items()}
    return {"sae.safetensors": tensors, "cfg.json": _as_json(settings)}


_AUTOENCODERS = {
    "relu": "standard",
    "topk": "topk",
    "abstopk": "abstopk",
    "jumprelu": "jumprelu",
    "gated": "gated",
}
_TRANSCODERS = {
    ("relu", False): "transcoder",
    ("relu", True): "skip_transcoder",
    ("jumprelu", False): "jumprelu_transcoder",
    ("jumprelu", True): "jumprelu_skip_transcoder",
}


def saelens(model: AnyModel) -> Files:
    """``sae_weights.safetensors`` and ``cfg.json``."""
    model = _of_one_layer(model)
    config, conventions = model.config, model.config.conventions
    autoencoder = not _is_transcoder(model)
    by = (config.activation, config.skip)
    known = _AUTOENCODERS.get(config.activation) if autoencoder else _TRANSCODERS.get(by)
    normalized = conventions.normalize_activations
    rescaled = config.activation in ("topk", "abstopk")
    can_say = {
        f"the activation {config.activation} ({'autoencoder' if autoencoder else 'transcoder'})":
        known is not None,
        "expected_average_only_in, unless it is folded": normalized != "expected_average_only_in",
        "whether the output is rescaled": normalized == "none"
        or conventions.rescale_output == autoencoder,
        "activations rescaled by decoder norms": rescaled
        or not conventions.rescale_acts_by_decoder_norm,
        "b_dec subtracted from the input of a transcoder": autoencoder
        or not conventions.apply_b_dec_to_input,
        "another eps, or what the skip reads": (conventions.eps, conventions.skip_input)
        == (Conventions().eps, Conventions().skip_input),
    }  # fmt: skip
    arrays = model.params.arrays()
    arrays["W_enc"] = arrays["W_enc"].T
    if config.activation == "gated":
        can_say["a b_enc beside the biases of its paths"] = not arrays.pop("b_enc").any()
    _check(model, can_say)
    settings: dict[str, Any] = {
        "architecture": known,
        "d_in": config.input_size,
        "d_sae": config.dict_size,
        "dtype": config.dtype,
        "device": "cpu",
        "apply_b_dec_to_input": conventions.apply_b_dec_to_input,
        "normalize_activations": normalized,
        "reshape_activations": "none",
        "metadata": _said(model, "model_name", "hook_name", "hook_name_out")
        | {"sae_lens_version": "6.54.12"},
    }
    if not autoencoder:
        settings["d_out"] = config.output_size
    if rescaled:
        settings["k"] = config.top_k
        settings["rescale_acts_by_decoder_norm"] = conventions.rescale_acts_by_decoder_norm
    weights = {**arrays, **_own(model, "threshold")}
    return {"sae_weights.safetensors": weights, "cfg.json": _as_json(settings)}


def gemma_scope(model: AnyModel) -> Files:
    """``params.npz``."""
    model = _of_one_layer(model)
    config = model.config
    same = {_OF_ANOTHER_SIZE: config.input_size == config.output_size}
    _check(model, _as_jumprelu(model) | {"a skip connection": not config.skip} | same)
    arrays = model.params.arrays()
    return {"params.npz": {**arrays, "W_enc": arrays["W_enc"].T, **_own(model, "threshold")}}


def gemma_scope_2(model: AnyModel) -> Files:
    """``params.safetensors`` and ``config.json``."""
    model = _of_one_layer(model)
    _check(model, _as_jumprelu(model))
    arrays = {**model.params.arrays(), **_own(model, "threshold")}
    arrays["W_enc"] = arrays["W_enc"].T
    if model.config.skip:
        arrays["affine_skip_connection"] = arrays.pop("W_skip").T
    settings = {
        "architecture": "jump_relu",
        "width": model.config.dict_size,
        "affine_connection": model.config.skip,
        "type": "transcoder" if _is_transcoder(model) else "sae",
        "model_name": "unknown",  # the library will have one
        **_said(model, "model_name", "hf_hook_point_in", "hf_hook_point_out"),
    }
    lower = {name.lower(): array for name, array in arrays.items()}
    return {"params.safetensors": lower, "config.json": _as_json(settings)}


def circuit_tracer(model: AnyModel) -> Files:
    """``layer_L.safetensors``, L being the layer that it comes from or 0, and ``config.yaml``."""
    model = _of_one_layer(model)
    config = model.config
    square = config.dict_size == config.output_size
    can_say = {
        f"the activation {config.activation}": config.activation in ("relu", "jumprelu"),
        _OF_ANOTHER_SIZE: config.input_size == config.output_size,
        "what a row of a square W_dec is of": not square,
        _in_words(config.conventions.chosen): config.conventions.plain,
        _BELOW: _none_below_zero(model.params.own),
    }
    _check(model, can_say)
    layer = 0 if model.origin is None or model.origin.layer is None else model.origin.layer
    name = f"layer_{layer}.safetensors"
    weights = {**model.params.arrays(), **_own(model, "activation_function.threshold")}
    return {name: weights, "config.yaml": _as_yaml(model, "transcoder_set")}


def circuit_tracer_clt(model: AnyModel) -> Files:
    """``W_enc_L.safetensors`` and ``W_dec_L.safetensors`` of every layer, and ``config.yaml``."""
    if not isinstance(model, CrossLayerModel):
        raise CannotSay("that features write to one layer alone")
    config, params = model.config, model.params
    can_say = {
        f"the activation {config.activation}": config.activation in ("relu", "jumprelu"),
        "a skip connection": not config.skip,
        "what is added to active features": "post_enc" not in params.arrays(),
        _OF_ANOTHER_SIZE: config.input_size == config.output_size,
        _BELOW: all(map(_none_below_zero, params.own)),
        _GRADIENTS: all(own is None or not own.of_the_reference for own in params.own),
    }
    _refuse(can_say)
    files: Files = {}
    for l, layer in enumerate(params.arrays()["W_enc"]):
        encoder = {f"W_enc_{l}": layer}
        encoder |= {f"{name}_{l}": params.arrays()[name][l] for name in ("b_enc", "b_dec")}
        if (own := params.own[l]) is not None:
            encoder[f"threshold_{l}"] = own.theta
        files[f"W_enc_{l}.safetensors"] = encoder
        files[f"W_dec_{l}.safetensors"] = {f"W_dec_{l}": params.arrays()["W_dec"][l]}
    return files | {"config.yaml": _as_yaml(model, "cross_layer_transcoder")}


_OF_ANOTHER_SIZE = "an output of another size than the input"
_BELOW = "that thresholds below zero are as those of zero"
_GRADIENTS = "how its gradients are made"


def _of_one_layer(model: AnyModel) -> Model:
    if isinstance(model, CrossLayerModel):
        raise CannotSay("that features write to several layers")
    return model


def _check(model: Model, can_say: Mapping[str, bool]) -> None:
    """Refuse what is so of ``model`` and cannot be said: ``can_say`` gives both."""
    config, own = model.config, model.params.own
    of_all = {
        "ties that are all kept": config.ties == "lowest_index" or config.top_k == config.dict_size,
        "numbers of more than 64 bits": model.params.dtype.itemsize <= 8,
        _GRADIENTS: own is None or not own.of_the_reference,
    }
    _refuse(of_all | dict(can_say))


def _refuse(can_say: Mapping[str, bool]) -> None:
    for what, said in can_say.items():
        if not said:
            raise CannotSay(what)


def _as_jumprelu(model: Model) -> dict[str, bool]:
    """What Gemma Scope and its successor can say, both."""
    config = model.config
    return {
        f"the activation {config.activation}": config.activation == "jumprelu",
        _in_words(config.conventions.chosen): config.conventions.plain,
    }


def _is_transcoder(model: Model) -> bool:
    """Whether its target is another layer: by its arrays, or by where it comes from."""
    config, origin = model.config, model.origin
    if config.input_size != config.output_size or config.skip:
        return True
    said = origin is not None and (origin.hook_out or "transcoder" in origin.variant)
    as_such = (config.activation, False) in _TRANSCODERS and config.conventions.plain
    return bool(said and as_such)


def _own(model: Model, threshold: str) -> dict[str, np.ndarray]:
    """The arrays that the activation takes, thresholds by the name ``threshold``."""
    own = {} if model.params.own is None else model.params.own.arrays()
    return {threshold if name == "theta" else name: array for name, array in own.items()}


def _none_below_zero(own: Any) -> bool:
    return not np.less(getattr(own, "theta", 0), 0).any()


def _said(model: AnyModel, *names: str) -> dict[str, str]:
    """The model and the two hooks that it comes from by ``names``, as far as they are known."""
    origin = model.origin
    if origin is None:
        return {}
    values = zip(names, (origin.model, origin.hook_in, origin.hook_out), strict=True)
    return {name: value for name, value in values if value is not None}


def _as_yaml(model: AnyModel, kind: str) -> str:
    """``config.yaml`` of circuit-tracer; a text in JSON's quotes is one in YAML."""
    said = _said(model, "model_name", "feature_input_hook", "feature_output_hook")
    lines = [f"{name}: {json.dumps(value)}" for name, value in said.items()]
    if kind == "transcoder_set" and model.config.activation == "relu":
        lines.append("activation: relu")
    return "\n".join([f"model_kind: {kind}", *lines]) + "\n"


def _as_json(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, indent=2)


def _in_words(chosen: Mapping[str, object]) -> str:
    return "conventions: " + ", ".join(f"{name}={value!r}" for name, value in chosen.items())
