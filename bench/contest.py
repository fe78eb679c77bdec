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
    calls: int = 1  # in a turn; what is quick is timed several times in a row
    awake: bool = True  # whether a call that is not timed comes first: threads sleep between turns


class Times(NamedTuple):
    """What one contestant took, in seconds."""

    median: float
    fastest: float
    slowest: float


class Result(NamedTuple):
    """A contest that was held: the first contestant is ours."""

    contest: str
    times: dict[str, Times]

    def ratio(self, name: str) -> float:
        """Our median over that of contestant ``name``: below 1, ours is faster."""
        ours = next(iter(self.times.values()))
        return ours.median / self.times[name].median


def hold(
    contest: str,
    contestants: Iterable[Contestant],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    rest: Callable[[float], None] = time.sleep,
) -> Result:
    """Let each contestant run once to warm up (kernels compile), then take a turn in each round."""
    contestants = list(contestants)
    seconds: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds + 1):
        for contestant in contestants:
            if number and contestant.awake:
                contestant.run()
            start = clock()
            for _ in range(contestant.calls):
                contestant.run()
            stop = clock()
            if number:
                seconds[contestant.name].append((stop - start) / contestant.calls)
            if contestant.calls_blas:
                rest(BLAS_REST)
    times = {n: Times(statistics.median(s), min(s), max(s)) for n, s in seconds.items()}
    return Result(contest, times)
