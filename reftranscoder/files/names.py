"""Names of files, in the order in which people number them."""

from __future__ import annotations

import re


def natural(name: str) -> list[tuple[int, str]]:
    """What names are compared by: ``x-2`` comes before ``x-10``, and ``x-02`` before ``x-2``."""
    parts = re.split(r"(\d{1,18})", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts] + [(0, name)]
