"""Inputs and targets whose rows belong together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .. import options
from ..errors import FileError, OptionError, ShapeError
from .index import TARGET, X, has_index, open_pair
from .rows import Activations
from .shards import shard_paths
from .tensor_map import tensor_names


def paired(
    x: Any,
    target: Any = None,
    *,
    rows: str | slice | None = None,
    sequence_length: int | None = None,
    drop_position: int | None = None,
    dtype: Any = "float32",
    check_finite: bool = True,
) -> tuple[Activations, Activations]:
    """``x`` (N, I) and ``target`` (N, O), whose rows belong together, as `Activations`.

    Each is whatever `Activations` takes, with these options; what is `Activations` already keeps
    its own.  Without ``target``, ``x`` is the path of both: a folder that an `ActivationWriter`
    filled, one with the folders ``x`` and ``target`` in it, or ``.safetensors`` with tensors of
    these names, in a file or in shards.

    Returns:
        Both as `Activations`, of as many rows.

    Raises:
        OptionError: no ``target``, and ``x`` is not the path of both.
        ShapeError: they do not have the same number of rows.
        Error: as `Activations`.

    >>> x, target = rt.paired(np.zeros((6, 3)), np.ones((6, 2)), rows="2:5")
    >>> x.shape, target.shape
    ((3, 3), (3, 2))
    """
    given: dict[str, Any] = {
        "rows": rows,
        "sequence_length": sequence_length,
        "drop_position": drop_position,
        "dtype": dtype,
        "check_finite": check_finite,
    }
    if target is None and isinstance(x, (str, os.PathLike)):
        pair = _from_one(options.path("x", x), given)
    elif not isinstance(x, Activations) and not isinstance(target, Activations):
        # Whole files first: a range of rows could hide that they do not belong together.
        _check_pair(_opened(x, "x"), _opened(target, "target"))
        pair = _opened(x, "x", **given), _opened(target, "target", **given)
    else:
        pair = _opened(x, "x", **given), _opened(target, "target", **given)
    _check_pair(*pair)
    return pair


def _from_one(path: Path, given: dict[str, Any]) -> tuple[Activations, Activations]:
    """Both out of the file or folder ``path``."""
    if has_index(path):
        stored = open_pair(path)
        names = (str(path / X), str(path / TARGET))
        x, target = (Activations(s, n, **given) for s, n in zip(stored, names))
        return x, target
    if os.path.isdir(path / X) and os.path.isdir(path / TARGET):
        return paired(path / X, path / TARGET, **given)
    files = shard_paths(path) if os.path.isdir(path) else [path]
    if files and {X, TARGET} <= set(tensor_names(files[0])):
        names = (f"{path} {X}", f"{path} {TARGET}")
        _check_pair(*(Activations(path, n, tensor=t) for t, n in zip((X, TARGET), names)))
        x, target = (Activations(path, n, tensor=t, **given) for t, n in zip((X, TARGET), names))
        return x, target
    if not os.path.exists(path):
        raise FileError(path, "there is no such file")
    want = f"given too, as {path} holds no pair (folders or tensors named {X} and {TARGET})"
    raise OptionError("target", want, None)


def _opened(source: Any, name: str, **options: Any) -> Activations:
    if isinstance(source, Activations):
        return source
    is_path = isinstance(source, (str, os.PathLike))
    return Activations(source, None if is_path else name, **options)


def _check_pair(x: Activations, target: Activations) -> None:
    if len(x) == len(target):
        return
    want = (len(x), target.shape[1])
    hint = f"Its rows must pair up with the {len(x)} of {x.name}."
    if target.shape[1] == len(x):
        hint = "It looks transposed: np.save(path, target.T.copy())."
    elif x.shape[1] == len(target):
        hint = f"{x.name} {x.shape} looks transposed: np.save(path, x.T.copy())."
    else:
        for ours, theirs in zip(x.shards(), target.shards()):
            if ours[1] != theirs[1]:
                hint = f"{theirs[0]} has {theirs[1]} rows, and {ours[0]} has {ours[1]}."
                break
    raise ShapeError(target.name, want, target.shape, hint)
