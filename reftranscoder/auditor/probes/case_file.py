"""Arrays and words in one file, ``.npz`` or ``.safetensors``: cases, expectations and results.

A file that holds a whole audit has the arrays ``W_enc`` (D, I), ``b_enc`` (D,), ``W_dec`` (D, O),
``b_dec`` (O,), where there is a skip connection ``W_skip`` (O, I), ``x`` (B, I) and ``target``
(B, O), each under its name, and what the candidate computed as ``result.pre``,
``result.reconstruction`` and so on.  ``top_k`` and ``l1_coeff`` are numbers, ``activation`` and
``ties`` words.  All four may stand in a JSON object: in ``.npz`` a text ``meta``, in
``.safetensors`` the entry ``meta`` of the header's ``__metadata__``.  Numbers may be arrays without
an axis instead, and in ``.npz`` words as well.  What an activation takes beside these arrays has
the names of the fields of its class in ``params/``: ``theta`` (D,) of jumprelu, for instance, is
an array, and ``bandwidth`` a number.

Reading a file never executes it.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...arrays import to_matrix
from ...errors import Error, FileError, OptionError, words
from ...files import schema
from ...files.atomic import atomic_write
from ...files.npz import read_arrays, write_arrays
from ...files.safetensors import NUMBERS, read_tensors, tensors_as_bytes
from ...files.sniff import kind_of
from ...options import finite_number
from ...params import KEEPING_ALL, NAMES, OWN, Own, Params, TranscoderConfig
from ..task.case import Case

PREFIX = "result."
META = "meta"
SUFFIXES = (".npz", ".safetensors")

_NEEDED = ("W_enc", "b_enc", "W_dec", "b_dec", "x")
_OWN_ARRAYS = tuple(name for kind in OWN.values() for name in kind.ARRAYS)
_OWN_WORDS = tuple(
    field.name
    for kind in OWN.values()
    for field in dataclasses.fields(kind)
    if field.name not in kind.ARRAYS
)
_ARRAYS = (*NAMES, *_OWN_ARRAYS, "x", "target")
_WORDS = ("top_k", "l1_coeff", "activation", "ties")
WORDS = (*_WORDS, *_OWN_WORDS)


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
            file.write(tensors_as_bytes(path, arrays))


def read_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The arrays in ``path`` by name, and the words of its ``meta``.

    Raises:
        FileError: it is missing, damaged, of another format, or needs a package.
    """
    path = Path(path)
    kind = kind_of(path)
    held: dict[str, Any]
    if kind == "safetensors" or (kind != "npz" and path.suffix == ".safetensors"):
        held, texts = read_tensors(path, {"npz": "Name it .npz."}, NUMBERS)
        meta = texts.get(META)
    else:
        remedies = {"npy": "A case has several arrays: save them with numpy.savez."}
        held = read_arrays(path, remedies)
        meta = str(held.pop(META)) if META in held else None
    return held | (_words(path, meta) if meta else {})


def case_from(path: Path, held: Mapping[str, Any], name: str, purpose: str = "") -> Case:
    """The case that ``held`` describes, arrays and words.

    Raises:
        FileError: something is missing, or does not fit together.
    """
    missing = [n for n in _NEEDED if n not in held]
    if missing:
        names = ", ".join(map(words, sorted(held)[:8])) + (", ..." if len(held) > 8 else "")
        problem = f"is not a case: it lacks {', '.join(missing)} and holds {names or 'nothing'}"
        raise FileError(path, problem)
    options: dict[str, Any] = {"l1_coeff": 1e-3, "activation": "topk", "ties": "lowest_index"}
    options |= {n: _plain(held[n]) for n in _WORDS if n in held}
    for option, value in options.items():
        if isinstance(value, np.ndarray):
            raise FileError(path, f"its {option} must be one value; it has shape {value.shape}")
    if "top_k" not in options and options["activation"] not in KEEPING_ALL:
        raise FileError(path, "is not a case: it lacks top_k", "Or say that activation is relu.")
    try:
        l1_coeff = finite_number("l1_coeff", options.pop("l1_coeff"))
        arrays = {n: held[n] for n in NAMES if n in held}
        params = Params(**arrays, own=_own(held, options["activation"]))
        D, I = params.W_enc.shape
        options.setdefault("top_k", D)
        if isinstance(options["top_k"], float) and options["top_k"].is_integer():
            options["top_k"] = int(options["top_k"])
        config = TranscoderConfig(
            input_size=I,
            output_size=len(params.b_dec),
            dict_size=D,
            skip=params.W_skip is not None,
            dtype=params.dtype.name,
            **options,
        )
        x = to_matrix(held["x"], "x", "(B, I)", I)
        target = held.get("target")
        if target is not None:
            target = to_matrix(target, "target", "(B, O)", len(params.b_dec))
    except Error as error:
        raise FileError(path, str(error).rstrip(".")) from error
    return Case(name, purpose, config, params, x, target, l1_coeff)


def _own(held: Mapping[str, Any], activation: Any) -> Own | None:
    """What this activation takes beside the arrays that every transcoder has.

    Raises:
        OptionError: something is missing, or there is what it does not take.
    """
    kind = OWN.get(activation) if isinstance(activation, str) else None
    fields = () if kind is None else tuple(field.name for field in dataclasses.fields(kind))
    for name in (*_OWN_ARRAYS, *_OWN_WORDS):
        if name in held and name not in fields:
            raise OptionError(name, f"left out, for {activation}", held[name])
        if name in _OWN_ARRAYS and name in fields and name not in held:
            raise OptionError(name, f"an array (D,), for {activation}", None)
    given: dict[str, Any] = {name: held[name] for name in fields if name in held}
    given |= {name: _plain(given[name]) for name in _OWN_WORDS if name in given}
    return None if kind is None else kind(**given)


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
        raise FileError(path, f"holds what no case has: {', '.join(map(words, strange[:8]))}", hint)
    return given, results


def _words(path: Path, text: str) -> dict[str, Any]:
    try:
        content = schema.parse(text)
    except ValueError as error:
        problem = f"its {META} must be a JSON object with {', '.join(WORDS)}; {error}"
        raise FileError(path, problem) from None
    if "config" in content:
        raise FileError(path, "this is a transcoder, not a case: it has no x and no results")
    if not set(content) <= set(WORDS):
        problem = f"its {META} must be a JSON object with {', '.join(WORDS)}; it is {text[:60]!r}"
        raise FileError(path, problem)
    return content


def _plain(value: Any) -> Any:
    """A number or a word, which may come as an array without an axis, or with one entry."""
    if isinstance(value, np.ndarray) and value.size == 1:
        return value.reshape(()).item()
    return value
