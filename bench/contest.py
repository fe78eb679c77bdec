"""Timing side by side: contestants take turns, so that what slows the machine slows them all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

#: After a call, OpenBLAS's threads spin for about 0.1 s in wait for the next one, on the cores that
#: the contestant after them needs: measured, it took up to 1.9 times as long.
BLAS_REST = 0.2  # seconds


class Contestant(NamedTuple):
    """One way to do the work of a contest."""

    name: str
    run: Callable[[], object]  # everything that is not to be timed was done before
    calls_blas: bool = False


class Times(NamedTuple):
    """What one contestant took, in seconds."""

    median: float
    fastest: float
    slowest: float


class Result(NamedTuple):
    """A contest that was held: the first contestant is what the others are compared with."""

    contest: str
    times: dict[str, Times]

    def ratio(self, name: str) -> float:
        """The median of contestant ``name`` over that of the first: below 1 it is faster."""
        first = next(iter(self.times.values()))
        return self.times[name].median / first.median


def hold(
    contest: str,
    contestants: Iterable[Contestant],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    rest: Callable[[float], None] = time.sleep,
) -> Result:
    """Let each contestant run once to warm up (kernels compile), then once in each round."""
    contestants = list(contestants)
    seconds: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds + 1):
        for contestant in contestants:
            start = clock()
            contestant.run()
            stop = clock()
            if number:
                seconds[contestant.name].append(stop - start)
            if contestant.calls_blas:
                rest(BLAS_REST)
    times = {n: Times(statistics.median(s), min(s), max(s)) for n, s in seconds.items()}
    return Result(contest, times)
