"""published faults of the field, and what an audit says of each

Without NAME, lists them by the stage that the audit blames.  With NAME, says what was wrong, where
it was reported and which equation it breaks, and prints a function that reproduces it and the
audit's report of that.  Some are no faults but definitions that differ.
"""

from __future__ import annotations

import argparse
import itertools
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from .arguments import add_json
from .html import add_html, check_html, write_html
from .printing import plural, print_report
from .progress import Progress

if TYPE_CHECKING:
    from ..auditor.faults import Fault
    from ..auditor.reporting.report import Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[NAME]."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="the name of one in the list")
    add_html(parser, "write a page of them, for teaching")
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Print the list, or one fault and its report."""
    from ..auditor.faults import FAULTS

    check_html(options)
    chosen = [fault for fault in FAULTS if options.name in (None, fault.name)]
    if not chosen:
        raise OptionError("NAME", "in the list that reftranscoder faults prints", options.name)
    reports = _judged(chosen) if options.html is not None or options.name is not None else {}
    if options.html is not None:
        write_html(options.html, _page(reports))
    if options.name is None:
        report: dict[str, Any] = {"faults": [_facts(fault) for fault in chosen]}
        text = _listing(chosen)
    else:
        (fault,) = chosen
        report = _facts(fault) | {"source": fault.source, "report": reports[fault].to_dict()}
        text = _text(fault, reports[fault])
    print_report(options, report, text, made=options.html)


def _judged(faults: list[Fault]) -> dict[Fault, Report]:
    found = {}
    with Progress(len(faults), "faults") as progress:
        for fault in faults:
            found[fault] = fault.judged()
            progress.advance()
    return found


def _page(reports: dict[Fault, Report]) -> str:
    from ..auditor.faults.page import page

    return page(reports)


def _facts(fault: Fault) -> dict[str, Any]:
    names = ("name", "stage", "kind", "what", "reported", "fixed", "equation", "says")
    return {name: getattr(fault, name) for name in names}


def _listing(faults: list[Fault]) -> str:
    from ..auditor.faults.fault import KINDS

    blocks = []
    for stage, group in itertools.groupby(faults, key=lambda fault: fault.stage):
        lines = [stage]
        for fault in group:
            kind = "" if fault.kind == "fault" else f" ({KINDS[fault.kind]})"
            lines.append(f"  {fault.name}{kind}: {fault.reported[0]}")
        blocks.append("\n".join(lines))
    blocks.append(f"{plural(len(faults), 'row')}. reftranscoder faults NAME shows one.")
    return "\n\n".join(blocks)


def _text(fault: Fault, report: Report) -> str:
    from ..auditor.faults.fault import KINDS

    facts = [
        f"stage     {fault.stage} ({KINDS[fault.kind]})",
        f"reported  {', '.join(fault.reported)}",
        f"fixed     {fault.fixed or 'not known'}",
        f"breaks    {fault.equation}",
    ]
    return "\n\n".join([fault.name, "\n".join(facts), fault.source.rstrip(), str(report)])
