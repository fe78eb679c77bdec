"""a page on a transcoder: how it was trained, what its features do, and on which text

MODEL alone is described by its decoder; X and Y add what it does on these data, a batch at a time;
--log the run that made it; --tokens the text on which features fire.  In place of MODEL, RUN, the
log or the checkpoint of a run, which may still be under way, shows how that goes.  --html writes
one page that needs nothing else, --json the numbers.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from ..errors import OptionError, printable
from ..evaluating import FEATURES, Description, describe, open_rows
from ..evaluating.tokens import read_tokens
from ..training.record import Record, is_record, read_record
from ..transcoder import Transcoder
from .arguments import add_batch_rows, add_choice, add_json, add_run, add_sequences, open_model
from .html import add_html, check_html, write_html
from .printing import plural, print_report
from .progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN|MODEL [X [Y]]."""
    parser.add_argument(
        "model",
        metavar="RUN|MODEL",
        help="a transcoder, its file or folder; or the log or the checkpoint of a run",
    )
    parser.add_argument("x", metavar="X", nargs="?", help="activations to read (rows, input_size)")
    parser.add_argument("y", metavar="Y", nargs="?", help="those to predict; or X holds both")
    add_choice(parser, "MODEL")
    parser.add_argument("--log", metavar="FILE", help="the log or the checkpoint of MODEL's run")
    add_run(parser)
    add_sequences(parser)
    add_batch_rows(parser)
    text = parser.add_argument_group("features and text")
    text.add_argument(
        "--tokens",
        metavar="FILE",
        help="the token of each row of X: .npy or .json of strings, (sequences, length) or one for "
        "each row; or of numbers, with --vocabulary",
    )
    text.add_argument(
        "--vocabulary",
        metavar="FILE",
        help="what the numbers stand for: vocab.json, tokenizer.json",
    )
    text.add_argument(
        "--feature",
        metavar="N",
        type=int,
        action="append",
        help="show where feature N fires; as often as you like (default: "
        f"{FEATURES} of them, from often to seldom)",
    )
    add_html(parser, "write the page")
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Measure, write the page, and say what is most worth saying."""
    check_html(options)
    record, found = None, None
    if is_record(options.model):
        record = _only_a_run(options)
    else:
        tc = open_model(options)
        record = None if options.log is None else read_record(options.log)
        found = _described(options, tc)
    if options.html is not None:
        write_html(options.html, _page(options, found, record))
    print_report(options, _report(options, found, record), _text(options, found, record),
                 made=options.html)  # fmt: skip


def _only_a_run(options: argparse.Namespace) -> Record:
    """The run, where nothing else is asked for."""
    given = (options.x, options.log, options.tokens, options.feature)
    if any(value is not None for value in given):
        want = "a transcoder where X, --log, --tokens or --feature is given"
        hint = "Give the model that the run wrote, and the run by --log."
        raise OptionError("MODEL", want, options.model, hint)
    return read_record(options.model)


def _described(options: argparse.Namespace, tc: Transcoder) -> Description:
    if options.x is None:
        for name in ("tokens", "feature", "rows"):
            if getattr(options, name) is not None:
                raise OptionError("X", f"given where --{name} is", None)
        return describe(tc)
    if options.drop_position is None and options.sequence_length and options.tokens is None:
        raise OptionError("drop_position", "given too, or --tokens", None)
    x, y = open_rows(
        tc,
        options.x,
        options.y,
        rows=options.rows,
        sequence_length=None if options.drop_position is None else options.sequence_length,
        drop_position=options.drop_position,
    )
    text = None
    if options.tokens is not None:
        text = read_tokens(options.tokens, options.vocabulary, options.sequence_length)
    with Progress(2 * len(x), "rows") as progress:
        return describe(
            tc,
            x,
            y,
            tokens=text,
            features=FEATURES if options.feature is None else list(dict.fromkeys(options.feature)),
            batch_rows=options.batch_rows,
            backend=options.backend,
            advance=progress.advance,
        )


def _page(options: argparse.Namespace, found: Description | None, run: Record | None) -> str:
    from .report_page import page

    return page(None if found is None else options.model, found, run)


def _report(
    options: argparse.Namespace, found: Description | None, run: Record | None
) -> dict[str, Any]:
    record = None
    if run is not None:
        record = run._asdict() | {"entries": [dataclasses.asdict(entry) for entry in run.entries]}
    return {
        "model": None if found is None else options.model,
        "html": options.html,
        "run": record,
        "description": None if found is None else found.to_dict(),
    }


def _text(options: argparse.Namespace, found: Description | None, run: Record | None) -> str:
    from .report_page import not_shown
    from .report_page.measured import facts_of_model
    from .report_page.training import facts_of_run

    facts = facts_of_model(found) if found else []
    facts += facts_of_run(run) if run else []
    if run is not None and run.entries:
        facts.append((f"FVU at step {run.entries[-1].step:,}", f"{run.entries[-1].fvu:.4f}"))
    lines = [printable(options.model), *(f"{name}: {printable(value)}" for name, value in facts)]
    if found is not None and found.features:
        chosen = ", ".join(str(feature.firings.feature) for feature in found.features)
        lines.append(f"{plural(len(found.features), 'feature')} by where they fire: {chosen}")
    if options.html is None:
        lines.append("the page: --html FILE; all numbers: --json")
    else:
        lines.append(f"the page is {printable(options.html)}")
    return "\n".join([*lines, *(f"not shown: {text}" for text in not_shown(found, run))])
