"""Results as text, one line per contestant with times in milliseconds, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .contest import Result


def facts(pairs: Mapping[str, object]) -> Iterator[str]:
    """Yield ``pairs`` as aligned lines."""
    width = max(map(len, pairs))
    for name, value in pairs.items():
        yield f"{name:<{width}}  {value}"


_COLUMNS = "{:<20} {:<26} {:>10} {:>24} {:>8}"


def lines(results: Iterable[Result]) -> Iterator[str]:
    """Yield a header, then a line for each contestant as soon as its contest was held."""
    yield _COLUMNS.format("contest", "contestant", "median ms", "fastest .. slowest", "ratio")
    for result in results:
        for number, (name, times) in enumerate(result.times.items()):
            median, fastest, slowest = (f"{1e3 * seconds:.3f}" for seconds in times)
            contest = "" if number else result.contest
            ratio = f"{result.ratio(name):.3f}" if number else ""
            span = f"{fastest} .. {slowest}"
            yield _COLUMNS.format(contest, name, median, span, ratio).rstrip()


def as_dict(result: Result) -> dict[str, object]:
    """Return ``result`` as JSON has it, in seconds."""
    return {
        "contest": result.contest,
        "times": {name: times._asdict() for name, times in result.times.items()},
        "ratios": {name: result.ratio(name) for name in result.times},
    }
