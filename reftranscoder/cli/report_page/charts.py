"""Charts as SVG within a page: histograms, curves, and a value for each column.

All have one size, so that they stand in a grid and letters are as large in each.  Each says in
words what it shows, for whoever cannot see it.  Colours are those of the page, by class.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

_WIDTH, _HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 20, 36
_LETTER = 6.4  # wide
_TICKS = 4  # about so many on an axis
_MOST_BARS = 150  # more columns are put together


class Axis(NamedTuple):
    """From the numbers ``low`` to ``high``, what stands at its ticks, and what they are."""

    low: float
    high: float
    ticks: Sequence[float]
    label: str
    words: Callable[[float], str]


def short(value: float) -> str:
    """A number with three digits: 12,300, 0.0123 or 1.23e-5."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) < 1e7 else _with_exponent(value)
    return f"{value:.3g}" if value == 0 or abs(value) >= 1e-3 else _with_exponent(value)


def _with_exponent(value: float) -> str:
    digits, exponent = f"{value:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def percent(rate: float) -> str:
    """A rate from 0 to 1 in per cent, with three digits at most."""
    return f"{100 * rate:.3g} %"


def axis(
    low: float, high: float, label: str, words: Callable[[float], str] = short, start: bool = False
) -> Axis:
    """An axis over these numbers, with round ticks; with ``start`` it begins at ``low``."""
    if not high > low:
        pad = abs(low) / 2 or 0.5
        low, high = (low if start else low - pad), low + pad
    step = _round_step((high - low) / _TICKS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [n * step for n in range(first, last + 1)]
    return Axis(ticks[0], ticks[-1], ticks, label, words)


def log_axis(low: float, high: float, label: str, words: Callable[[float], str]) -> Axis:
    """An axis over decimal logarithms, whose ticks say the numbers themselves by ``words``."""
    low, high = math.floor(low), math.ceil(high)
    every = max(1, math.ceil((high - low) / 6))
    ticks = list(range(high, low - 1, -every))[::-1]
    return Axis(low, high, ticks, label, lambda exponent: words(10.0**exponent))


def histogram(title: str, counts: np.ndarray, edges: np.ndarray, across: Axis, unit: str) -> str:
    """How many of ``unit`` lie between each two of ``edges``."""
    up = axis(0, float(max(counts.max(initial=0), 1)), unit, start=True)
    place = _places(across, up)
    bars = []
    for count, left, right in zip(counts, edges, edges[1:]):
        if count:
            (x, y), (end, bottom) = place(left, count), place(right, 0)
            y = min(y, bottom - 1.5)  # one shows beside thousands
            bars.append(_bar(x + 0.4, y, end - x - 0.8, bottom - y))
    return _chart(title, described_counts(counts, edges, across, unit), across, up, bars)


def curve(title: str, x: Sequence[float], y: Sequence[float], across: Axis, up: Axis) -> str:
    """``y`` against ``x`` as a line, broken where a number is not finite."""
    place = _places(across, up)
    runs: list[list[tuple[float, float]]] = [[]]
    for a, b in zip(x, y):
        if math.isfinite(b):
            runs[-1].append(place(a, b))
        elif runs[-1]:
            runs.append([])
    marks = []
    for run in filter(None, runs):
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in run)
        marks.append(f'<polyline class="line" points="{points}"/>')
    if len(x) <= 40:
        dots = (dot for run in runs for dot in run)
        marks += [f'<circle class="dot" cx="{a:.1f}" cy="{b:.1f}" r="2"/>' for a, b in dots]
    finite = [b for b in y if math.isfinite(b)]
    said = "no number is finite"
    if finite:
        last = up.words(y[-1]) if math.isfinite(y[-1]) else "no finite number"
        said = (
            f"{up.label} against {across.label}: from {up.words(finite[0])} to {last}, at least "
            f"{up.words(min(finite))}, at most {up.words(max(finite))}"
        )
    return _chart(title, said, across, up, marks)


def by_column(title: str, values: np.ndarray, up: Axis, label: str) -> str:
    """A bar for each of ``values``; of many, one from the least to the largest of neighbours."""
    across = Axis(0, len(values), axis(0, len(values), label, start=True).ticks, label, short)
    across = across._replace(ticks=[tick for tick in across.ticks if tick <= len(values)])
    place = _places(across, up)
    each = max(1, math.ceil(len(values) / _MOST_BARS))
    bars = []
    for start in range(0, len(values), each):
        some = values[start : start + each]
        some = some[np.isfinite(some)]
        if not len(some):
            continue
        low = 0.0 if each == 1 else float(some.min())
        (x, y), (end, bottom) = place(start, some.max()), place(start + each, low)
        bars.append(_bar(x, y, min(end, _WIDTH - _RIGHT) - x, max(bottom - y, 1.0)))
    finite = values[np.isfinite(values)]
    said = "no number is finite"
    if len(finite):
        numbers = [up.words(float(v)) for v in np.quantile(finite, (0, 0.5, 1))]
        said = f"{up.label} of {len(values)} columns: from {numbers[0]} over {numbers[1]} (median) "
        said += f"to {numbers[2]}"
        if each > 1:
            said += f"; a bar is the range of {each} neighbouring columns"
    return _chart(title, said, across, up, bars)


def described_counts(counts: np.ndarray, edges: np.ndarray, across: Axis, unit: str) -> str:
    """A histogram in words."""
    filled = np.flatnonzero(counts)
    if not len(filled):
        return f"no {unit}"
    most = int(counts.argmax())
    ends = edges[filled[0]], edges[filled[-1] + 1], edges[most], edges[most + 1]
    low, high, left, right = (across.words(float(edge)) for edge in ends)
    return (
        f"{int(counts.sum()):,} {unit} by {across.label}, from {low} to {high}; "
        f"most, {int(counts[most]):,}, from {left} to {right}"
    )


def _round_step(least: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(n * power for n in (1, 2, 2.5, 5, 10) if n * power >= least * (1 - 1e-9))


def _places(across: Axis, up: Axis) -> Callable[[float, float], tuple[float, float]]:
    """Where two numbers stand in the picture; what is outside stands at the edge."""

    def share(value: float, of: Axis) -> float:
        return min(max((float(value) - of.low) / (of.high - of.low), 0.0), 1.0)

    def place(x: float, y: float) -> tuple[float, float]:
        wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return _LEFT + wide * share(x, across), _TOP + high * (1 - share(y, up))

    return place


def _bar(x: float, y: float, width: float, height: float) -> str:
    size = f'width="{max(width, 0.3):.1f}" height="{height:.1f}"'
    return f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" {size}/>'


def _chart(title: str, said: str, across: Axis, up: Axis, marks: list[str]) -> str:
    place = _places(across, up)
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for tick in up.ticks:
        _, y = place(across.low, tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(_LEFT - 5, y + 3.5, "end", up.words(tick)))
    for tick in across.ticks:
        x, _ = place(tick, up.low)
        parts.append(
            f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
        )
        words = across.words(tick)
        inside = x + len(words) * _LETTER / 2 <= _WIDTH
        parts.append(
            _text(x if inside else _WIDTH, bottom + 15, "middle" if inside else "end", words)
        )
    parts.append(_text(_LEFT - 5, 11, "start", up.label, "label"))
    parts.append(_text(right, _HEIGHT - 5, "end", across.label, "label"))
    name = re.sub(r"\W+", "-", title.lower())
    return (
        f'<figure><figcaption>{escape(title)}</figcaption>\n<svg role="img" '
        f'aria-labelledby="{name}-title {name}-desc" viewBox="0 0 {_WIDTH} {_HEIGHT}">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-desc">{escape(said)}</desc>'
        f"{''.join(parts)}{''.join(marks)}</svg></figure>\n"
    )


def _text(x: float, y: float, anchor: str, words: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f"<text{named} {where}>{escape(words)}</text>"
