"""Reports as text and as JSON."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from .streams import tell


def print_report(
    options: argparse.Namespace, report: Mapping[str, Any], text: str, made: object = None
) -> None:
    """Print ``report`` with ``--json``, else ``text``; ``made`` as in `streams.tell`."""
    if options.json:
        print_json(report, made)
    else:
        tell(text, made)


def print_json(report: Mapping[str, Any], made: object = None) -> None:
    """Print ``report`` as one JSON object; ``made`` as in `streams.tell`.

    JSON has no NaN and no infinity: they become null.
    """
    tell(json.dumps(_plain(report), indent=2, ensure_ascii=False, allow_nan=False), made)


def table(rows: Iterable[Sequence[str]]) -> str:
    """``rows`` of cells as lines: the first column to the left, the others to the right."""
    rows = [list(row) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))]
        ).rstrip()
        for row in rows
    )


def plural(count: int, noun: str) -> str:
    """``1 row``, ``2 rows``, ``8,192 rows``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Fraction | Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
