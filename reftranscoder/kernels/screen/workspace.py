"""Memory that one call after the other works in.

What a call throws away goes back to the system and comes anew, page by page, with the next call;
where the host's other libraries have changed how that is done, pages took longer than the work.
"""

from __future__ import annotations

import collections
import contextlib
import math

import numpy as np

from ...ownership import aligned


class Workspace:
    """Arrays by name, whose memory stays for the next who asks for that name."""

    def __init__(self):
        self._memory = {}
        self._last = {}

    def array(self, name, shape, dtype):
        """An array, not initialised, in the memory of the last one of this ``name`` if it fits."""
        last = self._last.get(name)
        if last is not None and last.shape == shape and last.dtype == dtype:
            return last
        size = math.prod(shape) * np.dtype(dtype).itemsize
        memory = self._memory.get(name)
        if memory is None or len(memory) < size:
            memory = self._memory[name] = aligned((size,), np.uint8)
        self._last[name] = memory[:size].view(dtype).reshape(shape)
        return self._last[name]


#: As many as calls have been under way at once, up to four.
_idle: collections.deque[Workspace] = collections.deque(maxlen=4)


@contextlib.contextmanager
def workspace():
    """A `Workspace` that is nobody else's meanwhile."""
    try:
        held = _idle.pop()
    except IndexError:
        held = Workspace()
    try:
        yield held
    finally:
        _idle.append(held)
