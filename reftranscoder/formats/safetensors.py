"""``.safetensors``: the arrays as they are, and ``meta`` in the header's ``__metadata__``."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np

from ..errors import FileError
from ..files.atomic import atomic_write
from ..files.sniff import require
from ..transcoder import Transcoder
from .native import META, check_names, meta_of, transcoder_from

_FLOATS = ("F64", "F32", "F16", "BF16")


def save(transcoder: Transcoder, path: Path, *, force: bool) -> None:
    """Write ``path``.

    Raises:
        FileError: as `atomic_write`; the safetensors package is missing; or longdouble parameters,
            which the format does not have.
    """
    library = _package(path, "safetensors.numpy")
    params = transcoder.params
    if params.dtype.name not in ("float32", "float64"):
        raise FileError(path, f"the format has no {params.dtype}", "Save it as .npz.")
    content = library.save(params.arrays(), metadata={META: meta_of(transcoder)})
    with atomic_write(path, force=force) as file:
        file.write(content)


def load(path: Path) -> Transcoder:
    """Read ``path``; float16 and bfloat16 are widened to float32, which is exact.

    Raises:
        FileError: it is not a transcoder that `save` wrote, is damaged, or the safetensors package
            is missing.
    """
    require(path, "safetensors", {"npz": "Name it .npz."})
    library = _package(path, "safetensors")
    try:
        with library.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            check_names(path, [*file.keys(), *metadata])
            arrays = {name: _array(path, file, name) for name in file.keys()}
    except library.SafetensorError as error:
        raise FileError(path, f"is damaged: {error}", "Make or download it again.") from error
    return transcoder_from(path, metadata[META], arrays)


def _array(path: Path, file, name: str) -> np.ndarray:
    dtype = file.get_slice(name).get_dtype()
    if dtype not in _FLOATS:
        problem = f"{name} must hold one of {', '.join(_FLOATS)}; it holds {dtype}"
        raise FileError(path, problem, "Convert it first.")
    if dtype == "BF16":
        _package(path, "ml_dtypes")  # NumPy knows the type once this is imported
    return file.get_tensor(name)


def _package(path: Path, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise FileError(
            path,
            f"this file needs the package {package}, which is not installed",
            'Install it: pip install "reftranscoder[formats]"',
        ) from None
