"""Ctrl-C between two steps, never within one."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Interruption:
    """While used as a context manager, the first Ctrl-C only sets ``requested``.

    A step overwrites its arrays one after the other, and stopping in the middle would leave a
    transcoder that belongs to no step.  A second Ctrl-C raises ``KeyboardInterrupt`` at once.
    Where the host handles Ctrl-C itself, and outside the main thread, nothing is changed.
    """

    def __init__(self) -> None:
        self.requested = False
        self._installed = False

    def __enter__(self) -> Interruption:
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._request)
            self._installed = True
        return self

    def __exit__(self, *error: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
