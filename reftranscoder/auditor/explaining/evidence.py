"""What a mistake is looked for in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..judging.verdict import StageResult
from ..task.candidate import Candidate
from ..task.problem import Problem
from ..task.stage_graph import ALL_STAGES
from .estimates import Entries, entries_of

#: Formats that something may be kept in by mistake, the finest first.
COARSE = ("float16", "bfloat16")


class Evidence(NamedTuple):
    """A candidate with ``results`` of which ``first`` is the first at fault.

    Of a large one it is a part, and the stages ``unseen`` are at fault in others.
    """

    problem: Problem
    candidate: Candidate
    results: Mapping[str, StageResult]
    first: str
    unseen: tuple[str, ...] = ()

    @property
    def faults(self) -> list[str]:
        return [name for name in ALL_STAGES if self.results[name].verdict == "fault"]

    def entries(self, stage: str, **changes: Any) -> Entries:
        definition = dataclasses.replace(self.problem.definition, **changes)
        return entries_of(self.problem._replace(definition=definition), self.candidate, stage)
