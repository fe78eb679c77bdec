"""what is in a transcoder, and how it does on data

Sizes, options, and the norms of its arrays.  Given activations X, also how many features are active
on them and which never are; given the target Y as well, how much of it stays unexplained (FVU).
"""

from __future__ import annotations

import argparse
import math
import os
from typing import Any

import numpy as np

from ..activations import Activations, paired
from ..errors import FileError, printable
from ..files.mapped import stretches
from ..formats import OURS, Origin
from ..loading import load
from ..metrics import Evaluation, Metrics
from ..params import Params
from ..transcoder import Transcoder
from ..transcoder.cross_layer import CrossLayerTranscoder
from .arguments import (
    BLOCK_ROWS,
    add_json,
    add_model,
    add_no_pack,
    add_run,
    check_width,
    chosen,
    open_input,
)
from .printing import plural, print_report, table
from .progress import Progress

_FAINT = 0.01  # of the median norm


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL [X [Y]]."""
    add_model(parser)
    parser.add_argument("x", metavar="X", nargs="?", help="activations (rows, input_size), .npy")
    parser.add_argument("y", metavar="Y", nargs="?", help="target (rows, output_size), .npy")
    add_run(parser)
    add_no_pack(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Describe the transcoder."""
    tc = load(options.model, **chosen(options))
    if isinstance(tc, CrossLayerTranscoder):
        return _run_cross_layer(options, tc)
    report = {
        "model": options.model,
        "bytes": os.path.getsize(options.model if tc.origin is None else tc.origin.path),
        "parameters": sum(array.size for array in tc.params.all_arrays().values()),
        "config": tc.config.to_dict(),
        "arrays": {name: _numbers(array) for name, array in tc.params.all_arrays().items()},
        "features": _features(tc.params),
        "origin": None if tc.origin is None else tc.origin.to_dict(),
    }
    if options.x:
        report["on"] = _on(options, tc)
    print_report(options, report, _text(tc, report))


def _run_cross_layer(options: argparse.Namespace, clt: CrossLayerTranscoder) -> None:
    if options.x:
        problem = "is a cross-layer transcoder, and X is of one layer"
        raise FileError(options.model, problem, "Leave X out; use rt.load, and arrays (L, B, I).")
    arrays = [array for layer in clt.params.layers for array in layer.arrays().values()]
    report = {
        "model": options.model,
        "bytes": sum(array.nbytes for array in arrays),
        "parameters": sum(array.size for of in clt.params.arrays().values() for array in of),
        "config": clt.config.to_dict(),
        "layers": [_features(layer) for layer in clt.params.layers],
        "origin": None if clt.origin is None else clt.origin.to_dict(),
    }
    print_report(options, report, _text_cross_layer(clt, report))


def _text_cross_layer(clt: CrossLayerTranscoder, report: dict[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [
        ("layer", "norm of a row of W_enc", "of W_dec, all targets", "never active", "faint")
    ]
    for l, of in enumerate(report["layers"]):
        norms = (f"{of[f'{name}_row_norms'][1]:.4g}" for name in ("W_enc", "W_dec"))
        rows.append((str(l), *norms, str(len(of["never_active"])), str(len(of["faint"]))))
    blocks = [
        f"{printable(report['model'])}: {clt!r}\n"
        f"{report['parameters']:,} parameters, {report['bytes'] / 1e6:.1f} MB in memory",
        *_text_of(clt.origin),
        table(rows),
        "norms are medians; never active, as they read nothing; faint: write under "
        f"{_FAINT:.0%} of the median",
    ]
    return "\n\n".join(blocks)


def _numbers(array: np.ndarray) -> dict[str, Any]:
    wide = (part.astype(np.float64) for _, part in stretches(array))
    norms, least, most = zip(*((np.linalg.norm(w), w.min(), w.max()) for w in wide))
    return {
        "shape": array.shape,
        "norm": math.hypot(*norms),
        "smallest": min(least),
        "largest": max(most),
    }


def _features(params: Params) -> dict[str, Any]:
    reads, writes = _row_norms(params.W_enc), _row_norms(params.W_dec)
    return {
        "W_enc_row_norms": np.quantile(reads, (0, 0.5, 1)),
        "W_dec_row_norms": np.quantile(writes, (0, 0.5, 1)),
        "never_active": np.flatnonzero((reads == 0) & (params.b_enc <= params.active_above)),
        "faint": np.flatnonzero(writes <= _FAINT * np.median(writes)),
    }


def _row_norms(array: np.ndarray) -> np.ndarray:
    parts = (part.astype(np.float64) for _, part in stretches(array))
    return np.concatenate([np.linalg.norm(part, axis=1) for part in parts])


def _on(options: argparse.Namespace, tc: Transcoder) -> dict[str, Any]:
    x, y = open_input(options, tc), None
    if options.y:
        _, y = paired(options.x, options.y, rows=options.rows, dtype=tc.config.dtype)
        check_width(y, "O", tc.config.output_size)
    metrics = _evaluate(tc, x, y, options.backend)
    dead, rates = metrics.dead_features, metrics.firing_rates
    assert dead is not None and rates is not None  # features were measured
    report = {"rows": metrics.rows, "l0": metrics.l0, "dead": len(dead), "dead_features": dead}
    report["firing_rates"] = np.quantile(rates, (0, 0.5, 1))
    if y is not None:
        report |= {"fvu": metrics.fvu, "mse": metrics.mse}
    return report


def _evaluate(tc: Transcoder, x: Activations, y: Activations | None, backend: str) -> Metrics:
    evaluation = Evaluation()
    with Progress(len(x), "rows") as progress:
        for start in range(0, len(x), BLOCK_ROWS):
            rows = np.arange(start, min(start + BLOCK_ROWS, len(x)))
            block = x.rows(rows)
            hidden = tc.encode(block, backend=backend)
            # Without Y, a target of zeros stands in: only what is about features is reported.
            target = np.zeros((len(rows), 1)) if y is None else y.rows(rows)
            reconstruction = target if y is None else tc.decode(hidden, block, backend=backend)
            evaluation.add(target, reconstruction, hidden)
            progress.advance(len(rows))
    return evaluation.result()


def _text(tc: Transcoder, report: dict[str, Any]) -> str:
    features = report["features"]
    arrays: list[tuple[str, ...]] = [("", "shape", "norm", "smallest", "largest")]
    for name, array in report["arrays"].items():
        shape = " x ".join(str(size) for size in array["shape"])
        numbers = (f"{array[key]:.4g}" for key in ("norm", "smallest", "largest"))
        arrays.append((name, shape, *numbers))
    norms: list[tuple[str, ...]] = [("norm of a row", "least", "median", "most")]
    for name in ("W_enc", "W_dec"):
        norms.append((name, *(f"{value:.4g}" for value in features[f"{name}_row_norms"])))
    blocks = [
        f"{printable(report['model'])}: {tc!r}\n"
        f"{report['parameters']:,} parameters, {report['bytes'] / 1e6:.1f} MB",
        *_text_of(tc.origin),
        table(arrays),
        table(norms),
        f"never active, as they read nothing: {_listed(features['never_active'])}\n"
        f"write next to nothing (under {_FAINT:.0%} of the median): {_listed(features['faint'])}",
    ]
    if "on" in report:
        blocks.append(_text_on(report["on"]))
    return "\n\n".join(blocks)


def _text_of(origin: Origin | None) -> list[str]:
    """Where it comes from, and what its file says of it; nothing of a file of ours."""
    if origin is None or origin.format == OURS:
        return []
    layer = None if origin.layer is None else str(origin.layer)
    said = {"layer": layer, "of": origin.model, "reads": origin.hook_in, "writes": origin.hook_out}
    facts = [f"{name} {printable(value)}" for name, value in said.items() if value]
    lines = [f"format {origin.format}, {printable(origin.variant)}, stored as {origin.dtype}"]
    lines += [", ".join(facts)] if facts else []
    lines += [f"{name}={value!r}" for name, value in origin.conventions.items()]
    return ["\n".join(lines + [f"warning: {printable(w)}" for w in origin.warnings])]


def _text_on(on: dict[str, Any]) -> str:
    least, median, most = on["firing_rates"]
    lines = [
        f"on {plural(on['rows'], 'row')}: {on['l0']:.1f} features active in a row",
        f"a feature is active in {median:.2%} of the rows (median; {least:.2%} to {most:.2%})",
        f"active in no row: {_listed(on['dead_features'])}",
    ]
    if "fvu" in on:
        lines.append(f"FVU {on['fvu']:.4f}, mean squared error {on['mse']:.4g}")
    return "\n".join(lines)


def _listed(features: np.ndarray) -> str:
    """How many, and the first few of them by name."""
    if not len(features):
        return "none"
    first = ", ".join(str(feature) for feature in features[:5])
    more = ", ..." if len(features) > 5 else ""
    return f"{plural(len(features), 'feature')} ({first}{more})"
