"""A row of the catalogue: where a fault was published, and a function that makes it."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable

from ..one_case import judge_case
from ..reporting.report import Report
from ..task.arithmetic import by_stage
from ..task.case import Answer
from ..task.stage_graph import STAGES
from .stages import Small, Stages, small_case

Reproduction = Callable[[Small], Stages]

#: What a row may be, by the verdict that the audit gives its stage.
KINDS = {
    "fault": "fault",
    "convention": "documented definition",
    "ambiguous": "allowed difference",
}
#: owner/name, and then an issue or pull request, a commit, or a file.
_PLACE = re.compile(r"([\w.-]+/[\w.-]+)(?:#(\d+)|@([0-9a-f]{7,40})|:(\S+))")


@dataclasses.dataclass(frozen=True)
class Fault:
    """A published fault, or a definition that differs, and what the audit says of it."""

    name: str
    stage: str  # the one that the audit blames
    what: str  # what was wrong, as a sentence
    reported: tuple[str, ...]  # owner/name#number, owner/name@commit or owner/name:path
    fixed: str  # the version or the date, or "" where that is not known
    equation: str  # what it breaks
    says: str  # words in the audit's conclusion
    kind: str  # a key of `KINDS`
    reproduce: Reproduction
    case: Callable[[], Small]  # what it is reproduced on

    @property
    def source(self) -> str:
        """The lines of the function that reproduces it."""
        text = inspect.getsource(self.reproduce)
        return text[text.index("\ndef ") + 1 :]

    def judged(self) -> Report:
        """What the audit makes of the reproduction."""
        case = self.case()
        answer = Answer(self.reproduce(case))
        return judge_case(case, answer, by_stage("float32"), "float32", ())


def fault(
    stage: str,
    *reported: str,
    equation: str,
    says: str,
    fixed: str = "",
    kind: str = "fault",
    case: Callable[[], Small] = small_case,
) -> Callable[[Reproduction], Fault]:
    """Make a `Fault` of the function below, whose name and docstring are those of the row."""

    def made(reproduce: Reproduction) -> Fault:
        what = " ".join((inspect.getdoc(reproduce) or "").split())
        name = reproduce.__name__
        return Fault(name, stage, what, reported, fixed, equation, says, kind, reproduce, case)

    return made


def blamed(report: Report) -> str | None:
    """The stage that a report is about: the first at fault, or else the first that differs."""
    for verdict in KINDS:
        for stage in STAGES:
            if report.stages[stage].verdict == verdict:
                return stage
    return None


def address_of(place: str) -> str:
    """The web address of a place where a fault was reported."""
    found = _PLACE.fullmatch(place)
    if found is None:
        raise ValueError(place)
    repository, number, commit, path = found.groups()
    kind = f"issues/{number}" if number else f"commit/{commit}" if commit else f"blob/HEAD/{path}"
    return f"https://github.com/{repository}/{kind}"
