"""The part of the page that shows how training went."""

from __future__ import annotations

from ...auditor.reporting.html import shown
from ...training.history import Entry
from ...training.record import Record
from .charts import axis, curve, short

#: What is drawn: a field of `Entry`, the title, the words beside the axis.
_CURVES = (
    ("fvu", "FVU while training", "FVU"),
    ("loss", "Loss", "mean since the entry before"),
    ("l0", "L0 while training", "features active in a row"),
    ("dead", "Dead features", "in none of the rows measured"),
    ("lr", "Learning rate", "of that step"),
    ("rows_per_second", "Speed", "rows/s"),
)
_MOST_LINES = 60  # of the table
_LEFT_OUT = ("data", "validation")  # of the options: they are said above


def facts_of_run(run: Record) -> list[tuple[str, str]]:
    """What is worth saying first."""
    facts = [("steps", _steps(run))]
    if run.total_seconds is not None:
        facts.append(("training took", duration(run.total_seconds)))
    return facts


def training_section(run: Record) -> str:
    """Curves, how long it took, from which data, and by which options."""
    parts = ["<section><h2>Training</h2>", f"<p>{shown(_sentence(run))}</p>"]
    if run.entries:
        steps = [float(entry.step) for entry in run.entries]
        across = axis(0, max(steps), "step", start=True)
        charts = []
        for name, title, label in _CURVES:
            values = [float(getattr(entry, name)) for entry in run.entries]
            finite = [value for value in values if abs(value) < float("inf")]
            up = axis(0, max(finite, default=1.0) or 1.0, label, start=True)
            charts.append(curve(title, steps, values, across, up))
        parts.append(f'<div class="charts">{"".join(charts)}</div>')
        parts.append(_entries(run.entries))
    else:
        parts.append("<p>Nothing was measured yet.</p>")
    parts += [_data(run), _options(run), "</section>"]
    return "\n".join(filter(None, parts))


def duration(seconds: float) -> str:
    """``12.3 s``, ``5 min 10 s`` or ``3 h 20 min``."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {round(seconds) % 60} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _steps(run: Record) -> str:
    asked = run.steps_asked_for
    return f"{run.steps:,}" if asked in (None, run.steps) else f"{run.steps:,} of {asked:,}"


def _sentence(run: Record) -> str:
    rows = run.identity.get("batch_size")
    said = f"{_steps(run)} steps" + (f" of {rows:,} rows" if isinstance(rows, int) else "")
    if run.total_seconds is not None:
        said += f" in {duration(run.total_seconds)}"
    if run.began:
        said += f", begun {run.began.replace('T', ' ').replace('+00:00', ' UTC')}"
    if run.kind == "log":
        ends = {"done": "", "interrupted": ", and interrupted", None: ", and it has not ended"}
        said += ends[run.ended]
    where = run.identity.get("validation")
    return f"{said}. Measured on {where}." if isinstance(where, str) else f"{said}."


def _entries(entries: tuple[Entry, ...]) -> str:
    every = -(-len(entries) // _MOST_LINES)
    listed = [entry for n, entry in enumerate(entries) if (len(entries) - 1 - n) % every == 0]
    rows = []
    for e in listed:
        cells = [f"{e.step:,}", short(e.fvu), short(e.loss), short(e.l0), f"{e.dead:,}"]
        cells += [short(e.lr), short(e.rows_per_second)]
        rows.append("".join(f'<td class="number">{cell}</td>' for cell in cells))
    names = ("step", "FVU", "loss", "L0", "dead", "learning rate", "rows/s")
    head = "".join(f'<th scope="col" class="number">{name}</th>' for name in names)
    body = "".join(f"<tr>{row}</tr>\n" for row in rows)
    some = f", every {every}th" if every > 1 else ""
    return (
        f"<details><summary>The numbers{some}</summary>\n"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>'
        "</div></details>"
    )


def _data(run: Record) -> str:
    rows = []
    for name, of in run.data.items():
        if isinstance(of, dict):
            shape = " x ".join(f"{size:,}" for size in of.get("shape", ()) if isinstance(size, int))
            rows.append(
                f'<tr><th scope="row">{shown(name)}</th><td class="number">{shape}</td>'
                f"<td>{shown(str(of.get('name')))}</td></tr>\n"
            )
    if not rows:
        return ""
    return f'<h3>Data</h3>\n<div class="wide"><table><tbody>{"".join(rows)}</tbody></table></div>'


def _options(run: Record) -> str:
    rows = "".join(
        f'<tr><th scope="row">{shown(name)}</th><td>{shown(str(value))}</td></tr>\n'
        for name, value in run.identity.items()
        if name not in _LEFT_OUT
    )
    return (
        f"<details><summary>The options</summary>\n"
        f'<div class="wide"><table><tbody>{rows}</tbody></table></div></details>'
    )
