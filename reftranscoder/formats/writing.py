"""Transcoders written as other libraries read them, each format a row of `WRITERS`.

What is written is read again by the format's own reader and compared, so that a format which cannot
say what a transcoder is, is found out before anybody relies on the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import FileError
from ..files.atomic import atomic_write
from ..files.npz import write_arrays
from ..files.safetensors import tensors_as_bytes
from ..params import Conventions
from .native import AnyModel, CrossLayerModel, Model, arrays_of


class Files(NamedTuple):
    """What a format says of a transcoder: the arrays by its names, and its settings."""

    arrays: dict[str, np.ndarray]
    settings: dict[str, Any]


class Writer(NamedTuple):
    """The names of the files that a format has in a folder, and what is in them."""

    weights: str
    settings: str | None
    describe: Callable[[Model, Path], Files]


def write(model: AnyModel, folder: Path, name: str, *, force: bool) -> Path:
    """Write ``model`` into ``folder``, which is made if it is not there, in the format ``name``.

    Returns:
        The file with the weights.

    Raises:
        FileError: the format cannot say what ``model`` is, which the line names; or a file cannot
            be written, or exists and ``force`` is False.
    """
    row = WRITERS[name]
    if folder.exists() and not folder.is_dir():
        raise FileError(folder, f"is a file, and format {name} is a folder", "Name a folder.")
    if isinstance(model, CrossLayerModel):
        raise _refuse(folder, name, "that features write to several layers")
    described = row.describe(model, folder)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise FileError(folder, f"cannot be made: {error.strerror}") from None
    path = folder / row.weights
    with atomic_write(path, force=force) as file:
        if path.suffix == ".npz":
            write_arrays(file, described.arrays)
        else:
            file.write(tensors_as_bytes(path, described.arrays))
    if row.settings is not None:
        with atomic_write(folder / row.settings, force=force) as file:
            file.write(json.dumps(described.settings, indent=2).encode())
    return path


def difference(model: AnyModel, read: AnyModel) -> str | None:
    """What of ``read`` is not as in ``model``, whose stages then are not all equal; None if equal.

    Equal options and arrays of equal bits make every stage equal.
    """
    if model.config != read.config:
        return f"options: {model.config} is read as {read.config}"
    arrays, others = arrays_of(model), arrays_of(read)
    for name, array in arrays.items():
        if name not in others or array.tobytes() != others[name].tobytes():
            return name
    return None if arrays.keys() == others.keys() else "which arrays there are"


def _refuse(path: Path, name: str, loss: str) -> FileError:
    return FileError(path, f"format {name} cannot say {loss}", "Save it in our own format.")


def _check(model: Model, path: Path, name: str, can_say: dict[str, bool]) -> None:
    """Refuse what is so of ``model`` and cannot be said: ``can_say`` gives both."""
    config, own = model.config, model.params.own
    can_say = {
        "ties that are all kept": config.ties == "lowest_index" or config.top_k == config.dict_size,
        "numbers of more than 64 bits": model.params.dtype.itemsize <= 8,
        "how its gradients are made": own is None or not own.of_the_reference,
        **can_say,
    }
    for what, said in can_say.items():
        if not said:
            raise _refuse(path, name, what)


def _sparsify(model: Model, path: Path) -> Files:
    config, arrays = model.config, model.params.arrays()
    chosen = config.conventions.chosen
    activations = config.activation in ("topk", "groupmax")
    can_say = {
        f"the activation {config.activation}": activations,
        "an output of another size than the input": config.input_size == config.output_size,
        _in_words(chosen): chosen.keys() <= {"apply_b_dec_to_input"},
    }
    _check(model, path, "sparsify", can_say)
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
    return Files({names.get(name, name): array for name, array in arrays.items()}, settings)


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


def _saelens(model: Model, path: Path) -> Files:
    config, conventions = model.config, model.config.conventions
    autoencoder = config.input_size == config.output_size and not config.skip
    by = (config.activation, config.skip)
    known = _AUTOENCODERS.get(config.activation) if autoencoder else _TRANSCODERS.get(by)
    normalized = conventions.normalize_activations
    kind = "autoencoder" if autoencoder else "transcoder"
    rescaled = config.activation in ("topk", "abstopk")
    can_say = {
        f"the activation {config.activation} ({kind})": known is not None,
        "expected_average_only_in, unless it is folded": normalized != "expected_average_only_in",
        "whether the output is rescaled": normalized == "none"
        or conventions.rescale_output == autoencoder,
        "activations rescaled by decoder norms": rescaled
        or not conventions.rescale_acts_by_decoder_norm,
        "b_dec subtracted from the input of a transcoder": autoencoder
        or not conventions.apply_b_dec_to_input,
        "another eps, or what the skip reads": (conventions.eps, conventions.skip_input)
        == (Conventions().eps, Conventions().skip_input),
    }
    arrays = model.params.arrays()
    arrays["W_enc"] = arrays["W_enc"].T
    if config.activation == "gated":
        can_say["a b_enc beside the biases of its paths"] = not arrays.pop("b_enc").any()
    _check(model, path, "saelens", can_say)
    settings: dict[str, Any] = {
        "architecture": known,
        "d_in": config.input_size,
        "d_sae": config.dict_size,
        "dtype": config.dtype,
        "device": "cpu",
        "apply_b_dec_to_input": conventions.apply_b_dec_to_input,
        "normalize_activations": normalized,
        "reshape_activations": "none",
        "metadata": _hooks(model) | {"sae_lens_version": "6.54.12"},
    }
    if not autoencoder:
        settings["d_out"] = config.output_size
    if rescaled:
        settings["k"] = config.top_k
        settings["rescale_acts_by_decoder_norm"] = conventions.rescale_acts_by_decoder_norm
    return Files({**arrays, **_own(model)}, settings)


def _gemma_scope(model: Model, path: Path) -> Files:
    config = model.config
    can_say = {
        f"the activation {config.activation}": config.activation == "jumprelu",
        "a skip connection": not config.skip,
        _in_words(config.conventions.chosen): config.conventions.plain,
    }
    _check(model, path, "gemma_scope", can_say)
    arrays = model.params.arrays()
    return Files({**arrays, "W_enc": arrays["W_enc"].T, **_own(model)}, {})


def _own(model: Model) -> dict[str, np.ndarray]:
    """The arrays that the activation takes, as SAELens and Gemma Scope call them."""
    own = {} if model.params.own is None else model.params.own.arrays()
    return {"threshold" if name == "theta" else name: array for name, array in own.items()}


def _hooks(model: Model) -> dict[str, str]:
    origin = model.origin
    if origin is None:
        return {}
    said = {
        "model_name": origin.model,
        "hook_name": origin.hook_in,
        "hook_name_out": origin.hook_out,
    }
    return {name: value for name, value in said.items() if value is not None}


def _in_words(chosen: dict[str, object]) -> str:
    return "conventions: " + ", ".join(f"{name}={value!r}" for name, value in chosen.items())


WRITERS = {
    "sparsify": Writer("sae.safetensors", "cfg.json", _sparsify),
    "saelens": Writer("sae_weights.safetensors", "cfg.json", _saelens),
    "gemma_scope": Writer("params.npz", None, _gemma_scope),
}
