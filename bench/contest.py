"""Timing side by side: contestants take turns, so that what slows the machine slows them all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from reftranscoder.errors import words

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
    absent: list[str],
    clock: Callable[[], float] = time.perf_counter,
    rest: Callable[[float], None] = time.sleep,
) -> Result:
    """Let each contestant run once to warm up (kernels compile), then take a turn in each round.

    Whatever one but the first of them raises, it leaves the contest, and ``absent`` says why.
    """
    first, *others = contestants
    seconds: dict[str, list[float]] = {c.name: [] for c in (first, *others)}
    for number in range(rounds + 1):
        for contestant in (first, *others):
            try:
                taken = _turn(contestant, number > 0, clock)
            except Exception as error:
                if contestant is first:
                    raise
                absent.append(f"{contestant.name}, {contest}: {reason(error)}")
                others.remove(contestant)
                del seconds[contestant.name]
                continue
            if number:
                seconds[contestant.name].append(taken)
            if contestant.calls_blas:
                rest(BLAS_REST)
    times = {n: Times(statistics.median(s), min(s), max(s)) for n, s in seconds.items()}
    return Result(contest, times)


def _turn(contestant: Contestant, warm: bool, clock: Callable[[], float]) -> float:
    """The seconds that one call takes."""
    if warm and contestant.awake:
        contestant.run()
    start = clock()
    for _ in range(contestant.calls):
        contestant.run()
    return (clock() - start) / contestant.calls


def reason(error: Exception) -> str:
    """In one line, what somebody else's library raised."""
    return f"{type(error).__name__}: {words(error)}"
