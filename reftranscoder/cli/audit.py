"""judge what another implementation computed, stage by stage

CASE is one file, .npz or .safetensors, that holds parameters, x, target and results; DIR a folder
that ``reftranscoder cases`` made and another implementation wrote its results into, or one case in
it.  Prints one line per stage for one case and one line per case for a folder, and what to
conclude.  Exits with 1 unless it passed: if a case with results failed, or nothing could be judged.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from ..conventions import CONVENTIONS
from ..errors import OptionError
from . import status
from .arguments import add_json
from .html import add_html, check_html, write_html
from .printing import plural, print_json
from .progress import Progress
from .streams import tell

if TYPE_CHECKING:  # --help comes at once
    from ..auditor.probes.case_folder import Answers
    from ..auditor.reporting.merged_report import Reports
    from ..auditor.reporting.report import Report
    from ..auditor.task.arithmetic import Arithmetic

ARITHMETICS = "float32, float64, tf32, bfloat16-inputs, bfloat16, float16, bfloat16-autocast"
_LETTERS = """\
conventions, by NAME: e is reconstruction - target (B, O), y a row of the target, m the mean of
these, x a row of the input, f hidden (B, D)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """CASE or DIR."""
    listed = (f"  {name:30}{meaning}" for name, meaning in CONVENTIONS.items())
    parser.epilog = "\n".join([_LETTERS, *listed])
    parser.add_argument("case", metavar="CASE|DIR", help="a file, or a folder of cases")
    parser.add_argument(
        "--arithmetic",
        metavar="NAME",
        default="float32",
        help=f"what the results were computed in: {ARITHMETICS} (default: float32)",
    )
    parser.add_argument(
        "--convention",
        metavar="NAME",
        action="append",
        default=[],
        help="a documented definition under which the results may differ; may be repeated",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit with 1 as well where the data do not decide, or do not exercise a feature, an "
        "input column or an output column",
    )
    add_html(parser, "write a page with the pictures, too")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Judge, say so, and tell by the exit status."""
    from ..auditor.explaining.conventions import checked_names
    from ..auditor.probes.case_folder import answers_in
    from ..auditor.task.arithmetic import by_stage

    if not options.case:
        raise OptionError("CASE|DIR", "the name of a file or of a folder", options.case)
    check_html(options)
    arithmetic = by_stage(options.arithmetic)
    answers = answers_in(options.case)
    accepted = checked_names(options.convention)
    report = _judged(answers, arithmetic, options.arithmetic, accepted)
    if options.html is not None:
        name = os.path.basename(os.path.normpath(options.case))
        write_html(options.html, _page(report, name))
    if options.json:
        print_json(report.to_dict(), options.html)
    else:
        tell(_text(report), options.html)
    failed = not report.passed or (options.strict and not _settled(report))
    return status.FAILED if failed else status.OK


def _text(report: Report) -> str:
    from ..auditor.reporting.merged_report import Reports

    if not isinstance(report, Reports):
        return str(report)
    advice = ["", *report.advice] if report.advice else []
    return "\n".join([report.table(), *advice, "", _count(report), report.sentence()])


def _judged(
    answers: Answers, arithmetic: dict[str, Arithmetic], declared: str, accepted: tuple[str, ...]
) -> Report:
    from ..auditor.many_cases import judge_cases
    from ..auditor.one_case import judge_case

    if answers.several:
        with Progress(len(answers.paths), "cases") as progress:
            return judge_cases(
                answers.read(), arithmetic, declared, accepted, lambda rows: progress.advance()
            )
    ((case, answer),) = answers.read()
    with Progress(len(case.x), "rows") as progress:
        return judge_case(case, answer, arithmetic, declared, accepted, progress.advance)


def _settled(report: Report | Reports) -> bool:
    """Whether nothing is left open: no stage undecided, no case without results, no feature and no
    column that was not exercised."""
    missing = [why for why in getattr(report, "skipped", {}).values() if why == "no results"]
    return report.conclusive and not missing and not report.not_exercised


def _count(report: Reports) -> str:
    total = len(report.cases) + len(report.skipped)
    failed, undecided = len(report.failed), len(report.undecided)
    return (
        f"{plural(total, 'case')}: {len(report.cases) - failed - undecided} passed, "
        f"{failed} failed, {len(report.skipped) + undecided} not judged."
    )


def _page(report: Report, name: str) -> str:
    from ..auditor.reporting.html import page
    from ..auditor.reporting.merged_report import Reports

    return page(report if isinstance(report, Reports) else {name: report})
