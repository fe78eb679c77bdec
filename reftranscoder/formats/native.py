"""What our own files hold in either container: the arrays of `Params` by name, and one text.

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
from ..params import NAMES, OWN, Conventions, Own, Params, TranscoderConfig, check_agreement
from .origin import Origin

FORMAT = "reftranscoder"
VERSION = 1
META = "meta"


class Model(NamedTuple):
    """What a file holds of a transcoder, and all that one is made of."""

    config: TranscoderConfig
    params: Params
    origin: Origin | None = None  # of what was read, and None of what is written


_NEEDED = ("W_enc", "b_enc", "W_dec", "b_dec")
_OPTIONS = tuple(field.name for field in dataclasses.fields(TranscoderConfig))
_OF_OWN = {name for kind in OWN.values() for name in kind.ARRAYS}
_ANYTHING = schema.Field(lambda value: True, "anything")
#: What each must be is said in `_options`, which knows what to do about it.
_FIELDS = dict.fromkeys(("format", "version", "config"), _ANYTHING)


def arrays_of(model: Model) -> dict[str, np.ndarray]:
    """The arrays that a file holds, by name."""
    return model.params.all_arrays()


def meta_of(model: Model) -> str:
    """The text that goes with the arrays of `arrays_of`."""
    content = {"format": FORMAT, "version": VERSION, "config": model.config.to_dict()}
    own = model.params.own
    if own is not None:
        content["own"] = own.options()
    return json.dumps(content)


def check_names(path: Path, names: Iterable[str]) -> None:
    """Refuse a file whose entries (``meta`` among them) are not those of a transcoder of ours.

    Raises:
        FileError: names are missing, or there are others, which would be ignored.
    """
    names = list(names)
    missing = [name for name in (META, *_NEEDED) if name not in names]
    if missing:
        held = ", ".join(map(words, sorted(names)[:8])) + (", ..." if len(names) > 8 else "")
        raise FileError(
            path,
            f"is not a transcoder that reftranscoder saved: it lacks {', '.join(missing)} "
            f"and holds {held or 'nothing'}",
            "Weights from elsewhere: pass the arrays to Transcoder.from_arrays.",
        )
    strange = sorted(set(names) - {META, *NAMES, *_OF_OWN})
    if strange:
        raise FileError(path, f"holds what no transcoder has: {', '.join(map(words, strange))}")


def model_from(path: Path, meta: str, arrays: Mapping[str, np.ndarray]) -> Model:
    """Put together what `check_names` let pass.  Arrays of half precision are widened, exactly.

    The arrays are handed over: the model owns them from here on.

    Raises:
        FileError: ``meta`` is not what we write or comes from a later version, or the arrays do not
            fit each other or what it says.
    """
    options, own = _options(path, meta)
    for name, array in arrays.items():
        if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
            problem = f"{name} must hold floating-point numbers; it holds {array.dtype}"
            raise FileError(path, problem)
    kind = OWN.get(options["activation"]) if isinstance(options["activation"], str) else None
    _check_own(path, kind, own, arrays)
    given: dict[str, Any] = dict(arrays)
    try:
        taken = None
        if kind is not None and own is not None:
            taken = kind(**{name: given.pop(name) for name in kind.ARRAYS}, **own)
        options["conventions"] = Conventions(**options.get("conventions", {}))
        model = Model(TranscoderConfig(**options), Params.taking(**given, own=taken))
        check_agreement(model.config, model.params)
    except Error as error:
        raise FileError(path, str(error).rstrip(".")) from error
    return model


def _options(path: Path, meta: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
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
    if not isinstance(options, dict) or set(options) | {"conventions"} != set(_OPTIONS):
        got = ", ".join(map(words, options)) if isinstance(options, dict) else words(options)
        raise FileError(path, f"its config must hold {', '.join(_OPTIONS)}; it holds {got}")
    _check_conventions(path, options.get("conventions", {}))
    return options, content.get("own")


def _check_own(
    path: Path, kind: type[Own] | None, own: Any, arrays: Mapping[str, np.ndarray]
) -> None:
    """Refuse what is not all that the activation takes beside the arrays of every transcoder."""
    wanted = () if kind is None else kind.ARRAYS
    held = sorted(_OF_OWN & set(arrays))
    if sorted(wanted) != held or (own is None) != (kind is None):
        want = f"it takes {', '.join([*wanted, 'own']) if wanted else 'nothing more'}"
        got = ", ".join(held + ["own"] * (own is not None)) or "nothing"
        raise FileError(path, f"by its activation {want}; it holds {got}")
    fields = () if kind is None else tuple(f.name for f in dataclasses.fields(kind))
    options = [name for name in fields if name not in wanted]
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
