"""The errors of a stage over their bounds, as one small picture in SVG.

From left to right the logarithm of the ratio, from bottom to top that of the number of entries, so
that a single one shows beside millions.  The line is the rigorous bound, where the ratio is 1; the
dashed ones are what the tiers P and C grant, on average.
"""

from __future__ import annotations

import math

from ..judging.verdict import HIGHEST, LOWEST, Histogram

_WIDTH, _HEIGHT = 370, 34
_STEP = _WIDTH / (HIGHEST - LOWEST + 1)
_DECADES = (-8, -6, -4, -2, 0, 2)


def drawing(histogram: Histogram, stage: str) -> str:
    """The picture of one stage's ``histogram``."""
    most = max(histogram.counts)
    parts = [f"<title>{_described(histogram, stage)}</title>"]
    parts += [_line(10.0**d, "grid") for d in _DECADES]
    for place, count in enumerate(histogram.counts):
        if count:
            height = max(2.0, (_HEIGHT - 3) * math.log1p(count) / math.log1p(most))
            kind = "bar beyond" if LOWEST + place > 0 else "bar"
            parts.append(
                f'<rect class="{kind}" x="{place * _STEP + 0.5:.1f}" y="{_HEIGHT - height:.1f}" '
                f'width="{_STEP - 1:.1f}" height="{height:.1f}"/>'
            )
    for tier in ("P", "C"):
        if 0 < histogram.tiers[tier] < 1:
            parts.append(_line(histogram.tiers[tier], f"tier tier-{tier}"))
    parts += [_line(1.0, "bound"), _equal(histogram)]
    return _svg(_HEIGHT, "".join(parts), "img")


def axis() -> str:
    """The scale that all pictures share."""
    labels = [
        f'<text x="{_across(10.0**d):.1f}" y="11" text-anchor="middle">{_power(d)}</text>'
        for d in _DECADES
    ]
    return _svg(14, "".join(labels), "presentation")


def _equal(histogram: Histogram) -> str:
    """How many entries are not in the picture, having no error at all."""
    total = sum(histogram.counts) + histogram.equal
    if not histogram.equal:
        return ""
    share = 100 * histogram.equal / total
    text = "all" if share == 100 else f"{min(share, 99.9):.2g} %"
    return f'<text class="said" x="3" y="11">{text} equal</text>'


def _svg(height: int, content: str, role: str) -> str:
    return (
        f'<svg role="{role}" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}">'
        f"{content}</svg>"
    )


def _across(ratio: float) -> float:
    """Where a ratio stands; what is outside stands at the edge."""
    place = min(max(math.log2(ratio), LOWEST - 1), HIGHEST)
    return (place - LOWEST + 1) * _STEP


def _line(ratio: float, kind: str) -> str:
    x = f"{_across(ratio):.1f}"
    return f'<line class="{kind}" x1="{x}" x2="{x}" y1="0" y2="{_HEIGHT}"/>'


def _power(decade: int) -> str:
    """``10`` to this power; the bound itself is called by its name."""
    if decade == 0:
        return "bound"
    digits = str(decade).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{digits}×"


def _described(histogram: Histogram, stage: str) -> str:
    counts = histogram.counts
    total = sum(counts) + histogram.equal
    beyond = sum(counts[1 - LOWEST :])
    return (
        f"{stage}: of {total} entries, {histogram.equal} are equal to the reference, "
        f"{total - histogram.equal - beyond} are within the bound and {beyond} beyond it"
    )
