"""Which checkpoints of a run are kept: the latest, those before it, and the best.

The latest is the file that was asked for, ``run.npz``, and the only one that a run goes on from;
those before it are ``run.step200.npz`` and so on, the best is ``run.best.npz``.  To go on from one
of these, copy it to another name.  Each is there as a whole or not at all, at any moment: an older
one gets its second name before the new one takes the first.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from ..errors import FileError
from ..files.atomic import atomic_write
from .checkpoint import Checkpoint, save


class Keeper:
    """Writes the checkpoints of a run.

    Args:
        path: of the latest.
        last: how many are kept, the latest among them.
        best: whether the one with the lowest FVU is kept too, of those that the log measured.
        found: the steps of the checkpoint that is at ``path`` already; None if there is none.
    """

    def __init__(self, path: Path, last: int, best: bool, found: int | None) -> None:
        self._path = path
        self._last = last
        self._best = best
        self._at_path = found

    def save(self, run: Checkpoint) -> None:
        """Make ``run`` the latest.

        Raises:
            FileError: it cannot be written; the latest before it survives.
        """
        if self._last > 1 and self._at_path not in (None, run.state.t):
            self._give_second_name(self._named(f"step{self._at_path}"))
        save(self._path, run)
        self._at_path = run.state.t
        if self._last > 1:
            self._remove_older()

    def save_if_best(self, run: Checkpoint) -> None:
        """Make ``run`` the best, if the log has just measured that it is.

        Raises:
            FileError: it cannot be written.
        """
        entries = run.entries
        if self._best and entries and entries[-1].step == run.state.t:
            if entries[-1].fvu <= min(entry.fvu for entry in entries):
                save(self._named("best"), run)

    def _named(self, what: str) -> Path:
        return self._path.with_name(f"{self._path.stem}.{what}{self._path.suffix}")

    def _give_second_name(self, other: Path) -> None:
        try:
            other.unlink(missing_ok=True)
            os.link(self._path, other)
        except FileNotFoundError:  # somebody removed the latest
            return
        except OSError:  # no second names on this file system
            with open(self._path, "rb") as source, atomic_write(other) as copy:
                shutil.copyfileobj(source, copy)

    def _remove_older(self) -> None:
        name = re.escape(self._path.stem) + r"\.step(\d{1,18})" + re.escape(self._path.suffix)
        try:
            names = os.listdir(self._path.parent)
            matches = [match for n in names if (match := re.fullmatch(name, n))]
            older = sorted(matches, key=lambda match: int(match[1]))
            for match in older[: max(0, len(older) - self._last + 1)]:
                self._path.with_name(match[0]).unlink(missing_ok=True)
        except OSError as error:
            problem = f"an older one cannot be removed: {error.strerror}"
            raise FileError(self._path, problem) from None
