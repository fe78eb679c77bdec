"""What a run says while it is under way: to a function of the caller's, or on a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..errors import OptionError
from .history import Entry


class Progress(NamedTuple):
    """What a ``progress`` function is called with after every step."""

    step: int
    steps: int
    loss: float  # of this step, in training units
    lr: float  # of this step
    rows_per_second: float  # since the last entry
    latest: Entry | None
    dict_size: int

    @property
    def note(self) -> str:
        """How it goes, in a few words: dead is the share of features that are active in no row
        that was measured."""
        parts = [f"loss {self.loss:.4f}"]
        if self.latest is not None:
            dead = self.latest.dead / self.dict_size
            parts.append(f"FVU {self.latest.fvu:.3f}  L0 {self.latest.l0:.1f}  dead {dead:.1%}")
        return "  ".join([*parts, f"{self.rows_per_second:,.0f} rows/s"])


@contextlib.contextmanager
def listener(progress: Any, done: int, steps: int) -> Iterator[Callable[[Progress], object]]:
    """The function that is told: ``progress`` itself, nobody if it is False, a bar if it is True.

    The bar needs tqdm and a terminal; without either there is none.  It begins at ``done``.

    Raises:
        OptionError: ``progress`` is neither a truth value nor a function.
    """
    if callable(progress):
        yield progress
        return
    if not isinstance(progress, bool):
        raise OptionError("progress", "True, False or a function of one argument", progress)
    bar = _bar(done, steps) if progress else None
    if bar is None:
        yield lambda progress: None
        return
    with bar:
        yield lambda progress: _advance(bar, progress)


def _bar(done: int, steps: int) -> Any:
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(initial=done, total=steps, unit=" steps", dynamic_ncols=True, leave=False)


def _advance(bar: Any, progress: Progress) -> None:
    bar.set_postfix_str(progress.note, refresh=False)
    bar.update(progress.step - bar.n)
