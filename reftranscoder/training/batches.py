"""Which rows a step sees: each epoch is a random order of all training rows, cut into batches.

The orders follow each other without a gap, so that a batch may end one and begin the next.  The
order of epoch e follows from the seed and e alone, and the batch of step t from t: a resumed run
needs no state of a random number generator.

An order takes 4 bytes a row (8 beyond 2^31 rows), and is uniform over all of them, wherever they
lie.  A disk is better read from front to back than row by row: so whenever the rows of a few
hundred megabytes of batches are used up, those of the next are announced at once, in the order of
the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..activations import Activations
from .scaling import Scaling

# Keys of children of the seed, far from those that ``SeedSequence.spawn`` gives a caller.
_START, _ORDER = 0x66697400, 0x66697401
#: Bytes that are announced at once, and what a row on a disk costs besides its own: its page.
_AHEAD, _PAGE = 1 << 28, 4096


def start_generator(seed: np.random.SeedSequence) -> np.random.Generator:
    """What the parameters before the first step are drawn from."""
    return _generator(seed, _START)


class Batches:
    """``batches(t)`` is the batch of step t = 1, 2, ...: scaled rows of ``x`` and ``target``."""

    def __init__(
        self,
        x: Activations,
        target: Activations,
        scaling: Scaling,
        batch_size: int,
        seed: np.random.SeedSequence,
        dtype: np.typing.DTypeLike,
    ) -> None:
        kind: Any = np.dtype(dtype).type
        self._sources = (
            (x, kind(scaling.input_scale)),
            (target, kind(scaling.target_scale)),
        )
        self._rows = len(x)
        self._batch_size = batch_size
        self._seed = seed
        self._orders: dict[int, np.ndarray] = {}  # of the last two epochs asked for
        of_row = sum(_PAGE + 4 * source.shape[1] for source in (x, target))
        # At most an epoch at once: beyond it, the same rows would come again.
        epoch = -(-self._rows // batch_size)
        self._steps_ahead = max(1, min(epoch, _AHEAD // (of_row * batch_size)))
        self._announced = -1

    def __call__(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """x (B, I) and target (B, O), divided by their scales (U1 in ``scaling.py``)."""
        return next(self.parts(t, 1))

    def parts(self, t: int, number: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The same in so many parts of its rows, each read when it is asked for."""
        self._announce((t - 1) // self._steps_ahead)
        for rows in np.array_split(self.rows(t), number):
            with np.errstate(over="ignore", under="ignore"):
                x, target = (
                    source.rows(rows).astype(scale.dtype, copy=False) / scale
                    for source, scale in self._sources
                )
            yield x, target

    def rows(self, t: int) -> np.ndarray:
        """The rows of step ``t`` (B,), ascending, so that a file is read from front to back."""
        start, stop = (t - 1) * self._batch_size, t * self._batch_size
        parts = []
        while start < stop:
            epoch, place = divmod(start, self._rows)
            parts.append(self._order(epoch)[place : place + stop - start])
            start += len(parts[-1])
        return np.sort(np.concatenate(parts))

    def _announce(self, stretch: int) -> None:
        """Say which rows the steps of ``stretch``, the next few, are going to need."""
        if stretch == self._announced:
            return
        first = stretch * self._steps_ahead + 1
        steps = range(first, first + self._steps_ahead)
        rows = np.unique(np.concatenate([self.rows(t) for t in steps]))
        for source, _ in self._sources:
            source.announce(rows)
        self._announced = stretch

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            small = self._rows <= np.iinfo(np.int32).max  # the order is that of int64, to the row
            rows = np.arange(self._rows, dtype=np.int32 if small else np.int64)
            _generator(self._seed, _ORDER, epoch).shuffle(rows)
            latest = {e: order for e, order in self._orders.items() if e == epoch - 1}
            self._orders = latest | {epoch: rows}
        return self._orders[epoch]


def _generator(seed: np.random.SeedSequence, *key: int) -> np.random.Generator:
    child = np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, *key))
    return np.random.default_rng(child)
