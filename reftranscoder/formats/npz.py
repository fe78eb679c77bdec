"""``.npz``: an uncompressed NumPy archive.  No pickle is written, and none is ever read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import FileError
from ..files.atomic import atomic_write
from ..files.npz import find_arrays, read_arrays, write_arrays
from ..files.sniff import require
from .native import META, AnyModel, arrays_of, check_names, left_there, meta_of, model_from

_REMEDIES = {
    "npy": "A transcoder has several arrays: pass them to Transcoder.from_arrays.",
    "safetensors": "Name it .safetensors.",
}


def save(model: AnyModel, path: Path, *, force: bool) -> None:
    """Write ``path``.  Equal transcoders give equal bytes: no date is stored."""
    entries = {**arrays_of(model), META: np.array(meta_of(model))}
    with atomic_write(path, force=force) as file:
        write_arrays(file, entries)


def load(path: Path, pack: bool = True) -> AnyModel:
    """Read ``path``.  Without ``pack`` its weights stay there.

    Raises:
        FileError: it is not a transcoder that `save` wrote, or is damaged.
    """
    if pack:
        entries = read_arrays(path, _REMEDIES)
    else:
        require(path, "npz", _REMEDIES)
        entries = left_there(path, find_arrays(path))
    check_names(path, entries)
    meta = entries.pop(META)
    if meta.dtype.kind != "U" or meta.ndim:
        raise FileError(path, f"its {META} must be a text; it is {meta.dtype} {meta.shape}")
    return model_from(path, str(meta), entries, pack)
