"""The parts of the page about all rows and features: FVU, how often they fire, the decoder."""

from __future__ import annotations

import math

import numpy as np

from ...auditor.reporting.html import shown
from ...evaluating import Description
from ...metrics import DEFINITIONS, density_histogram
from .charts import axis, by_column, histogram, log_axis, percent, short

_BINS = 40
_LISTED = 10  # columns or pairs in a table


def facts_of_model(found: Description) -> list[tuple[str, str]]:
    """What is worth saying first."""
    config = found.config
    facts = [
        ("sizes", f"{config.input_size} → {config.dict_size:,} → {config.output_size}"),
        ("activation", f"{config.activation}, K = {config.top_k}"),
    ]
    if found.evaluated is not None:
        facts.append(("FVU", f"{found.evaluated.whole['fvu']:.4f}"))
    if found.metrics is not None:
        dead, dense = found.dead_features, found.dense_features
        assert found.metrics.l0 is not None and dead is not None and dense is not None
        facts += [
            ("L0", short(found.metrics.l0)),
            ("dead features", f"{len(dead):,} ({percent(len(dead) / config.dict_size)})"),
            ("dense features", f"{len(dense):,}"),
            ("measured on", f"{found.metrics.rows:,} rows"),
        ]
    return facts


def reconstruction_section(found: Description) -> str:
    """FVU by column, and every definition of how much is explained."""
    if found.evaluated is None:
        return ""
    values = found.evaluated.fvu_by_column
    finite = values[np.isfinite(values)]
    up = axis(0, float(finite.max(initial=0)) or 1.0, "FVU", start=True)
    counts, edges = np.histogram(finite, bins=_BINS, range=(0, max(up.high, 1e-12)))
    across = axis(0, float(up.high), "FVU", start=True)
    charts = by_column("FVU by output column", values, up, "column")
    charts += histogram("Columns by FVU", counts, edges, across, "columns")
    constant = len(values) - len(finite)
    said = f" {constant} columns do not vary and have none." if constant else ""
    return (
        "<section><h2>What is explained</h2>\n"
        f"<p>FVU is {found.evaluated.whole['fvu']:.4f} over all columns of "
        f"{shown(str(found.target))}.{said}</p>\n"
        f'<div class="charts">{charts}</div>\n{_worst(values)}{_definitions(found)}</section>'
    )


def features_in_all(found: Description) -> str:
    """How often features fire, how many at once, and which never or nearly always."""
    metrics = found.metrics
    if metrics is None:
        return ""
    rates, of_rows = metrics.firing_rates, metrics.l0_counts
    dead, dense = found.dead_features, found.dense_features
    assert rates is not None and of_rows is not None and dead is not None and dense is not None
    counts, edges = density_histogram(rates, _BINS)
    across = log_axis(float(edges[0]), 0.0, "share of the rows", percent)
    charts = histogram("How often features fire", counts, edges, across, "features")
    charts += _l0(of_rows)
    what = f"Measured on {metrics.rows:,} rows of {found.x}."
    return (
        f"<section><h2>Features</h2>\n<p>{shown(what)} {_spread(of_rows)}</p>\n"
        f'<div class="charts">{charts}</div>\n'
        f"{_indices('Dead features, active in no row', dead)}"
        f"{_indices('Dense features, active in more than a tenth of the rows', dense)}</section>"
    )


def decoder_section(found: Description) -> str:
    """Norms of the rows of W_dec, and which are alike."""
    norms, nearest, cosines = found.decoder
    across = axis(0, float(norms.max()) or 1.0, "norm", start=True)
    counts, edges = np.histogram(norms, bins=_BINS, range=(0, across.high))
    charts = histogram("Norms of decoder rows", counts, edges, across, "features")
    pairs = ""
    if nearest is not None and cosines is not None:
        low = -1.0 if cosines.min() < 0 else 0.0
        of_cosines = axis(low, 1.0, "cosine with the nearest", start=True)
        counts, edges = np.histogram(np.clip(cosines, low, 1), bins=_BINS, range=(low, 1))
        charts += histogram("Nearest neighbours", counts, edges, of_cosines, "features")
        pairs = _pairs(nearest, cosines)
    return (
        "<section><h2>Decoder</h2>\n<p>Rows of W_dec: how long each is, and the largest cosine it "
        f'has with another.</p>\n<div class="charts">{charts}</div>\n{pairs}</section>'
    )


def _l0(of_rows: np.ndarray) -> str:
    filled = np.flatnonzero(of_rows)
    low, high = max(0, int(filled[0]) - 2), int(filled[-1]) + 3
    each = max(1, math.ceil((high - low) / 60))
    edges = np.arange(low, high + each, each)
    grid = np.zeros(len(edges) * each, of_rows.dtype)
    some = of_rows[low : low + len(grid)]
    grid[: len(some)] = some
    counts = grid.reshape(-1, each).sum(axis=1)[:-1]
    across = axis(float(edges[0]), float(edges[-1]), "features active in a row")
    return histogram("L0 of rows", counts, edges - 0.5, across, "rows")


def _spread(of_rows: np.ndarray) -> str:
    filled = np.flatnonzero(of_rows)
    if len(filled) == 1:
        return f"In every row {filled[0]} features are active."
    half = int(np.searchsorted(np.cumsum(of_rows), of_rows.sum() / 2))
    return f"In a row from {filled[0]} to {filled[-1]} features are active, in the median {half}."


def _worst(values: np.ndarray) -> str:
    order = np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")[:_LISTED]
    worst = ", ".join(f"{j} ({short(float(values[j]))})" for j in order)
    return f"<p>The least explained columns: {worst}.</p>\n"


def _definitions(found: Description) -> str:
    assert found.evaluated is not None
    rows = []
    for name, row in DEFINITIONS.items():
        value = found.evaluated.published[name]
        if not math.isnan(value):
            rows.append(
                f'<tr><th scope="row">{name}</th><td class="number">{value:.6g}</td>'
                f"<td>{shown(row.formula)}</td><td>{shown(row.published_by)}</td></tr>\n"
            )
    head = '<th scope="col">name</th><th scope="col" class="number">value</th>'
    head += '<th scope="col">formula</th><th scope="col">published by</th>'
    return (
        f"<details><summary>By every published definition, by batches of "
        f"{found.evaluated.batch_rows:,} rows</summary>\n"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _indices(title: str, indices: np.ndarray) -> str:
    if not len(indices):
        return f"<p>{title}: none.</p>\n"
    listed = ", ".join(str(j) for j in indices)
    return (
        f"<details><summary>{title}: {len(indices):,}</summary>\n"
        f'<p class="indices">{listed}</p></details>\n'
    )


def _pairs(nearest: np.ndarray, cosines: np.ndarray) -> str:
    """The most similar two, each pair once."""
    seen: set[frozenset[int]] = set()
    rows = []
    for j in np.argsort(-cosines, kind="stable"):
        pair = frozenset((int(j), int(nearest[j])))
        if pair not in seen:
            seen.add(pair)
            a, b = int(j), int(nearest[j])
            numbers = (str(a), str(b), f"{cosines[j]:.4f}")
            rows.append("".join(f'<td class="number">{number}</td>' for number in numbers))
        if len(rows) == _LISTED:
            break
    head = "".join(
        f'<th scope="col" class="number">{name}</th>' for name in ("feature", "feature", "cosine")
    )
    body = "".join(f"<tr>{row}</tr>\n" for row in rows)
    return (
        f"<details><summary>The most similar</summary>\n"
        f'<div class="wide"><table class="ties"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div></details>"
    )
