"""Arguments that several commands share, and what they say."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..activations import Activations
from ..backends import BACKENDS
from ..errors import FileError, ShapeError
from ..evaluating import BATCH_ROWS
from ..files.atomic import check_replaceable
from ..files.leftovers import remove_leftovers
from ..formats.published import FORMAT_NAMES
from ..loading import load
from ..params import ACTIVATIONS
from ..transcoder import Transcoder

BLOCK_ROWS = 4096


def add_model(parser: argparse.ArgumentParser) -> None:
    """The positional ``MODEL``, and the options that say which one it is."""
    parser.add_argument("model", metavar="MODEL", help="a transcoder: its file, or its folder")
    add_choice(parser, "MODEL")


def add_choice(parser: argparse.ArgumentParser, of: str) -> None:
    """Options of `load`: which transcoder, where the argument ``of`` is a folder of many, and what
    its files leave open."""
    group = parser.add_argument_group(f"where {of} is a folder of many, or leaves something open")
    group.add_argument("--layer", type=int, metavar="N", help="which transcoder: that of layer N")
    group.add_argument("--hook", metavar="NAME", help="that of this hook; its last parts will do")
    group.add_argument("--read-as", choices=FORMAT_NAMES, metavar="FORMAT", help="of which format")
    group.add_argument("--top-k", type=int, metavar="K", help="how many features are kept")
    group.add_argument("--activation", choices=ACTIVATIONS, metavar="NAME", help="by which of ours")
    group.add_argument(
        "--apply-b-dec-to-input",
        choices=("yes", "no"),
        help="whether b_dec is subtracted from x",
    )
    group.add_argument(
        "--w-dec-rows",
        choices=("feature", "output"),
        help="what a row of a square W_dec is of",
    )


def chosen(options: argparse.Namespace) -> dict[str, Any]:
    """What `add_choice` and `add_no_pack` were told, as keywords of `load`."""
    applies = options.apply_b_dec_to_input
    told = {
        "layer": options.layer,
        "hook": options.hook,
        "format": options.read_as,
        "apply_b_dec_to_input": None if applies is None else applies == "yes",
        "top_k": options.top_k,
        "activation": options.activation,
        "W_dec_rows": options.w_dec_rows,
        "pack": False if getattr(options, "no_pack", False) else None,
    }
    return {name: value for name, value in told.items() if value is not None}


def open_model(options: argparse.Namespace) -> Transcoder:
    """The transcoder ``MODEL``.

    Raises:
        FileError: as `load`; or it is a cross-layer one, which a command of one X does not take.
    """
    tc = load(options.model, **chosen(options))
    if not isinstance(tc, Transcoder):
        problem = "is a cross-layer transcoder, and this command reads activations of one layer"
        raise FileError(options.model, problem, "Use rt.load, and arrays (L, B, I).")
    return tc


def add_output(parser: argparse.ArgumentParser, metavar: str, what: str) -> None:
    """``-o`` and ``--force``."""
    parser.add_argument("-o", "--output", metavar=metavar, required=True, help=what)
    parser.add_argument("--force", action="store_true", help="replace a file that exists")


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def add_no_pack(parser: argparse.ArgumentParser) -> None:
    """``--no-pack``."""
    parser.add_argument(
        "--no-pack",
        action="store_true",
        help="leave the weights of MODEL in its file: for what is too large for memory",
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """``--rows`` and ``--backend``."""
    parser.add_argument("--rows", metavar="A:B", help="rows A to B - 1 of X; -N: for the last N")
    parser.add_argument(
        "--backend",
        choices=tuple(BACKENDS),
        default="kernels",
        help="what computes: the kernels (default), or the NumPy reference in float64",
    )


def add_sequences(parser: Any) -> None:
    """``--sequence-length`` and ``--drop-position``."""
    parser.add_argument(
        "--sequence-length", metavar="N", type=int, help="rows come in sequences of N tokens"
    )
    parser.add_argument(
        "--drop-position", metavar="P", type=int, help="leave out row P of each sequence, as 0"
    )


def add_batch_rows(parser: argparse.ArgumentParser) -> None:
    """``--batch-rows``."""
    parser.add_argument(
        "--batch-rows",
        metavar="N",
        type=int,
        default=BATCH_ROWS,
        help=f"rows in a batch, for definitions by batches (default: {BATCH_ROWS})",
    )


def check_output(options: argparse.Namespace, suffix: str | None = None) -> None:
    """Refuse an output that cannot be written, before the work is done.

    Raises:
        FileError: it has another suffix, exists and there is no ``--force``, or cannot be written.
    """
    path = Path(options.output)
    if suffix and path.suffix.lower() != suffix:
        raise FileError(path, f"must end in {suffix}, which is what will be in it")
    check_replaceable(path, force=options.force)
    remove_leftovers(path)


def open_input(options: argparse.Namespace, tc: Transcoder, path: str | None = None) -> Activations:
    """The rows that ``tc`` is to read: ``--rows`` of the file ``X``.

    Raises:
        ShapeError: they are not as wide as the input of ``tc``.
        Error: as `reftranscoder.activations.Activations`.
    """
    return check_width(
        Activations(path or options.x, rows=options.rows, dtype=tc.config.dtype),
        "I",
        tc.config.input_size,
    )


def check_width(rows: Activations, letter: str, width: int) -> Activations:
    """``rows`` (B, width).

    Raises:
        ShapeError: they have another width; a transposed file is named as such.
    """
    if rows.shape[1] != width:
        hint = "Is it of another layer or model?"
        if rows.shape[0] == width:
            hint = f"It looks transposed: np.save(path, np.load({rows.name!r}).T.copy())."
        raise ShapeError(rows.name, f"(any, {width})", rows.shape, hint, f"(B, {letter})")
    return rows
