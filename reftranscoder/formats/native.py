"""What our own files hold in either container: the arrays of `Params` by name, and one text.

The text, called ``meta``, is JSON: the format's name, its version and every field of
`TranscoderConfig`.  ``.npz`` and ``.safetensors`` files differ only in how they store the two.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import Error, FileError
from ..params import Params, TranscoderConfig
from ..transcoder import Transcoder

FORMAT = "reftranscoder"
VERSION = 1
META = "meta"

_ARRAYS = tuple(field.name for field in dataclasses.fields(Params))
_NEEDED = ("W_enc", "b_enc", "W_dec", "b_dec")
_OPTIONS = tuple(field.name for field in dataclasses.fields(TranscoderConfig))


def meta_of(transcoder: Transcoder) -> str:
    """The text that goes with the arrays ``transcoder.params.arrays()``."""
    config = dataclasses.asdict(transcoder.config)
    return json.dumps({"format": FORMAT, "version": VERSION, "config": config})


def check_names(path: Path, names: Iterable[str]) -> None:
    """Refuse a file whose entries (``meta`` among them) are not those of a transcoder of ours.

    Raises:
        FileError: names are missing, or there are others, which would be ignored.
    """
    names = list(names)
    missing = [name for name in (META, *_NEEDED) if name not in names]
    if missing:
        shown = ", ".join(sorted(names)[:8]) + (", ..." if len(names) > 8 else "")
        raise FileError(
            path,
            f"is not a transcoder that reftranscoder saved: it lacks {', '.join(missing)} "
            f"and holds {shown or 'nothing'}",
            "Weights from elsewhere: pass the arrays to Transcoder.from_arrays.",
        )
    strange = sorted(set(names) - {META, *_ARRAYS})
    if strange:
        raise FileError(path, f"holds what no transcoder has: {', '.join(strange)}")


def transcoder_from(path: Path, meta: str, arrays: Mapping[str, np.ndarray]) -> Transcoder:
    """Put together what `check_names` let pass.  Arrays of half precision are widened, exactly.

    Raises:
        FileError: ``meta`` is not what we write or comes from a later version, or the arrays do not
            fit each other or what it says.
    """
    options = _options(path, meta)
    for name, array in arrays.items():
        if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
            problem = f"{name} must hold floating-point numbers; it holds {array.dtype}"
            raise FileError(path, problem)
    try:
        return Transcoder(TranscoderConfig(**options), Params(**arrays))
    except Error as error:
        raise FileError(path, str(error).rstrip(".")) from error


def _options(path: Path, meta: str) -> dict[str, Any]:
    try:
        content = json.loads(meta)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FileError(path, f"its {META} is not what reftranscoder writes: {meta[:60]!r}")
    version, options = content.get("version"), content.get("config")
    if version != VERSION:
        raise FileError(
            path,
            f"it is of format version {version!r}, and this reftranscoder reads version {VERSION}",
            "Upgrade: pip install --upgrade reftranscoder",
        )
    if not isinstance(options, dict) or set(options) != set(_OPTIONS):
        got = ", ".join(map(str, options)) if isinstance(options, dict) else repr(options)
        raise FileError(path, f"its config must hold {', '.join(_OPTIONS)}; it holds {got}")
    return options
