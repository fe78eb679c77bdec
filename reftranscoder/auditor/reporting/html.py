"""The report as one page of HTML that needs nothing else: no script, no font, no network.

It is written for the person at the other end, who was sent the file: the conclusion first, then
one line per stage with a picture of its errors, then what the data did not show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from ...errors import printable
from ..judging.verdict import StageResult
from .histogram_svg import axis, drawing
from .html_style import CSS
from .merged_report import Reports
from .report import Report

_SIGNS = {
    "exact": "=",
    "rounding": "✓",
    "ambiguous": "≈",
    "convention": "◇",
    "fault": "✗",
    "cannot tell": "?",
    "not judged": "–",
}
_OUTCOMES = {
    "passed": ("rounding", "passed"),
    "passed, but": ("cannot-tell", "passed, not conclusive"),
    "undecided": ("cannot-tell", "nothing judged"),
    "FAILED": ("fault", "failed"),
}
_TIERS = {
    "R": "rigorous: no order of summation exceeds this",
    "P": "probabilistic: likely for independent roundings",
    "C": "calibrated: what good libraries stay below",
}


def page(reports: Mapping[str, Report] | Reports) -> str:
    """One self-contained page for ``reports``, which are named by their cases."""
    together = reports if isinstance(reports, Reports) else None
    cases = reports.cases if isinstance(reports, Reports) else reports
    body = []
    if together is not None or len(cases) > 1:
        body.append(_overview(cases, together))
    heading = "h2" if body else "h1"
    body += [
        _case(number, name, report, together, heading)
        for number, (name, report) in enumerate(cases.items(), 1)
    ]
    title = f"Audit: {_conclusion(cases, together)}"
    return document(title, "\n".join([*body, _legend()]))


def document(title: str, body: str, css: str = "") -> str:
    """A whole page with a ``body`` of HTML, in the look of a report and with more of ``css``."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{shown(title)}</title>\n<style>{CSS}{css}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def shown(text: str) -> str:
    """A text from elsewhere as HTML, with escapes for what does not print."""
    return escape(printable(text))


def pill(kind: str, text: str) -> str:
    """A word with a border, in the colour of a verdict."""
    return f'<span class="outcome {kind}">{escape(text)}</span>'


def _conclusion(cases: Mapping[str, Report], together: Reports | None) -> str:
    if together is None:
        failed = sum(not report.passed for report in cases.values())
    elif not together.passed and not together.failed:
        return "nothing was judged"
    else:
        failed = len(together.failed)
    total = len(cases)
    if total == 1:
        return "failed" if failed else "passed"
    if failed:
        return f"{failed} of {total} cases failed"
    passed = total - len(together.undecided if together else ())
    return f"all {total} cases passed" if passed == total else f"{passed} of {total} cases passed"


def _overview(cases: Mapping[str, Report], together: Reports | None) -> str:
    rows = [
        f"<tr><td>{_outcome(name, report, together)}</td>"
        f'<td><a href="#case-{number}">{escape(name)}</a></td>'
        f"<td>{escape(report.sentence())}</td></tr>"
        for number, (name, report) in enumerate(cases.items(), 1)
    ]
    skipped = {} if together is None else together.skipped
    rows += [
        f"<tr><td>not judged</td><td>{escape(name)}</td><td>{escape(why)}</td></tr>"
        for name, why in skipped.items()
    ]
    sentence = "" if together is None else _sentence(together)
    return (
        f"<header><h1>Audit: {_conclusion(cases, together)}</h1>\n{sentence}\n"
        f'<div class="wide"><table class="overview"><tbody>{"".join(rows)}</tbody></table></div>'
        f"{_not_exercised(together) if together else ''}</header>"
    )


def _case(number: int, name: str, report: Report, together: Reports | None, heading: str) -> str:
    outcome = _outcome(name, report, together)
    parts = [
        f"<{heading}>{escape(name)} {outcome}</{heading}>",
        # What several cases explain together is declared for all of them.
        _sentence(report) if together is None else _said(report.sentence()),
        _table(report),
        _ambiguous(report.stages["hidden"]),
        *_notes(report),
    ]
    return f'<section id="case-{number}">\n' + "\n".join(filter(None, parts)) + "\n</section>"


def _sentence(report: Report) -> str:
    """The conclusion, and what to declare if it is meant."""
    declare = f"<p>{escape(report.to_declare)}</p>" if report.to_declare else ""
    return _said(report.sentence()) + declare


def _said(sentence: str) -> str:
    return f'<p class="sentence">{escape(sentence)}</p>'


def _outcome(name: str, report: Report, together: Reports | None) -> str:
    verdict = report.verdict() if together is None else together.verdict(name)
    kind, text = _OUTCOMES[verdict]
    if verdict == "FAILED" and report.convention:
        kind, text = "convention", "convention"
    return pill(kind, text)


def _table(report: Report) -> str:
    rows = [
        row
        for s, result in report.stages.items()
        if result.verdict != "not given"
        for row in _rows(report, s)
    ]
    if not rows:
        return ""
    missing = [s for s, result in report.stages.items() if result.verdict == "not given"]
    caption = f"<p>Not given: {', '.join(missing)}.</p>" if missing else ""
    return (
        '<div class="wide"><table class="stages"><thead><tr><th scope="col">stage</th>'
        '<th scope="col">verdict</th><th scope="col">tier</th>'
        '<th scope="col" class="number">error / bound</th>'
        '<th scope="col" class="number">floor</th>'
        f'<th scope="col">every entry’s error / bound {axis()}</th></tr></thead>\n'
        f"<tbody>{''.join(rows)}</tbody></table></div>{caption}"
    )


def _rows(report: Report, stage: str) -> Iterator[str]:
    result = report.stages[stage]
    tier = ""
    if result.tier:
        tier = f'<abbr title="{_TIERS[result.tier]}">{result.tier}</abbr>'
    ratio = "" if result.max_ratio is None else f"{result.max_ratio:.2g}"
    floor = f"{result.floor[result.tier or 'R']:.1e}" if result.floor else ""
    picture = drawing(result.histogram, stage) if result.histogram else ""
    yield (
        f'<tr class="{_class(result.verdict)}"><th scope="row">{stage}</th>'
        f"<td>{_verdict(result.verdict)}</td><td>{tier}</td>"
        f'<td class="number">{ratio}</td><td class="number">{floor}</td><td>{picture}</td></tr>\n'
    )
    detail = _detail(result)
    if detail:
        yield f'<tr class="detail"><td></td><td colspan="5">{escape(detail)}</td></tr>\n'


def _detail(result: StageResult) -> str:
    """What is worth saying beside the numbers."""
    said = [result.explanation] if result.explanation else []
    if result.verdict == "fault" and result.got is not None and result.index is not None:
        where = ", ".join(str(i) for i in result.index)
        said.append(
            f"worst at [{where}]: got {result.got:.9g}, expected {result.want:.9g} "
            f"± {result.bound:.2g}"
        )
    return "; ".join(said)


def _ambiguous(result: StageResult) -> str:
    """The rows that chose otherwise among activations too near to tell apart."""
    ties = result.extra.get("near_ties", ())
    if result.verdict != "ambiguous" or not ties:
        return ""
    rows = [
        f'<tr><td class="number">{tie.row}</td><td>{_features(tie.selected)}</td>'
        f"<td>{_features(tie.left_out)}</td>"
        f'<td class="number">{tie.gap:.3g}</td><td class="number">{tie.bound:.3g}</td></tr>\n'
        for tie in ties
    ]
    more = result.extra["rows"] - len(ties)
    rest = f"<p>And {more} more rows.</p>" if more > 0 else ""
    return (
        "<h3>Rows with an ambiguous selection</h3>\n"
        '<div class="wide"><table class="ties"><thead><tr><th scope="col" class="number">row</th>'
        '<th scope="col">selected</th><th scope="col">in place of</th>'
        '<th scope="col" class="number">gap</th><th scope="col" class="number">bound</th></tr>'
        f"</thead>\n<tbody>{''.join(rows)}</tbody></table></div>{rest}"
    )


def _features(features: tuple[int, ...]) -> str:
    return ", ".join(str(feature) for feature in features) or "none"


def _notes(report: Report) -> Iterator[str]:
    if report.arithmetic:
        yield f"<h3>Arithmetic</h3>\n<p>{escape(report.arithmetic)}</p>"
    lists = {
        "Explained in part": report.explanations,
        "Not exercised by these data": report.coverage,
        "Too small to show": report.unseen,
    }
    for title, texts in lists.items():
        if texts:
            items = "".join(f"<li>{escape(text)}</li>" for text in texts)
            yield f'<h3>{title}</h3>\n<ul class="warnings">{items}</ul>'
    yield _not_exercised(report)


def _not_exercised(report: Report) -> str:
    """The features and columns of which nothing is known."""
    texts = "".join(f"<p>{escape(text)}</p>" for text in report.not_exercised)
    return f"<h3>Features and columns</h3>\n{texts}" if texts else ""


def _legend() -> str:
    return (
        "<footer><p>Every stage is compared with a float64 reference that read the same upstream "
        "results. A picture shows how large the errors of all entries are, as shares of the bound "
        "that a correct result cannot exceed (the line); its heights are logarithmic. The dashed "
        "lines are what the tiers P (likely) and C (usual) grant, on average. The floor is the "
        "factor above which a stage that is off as a whole would surely be found at fault."
        "</p></footer>"
    )


def _verdict(verdict: str) -> str:
    sign = _SIGNS.get(verdict, "")
    return f'<span class="verdict {_class(verdict)}"><b>{sign}</b> {escape(verdict)}</span>'


def _class(verdict: str) -> str:
    return escape(verdict).replace(" ", "-")
