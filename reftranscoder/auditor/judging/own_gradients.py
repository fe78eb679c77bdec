"""What the gradients sum over of what one activation takes and no other does."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ..intervals.backward import Backward, passing
from ..intervals.interval import Interval, made
from ..intervals.jumps import negative
from ..intervals.sparse_interval import SparseInterval
from .comparison import Comparison


class OwnGradients:
    """For the stages that are ``needed``: thresholds' and gates' gradients, block by block."""

    def __init__(
        self, intervals: Backward, comparison: Comparison, needed: Collection[str]
    ) -> None:
        self.intervals, self.comparison, self.needed = intervals, comparison, needed
        definition = intervals.definition
        readers: tuple[str, ...] = () if definition.bandwidth is None else ("dtheta",)
        if readers and definition.through == "theta_and_input":
            readers = ("d_pre", *readers)
        self.in_window = tuple(name for name in readers if name in needed)

    def slope(
        self,
        pre: Interval | None,
        d_hidden: SparseInterval | None,
        d_reconstruction: Interval | None,
        rows: slice,
    ) -> SparseInterval | None:
        """What straight-through gradients add up, where one of them is judged.

        They read d_hidden outside hidden's entries too: the candidate's own, where it has that.
        """
        if not self.in_window:
            return None
        comparison, own, dense = self.comparison, made(d_hidden), None
        if comparison.usable("d_hidden") and not comparison.candidate.is_sparse("d_hidden"):
            given = comparison.candidate.rows("d_hidden", rows)
            if np.count_nonzero(given) > len(own.pattern.indices):
                dense = Interval(given)
        if dense is None:
            dense = self.intervals.d_hidden_dense(made(d_reconstruction))
        return self.intervals.slope(made(pre), own, dense, self.in_window[0])

    def summed(
        self,
        d_hidden: SparseInterval | None,
        hidden: SparseInterval,
        slope: SparseInterval | None,
    ) -> dict[str, SparseInterval]:
        """By the name of a gradient, what it adds up over the rows of a block."""
        found: dict[str, SparseInterval] = {}
        if slope is not None and "dtheta" in self.needed:
            found["dtheta"] = negative(slope)
        if "db_mag" in self.needed:
            found["db_mag"] = passing(made(d_hidden), hidden)
        if "dr_mag" in self.needed:
            found["dr_mag"] = self.intervals.magnitude_gradient(made(d_hidden), hidden)
        return found
