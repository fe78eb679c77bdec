"""What stages ought to be, kept from one definition to the next.

A hypothesis changes few stages.  What the others ought to be is worked out under the first
definition and looked up under the next; most of all for a candidate that gave a loss or a last
gradient alone, which every definition would work out from x on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import numpy as np

from ..intervals.interval import Errors, Interval
from ..intervals.sparse_interval import SparseInterval

_ROOM = 1 << 27  # bytes

Kept = TypeVar("Kept", Interval, SparseInterval)


class Intermediates:
    """Intervals of blocks of rows, by stage and what the definition says up to it.

    The ones that were used longest ago go where there is no room.
    """

    def __init__(self, room: int = _ROOM) -> None:
        self._room = room
        self._kept: dict[Hashable, Interval | SparseInterval] = {}  # the last used one last

    def once(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """What ``make()`` returns, or returned under the same ``key``: not to be written to."""
        found = self._kept.pop(key, None)
        if found is None:
            found = make()
            self._room -= _size(found)
        self._kept[key] = found
        while self._room < 0:
            self._room += _size(self._kept.pop(next(iter(self._kept))))
        return found  # type: ignore[return-value]  # a key is of one stage, and that of one type


class Recalled:
    """The same for one definition, in which a stage is known by its name."""

    def __init__(self, intermediates: Intermediates, keys: Mapping[str, Hashable]) -> None:
        self._intermediates, self._keys = intermediates, keys

    def once(self, stage: str, rows: slice, make: Callable[[], Kept]) -> Kept:
        return self._intermediates.once((self._keys[stage], rows.start), make)


def _size(kept: Interval | SparseInterval) -> int:
    """How many bytes it takes."""
    if isinstance(kept, SparseInterval):
        return kept.pattern.indices.nbytes + kept.pattern.indptr.nbytes + _size(kept.entries)
    if isinstance(kept.errors, Errors):
        return kept.value.nbytes * (1 + len(kept.errors))  # once they are looked at
    return sum(np.asarray(a).nbytes for a in (kept.value, *(kept.errors or ())))
