"""The page that ``reftranscoder report`` writes: one file that needs nothing else.

``training.py``, ``measured.py`` and ``firings.py`` are its parts, in this order; ``charts.py`` has
their pictures, and ``style.py`` what they look like beyond what all pages share.
"""

from __future__ import annotations

from collections.abc import Iterator

from ... import __version__
from ...auditor.reporting.html import document, shown
from ...evaluating import Description
from ...training.record import Record
from .firings import features_section
from .measured import decoder_section, facts_of_model, features_in_all, reconstruction_section
from .style import CSS
from .training import facts_of_run, training_section

__all__ = ["page"]


def page(model: str | None, found: Description | None, run: Record | None) -> str:
    """One self-contained page: what there is to see of ``model``, and of the run that made it."""
    name = model or (run.path if run else "")
    facts = facts_of_model(found) if found else []
    facts += facts_of_run(run) if run else []
    listed = "".join(f"<div><dt>{shown(n)}</dt><dd>{shown(v)}</dd></div>" for n, v in facts)
    parts = [f'<header><h1>{shown(name)}</h1>\n<dl class="facts">{listed}</dl></header>']
    if run is not None:
        parts.append(training_section(run))
    if found is not None:
        parts += [reconstruction_section(found), features_in_all(found), decoder_section(found)]
        parts.append(features_section(found))
    missing = "".join(f"<li>{shown(text)}</li>" for text in not_shown(found, run))
    if missing:
        parts.append(f'<section><h2>Not shown</h2>\n<ul class="warnings">{missing}</ul></section>')
    return document(f"Report: {name}", "\n".join([*filter(None, parts), _footer(found)]), CSS)


def not_shown(found: Description | None, run: Record | None) -> Iterator[str]:
    """What a report leaves out, and what would have to be given for it."""
    if run is None:
        yield (
            "How it was trained, how long that took and from which data: give the log or the "
            "checkpoint of the run, --log FILE."
        )
    elif run.kind == "checkpoint":
        yield "How long training took, and on which files: a checkpoint does not say, a log does."
    if found is None:
        yield (
            "The transcoder: a run is not one. Give the model that it wrote, and the run by "
            "--log FILE."
        )
        return
    if found.metrics is None:
        yield "What its features do, and how much it explains: give activations, X and Y."
        return
    if found.evaluated is None:
        yield "How much it explains, FVU by column too: give the rows to be predicted, Y."
    if found.features and not found.has_text:
        yield "The text on which features fire: give the tokens of the rows, --tokens FILE."
    elif found.features and found.config.activation == "batchtopk":
        yield (
            "Activations of the tokens around a firing: by batchtopk they depend on the other "
            "rows of a batch."
        )
    if found.decoder.cosines is None:
        yield "Nearest neighbours: there is one feature."


def _footer(found: Description | None) -> str:
    took = f" Measured in {found.seconds:.1f} s." if found else ""
    return (
        f"<footer><p>By reftranscoder {shown(__version__)}.{took} Sums are in float64. A feature "
        "is active, or fires, where its value is above zero; it is dead if it is in no row, dense "
        "if it is in more than a tenth of them. FVU: the fraction of variance unexplained, 1 for "
        "no better than the mean and 0 for perfect.</p></footer>"
    )
