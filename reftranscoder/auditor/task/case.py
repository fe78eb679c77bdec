"""A case: everything that a transcoder is given, and what it ought to make of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ...bounds import Precision
from ...params import Params, TranscoderConfig
from ...transcoder import Transcoder
from .arithmetic import Arithmetic, representable, rounded

#: The largest number of the formats that have less range than float32.
_LARGEST = {"float16": 65504.0, "float64": float(np.finfo(np.float64).max)}
_SPARE = 4.0  # what a sum on its way may exceed its result by
_HARMLESS = 2.0**12  # products and sums of what is below this do not leave the range of float32


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One set of parameters, one batch, and why it is worth a look."""

    name: str
    purpose: str  # one sentence
    config: TranscoderConfig
    params: Params
    x: np.ndarray  # (B, I)
    target: np.ndarray | None  # (B, O)
    l1_coeff: float
    decisive: bool = True  # False where no result could settle some of the stages

    @cached_property
    def transcoder(self) -> Transcoder:
        return Transcoder(self.config, self.params)

    @cached_property
    def non_finite(self) -> np.ndarray:
        """The numbers of the rows of x or target that hold NaN or infinity."""
        return non_finite_rows(self.x, self.target)

    @cached_property
    def expected(self) -> dict[str, np.ndarray]:
        """Every stage in float64, dense; a row that is not finite gives NaN, and so do sums over
        it."""
        stages = self.transcoder.astype(np.float64).stages(
            self.x, self.target, self.l1_coeff, check_finite=False
        )
        return {n: np.asarray(s.toarray() if hasattr(s, "tocsr") else s) for n, s in stages.items()}

    def is_held_by(self, arithmetic: dict[str, Arithmetic]) -> bool:
        """Whether what it gives is what every stage can be given, and no result is too large."""
        store = max((a.store for a in arithmetic.values()), key=lambda store: store.unit)
        given = (*self.params.all_arrays().values(), self.x, self.target)
        arrays = [a for a in given if a is not None]
        finite = [np.where(np.isfinite(a), a, 0.0).astype(np.float64) for a in arrays]
        if not all(representable(a, store) for a in finite):
            return False
        most = max(float(np.abs(a).max(initial=0)) for a in finite)
        if store.name not in _LARGEST and most < _HARMLESS:
            return True
        results = [*finite, *self.expected.values()]
        if self.target is not None:
            results.append(np.square(self.expected["reconstruction"] - self.target))
        largest = _LARGEST.get(store.name, float(np.finfo(np.float32).max)) / _SPARE
        sizes = [np.where(np.isfinite(a), np.abs(a), 0.0) for a in results]
        return all(size.max(initial=0) <= largest for size in sizes)

    def rounded_to(self, store: Precision) -> Case:
        """The same case with its numbers rounded to a format: what a candidate in it is given."""
        if store.unit <= 2.0**-24:
            return self
        arrays: dict[str, Any] = {
            name: rounded(array, store) for name, array in self.params.arrays().items()
        }
        own = self.params.own
        own = None if own is None else own.each(lambda array: rounded(array, store))
        changed: dict[str, Any] = {"params": Params(**arrays, own=own)}
        changed |= {n: rounded(getattr(self, n), store) for n in ("x", "target")}
        return dataclasses.replace(self, **changed)


class Answer(NamedTuple):
    """What an implementation made of a case: a mapping from stages to arrays, or why not."""

    results: Mapping[str, Any] | None
    why: str = "no results"
    refused: bool = False  # all of it, since some rows are not finite


def non_finite_rows(x: np.ndarray, target: np.ndarray | None = None) -> np.ndarray:
    """The numbers of the rows of ``x`` (B, I) or ``target`` (B, O) that hold NaN or infinity."""
    bad = ~np.isfinite(x).all(axis=1)
    if target is not None:
        bad |= ~np.isfinite(target).all(axis=1)
    return np.flatnonzero(bad)
