"""The catalogue as one page of HTML that needs nothing else, for teaching."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from html import escape

from ..reporting.html import document, pill
from ..reporting.report import Report
from .fault import KINDS, Fault, address_of

_CSS = """
pre {
  font: .82rem/1.45 ui-monospace, "DejaVu Sans Mono", monospace; overflow-x: auto;
  background: var(--paper); border: 1px solid var(--rule); border-radius: 6px; padding: .7rem .9rem;
}
code { font: .9em ui-monospace, "DejaVu Sans Mono", monospace; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: .6rem 0; }
h3 { display: flex; gap: .8rem; align-items: center; margin-top: 0; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
"""


def page(reports: Mapping[Fault, Report]) -> str:
    """One self-contained page of faults and the reports on their reproductions."""
    sections = [
        f'<h2 id="{stage}"><code>{stage}</code></h2>\n'
        + "\n".join(_section(fault, reports[fault]) for fault in faults)
        for stage, faults in _by_stage(reports)
    ]
    return document("Published faults", "\n".join([_contents(reports), *sections]), _CSS)


def _by_stage(reports: Mapping[Fault, Report]) -> list[tuple[str, list[Fault]]]:
    groups = itertools.groupby(reports, key=lambda fault: fault.stage)
    return [(stage, list(faults)) for stage, faults in groups]


def _contents(reports: Mapping[Fault, Report]) -> str:
    rows = [
        f'<tr><td><a href="#{stage}"><code>{stage}</code></a></td><td>'
        + ", ".join(f'<a href="#{f.name}">{f.name}</a>' for f in faults)
        + "</td></tr>"
        for stage, faults in _by_stage(reports)
    ]
    return (
        f"<header><h1>{len(reports)} published faults and differing definitions</h1>\n"
        "<p>Of sparse autoencoders, transcoders, the libraries that train and evaluate them, and "
        "the framework functions they stand on. Each is reproduced in a few lines of NumPy on a "
        "small transcoder, and stands under the stage that the audit blames, with what the audit "
        "concludes.</p>\n"
        f'<div class="wide"><table class="overview"><tbody>{"".join(rows)}</tbody></table></div>'
        "</header>"
    )


def _section(fault: Fault, report: Report) -> str:
    places = ", ".join(f'<a href="{address_of(p)}">{escape(p)}</a>' for p in fault.reported)
    facts = {"reported": places, "breaks": f"<code>{escape(fault.equation)}</code>"}
    if fault.fixed:
        facts["fixed"] = escape(fault.fixed)
    listed = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts.items())
    return (
        f'<section id="{fault.name}">\n'
        f"<h3><code>{fault.name}</code> {pill(fault.kind, KINDS[fault.kind])}</h3>\n"
        f"<p>{escape(fault.what)}</p>\n<dl>{listed}</dl>\n"
        f"<pre>{escape(fault.source)}</pre>\n"
        f'<p class="sentence">{escape(report.sentence())}</p>\n</section>'
    )
