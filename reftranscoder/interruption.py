"""Signals that end a run: Ctrl-C, and what a cluster or a closed terminal sends.

SIGINT (Ctrl-C), SIGTERM and SIGHUP are requests, and what is under way decides how to end: training
between two steps, everything else by an exception that leaves no half file behind.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

#: Those that there are: Windows has no SIGHUP.
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, as an exception: what passes on a Ctrl-C passes this on as well."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


def raise_terminated(number: int, frame: FrameType | None) -> None:
    """A handler that raises `Terminated`."""
    raise Terminated(number)


def number_of(stop: KeyboardInterrupt) -> int:
    """The signal that ``stop`` stands for."""
    return stop.number if isinstance(stop, Terminated) else int(signal.SIGINT)


class Handled:
    """While used as a context manager, SIGTERM and SIGHUP raise `Terminated`.

    Where the host handles or ignores them itself (``nohup``), and outside the main thread, nothing
    is changed.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Handled:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is signal.SIG_DFL:
                    self._before[number] = signal.signal(number, raise_terminated)
        return self

    def __exit__(self, *error: object) -> None:
        _restore(self._before)


class Interruption:
    """While used as a context manager, the first of `SIGNALS` only sets ``requested``, to its
    number.

    A step overwrites its arrays one after the other, and stopping in the middle would leave a
    transcoder that belongs to no step.  A second signal acts at once, as it would have before.
    Where the host handles a signal itself, and outside the main thread, nothing is changed.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        usual = (signal.default_int_handler, signal.SIG_DFL, raise_terminated)
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) in usual:
                    self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *error: object) -> None:
        _restore(self._before)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested is None:
            self.requested = number
            return
        signal.signal(number, self._before[number])
        signal.raise_signal(number)


def _restore(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
