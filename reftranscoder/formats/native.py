"""What our own files hold in either container: the arrays of `Params` by name, and one text.

Of a cross-layer transcoder each array is there once a layer, as ``W_enc.0``, ``W_enc.1`` and on.

The text, called ``meta``, is JSON: the format's name, its version, every field of
`TranscoderConfig` (of its conventions what is not by default) and, for an activation that takes
more, a `JumpReLU` or a `Gated`, whose arrays lie beside the others, its other fields as ``own``.
``.npz`` and ``.safetensors`` files differ only in how they store the two.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import Error, FileError, words
from ..files import schema
from ..files.mapped import weights_of
from ..files.stored import Stored
from ..params import NAMES, OWN, Conventions, Own, Params, TranscoderConfig, check_agreement
from ..params.cross_layer import CrossLayerConfig, CrossLayerParams, check_cross_layer
from ..params.unpacked import WEIGHTS, UnpackedParams
from .origin import Origin

FORMAT = "reftranscoder"
VERSION = 1
META = "meta"


class Model(NamedTuple):
    """What a file holds of a transcoder, and all that one is made of."""

    config: TranscoderConfig
    params: Params
    origin: Origin | None = None  # of what was read, and None of what is written


class CrossLayerModel(NamedTuple):
    """The same of a cross-layer transcoder."""

    config: CrossLayerConfig
    params: CrossLayerParams
    origin: Origin | None = None


AnyModel = Model | CrossLayerModel

_NEEDED = ("W_enc", "b_enc", "W_dec", "b_dec")
_OF_LAYERS = (*NAMES, "post_enc")
_OPTIONS = tuple(field.name for field in dataclasses.fields(TranscoderConfig))
_OF_OWN = {name for kind in OWN.values() for name in kind.ARRAYS}
_ANYTHING = schema.Field(lambda value: True, "anything")
#: What each must be is said in `_options`, which knows what to do about it.
_FIELDS = dict.fromkeys(("format", "version", "config"), _ANYTHING)


def arrays_of(model: AnyModel) -> dict[str, np.ndarray]:
    """The arrays that a file holds, by name.

    Raises:
        OptionError: they stay in a file as they are.
    """
    if isinstance(model, CrossLayerModel):
        layers = {**model.params.arrays(), "theta": [o.theta for o in model.params.own if o]}
        return {f"{name}.{l}": a for name, of in layers.items() for l, a in enumerate(of)}
    model.params.check_in_memory("saving")
    return model.params.all_arrays()


def meta_of(model: AnyModel) -> str:
    """The text that goes with the arrays of `arrays_of`."""
    content = {"format": FORMAT, "version": VERSION, "config": model.config.to_dict()}
    own = model.params.own
    own = own[0] if isinstance(own, tuple) else own  # of one bandwidth in all layers
    if own is not None:
        content["own"] = own.options()
    return json.dumps(content)


def check_names(path: Path, names: Iterable[str]) -> None:
    """Refuse a file whose entries (``meta`` among them) are not those of a transcoder of ours.

    Raises:
        FileError: names are missing, or there are others, which would be ignored.
    """
    names = list(names)
    L = _layers_in(names)
    needed = _NEEDED if L is None else _of_every_layer(names)
    missing = [name for name in (META, *_by_layer(needed, L)) if name not in names]
    if missing:
        held = ", ".join(map(words, sorted(names)[:8])) + (", ..." if len(names) > 8 else "")
        raise FileError(
            path,
            f"is not a transcoder that reftranscoder saved: it lacks {', '.join(missing)} "
            f"and holds {held or 'nothing'}",
            "Weights from elsewhere: pass the arrays to Transcoder.from_arrays.",
        )
    known = _by_layer((*_OF_OWN, *(NAMES if L is None else _OF_LAYERS)), L)
    strange = sorted(set(names) - {META, *known})
    if strange:
        raise FileError(path, f"holds what no transcoder has: {', '.join(map(words, strange))}")


def _layers_in(names: Iterable[str]) -> int | None:
    """How many layers the arrays called ``names`` are of; None for those of a `Transcoder`."""
    return sum(name.startswith("W_enc.") for name in names) or None


def _of_every_layer(names: Iterable[str]) -> tuple[str, ...]:
    """What each layer must have: what any has, too."""
    found = {name.partition(".")[0] for name in names}
    return tuple(n for n in (*_OF_LAYERS, "theta") if n in (*_NEEDED, *found))


def _by_layer(names: Iterable[str], L: int | None) -> list[str]:
    return [*names] if L is None else [f"{name}.{l}" for name in names for l in range(L)]


def left_there(path: Path, found: Mapping[str, Stored]) -> dict[str, np.ndarray]:
    """The arrays in the file ``path`` by name: weights where and as they lie, the others read.

    Raises:
        FileError: weights cannot be left there; one is damaged; or it is of several layers.
    """
    if _layers_in(found):
        raise layers_left_there(path)
    return {n: weights_of(n, s) if n in WEIGHTS else s.read() for n, s in found.items()}


def layers_left_there(path: Path) -> FileError:
    """What is said of a cross-layer transcoder whose weights were to stay in their file."""
    problem = "is a cross-layer transcoder, which pack=False does not read"
    return FileError(path, problem, "Load it with pack=True.")


def model_from(
    path: Path, meta: str, arrays: Mapping[str, np.ndarray], pack: bool = True
) -> AnyModel:
    """Put together what `check_names` let pass.  Arrays of half precision are widened, exactly.

    The arrays are handed over: the model owns them from here on.  Without ``pack`` weights stay as
    they are.

    Raises:
        FileError: ``meta`` is not what we write or comes from a later version, or the arrays do not
            fit each other or what it says.
    """
    L = _layers_in(arrays)
    options, own = _options(path, meta, L is not None)
    for name, array in arrays.items():
        if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
            problem = f"{name} must hold floating-point numbers; it holds {array.dtype}"
            raise FileError(path, problem)
    kind = OWN.get(options["activation"]) if isinstance(options["activation"], str) else None
    _check_own(path, kind, own, arrays, L)
    given: dict[str, Any] = dict(arrays)
    try:
        taken = None
        if kind is not None and own is not None:
            layers = [""] if L is None else [f".{l}" for l in range(L)]
            taken = [kind(**{n: given.pop(n + l) for n in kind.ARRAYS}, **own) for l in layers]
        options["conventions"] = Conventions(**options.get("conventions", {}))
        return _model(options, given, taken, L, pack)
    except Error as error:
        raise FileError(path, str(error).rstrip(".")) from error


def _model(
    options: dict[str, Any], given: dict[str, Any], own: Any, L: int | None, pack: bool
) -> AnyModel:
    if L is None:
        kind = Params if pack else UnpackedParams
        params = kind.taking(**given, own=None if own is None else own[0])
        model = Model(TranscoderConfig(**options), params)
        check_agreement(model.config, model.params)
        return model
    names = (name for name in _OF_LAYERS if f"{name}.0" in given)
    layers = {name: [given[f"{name}.{l}"] for l in range(L)] for name in names}
    cross = CrossLayerModel(CrossLayerConfig(**options), CrossLayerParams.taking(own, **layers))
    check_cross_layer(cross.config, cross.params)
    return cross


def _options(path: Path, meta: str, layered: bool) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The fields of the config and, where there are any, those of what its activation takes."""
    try:
        content = schema.parse(meta)
    except ValueError:
        content = {}
    if content.get("format") != FORMAT:
        raise FileError(path, f"its {META} is not what reftranscoder writes: {meta[:60]!r}")
    version, options = content.get("version"), content.get("config")
    if version != VERSION or isinstance(version, bool):
        raise FileError(
            path,
            f"it is of format version {words(version)}, and this reftranscoder reads version "
            f"{VERSION}",
            "Upgrade: pip install --upgrade reftranscoder",
        )
    fields = _FIELDS | ({"own": _ANYTHING} if "own" in content else {})
    if problem := schema.fault(content, fields):
        raise FileError(path, f"its {META} is not what reftranscoder writes: {problem}")
    expected = [*_OPTIONS, *(["layers"] if layered else [])]
    if not isinstance(options, dict) or set(options) | {"conventions"} != set(expected):
        got = ", ".join(map(words, options)) if isinstance(options, dict) else words(options)
        raise FileError(path, f"its config must hold {', '.join(expected)}; it holds {got}")
    _check_conventions(path, options.get("conventions", {}))
    return options, content.get("own")


def _check_own(
    path: Path,
    kind: type[Own] | None,
    own: Any,
    arrays: Mapping[str, np.ndarray],
    L: int | None,
) -> None:
    """Refuse what is not all that the activation takes beside the arrays of every transcoder."""
    wanted = [] if kind is None else _by_layer(kind.ARRAYS, L)
    held = sorted(name for name in arrays if name.partition(".")[0] in _OF_OWN)
    if sorted(wanted) != held or (own is None) != (kind is None):
        want = f"it takes {', '.join([*wanted, 'own']) if wanted else 'nothing more'}"
        got = ", ".join(held + ["own"] * (own is not None)) or "nothing"
        raise FileError(path, f"by its activation {want}; it holds {got}")
    fields = () if kind is None else tuple(f.name for f in dataclasses.fields(kind))
    options = [name for name in fields if kind is not None and name not in kind.ARRAYS]
    if own is not None and (not isinstance(own, dict) or set(own) != set(options)):
        got = ", ".join(map(words, own)) if isinstance(own, dict) else words(own)
        raise FileError(path, f"its own must hold {', '.join(options)}; it holds {got}")


def _check_conventions(path: Path, conventions: Any) -> None:
    """Refuse what are no fields of `Conventions`."""
    known = [field.name for field in dataclasses.fields(Conventions)]
    if not isinstance(conventions, dict) or not set(conventions) <= set(known):
        got = ", ".join(map(words, conventions)) if isinstance(conventions, dict) else conventions
        want = f"its conventions must be among {', '.join(known)}"
        raise FileError(path, f"{want}; it holds {words(got)}")
