"""``.npz``: an uncompressed NumPy archive.  No pickle is written, and none is ever read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import FileError
from ..files.atomic import atomic_write, write_arrays
from ..files.sniff import require
from ..transcoder import Transcoder
from .native import META, check_names, meta_of, transcoder_from

_REMEDIES = {
    "npy": "A transcoder has several arrays: pass them to Transcoder.from_arrays.",
    "safetensors": "Name it .safetensors.",
}

_PICKLED = (
    "If you trust it, read it with np.load(path, allow_pickle=True) and save the arrays again, "
    "each as .astype('float32')."
)


def save(transcoder: Transcoder, path: Path, *, force: bool) -> None:
    """Write ``path``.  Equal transcoders give equal bytes: no date is stored."""
    entries = {**transcoder.params.arrays(), META: np.array(meta_of(transcoder))}
    with atomic_write(path, force=force) as file:
        write_arrays(file, entries)


def load(path: Path) -> Transcoder:
    """Read ``path``.

    Raises:
        FileError: it is not a transcoder that `save` wrote, or is damaged.
    """
    require(path, "npz", _REMEDIES)
    try:
        with np.load(path, allow_pickle=False) as archive:
            check_names(path, archive.files)
            entries = {name: archive[name] for name in archive.files}
    except FileError:
        raise
    except Exception as error:  # whatever zipfile and NumPy stumble over, the file is at fault
        if "allow_pickle" in str(error):
            problem, remedy = "holds pickled objects, which could run any code", _PICKLED
        else:
            problem, remedy = f"is damaged: {_one_line(error)}", "Make or download it again."
        raise FileError(path, problem, remedy) from error
    meta = entries.pop(META)
    if meta.dtype.kind != "U" or meta.ndim:
        raise FileError(path, f"its {META} must be a text; it is {meta.dtype} {meta.shape}")
    return transcoder_from(path, str(meta), entries)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
