"""The part of YAML that a table of settings needs: names, texts and numbers, nested by indentation.

Nothing else is read: no tags, which name classes, no anchors, no documents and no braces.  What a
line with these would mean is refused, so that a file means here what it means elsewhere, or
nothing.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_LARGEST = 100_000  # characters
_DEEPEST = 16
_COMMENT = re.compile(r"(^|(?<=\s))#")
_KEY = re.compile(r"([A-Za-z_][\w./-]*|\"[^\"\\]*\"|'[^']*')\s*:(?:\s+(.*))?$")
_NUMBERS = ((re.compile(r"[-+]?\d{1,18}$"), int), (re.compile(r"[-+]?\d+\.\d*(e[-+]\d+)?$"), float))
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
_SPECIAL = "!&*{}[]|>%@`\"'#?,:-"


class _Line(NamedTuple):
    """What stands on a line, and how far it is indented."""

    indent: int
    text: str


def parse(text: str) -> dict[str, Any]:
    """The mapping that ``text`` is.

    Raises:
        ValueError: it is not one in this part of YAML.
    """
    if len(text) > _LARGEST:
        raise ValueError("it is too long")
    lines = [line for raw in text.splitlines() if (line := _line(raw)) is not None]
    if not lines:
        return {}
    value, rest = _block(lines, 0, 0)
    if rest != len(lines) or not isinstance(value, dict):
        raise ValueError("it is no table of names and values")
    return value


def _line(raw: str) -> _Line | None:
    quoted = max(map(raw.rfind, "\"'")) + 1  # what looks like a comment before is in a text
    comment = _COMMENT.search(raw, quoted)
    text = raw[: comment.start() if comment else None].rstrip()
    if not text.strip():
        return None
    if "\t" in text or text.startswith(("---", "...", "%")):
        raise ValueError(f"its line {text[:40]!r} is more than a name and a value")
    return _Line(len(text) - len(text.lstrip(" ")), text.lstrip(" "))


def _block(lines: list[_Line], place: int, depth: int) -> tuple[Any, int]:
    """The list or mapping that begins at ``place``, and where it ends."""
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    indent = lines[place].indent
    if lines[place].text.startswith("- "):
        return _list(lines, place, indent, depth)
    mapping: dict[str, Any] = {}
    while place < len(lines) and lines[place].indent == indent:
        found = _KEY.match(lines[place].text)
        if found is None:
            raise ValueError(f"its line {lines[place].text[:40]!r} is no name and value")
        key, value = found[1].strip("\"'"), found[2]
        if key in mapping:
            raise ValueError(f"it gives {key[:40]!r} twice")
        place += 1
        nested = place < len(lines) and (
            lines[place].indent > indent
            or (lines[place].indent == indent and lines[place].text.startswith("- "))
        )
        if value is None and nested:
            mapping[key], place = _block(lines, place, depth + 1)
        else:
            mapping[key] = _scalar(value or "")
    return mapping, place


def _list(lines: list[_Line], place: int, indent: int, depth: int) -> tuple[list[Any], int]:
    items = []
    while place < len(lines) and lines[place].indent == indent:
        if not lines[place].text.startswith("- "):
            break
        text = lines[place].text[2:]
        inner = text.lstrip(" ")
        if _KEY.match(inner):
            lines[place] = _Line(indent + 2 + len(text) - len(inner), inner)
            item, place = _block(lines, place, depth + 1)
        else:
            item, place = _scalar(inner), place + 1
        items.append(item)
    return items, place


def _scalar(text: str) -> Any:
    text = text.strip()
    for quote in "\"'":
        if len(text) > 1 and text[0] == text[-1] == quote:
            inside = text[1:-1]
            if quote in inside or "\\" in inside:
                raise ValueError(f"its text {text[:40]!r} has escapes in it")
            return inside
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for pattern, number in _NUMBERS:
        if pattern.match(text):
            return number(text)
    if text == "[]":
        return []
    if text[0] in _SPECIAL or ": " in text or text.endswith(":"):
        raise ValueError(f"its value {text[:40]!r} is more than a text or a number")
    return text
