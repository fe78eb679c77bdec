"""Which rows of a file are kept: a range of them, and of each sequence all but one position."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

from ..errors import OptionError
from ..options import integer_in, positive_integer


@dataclasses.dataclass(frozen=True)
class Selection:
    """``count`` kept rows, from the kept row number ``first``: what `place` says where to find."""

    first: int
    count: int
    period: int | None  # the length of a sequence, where a position is dropped
    dropped: int | None

    @classmethod
    def of(
        cls, rows: str | slice | None, length: Any, position: Any, stored: int, name: str
    ) -> Selection:
        """Of the ``stored`` rows of ``name``, those of the range ``rows``, without ``position`` of
        each sequence of ``length`` rows.

        Raises:
            OptionError: rows outside the file, or an option that makes no sense.
        """
        whole = cls(0, stored, *_dropping(length, position))
        first, last = _bounds(rows, stored, name)
        before = whole.kept_before(first)
        count = whole.kept_before(last) - before
        if not count:
            raise OptionError("rows", "a range that holds a row", rows)
        return dataclasses.replace(whole, first=before, count=count)

    def place(self, indices: np.ndarray) -> np.ndarray:
        """The rows of the file (n,) where the kept rows ``indices`` (n,), none negative, are."""
        kept: np.ndarray = self.first + indices
        if self.period is None or self.dropped is None:
            return kept
        # Each sequence keeps one row less than it has; from drop_position on, rows move up by one.
        sequence, position = np.divmod(kept, self.period - 1)
        places: np.ndarray = sequence * self.period + position + (position >= self.dropped)
        return places

    def part(self, start: int, stop: int) -> Selection:
        """Kept rows ``start`` to ``stop - 1`` of these."""
        return dataclasses.replace(self, first=self.first + start, count=stop - start)

    def kept_before(self, row: int) -> int:
        """How many rows before ``row`` of the file are kept."""
        if self.period is None or self.dropped is None:
            return row
        return row - (row + self.period - 1 - self.dropped) // self.period


def _bounds(rows: str | slice | None, count: int, name: str) -> tuple[int, int]:
    """The first row and the one after the last of ``"A:B"``."""
    want = f"'A:B', a range within the {count} rows of {name}"
    if isinstance(rows, str):
        match = re.fullmatch(r"\s*(-?\d{1,18})?\s*:\s*(-?\d{1,18})?\s*", rows)
        if match is None:
            raise OptionError("rows", want, rows)
        rows = slice(*(None if text is None else int(text) for text in match.groups()))
    elif rows is None:
        rows = slice(None)
    if not isinstance(rows, slice) or rows.step not in (None, 1):
        raise OptionError("rows", want, rows)
    edges = (edge for edge in (rows.start, rows.stop) if edge is not None)
    if not all(isinstance(edge, (int, np.integer)) for edge in edges):
        raise OptionError("rows", want, rows)
    first = 0 if rows.start is None else rows.start
    last = count if rows.stop is None else rows.stop
    first, last = (edge + count if edge < 0 else edge for edge in (first, last))
    if not 0 <= first < last <= count:
        raise OptionError("rows", want, f"{first}:{last}")
    return first, last


def _dropping(length: int | None, position: int | None) -> tuple[int | None, int | None]:
    if length is None and position is None:
        return None, None
    if length is None or position is None:
        name = "sequence_length" if length is None else "drop_position"
        raise OptionError(name, "given together with the other of the two", None)
    length = positive_integer("sequence_length", length)
    if length == 1:
        raise OptionError("sequence_length", "at least 2: a row of each is dropped", length)
    return length, integer_in("drop_position", position, 0, length)
