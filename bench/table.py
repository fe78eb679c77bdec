"""Results as text, a line for each contestant or, of training, measurement, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .contest import Result
from .training import Learning


def facts(pairs: Mapping[str, object]) -> Iterator[str]:
    """Yield ``pairs`` as aligned lines."""
    width = max(map(len, pairs))
    for name, value in pairs.items():
        yield f"{name:<{width}}  {value}"


_COLUMNS = "{:<20} {:<26} {:>10} {:>24} {:>8}"
_OF_TRAINING = "{:<20} {:<26} {:>6} {:>9} {:>8} {:>7} {:>6} {:>8}"


def lines(results: Iterable[Result | Learning]) -> Iterator[str]:
    """Yield a header, then a line for each contestant as soon as its contest was held."""
    before = None
    for result in results:
        if type(result) is not before:
            yield _header(result)
        before = type(result)
        yield from _of_training(result) if isinstance(result, Learning) else _of_contest(result)


def _header(result: Result | Learning) -> str:
    if isinstance(result, Learning):
        columns = ("contest", "contestant", "step", "seconds", "FVU", "L0", "dead", "ratio")
        return _OF_TRAINING.format(*columns)
    return _COLUMNS.format("contest", "contestant", "median ms", "fastest .. slowest", "ratio")


def _of_contest(result: Result) -> Iterator[str]:
    for number, (name, times) in enumerate(result.times.items()):
        median, fastest, slowest = (f"{1e3 * seconds:.3f}" for seconds in times)
        contest = "" if number else result.contest
        ratio = f"{result.ratio(name):.3f}" if number else ""
        span = f"{fastest} .. {slowest}"
        yield _COLUMNS.format(contest, name, median, span, ratio).rstrip()


def _of_training(result: Learning) -> Iterator[str]:
    contest = result.contest
    for number, (name, points) in enumerate(result.curves.items()):
        for point in points:
            ratio = f"{result.ratio(name):.3f}" if number and point is points[-1] else ""
            found = f"{point.seconds:.2f}", f"{point.fvu:.4f}", f"{point.l0:.1f}", point.dead, ratio
            first = name if point is points[0] else ""
            yield _OF_TRAINING.format(contest, first, point.step, *found).rstrip()
            contest = ""


def as_dict(result: Result | Learning) -> dict[str, object]:
    """Return ``result`` as JSON has it, in seconds."""
    if isinstance(result, Learning):
        curves = {n: [point._asdict() for point in found] for n, found in result.curves.items()}
        ratios = {name: result.ratio(name) for name in result.curves}
        return {"contest": result.contest, "curves": curves, "ratios": ratios}
    return {
        "contest": result.contest,
        "times": {name: times._asdict() for name, times in result.times.items()},
        "ratios": {name: result.ratio(name) for name in result.times},
    }
