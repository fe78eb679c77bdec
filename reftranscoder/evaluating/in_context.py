"""The firings of a feature in the text around them, each token with its own activation."""

from __future__ import annotations

import numpy as np

from ..activations import Activations
from ..errors import RowError
from ..metrics import FeatureFirings
from ..transcoder import Transcoder
from .description import Feature, Firing
from .published import BATCH_ROWS
from .tokens import Tokens

REACH = 10  # tokens on either side
_TYPICAL = (0.9, 0.75, 0.5, 0.25)  # quantiles beside the strongest


class Reading:
    """Makes each `Feature` of what `Firings` found, in the text of the rows.

    Args:
        tc: whose features they are.
        x: the rows that it read.
        text: the token of each row of the file, or None.
        backend: what computes, as in `Transcoder.encode`.

    Raises:
        RowError: the text is too short.
    """

    def __init__(self, tc: Transcoder, x: Activations, text: Tokens | None, backend: str) -> None:
        last = int(x.place(-1)[0])
        if text is not None and last >= len(text):
            problem = f"there are {len(text)}, and none for row {last} of {x.name}"
            raise RowError("tokens", problem)
        self._tc, self._x, self._text, self._backend = tc, x, text, backend
        self._values: dict[int, dict[int, float]] = {}  # by feature and row of the file

    def of(self, found: list[FeatureFirings]) -> list[Feature]:
        """The strongest firings of each, and those nearest to some quantiles."""
        listed = [(of, _strongest(of), _typical(of)) for of in found]
        if self._text is not None:
            near = [row for _, most, others in listed for row in (*most, *others)]
            self._values = self._values_near(near, [of.feature for of in found])
        return [
            Feature(
                of,
                tuple(self._firing(of, *pair) for pair in most.items()),
                tuple(self._firing(of, *pair) for pair in others.items()),
            )
            for of, most, others in listed
        ]

    def _firing(self, of: FeatureFirings, row: int, value: float) -> Firing:
        place, quantile = int(self._x.place(row)[0]), of.quantile_of(value)
        if self._text is None:
            return Firing(place, value, quantile, None, ())
        context = self._text.around(place, REACH)
        values = {place: value} | self._values.get(of.feature, {})
        places = range(place - context.at, place - context.at + len(context.tokens))
        return Firing(place, value, quantile, context, tuple(values.get(p, np.nan) for p in places))

    def _values_near(self, near: list[int], features: list[int]) -> dict[int, dict[int, float]]:
        """The activations of each feature by row of the file, near some rows of ``x``.

        Where the rows of a batch compete, a neighbour's would depend on its batch: there are none.
        """
        around = {r for row in near for r in range(row - REACH, row + REACH + 1)}
        rows = np.array(sorted(r for r in around if 0 <= r < len(self._x)), np.intp)
        if self._tc.config.activation == "batchtopk":
            return {}
        values: dict[int, dict[int, float]] = {j: {} for j in features}
        for start in range(0, len(rows), BATCH_ROWS):
            some = rows[start : start + BATCH_ROWS]
            hidden = self._tc.encode(self._x.rows(some), backend=self._backend).tocsc()
            places = self._x.place(some).tolist()
            for j, of in values.items():
                of.update(zip(places, hidden[:, [j]].toarray()[:, 0].tolist()))
        return values


def _strongest(of: FeatureFirings) -> dict[int, float]:
    """Values by row."""
    return dict(zip(of.strongest_rows.tolist(), of.strongest_values.tolist()))


def _typical(of: FeatureFirings) -> dict[int, float]:
    """Values by row of the firings nearest to some quantiles."""
    if not of.count:
        return {}
    places = [round(quantile * (len(of.sample_rows) - 1)) for quantile in _TYPICAL]
    return dict(zip(of.sample_rows[places].tolist(), of.sample_values[places].tolist()))
