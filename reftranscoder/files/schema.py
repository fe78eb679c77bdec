"""JSON from files: read strictly, and held against a table of fields before anything is used.

A table says of each field what it must be: ``{"t": Field(is_whole, "a whole number")}``.  Names
that JSON repeats, or that the table lacks, are refused as missing ones are: what is read is what
was meant, or nothing.
"""

from __future__ import annotations

import collections
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeGuard

from ..errors import shown

_MOST_DIGITS = 80  # of a whole number: the largest seed, 2**256 - 1, has 78


class Field(NamedTuple):
    """What one field must be, for a program and in words."""

    fits: Callable[[Any], bool]
    want: str


def parse(text: str) -> dict[str, Any]:
    """The JSON object that ``text`` is.

    Raises:
        ValueError: it is no JSON, no object, gives a name twice, or holds a whole number that no
            field could have.  (NaN and infinity are read, as Python writes them.)
    """
    try:
        content = json.loads(text, object_pairs_hook=_once, parse_int=_whole)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    return content


def fault(content: Mapping[str, Any], fields: Mapping[str, Field]) -> str | None:
    """What is wrong with ``content`` by the table ``fields``, in words; None if nothing is."""
    for name, field in fields.items():
        if name not in content:
            return f"it lacks {name}"
        if not field.fits(content[name]):
            return f"its {name} must be {field.want}; it is {shown(content[name])}"
    strange = sorted(set(content) - set(fields))
    return f"it also holds {', '.join(map(shown, strange[:8]))}" if strange else None


def is_whole(value: Any) -> TypeGuard[int]:
    """A whole number, 0 or above, that 64 bits hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def is_number(value: Any) -> TypeGuard[int | float]:
    """A number: NaN and infinity too, truth values not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_finite(value: Any) -> TypeGuard[int | float]:
    """A number that float64 holds and that is neither NaN nor infinite."""
    return is_number(value) and abs(value) <= 1e308 and math.isfinite(value)


def is_text(value: Any) -> TypeGuard[str]:
    """A text."""
    return isinstance(value, str)


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """A JSON object."""
    return isinstance(value, dict)


def is_list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A list of nothing but what ``fits``."""
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        twice = collections.Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"it gives {shown(twice)} twice")
    return content


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"it holds a whole number of {len(digits)} digits")
    return int(digits)
