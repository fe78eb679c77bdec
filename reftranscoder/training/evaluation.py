"""How good a transcoder is while it is trained, on rows that may be on disk."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..activations import Activations
from ..metrics import Evaluation, Metrics
from ..transcoder import Transcoder

#: On how many rows transcoders are measured on the way.
SOME = 4096


class Figures(NamedTuple):
    """What a line of the log has of them."""

    fvu: float
    l0: float
    dead: int


def in_words(rows: int, kind: str) -> str:
    """Which of so many rows are measured on the way, in words."""
    which = f"{rows}" if rows <= SOME else f"the first {SOME} of {rows}"
    return f"{which} {kind} rows"


class Measure:
    """Measures transcoders on the validation rows or, without any, on the training rows.

    FVU compares with ``mean`` (O,), that of the training target: it is the best a model without
    features could have learnt.
    """

    def __init__(
        self,
        training: tuple[Activations, Activations],
        validation: tuple[Activations, Activations] | None,
        mean: np.ndarray,
        backend: str,
    ) -> None:
        self._pair = training if validation is None else validation
        self._kind = "training" if validation is None else "validation"
        self._mean = mean
        self._backend = backend

    @property
    def rows_in_words(self) -> str:
        """Which rows `some` looks at."""
        return in_words(len(self._pair[0]), self._kind)

    def some(self, transcoder: Transcoder) -> Figures:
        """On the first rows, 4096 at most."""
        rows = min(len(self._pair[0]), SOME)
        found = self._on(transcoder, *(data.part(0, rows) for data in self._pair))
        assert found.l0 is not None and found.dead_features is not None  # features were measured
        return Figures(found.fvu, found.l0, len(found.dead_features))

    def all(self, transcoder: Transcoder) -> Metrics:
        """On all rows."""
        return self._on(transcoder, *self._pair)

    def _on(self, transcoder: Transcoder, x: Activations, target: Activations) -> Metrics:
        evaluation = Evaluation(self._mean)
        for block, y in zip(x.blocks(), target.blocks(), strict=True):
            hidden = transcoder.encode(block, backend=self._backend)
            reconstruction = transcoder.decode(hidden, block, backend=self._backend)
            evaluation.add(y, reconstruction, hidden)
        return evaluation.result()
