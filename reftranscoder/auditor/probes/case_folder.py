"""Cases in a folder: written for implementations in any language, and read with their results.

::

    DIR/README.txt                what to read and what to write
    DIR/cases.json                the names of the cases, in order
    DIR/NAME/case.json            sizes, options, and what each array is
    DIR/NAME/input.npz            parameters, x and target             } and .safetensors,
    DIR/NAME/expected.npz         every stage, in float64              } if that is installed
    DIR/NAME/results.npz          what the other side computed, or results.safetensors
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ... import __version__
from ...errors import FileError, words
from ...files import schema
from ...files.atomic import atomic_write
from ...files.leftovers import LOCKS, claim, remove_leftovers, temporary_name
from ...options import one_of
from ..task.case import Answer, Case
from ..task.definition import JUDGED
from .case_file import SUFFIXES, WORDS, case_from, has_safetensors, read_file, split, write_file
from .instructions import instructions, meanings_for
from .probe_set import USUAL, probes

FORMAT = "reftranscoder cases"
#: The second has what an activation takes beside the arrays that every transcoder has.
VERSIONS = (1, 2)
INDEX, DESCRIPTION, README = "cases.json", "case.json", "README.txt"


class Answers(NamedTuple):
    """Cases on disk with what was made of them: how many there are, and how to read them."""

    paths: tuple[Path, ...]
    several: bool  # a folder of cases, whatever their number

    def read(self) -> Iterator[tuple[Case, Answer]]:
        """Each case, and its answer.

        Raises:
            FileError: a file is missing, damaged, or not what it ought to be.
        """
        for path in self.paths:
            yield _read_folder(path) if self.several or path.is_dir() else _read_whole(path)


def answers_in(path: str | os.PathLike[str]) -> Answers:
    """The cases in a file, in the folder of one case, or in a folder of cases.

    Raises:
        FileError: there is nothing of the kind.
    """
    path = Path(path)
    if not path.is_dir():
        return Answers((path,), several=False)
    if (path / DESCRIPTION).is_file():
        return Answers((path,), several=False)
    names = _index(path)
    if names is None:
        hint = "Name a folder that reftranscoder cases made, or a case in one."
        raise FileError(path, f"holds neither {INDEX} nor {DESCRIPTION}", hint)
    return Answers(tuple(path / name for name in names), several=True)


def write_cases(folder: str | os.PathLike[str], activation: str | None = None) -> list[str]:
    """Write the probe set into ``folder``; return the names of the cases.

    A new folder appears as a whole or not at all.  In a folder of cases, files are replaced one by
    one, and results are left alone.

    Args:
        folder: a new folder, an empty one, or one of cases.
        activation: the one that the cases are for, one of `JUDGED`; by default the one of the
            cases in ``folder``, and in a new one both of `USUAL`.

    Raises:
        OptionError: another ``activation``.
        FileError: it cannot be written, holds something else, results for other cases, or cases
            of another activation.
    """
    folder = Path(folder)
    if activation is not None:
        one_of("activation", activation, JUDGED)
    suffixes = [s for s in SUFFIXES if s == ".npz" or has_safetensors()]
    try:
        there = sorted(folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise FileError(folder, f"cannot be a folder of cases: {error.strerror}") from None
    if there:
        if _index(folder) is None:
            problem = "is not empty, and is no folder of cases"
            raise FileError(folder, problem, "Name a new folder.")
        cases = _cases_again(folder, activation)
        for case in cases:
            _check_results(folder / case.name, case)
        _write_all(folder, cases, suffixes)
        return [case.name for case in cases]
    if not folder.absolute().parent.is_dir():
        hint = f"Make it first: mkdir -p {folder.parent}"
        raise FileError(folder, "the folder that it is to be in does not exist", hint)
    cases = probes() if activation is None else probes(activation)
    with _new_folder(folder) as unfinished:
        _write_all(unfinished, cases, suffixes)
    return [case.name for case in cases]


def _cases_again(folder: Path, activation: str | None) -> list[Case]:
    """The probe set that was written into a folder of cases.

    Raises:
        FileError: it is for another ``activation``.
    """
    before = _json(folder / INDEX, "").get("activation")
    if before not in (None, *JUDGED):
        raise FileError(folder / INDEX, f"is damaged: no activation is called {words(before)}")
    if activation not in (None, before):
        found = before or " and ".join(USUAL)
        problem = f"holds cases for {found}, and not for {activation}"
        raise FileError(folder, problem, "Name a new folder.")
    return probes() if before is None else probes(before)


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder under a temporary name, which becomes ``folder`` if nothing goes wrong."""
    target = folder.absolute()
    remove_leftovers(target)
    unfinished = temporary_name(target)
    descriptor = None
    try:
        unfinished.mkdir()
        if LOCKS:
            descriptor = os.open(unfinished, os.O_RDONLY)
            claim(descriptor, unfinished)
        yield unfinished
        os.replace(unfinished, target)
    except BaseException as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if isinstance(error, FileError):
            problem = str(error).replace(str(unfinished), str(folder))
            raise FileError(folder, problem.removeprefix(f"{folder}: ").rstrip(".")) from error
        if isinstance(error, OSError):
            raise FileError(folder, f"cannot be written: {error.strerror or error}") from error
        raise
    finally:
        if descriptor is not None:
            os.close(descriptor)


def inputs_of(case: Case) -> dict[str, np.ndarray]:
    """The arrays of ``input.npz``."""
    arrays = {**case.params.all_arrays(), "x": case.x}
    return arrays if case.target is None else {**arrays, "target": case.target}


def expectation_of(case: Case) -> dict[str, np.ndarray]:
    """The arrays of ``expected.npz``: every stage in float64, and hidden once more as pairs."""
    stages = case.expected
    hidden = stages["hidden"]
    width = max(int((hidden != 0).sum(axis=1).max()), 1)
    order = np.argsort(hidden == 0, axis=1, kind="stable")[:, :width]
    values = np.take_along_axis(hidden, order, axis=1)
    indices = np.where(values != 0, order, -1).astype(np.int64)
    return {**stages, "indices": indices, "values": values}


def _write_all(folder: Path, cases: list[Case], suffixes: list[str]) -> None:
    for case in cases:
        place = folder / case.name
        place.mkdir(exist_ok=True)
        for suffix in suffixes:
            write_file(place / f"input{suffix}", inputs_of(case))
            write_file(place / f"expected{suffix}", expectation_of(case))
        _write_text(place / DESCRIPTION, json.dumps(_description(case), indent=1) + "\n")
    _write_text(folder / README, instructions(cases, suffixes))
    index = {"format": FORMAT, "version": _version(cases[0]), "reftranscoder": __version__}
    activations = {case.config.activation for case in cases}
    if len(activations) == 1:
        index["activation"] = activations.pop()
    names = [case.name for case in cases]
    _write_text(folder / INDEX, json.dumps(index | {"cases": names}, indent=1) + "\n")


def _version(case: Case) -> int:
    """The first version that has all that is in such a case."""
    return 1 if case.params.own is None else 2


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text.encode())


def _description(case: Case) -> dict[str, Any]:
    config = case.config
    (B, I), (D, O) = case.x.shape, case.params.W_dec.shape
    letters = {"B": B, "I": I, "D": D, "O": O}
    meanings = meanings_for(config.activation)
    own = {} if case.params.own is None else case.params.own.options()

    def described(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
        return {
            name: {"shape": list(a.shape), "dtype": a.dtype.name, "meaning": meanings[name]}
            for name, a in arrays.items()
        }

    return {
        "format": FORMAT,
        "version": _version(case),
        "name": case.name,
        "purpose": case.purpose,
        **letters,
        "top_k": config.top_k,
        "activation": config.activation,
        "ties": config.ties,
        **own,
        "skip": config.skip,
        "l1_coeff": case.l1_coeff,
        "rows_that_are_not_finite": case.non_finite.tolist(),
        "decisive": case.decisive,
        "input": described(inputs_of(case)),
        "expected": described(expectation_of(case)),
        "results": ["results.npz", "results.safetensors"],
    }


def _index(folder: Path) -> list[str] | None:
    """The names in a folder of cases, or None if it is not one.

    Raises:
        FileError: it was one, and its list of names cannot be read or is of another version.
    """
    path = folder / INDEX
    if not path.exists():
        return None
    content = _json(path, "Write the cases into a new folder, and copy the results there.")
    if content.get("format") != FORMAT:
        return None
    if content.get("version") not in VERSIONS:
        version = words(content.get("version"))
        problem = f"is of version {version}, and this library reads {max(VERSIONS)}"
        hint = "Write the cases into a new folder, and compute their results anew."
        raise FileError(path, problem, hint)
    if not _are_names(content.get("cases")):
        hint = "Write the cases into a new folder, and copy the results there."
        raise FileError(path, "is damaged: it has no list of names", hint)
    names: list[str] = content["cases"]
    return names


def _are_names(names: Any) -> bool:
    if not isinstance(names, list) or not names:
        return False
    return all(
        isinstance(n, str) and n.isprintable() and Path(n).name == n and n not in ("", "..")
        for n in names
    )


def _json(path: Path, hint: str) -> dict[str, Any]:
    """The JSON object in a file; ``hint`` says what to do where there is none.

    Raises:
        FileError: there is none.
    """
    try:
        return schema.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileError(path, "there is no such file", hint) from None
    except OSError as error:
        raise FileError(path, f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        problem = f"is damaged: it holds no JSON object that was written here: {error}"
        raise FileError(path, problem, hint) from None


def _read_whole(path: Path) -> tuple[Case, Answer]:
    given, results = split(path, read_file(path))
    return case_from(path, given, path.name), Answer(results)


def _read_folder(folder: Path) -> tuple[Case, Answer]:
    again = f"Write the cases again; results are left alone: reftranscoder cases {folder.parent}"
    if not folder.is_dir():
        raise FileError(folder, f"is in {INDEX}, and there is no such folder", again)
    described = _json(folder / DESCRIPTION, again)
    if described.get("format") != FORMAT:
        raise FileError(folder / DESCRIPTION, "does not describe a case", again)
    path = _input(folder)
    if path is None:
        raise FileError(folder / "input.npz", "there is no such file", again)
    held = read_file(path) | {n: described[n] for n in WORDS if n in described}
    case = case_from(path, held, folder.name, words(described.get("purpose", "")))
    case = dataclasses.replace(case, decisive=bool(described.get("decisive", True)))
    given = _results(folder)
    if given is None:
        return case, Answer(None)
    results = read_file(given)
    if set(results) == {"refused"} and len(case.non_finite):
        return case, Answer(None, "refused", refused=True)
    return case, Answer(results)


def _input(folder: Path) -> Path | None:
    return next((p for p in (folder / f"input{s}" for s in SUFFIXES) if p.exists()), None)


def _results(folder: Path) -> Path | None:
    found = [path for path in (folder / f"results{s}" for s in SUFFIXES) if path.exists()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise FileError(folder, f"there are {names}", "Leave one of them.")
    return found[0] if found else None


def _check_results(folder: Path, case: Case) -> None:
    """Refuse to put another input under results that exist.

    What is missing or damaged says nothing of another input, and is what to write cases again for.
    """
    if _results(folder) is None:
        return
    now = inputs_of(case)
    described, before = {}, now
    with contextlib.suppress(FileError):
        described = _json(folder / DESCRIPTION, "")
    with contextlib.suppress(FileError):
        before = read_file(_input(folder) or folder / "input.npz")
    same = before.keys() == now.keys()
    same = same and described.get("l1_coeff", case.l1_coeff) == case.l1_coeff
    if not same or any(not np.array_equal(before[n], now[n], equal_nan=True) for n in now):
        problem = "has results of a case that is another one in this version"
        raise FileError(folder, problem, "Move these away, or name a new folder.")
