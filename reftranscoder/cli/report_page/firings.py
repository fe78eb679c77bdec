"""The part of the page about single features: where they fire, in the text if there is one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from html import escape

import numpy as np

from ...evaluating import Description, Feature, Firing
from .charts import axis, histogram, percent, short

_SHOWN = 10  # of the strongest firings
_BINS = 24
_SHADES = 4
#: Signs in place of what does not show or would break a line.
_SIGNS = str.maketrans({"\n": "⏎", "\r": "␍", "\t": "⇥"})


def features_section(found: Description) -> str:
    """Every feature that was chosen."""
    if not found.features:
        return ""
    said = "The strongest firings first, then some near the quantiles 0.9, 0.75, 0.5 and 0.25."
    if found.has_text:
        said += (
            " A token is shaded by how strongly the feature fires on it, and framed where the row "
            "is the one listed; a firing that stands in the text of a stronger one is left out."
        )
    said += " A quantile is the share of the feature’s firings that are not stronger."
    features = "\n".join(_feature(found, feature) for feature in found.features)
    return f"<section><h2>Where features fire</h2>\n<p>{said}</p>\n{features}</section>"


def _feature(found: Description, feature: Feature) -> str:
    of = feature.firings
    j = of.feature
    parts = [f'<div class="feature" id="feature-{j}"><h3>Feature {j}</h3>']
    facts = [f"fires in {of.count:,} rows ({percent(of.rate)})"]
    facts.append(f"norm of its decoder row {short(float(found.decoder.norms[j]))}")
    if found.decoder.nearest is not None and found.decoder.cosines is not None:
        facts.append(
            f"nearest to {found.decoder.nearest[j]} (cosine {found.decoder.cosines[j]:.2f})"
        )
    parts.append(f"<p>{'; '.join(facts)}.</p>")
    if of.count:
        parts += [_values(feature), _firings(found, feature)]
    return "\n".join([*parts, "</div>"])


def _values(feature: Feature) -> str:
    """Its activations: their histogram and quantiles."""
    of = feature.firings
    across = axis(0, of.value_at(1), "activation", start=True)
    counts, edges = np.histogram(of.sample_values, bins=_BINS, range=(0, across.high))
    names = {0.0: "least", 0.25: "0.25", 0.5: "median", 0.75: "0.75", 0.9: "0.9", 0.99: "0.99"}
    names[1.0] = "most"
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td class="number">{short(of.value_at(q))}</td></tr>\n'
        for q, name in names.items()
    )
    whole = "" if of.exact else f" of {len(of.sample_rows):,} firings taken at random"
    return (
        '<div class="charts">'
        + histogram(f"Activations of feature {of.feature}", counts, edges, across, "firings")
        + f"<figure><figcaption>Quantiles{whole}</figcaption>\n"
        f'<div class="wide"><table class="ties"><tbody>{rows}</tbody></table></div></figure></div>'
    )


def _firings(found: Description, feature: Feature) -> str:
    strongest = list(itertools.islice(_apart(feature.strongest), _SHOWN))
    most = feature.strongest[0].value
    rows = [_row(firing, most) for firing in strongest]
    listed = {firing.row for firing in strongest}
    others = [firing for firing in feature.others if firing.row not in listed]
    if others:
        span = 3 if found.has_text else 4
        rows.append(f'<tr><th class="between" scope="rowgroup" colspan="{span}">weaker</th></tr>')
        rows += [_row(firing, most) for firing in others]
    head = '<th scope="col" class="number">activation</th><th scope="col" class="number">quantile'
    head += "</th>" + (
        '<th scope="col">text</th>' if found.has_text else '<th scope="col" class="number">row</th>'
    )
    return (
        f'<div class="wide"><table class="texts"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _apart(firings: Iterable[Firing]) -> Iterable[Firing]:
    """Those that do not stand in the text of one before."""
    shown: list[tuple[int, int]] = []
    for firing in firings:
        if firing.context is not None:
            if any(first <= firing.row < end for first, end in shown):
                continue
            first = firing.row - firing.context.at
            shown.append((first, first + len(firing.context.tokens)))
        yield firing


def _row(firing: Firing, most: float) -> str:
    cells = f'<td class="number">{short(firing.value)}</td>'
    cells += f'<td class="number">{_quantile(firing.quantile)}</td>'
    if firing.context is None:
        return f'<tr>{cells}<td class="number">{firing.row:,}</td></tr>\n'
    context = firing.context
    where = f"sequence {context.sequence}, position {context.position}, row {firing.row}"
    text = "".join(
        _token(token, value, most, n == context.at)
        for n, (token, value) in enumerate(zip(context.tokens, firing.values))
    ).lstrip(" ")
    return f'<tr>{cells}<td class="text" title="{where}">{text}</td></tr>\n'


def _quantile(quantile: float) -> str:
    """Three digits, and no more ones than are true."""
    return "1" if quantile == 1 else f"{min(quantile, 0.9999):.4f}".rstrip("0")


def _token(token: str, value: float, most: float, chosen: bool) -> str:
    text = "".join(c if c.isprintable() else "·" for c in token.translate(_SIGNS))
    if not value > 0 and not chosen:
        return escape(text)
    before = text[: len(text) - len(text.lstrip(" "))]
    shade = min(_SHADES, max(1, math.ceil(_SHADES * value / most)))
    kind = f"w{shade} at" if chosen else f"w{shade}"
    text = escape(text.lstrip(" ") or text)
    before = before if before != token else ""
    return f'{before}<mark class="{kind}" title="{short(value)}">{text}</mark>'
