"""What an option may be: each function returns the value it was given, as what it must be, or says
in one line what that is.  Whatever is passed, nothing but `OptionError` is raised.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from .errors import OptionError

LARGEST = 2**63 - 1  # of any count
_SEEDS = 2**256
LARGEST_SIZE = 2**31 - 1  # of an axis: the indices of a sparse result have 32 bits


def positive_integer(name: str, value: Any, largest: int = LARGEST) -> int:
    """Return ``value`` as an int.  Raise `OptionError` for 0, negatives, bools and floats, and for
    what exceeds ``largest``."""
    number = _integer(value)
    if number is None or number < 1:
        raise OptionError(name, "a positive integer", value)
    if number > largest:
        raise OptionError(name, f"a positive integer up to {largest:,}", value, "Lower it.")
    return number


def integer_in(name: str, value: Any, start: int, stop: int) -> int:
    """Return ``value`` as an int.  Raise `OptionError` unless it is from ``start`` to below
    ``stop``, and for bools and floats."""
    number = _integer(value)
    if number is None or not start <= number < stop:
        raise OptionError(name, f"a whole number from {start} to {stop - 1}", value)
    return number


def finite_number(name: str, value: Any) -> float:
    """Return ``value`` as a float.  Raise `OptionError` unless it is finite and not negative."""
    try:
        number = -1.0 if isinstance(value, (bool, np.bool_)) else float(value)
    except Exception:  # OverflowError of 10**400, or what somebody else's __float__ raises
        number = -1.0
    if not 0 <= number < float("inf"):
        raise OptionError(name, "a finite number, 0 or above", value)
    return number


def truth(name: str, value: Any) -> bool:
    """Return ``value`` as a bool.  Raise `OptionError` unless it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise OptionError(name, "True or False", value)
    return bool(value)


def one_of(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return ``value``.  Raise `OptionError` unless it is one of the words ``choices``."""
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        raise OptionError(name, f"one of {', '.join(choices)}", value)
    return value


def instance(name: str, value: Any, kind: type, words: str = "") -> Any:
    """Return ``value``.  Raise `OptionError` unless it is a ``kind``, which ``words`` may name."""
    if not isinstance(value, kind):
        raise OptionError(name, words or f"a {kind.__name__}", value)
    return value


def path(name: str, value: Any) -> Path:
    """Return ``value`` as a path.  Raise `OptionError` unless it is one, or a text."""
    try:
        return Path(os.fsdecode(value) if isinstance(value, os.PathLike) else value)
    except Exception:
        raise OptionError(name, "the path of a file", value) from None


def seed_sequence(seed: Any) -> np.random.SeedSequence:
    """``seed``, an int, a ``SeedSequence`` or a ``Generator`` (which is drawn from), as the second.

    Raises:
        OptionError: something else.
    """
    want = "a whole number from 0 to 2**256 - 1, a SeedSequence or a Generator"
    if isinstance(seed, np.random.SeedSequence):
        if isinstance(seed.entropy, int) and seed.entropy >= _SEEDS:  # a checkpoint writes it down
            raise OptionError("seed", want, seed.entropy)
        return seed
    if isinstance(seed, np.random.Generator):
        return np.random.SeedSequence(seed.integers(2**32, size=4).tolist())
    number = _integer(seed)
    if number is None or not 0 <= number < _SEEDS:
        raise OptionError("seed", want, seed)
    return np.random.SeedSequence(number)


def random_generator(seed: Any) -> np.random.Generator:
    """``seed`` as a ``Generator``: itself if it is one, so that it goes on from where it is.

    Raises:
        OptionError: as `seed_sequence`.
    """
    is_generator = isinstance(seed, np.random.Generator)
    return seed if is_generator else np.random.default_rng(seed_sequence(seed))


def _integer(value: Any) -> int | None:
    """``value`` as an int, or None for bools, floats and what has no ``__index__``."""
    try:
        return None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except Exception:  # TypeError, or what somebody else's __index__ raises
        return None
