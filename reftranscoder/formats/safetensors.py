"""``.safetensors``: the arrays as they are, and ``meta`` in the header's ``__metadata__``."""

from __future__ import annotations

from pathlib import Path

from ..errors import FileError
from ..files.atomic import atomic_write
from ..files.safetensors import FLOATS, read_tensors, tensors_as_bytes
from .native import META, Model, arrays_of, check_names, meta_of, model_from


def save(model: Model, path: Path, *, force: bool) -> None:
    """Write ``path``.

    Raises:
        FileError: as `atomic_write`; the safetensors package is missing; or longdouble parameters,
            which the format does not have.
    """
    params = model.params
    if params.dtype.name not in ("float32", "float64"):
        raise FileError(path, f"the format has no {params.dtype}", "Save it as .npz.")
    content = tensors_as_bytes(path, arrays_of(model), {META: meta_of(model)})
    with atomic_write(path, force=force) as file:
        file.write(content)


def load(path: Path) -> Model:
    """Read ``path``; float16 and bfloat16 are widened to float32, which is exact.

    Raises:
        FileError: it is not a transcoder that `save` wrote, is damaged, or the safetensors package
            is missing.
    """
    tensors, metadata = read_tensors(path, {"npz": "Name it .npz."}, FLOATS)
    check_names(path, [*tensors, *metadata])
    if META in tensors or set(metadata) != {META}:
        raise FileError(path, f"its {META}, and nothing else, must stand in __metadata__")
    return model_from(path, metadata[META], tensors)
