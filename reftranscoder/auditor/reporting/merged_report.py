"""What several audits of one implementation found together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..judging.verdict import StageResult
from ..task.stage_graph import ALL_STAGES
from .report import Report

#: From the worst to the best.
_ORDER = (
    "fault",
    "convention",
    "not judged",
    "cannot tell",
    "ambiguous",
    "rounding",
    "exact",
    "not given",
)


@dataclasses.dataclass(frozen=True)
class Reports(Report):
    """One `Report` on an implementation that was run on several cases.

    A stage's result is the worst of any case, and says in which; `cases` holds each case's own
    report.  It passed if every case did that has results, but for those in which these decide
    nothing.  Where several conventions explain a case equally, the others decide between them.
    """

    cases: Mapping[str, Report] = dataclasses.field(default_factory=dict)
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)  # name -> why
    #: Whether a case can decide on all its stages.  Those that cannot do not count as inconclusive.
    decisive: Mapping[str, bool] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        cases: Mapping[str, Report],
        skipped: Mapping[str, str],
        decisive: Mapping[str, bool],
        **more: Any,
    ) -> Reports:
        """Merge the reports of ``cases``."""
        convention, explaining = _joint(cases)
        stages = {name: _worst(name, cases, decisive) for name in ALL_STAGES}
        blamed = next((n for n in ALL_STAGES if stages[n].verdict == "fault"), None)
        first = next((r for r in cases.values() if blamed and r.blame == blamed), None)
        some = next(iter(cases.values()), None)
        return cls(
            stages=stages,
            arithmetic=next((r.arithmetic for r in cases.values() if r.arithmetic), None),
            convention=convention if blamed is None else None,
            explaining=explaining if blamed is None else (),
            accepted=some.accepted if some else (),
            explanations=tuple(dict.fromkeys(e for r in cases.values() for e in r.explanations)),
            suspects=first.suspects if first else (blamed,) if blamed else (),
            cases=dict(cases),
            skipped=dict(skipped),
            decisive=dict(decisive),
            **more,
        )

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the cases that did not pass."""
        return tuple(name for name in self.cases if self.verdict(name) == "FAILED")

    @property
    def undecided(self) -> tuple[str, ...]:
        """The names of the cases that neither failed nor show anything."""
        return tuple(name for name in self.cases if self.verdict(name) == "undecided")

    @property
    def conclusive(self) -> bool:
        """Whether every stage is decided on, in every case that can decide on it."""
        return bool(self.judged) and not any(
            report.inconclusive for name, report in self.cases.items() if self.decisive[name]
        )

    @property
    def passed(self) -> bool:
        """Whether some case shows something, and none has more than rounding, ties and declared
        conventions."""
        return len(self.cases) > len(self.undecided) and not self.failed

    def sentence(self) -> str:
        """The conclusion: of the first case that the blamed stage was found in, or of all."""
        total = f"{len(self.cases)} cases" if len(self.cases) != 1 else "1 case"
        if not self.cases:
            return "Nothing was judged: no case has results."
        if len(self.undecided) == len(self.cases):
            return f"Nothing was judged: in {total}, these data do not decide."
        if self.blame is not None:
            name = next(n for n, report in self.cases.items() if report.blame == self.blame)
            failed = f"{len(self.failed)} of {total} failed"
            return f"{self.cases[name].sentence()[:-1]}, in the case {name}; {failed}."
        if self.convention is not None:
            return f"Right in {total}, under the convention {self.convention}."
        if self.failed:
            name = self.failed[0]
            return f"In the case {name}: {self.cases[name].sentence()}"
        reports = self.cases.values()
        judged = [n for n in ALL_STAGES if any(n in report.judged for report in reports)]
        if not judged:
            return f"In {total}, what is not finite was refused, and nothing else was judged."
        text = f"In {total}, every difference in {', '.join(judged)} is rounding in "
        text += f"{self.declared}, or a tie, or nothing at all"
        some = [name for name in judged if name in self.inconclusive]
        text += f"; on {', '.join(some)} not all of them decide" if some else ""
        return f"{text}."

    def to_dict(self) -> dict[str, Any]:
        """Everything, in plain values for JSON."""
        return super().to_dict() | {
            "cases": {name: report.to_dict() for name, report in self.cases.items()},
            "skipped": dict(self.skipped),
        }

    def table(self) -> str:
        """One line per case: its verdict, and where it failed the sentence that says so."""
        width = max((len(name) for name in (*self.cases, *self.skipped)), default=4)
        lines = []
        for name, report in self.cases.items():
            lines.append(f"{name:{width}}  {self.verdict(name):12}  {_remark(report)}")
        lines += [f"{name:{width}}  {'-':12}  {why}" for name, why in self.skipped.items()]
        return "\n".join(line.rstrip() for line in lines)

    def __str__(self) -> str:
        lines = super().__str__().splitlines()
        failed = [f"{name}: {self.cases[name].sentence()}" for name in self.failed]
        return "\n".join([*lines[:-1], *failed, lines[-1]])

    def verdict(self, name: str | None = None) -> str:
        """That on the case ``name``, or on all of them.

        Conventions that several cases explain together are declared together, and a case that
        cannot decide on all stages need not.
        """
        if name is None:
            return super().verdict()
        report = self.cases[name]
        verdict = report.verdict()
        if verdict == "FAILED" and report.convention is not None and self.explaining:
            if set(self.explaining) <= set(self.accepted):
                verdict = "passed, but" if report.inconclusive else "passed"
        if verdict == "passed, but" and not self.decisive[name]:
            return "passed"
        return verdict


def _remark(report: Report) -> str:
    if report.blame is not None or report.convention is not None or not report.judged:
        return report.sentence()
    verdicts = [report.stages[name].verdict for name in report.judged]
    counts = [f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts)]
    if report.inconclusive:
        counts.append(f"undecided: {', '.join(report.inconclusive)}")
    return ", ".join(counts)


def _worst(stage: str, cases: Mapping[str, Report], decisive: Mapping[str, bool]) -> StageResult:
    found = None
    for name, report in cases.items():
        result = report.stages.get(stage, StageResult(stage, "not given"))
        undecided = result.verdict in ("not judged", "cannot tell") and not decisive[name]
        rank = undecided, _ORDER.index(result.verdict), -(result.max_ratio or 0.0)
        if result.verdict == "not given":
            continue
        if found is None or rank < found[0]:
            found = rank, name, result
    if found is None:
        return StageResult(stage, "not given")
    _, name, result = found
    text = f"{name}: {result.explanation}" if result.explanation else name
    return dataclasses.replace(result, explanation=text)


def _joint(cases: Mapping[str, Report]) -> tuple[str | None, tuple[str, ...]]:
    """The conventions that explain every case, or failing these all that explain one."""
    each = [report.convention.split(" or ") for report in cases.values() if report.convention]
    if not each:
        return None, ()
    shared = [name for name in each[0] if all(name in names for names in each)]
    if not shared:
        shared = list(dict.fromkeys(" or ".join(names) for names in each))
        every = {n for r in cases.values() if r.convention for n in r.explaining}
        return ", ".join(shared), tuple(sorted(every))
    names = dict.fromkeys(name for joined in shared for name in joined.split(" and "))
    return " or ".join(shared), tuple(names)
