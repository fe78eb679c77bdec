"""What an audit found: a result for every stage, and one sentence."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

from ...errors import Error
from ...options import truth
from ..judging.verdict import StageResult
from ..task.stage_graph import AXES, OF_OWN
from .exercised import Exercised, missing_sentences


class AuditFailure(Error, AssertionError):
    """An audit that did not pass.  ``report`` has the details."""

    longest = 10_000  # a judgement, of which no word is to be lost

    def __init__(self, report: Report, *more: str) -> None:
        self.report = report
        super().__init__(" ".join(filter(None, [report.sentence(), report.to_declare, *more])))


@dataclasses.dataclass(frozen=True)
class Report:
    """The judgement of a candidate.

    ==================================================  =================  ==========  ========
    what was found                                      ``blame``          convention  passed
    ==================================================  =================  ==========  ========
    every given stage exact, rounding or ambiguous      None               None        True
    some stage cannot tell, none at fault               None               None        True, but not
                                                                                       conclusive
    no stage given, or none that can tell               None               None        False
    no stage given, as the input is not finite          None               None        True
    another definition explains every difference        None               its name    if declared
    a definition explains some, and another stage       that stage         None        False
    fails all the same
    a fault                                             the first of them  None        False
    ==================================================  =================  ==========  ========
    """

    stages: dict[str, StageResult]
    declared: str  # the arithmetic that was declared
    arithmetic: str | None = None  # what the errors of pre look like
    convention: str | None = None  # names, joined by " or " where several explain equally
    explaining: tuple[str, ...] = ()  # the same names
    accepted: tuple[str, ...] = ()  # the conventions that the caller declared
    explanations: tuple[str, ...] = ()  # conventions that explain some, but not all
    partly: str | None = None  # their names, joined as in ``convention``
    unseen: tuple[str, ...] = ()  # terms too small to show in this data and arithmetic
    coverage: tuple[str, ...] = ()  # what the probe did not exercise, with advice
    suspects: tuple[str, ...] = ()  # the blamed stage, and what lies between it and its agreeing
    # upstream and was not given
    refused: tuple[int, ...] = ()  # the rows that are not finite, and that the candidate refused
    exercised: tuple[Exercised, ...] = ()  # how many features and columns the data did

    def __post_init__(self) -> None:
        # What one activation alone has is no stage of the others.
        kept = {
            name: result
            for name, result in self.stages.items()
            if name not in OF_OWN or result.verdict != "not given"
        }
        object.__setattr__(self, "stages", kept)

    @property
    def faults(self) -> tuple[str, ...]:
        """Every given stage at fault, in the order in which they are computed."""
        return self._with("fault")

    @property
    def blame(self) -> str | None:
        """The first stage at fault, or None."""
        return self.faults[0] if self.faults else None

    @property
    def inconclusive(self) -> tuple[str, ...]:
        """The stages on which the data do not decide."""
        return self._with("cannot tell", "not judged")

    @property
    def judged(self) -> tuple[str, ...]:
        """The stages with a verdict that decides."""
        return self._with("exact", "rounding", "ambiguous", "convention", "fault")

    @property
    def conclusive(self) -> bool:
        """Whether every given stage has a verdict that decides."""
        return bool(self.judged) and not self.inconclusive

    @property
    def passed(self) -> bool:
        """Whether every difference is explained by rounding, ties and declared conventions."""
        declared = set(self.explaining) <= set(self.accepted)
        return bool(self.judged or self.refused) and not self.faults and declared

    @property
    def not_exercised(self) -> tuple[str, ...]:
        """A sentence about the features, one about the input columns and one about the output
        columns, of which some were not exercised at a judged stage."""
        return missing_sentences(self.exercised)

    @property
    def advice(self) -> tuple[str, ...]:
        """Sentences on what the data do not show, and on what to declare."""
        found = [*(f"unseen: {text}" for text in self.unseen), *self.coverage]
        found += [*self.not_exercised, self.to_declare]
        return tuple(filter(None, found))

    @property
    def to_declare(self) -> str:
        """How to declare the convention, in a sentence, if one explains everything and was not."""
        if self.convention is None or self.passed:
            return ""
        names = ", ".join(f'"{name}"' for name in self.explaining)
        options = " ".join(f"--convention '{name}'" for name in self.explaining)
        return (
            f"If that definition is meant, declare it: conventions=({names},), or on the "
            f"command line {options}."
        )

    def verdict(self) -> str:
        """In a word or two: ``"passed"``, ``"passed, but"`` not on every stage, ``"undecided"``
        (stages were given, and these data decide on none) or ``"FAILED"``."""
        if self.inconclusive and not self.judged:
            return "undecided"
        if not self.passed:
            return "FAILED"
        return "passed, but" if self.inconclusive else "passed"

    def raise_if_failed(self, require_coverage: bool = False) -> None:
        """Raise `AuditFailure` with the conclusion unless `passed`.

        Args:
            require_coverage: whether to fail, too, where a feature, an input column or an output
                column of a judged stage was not exercised by the data.
        """
        if not self.passed:
            raise AuditFailure(self)
        if truth("require_coverage", require_coverage) and self.not_exercised:
            raise AuditFailure(self, *self.not_exercised)

    def sentence(self) -> str:
        """The conclusion, for the maintainer at the other end."""
        if self.blame is not None:
            return self._blaming(self.blame)
        if self.convention is not None:
            where = self._with("convention")
            start = f" from {where[0]} on" if where else ""
            return f"Right{start}, under the convention {self.convention}{self._alone()}."
        if not self.judged and self.refused:
            return "Refused, as input that is not finite may be."
        if not self.judged:
            return "Nothing was judged: " + (
                f"on {self._words(self.inconclusive, ',')} these data do not decide."
                if self.inconclusive
                else "no stage was given."
            )
        ambiguous = self._with("ambiguous")
        text = f"Every difference in {self._words(self.judged)} is rounding in {self.declared}"
        if all(self.stages[name].verdict == "exact" for name in self.judged):
            text = f"Every entry of {self._words(self.judged)} is exact"
        if ambiguous:
            text += f", or {self.stages[ambiguous[0]].explanation}"
        if self.inconclusive:
            text += f"; on {self._words(self.inconclusive)} these data do not decide"
        return text + "."

    def to_dict(self) -> dict[str, Any]:
        """Everything, in plain values for JSON."""
        stages = {name: _plain(dataclasses.asdict(r)) for name, r in self.stages.items()}
        names = ["passed", "conclusive", "blame", "faults", "suspects", "convention", "arithmetic"]
        names += ("declared", "explanations", "inconclusive", "unseen", "coverage", "refused")
        names += ("exercised", "not_exercised")
        return {name: _plain(getattr(self, name)) for name in names} | {
            "sentence": self.sentence(),
            "stages": stages,
        }

    def __str__(self) -> str:
        lines = [f"{'stage':17} {'verdict':12} {'tier':5} {'error/bound':>11}  {'floor':>8}"]
        for result in self.stages.values():
            if result.verdict != "not given":
                lines.append(_line(result))
        lines += self.advice
        if self.arithmetic:
            lines.append(f"arithmetic: {self.arithmetic}")
        return "\n".join([*lines, self.sentence()])

    def _with(self, *verdicts: str) -> tuple[str, ...]:
        return tuple(n for n, result in self.stages.items() if result.verdict in verdicts)

    def _alone(self) -> str:
        """What the definition is, where nothing but the one number of the loss speaks for it."""
        said = self.stages["loss"].extra.get("alone")
        if said is None:
            return ""
        names = ", ".join(f'"{name}"' for name in self.explaining)
        return f": {said}; the loss alone speaks for it, to be declared by conventions=[{names}]"

    def _made(self, blame: str) -> str:
        """Where a fault was made, if that may be a stage that was not given."""
        places = self.stages[blame].extra.get("made", self.suspects)
        others = [n for n in places if self.stages[n].verdict == "not given"]
        if not others:
            return ""
        there = "there or " if blame in places else ""
        seen = "which was not given" if len(others) == 1 else "none of which was given"
        return f"; it was made {there}in {self._words(others, ' or')}, {seen}"

    def _blaming(self, blame: str) -> str:
        result = self.stages[blame]
        text = f"Fault at {self._place(blame)}"
        before = itertools.takewhile(lambda n: n != blame, self.stages)
        right = [n for n in before if n in self.judged]
        if any(self.stages[n].verdict == "convention" for n in right):
            start = f"Right up to {right[-1]}, under the convention {self.partly}"
            text = f"{start}; fault at {blame}"
        if result.explanation:
            text += f": {result.explanation}"
        elif result.index is not None:
            where = f"[{', '.join(map(str, result.index))}]" if result.index else ""
            text += f"{where}: got {result.got:.9g}"
            if "zero" in result.extra:
                text += " where a correct result is 0"
                text += f", as {result.extra['zero']}" if result.extra["zero"] else ""
            else:
                text += f", and a correct {self.declared} result is "
                text += f"within {result.bound:.2g} of {result.want:.9g}{self._spread(blame)}"
        text += self._made(blame)
        later = self.faults[1:]
        if later:
            text += f"; also at {self._words(later)}"
        return text + "."

    def _spread(self, blame: str) -> str:
        """How many entries are wrong, and what they have in common, where there are many."""
        found = self.stages[blame].extra
        wrong, entries = found.get("wrong", 0), found.get("entries", 0)
        if entries < 2:
            return ""
        if wrong == 1:
            return f"; of {entries:,} entries, that alone is wrong"
        places = zip(self._axes(blame), found["shared"])
        shared = [f", all in {axis} {place}" for axis, place in places if place is not None]
        return f"; {wrong:,} of {entries:,} entries are wrong{''.join(shared)}"

    def _axes(self, name: str) -> tuple[str, ...]:
        """What the indices of a stage are called."""
        return AXES[name]

    def _place(self, name: str) -> str:
        """What a sentence calls a stage."""
        return name

    def _words(self, names: Iterable[str], last: str = " and") -> str:
        """What a sentence calls several of them."""
        return listed(names, last)


def _line(result: StageResult) -> str:
    ratio = "" if result.max_ratio is None else f"{result.max_ratio:.2g}"
    floor = "" if not result.floor else f"{result.floor[result.tier or 'R']:.1e}"
    row = f"{result.stage:17} {result.verdict:12} {result.tier or '':5} {ratio:>11}  {floor:>8}"
    return f"{row}  {result.explanation}".rstrip()


def listed(names: Iterable[str], last: str = " and") -> str:
    """``names`` in a sentence."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])}{last} {names[-1]}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        return value.item()
    return value
