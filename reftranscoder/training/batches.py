"""Which rows a step sees: each epoch is a random order of all training rows, cut into batches.

The orders follow each other without a gap, so that a batch may end one and begin the next.  The
order of epoch e follows from the seed and e alone, and the batch of step t from t: a resumed run
needs no state of a random number generator.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..activations import Activations
from .scaling import Scaling

# Keys of children of the seed, far from those that ``SeedSequence.spawn`` gives a caller.
_START, _ORDER = 0x66697400, 0x66697401


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
        self._epoch: tuple[int, np.ndarray] = (-1, np.empty(0, np.intp))

    def __call__(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """x (B, I) and target (B, O), divided by their scales (U1 in ``scaling.py``)."""
        rows = self.rows(t)
        with np.errstate(over="ignore", under="ignore"):
            x, target = (
                source.rows(rows).astype(scale.dtype, copy=False) / scale
                for source, scale in self._sources
            )
        return x, target

    def rows(self, t: int) -> np.ndarray:
        """The rows of step ``t`` (B,), ascending, so that a file is read from front to back."""
        start, stop = (t - 1) * self._batch_size, t * self._batch_size
        parts = []
        while start < stop:
            epoch, place = divmod(start, self._rows)
            parts.append(self._order(epoch)[place : place + stop - start])
            start += len(parts[-1])
        return np.sort(np.concatenate(parts))

    def _order(self, epoch: int) -> np.ndarray:
        if self._epoch[0] != epoch:
            order = _generator(self._seed, _ORDER, epoch).permutation(self._rows)
            self._epoch = (epoch, order)
        return self._epoch[1]


def _generator(seed: np.random.SeedSequence, *key: int) -> np.random.Generator:
    child = np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, *key))
    return np.random.default_rng(child)
