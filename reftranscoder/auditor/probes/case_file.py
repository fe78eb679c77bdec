"""Arrays and words in one file, ``.npz`` or ``.safetensors``: cases, expectations and results.

A file that holds a whole audit has the arrays ``W_enc`` (D, I), ``b_enc`` (D,), ``W_dec`` (D, O),
``b_dec`` (O,), where there is a skip connection ``W_skip`` (O, I), ``x`` (B, I) and ``target``
(B, O), each under its name, and what the candidate computed as ``result.pre``,
``result.reconstruction`` and so on.  ``top_k`` and ``l1_coeff`` are numbers, ``activation`` and
``ties`` words.  All four may stand in a JSON object: in ``.npz`` a text ``meta``, in
``.safetensors`` the entry ``meta`` of the header's ``__metadata__``.  Numbers may be arrays without
an axis instead, and in ``.npz`` words as well.

Reading a file never executes it.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ...arrays import to_matrix
from ...errors import Error, FileError
from ...files.atomic import atomic_write, write_arrays
from ...files.sniff import kind_of, require
from ...params import Params, TranscoderConfig, finite_number
from ..task.case import Case

PREFIX = "result."
META = "meta"
SUFFIXES = (".npz", ".safetensors")

_PARAMETERS = tuple(field.name for field in dataclasses.fields(Params))
_NEEDED = ("W_enc", "b_enc", "W_dec", "b_dec", "x")
_ARRAYS = (*_PARAMETERS, "x", "target")
WORDS = ("top_k", "l1_coeff", "activation", "ties")


def has_safetensors() -> bool:
    """Whether the package that reads and writes ``.safetensors`` is installed."""
    try:
        importlib.import_module("safetensors.numpy")
    except ImportError:
        return False
    return True


def write_file(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write ``arrays`` to ``path``, in the format of its suffix, all or nothing."""
    with atomic_write(path) as file:
        if path.suffix == ".npz":
            write_arrays(file, arrays)
        else:
            library = importlib.import_module("safetensors.numpy")
            file.write(library.save({n: np.asarray(a, order="C") for n, a in arrays.items()}))


def read_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The arrays in ``path`` by name, and the words of its ``meta``.

    Raises:
        FileError: it is missing, damaged, of another format, or needs a package.
    """
    path = Path(path)
    kind = kind_of(path)
    if kind == "safetensors" or (kind != "npz" and path.suffix == ".safetensors"):
        return _read_safetensors(path)
    require(path, "npz", {"npy": "A case has several arrays: save them with numpy.savez."})
    try:
        with np.load(path, allow_pickle=False) as archive:
            held: dict[str, Any] = {name: archive[name] for name in archive.files}
    except Exception as error:  # whatever zipfile and NumPy stumble over, the file is at fault
        if "allow_pickle" in str(error):
            problem = "holds pickled objects, which could run any code"
            raise FileError(path, problem, "Save numbers: .astype('float32').") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileError(path, f"is damaged: {reason}", "Make it again.") from error
    for name, array in held.items():
        if array.dtype.kind == "V":
            hint = "NumPy has no bfloat16: save it as .astype('float32'), which is exact."
            raise FileError(path, f"{name} is of dtype {array.dtype}", hint)
    if META in held:
        held |= _words(path, str(held.pop(META)))
    return held


def case_from(path: Path, held: Mapping[str, Any], name: str, purpose: str = "") -> Case:
    """The case that ``held`` describes, arrays and words.

    Raises:
        FileError: something is missing, or does not fit together.
    """
    missing = [n for n in _NEEDED if n not in held]
    if missing:
        shown = ", ".join(sorted(held)[:8]) + (", ..." if len(held) > 8 else "")
        problem = f"is not a case: it lacks {', '.join(missing)} and holds {shown or 'nothing'}"
        raise FileError(path, problem)
    words: dict[str, Any] = {"l1_coeff": 1e-3, "activation": "topk", "ties": "lowest_index"}
    words |= {n: _plain(held[n]) for n in WORDS if n in held}
    if "top_k" not in words and words["activation"] == "topk":
        raise FileError(path, "is not a case: it lacks top_k", "Or say that activation is relu.")
    try:
        l1_coeff = finite_number("l1_coeff", words.pop("l1_coeff"))
        params = Params(**{n: held[n] for n in _PARAMETERS if n in held})
        D, I = params.W_enc.shape
        words.setdefault("top_k", D)
        if isinstance(words["top_k"], float) and words["top_k"].is_integer():
            words["top_k"] = int(words["top_k"])
        config = TranscoderConfig(
            input_size=I,
            output_size=len(params.b_dec),
            dict_size=D,
            skip=params.W_skip is not None,
            dtype=params.dtype.name,
            **words,
        )
        x = to_matrix(held["x"], "x", "(B, I)", I)
        target = held.get("target")
        if target is not None:
            target = to_matrix(target, "target", "(B, O)", len(params.b_dec))
    except Error as error:
        raise FileError(path, str(error).rstrip(".")) from error
    return Case(name, purpose, config, params, x, target, l1_coeff)


def split(path: Path, held: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a file that holds a whole audit was given, and what it made of that.

    Raises:
        FileError: a name that is neither.
    """
    results = {n.removeprefix(PREFIX): a for n, a in held.items() if n.startswith(PREFIX)}
    given = {n: a for n, a in held.items() if n in (*_ARRAYS, *WORDS)}
    strange = sorted(set(held) - {PREFIX + n for n in results} - set(given))
    if strange:
        hint = f"What was computed is called {PREFIX}pre, {PREFIX}hidden and so on."
        raise FileError(path, f"holds what no case has: {', '.join(strange[:8])}", hint)
    return given, results


def _read_safetensors(path: Path) -> dict[str, Any]:
    require(path, "safetensors", {"npz": "Name it .npz."})
    library = _package(path, "safetensors")
    try:
        with library.safe_open(path, framework="numpy") as file:
            words = (file.metadata() or {}).get(META)
            held: dict[str, Any] = {}
            for name in file.keys():
                if file.get_slice(name).get_dtype() == "BF16":
                    _package(path, "ml_dtypes")  # NumPy knows the type once this is imported
                held[name] = file.get_tensor(name)
    except (library.SafetensorError, TypeError) as error:
        raise FileError(path, f"is damaged: {error}", "Make it again.") from error
    return held | (_words(path, words) if words else {})


def _words(path: Path, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict) and "config" in content:
        raise FileError(path, "this is a transcoder, not a case: it has no x and no results")
    if not isinstance(content, dict) or not set(content) <= set(WORDS):
        problem = f"its {META} must be a JSON object with {', '.join(WORDS)}; it is {text[:60]!r}"
        raise FileError(path, problem)
    return content


def _plain(value: Any) -> Any:
    """A number or a word, which may come as an array without an axis, or with one entry."""
    if isinstance(value, np.ndarray) and value.size == 1:
        return value.reshape(()).item()
    return value


def _package(path: Path, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        problem = f"this file needs the package {name}, which is not installed"
        hint = 'Install it, pip install "reftranscoder[formats]", or use .npz.'
        raise FileError(path, problem, hint) from None
