"""Where a transcoder comes from: what its file is, and what it says of itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """What a file said of a transcoder beside its arrays and options; ``tc.origin``.

    ``hook_in`` and ``hook_out`` are where the activations are taken, by the publisher's names, and
    ``layer`` and ``model`` those of the language model, where the file says.  ``conventions`` are
    those that change the arithmetic, as `Conventions` names them.  ``warnings`` are lines about
    what a user of it should know: features that cannot be active, thresholds below zero, semantics
    that the file does not mark.
    """

    format: str
    variant: str
    path: str
    dtype: str  # as stored
    layer: int | None = None
    model: str | None = None
    hook_in: str | None = None
    hook_out: str | None = None
    conventions: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {"conventions": dict(self.conventions), "warnings": list(self.warnings)}
