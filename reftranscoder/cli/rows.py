"""What the commands share that run a transcoder over the rows of a file and write what they get."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..activations import Activations
from ..errors import printable
from ..transcoder import Transcoder
from .arguments import (
    BLOCK_ROWS,
    add_json,
    add_model,
    add_no_pack,
    add_output,
    add_run,
    check_output,
    open_input,
    open_model,
)
from .printing import print_report
from .progress import Progress


def add_arguments_for(parser: argparse.ArgumentParser, what: str) -> None:
    """MODEL X -o OUT, and what stands in OUT."""
    add_model(parser)
    parser.add_argument("x", metavar="X", help="activations (rows, input_size), .npy")
    add_output(parser, "OUT", what)
    add_run(parser)
    add_no_pack(parser)
    add_json(parser)


def opened(options: argparse.Namespace, suffix: str) -> tuple[Transcoder, Activations]:
    """The transcoder and its rows, once it is clear that OUT can be written.

    Raises:
        Error: as `check_output`, `open_model` and `open_input`.
    """
    check_output(options, suffix)
    tc = open_model(options)
    return tc, open_input(options, tc)


def for_each_block(x: Activations, do: Callable[[np.ndarray], object]) -> None:
    """Call ``do`` with the rows of ``x``, a block at a time, behind a bar."""
    with Progress(len(x), "rows") as progress:
        for block in x.blocks(BLOCK_ROWS):
            do(block)
            progress.advance(len(block))


def report_output(options: argparse.Namespace, report: Mapping[str, Any], text: str) -> None:
    """Say what stands in OUT."""
    name = printable(options.output)
    print_report(options, {"output": options.output, **report}, f"{name}: {text}", made=name)
