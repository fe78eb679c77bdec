"""A progress bar on a terminal, nothing in a pipe."""

from __future__ import annotations

import sys
import time
from types import TracebackType

REFRESH = 0.2  # seconds


class Progress:
    """Counts up to ``total`` on standard error while used as a context manager.

    With tqdm installed it is a bar; without, one line that counts; and where standard error is not
    a terminal, nothing.
    """

    def __init__(self, total: int, unit: str) -> None:
        self.total, self.unit = total, unit
        self._done = self._began_at = 0
        self._began = time.monotonic()
        self._shown_at = 0.0
        self._bar = None
        self._plain = False
        if sys.stderr is None or not sys.stderr.isatty():
            return
        try:
            from tqdm import tqdm
        except ImportError:
            self._plain = True
        else:
            # In training, rows per second stand in the note: steps per second say less.
            rate = ", {rate_fmt}" if unit == "rows" else ""
            self._bar = tqdm(
                total=total,
                unit=f" {unit}",
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}"
                + rate
                + "{postfix}]",
                dynamic_ncols=True,
                leave=False,
                mininterval=REFRESH,
            )

    def advance(self, count: int = 1, note: str = "") -> None:
        """``count`` more are done; ``note`` stands at the end of the line."""
        self._done += count
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        elif self._plain and time.monotonic() - self._shown_at > REFRESH:
            self._shown_at = time.monotonic()
            line = f"{self._done}/{self.total} {self.unit}{self._left()}  {note}"
            print(f"\r\x1b[K{line[:78]}", end="", file=sys.stderr, flush=True)

    def advance_to(self, done: int, note: str = "") -> None:
        """``done`` in all are done: a run that goes on from a checkpoint does not begin at 0."""
        if self._done == 0 and done > 1:  # what was done before says nothing about the time left
            self._done = self._began_at = done - 1
            if self._bar is not None:
                self._bar.n = self._bar.initial = self._bar.last_print_n = done - 1
        self.advance(done - self._done, note)

    def _left(self) -> str:
        """The time left, at the pace so far."""
        made, left = self._done - self._began_at, self.total - self._done
        if not made or left <= 0:
            return ""
        seconds = round((time.monotonic() - self._began) * left / made)
        hours, minutes = seconds // 3600, seconds // 60 % 60
        return f", {hours}:{minutes:02}:{seconds % 60:02} left"

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._plain:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
