"""how good a transcoder is on data, by every published definition

Reads X and Y once more than batch by batch: for the mean of Y.  FVU and explained variance are
given as each library that publishes them computes them.  --reported 0.31 says which of these, on
which rows, give the number that somebody wrote down.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np

from ..activations import paired
from ..errors import OptionError, printable
from ..evaluating import Evaluated, Match, evaluate, matches
from ..metrics import DEFINITIONS, density_histogram
from ..metrics.definitions import WHOLE
from ..metrics.features import DENSE
from .arguments import (
    add_batch_rows,
    add_json,
    add_model,
    add_no_pack,
    add_run,
    add_sequences,
    open_model,
)
from .printing import plural, print_report, table
from .progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL X [Y]."""
    add_model(parser)
    parser.add_argument("x", metavar="X", help="activations to read (rows, input_size)")
    parser.add_argument("y", metavar="Y", nargs="?", help="those to predict; or X holds both")
    add_run(parser)
    add_no_pack(parser)
    add_sequences(parser)
    add_batch_rows(parser)
    parser.add_argument(
        "--reported",
        metavar="NUMBER",
        help="say which definition gives NUMBER; with --sequence-length N alone, also without the "
        "first row of each sequence",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Measure, and look for the number that was reported."""
    tc = open_model(options)
    found = {}
    for words, dropped in _selections(options):
        length = None if dropped is None else options.sequence_length
        x, y = paired(
            options.x,
            options.y,
            rows=options.rows,
            sequence_length=length,
            drop_position=dropped,
            dtype=tc.config.dtype,
        )
        with Progress(len(x), "rows") as progress:
            found[words] = evaluate(
                tc,
                x,
                y,
                batch_rows=options.batch_rows,
                backend=options.backend,
                advance=progress.advance,
            )
    first = next(iter(found.values()))
    report = {"model": options.model, **_report(first)}
    text = [_text(options, first)]
    if options.reported is not None:
        near = matches(options.reported, found)
        report["reported"] = {
            "number": options.reported,
            "looked_at": list(found),
            "matches": [match._asdict() for match in near],
        }
        text.append(_text_of_matches(options.reported, list(found), near))
    print_report(options, report, "\n\n".join(text))


def _selections(options: argparse.Namespace) -> list[tuple[str, int | None]]:
    """The rows to measure on, in words, and which position of each sequence is dropped."""
    length, dropped = options.sequence_length, options.drop_position
    if dropped is not None:
        return [(f"rows without position {dropped}", dropped)]
    if length is None:
        return [("all rows", None)]
    if options.reported is None:
        raise OptionError("drop_position", "given too, or --reported", None)
    return [("all rows", None), ("rows without position 0", 0)]


def _report(found: Evaluated) -> dict[str, Any]:
    metrics = found.metrics
    rates = metrics.firing_rates
    assert rates is not None  # features were measured
    counts, edges = density_histogram(rates)
    return {
        "rows": found.rows,
        "batch_rows": found.batch_rows,
        "l0": metrics.l0,
        "dead_features": metrics.dead_features,
        "dense_features": np.flatnonzero(rates > DENSE),
        "density": {"log10_edges": edges, "features": counts},
        "published": found.published,
        "whole": dict(found.whole),
        "batches": dict(found.batches),
    }


def _text(options: argparse.Namespace, found: Evaluated) -> str:
    metrics = found.metrics
    rates, dead = metrics.firing_rates, metrics.dead_features
    assert rates is not None and dead is not None  # features were measured
    rows: list[tuple[str, ...]] = [("", "all rows", f"batches of {found.batch_rows}")]
    for name, row in DEFINITIONS.items():
        values = (found.whole[name], found.batches[name])
        if all(map(math.isnan, values)):  # it compares what has another width
            continue
        star = [" *" if (row.published_on == WHOLE) == (n == 0) else "" for n in range(2)]
        rows.append((name, *(f"{v:.6g}{s or '  '}" for v, s in zip(values, star))))
    return "\n".join(
        [
            f"{printable(options.model)} on {plural(found.rows, 'row')}: "
            f"{metrics.l0:.1f} features active in a row, {len(dead)} in none, "
            f"{np.count_nonzero(rates > DENSE)} in more than {DENSE:.0%} of the rows",
            "",
            table(rows),
            "* as it is published: reftranscoder guide measuring",
        ]
    )


def _text_of_matches(reported: str, looked_at: list[str], near: list[Match]) -> str:
    if not near:
        where = " and ".join(looked_at)
        return f"{reported}: none of the definitions gives it, on {where}, at once or by batches"
    lines = [f"{reported} is, as far as it is written out:"]
    for match in near:
        how = "" if match.published else ", which nobody publishes so"
        by = DEFINITIONS[match.name.removeprefix("1 - ")].published_by
        lines.append(f"  {match.name} = {match.value:.6g} on {match.rows}, {match.on}{how} ({by})")
    return "\n".join(lines)
