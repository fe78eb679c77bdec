"""the reconstruction of the target from activations, as a .npy

Reads the rows of X.npy a block at a time and writes an array (rows, output_size) in the dtype of
the transcoder.
"""

from __future__ import annotations

import argparse
from typing import BinaryIO

import numpy as np

from ..errors import printable
from ..files.atomic import atomic_write
from ..transcoder import load
from .arguments import (
    BLOCK_ROWS,
    add_json,
    add_model,
    add_output,
    add_run,
    check_output,
    open_input,
)
from .progress import Progress
from .report import plural, print_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL X -o OUT.npy."""
    add_model(parser)
    parser.add_argument("x", metavar="X", help="activations (rows, input_size), .npy")
    add_output(parser, "OUT", "where the reconstruction goes, .npy")
    add_run(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the transcoder on ``X`` and write what it predicts."""
    check_output(options, ".npy")
    tc = load(options.model)
    x = open_input(options, tc)
    shape = (len(x), tc.config.output_size)
    with atomic_write(options.output, force=options.force) as file:
        _write_header(file, shape, tc.params.dtype)
        with Progress(len(x), "rows") as progress:
            for block in x.blocks(BLOCK_ROWS):
                file.write(tc(block, backend=options.backend).tobytes())
                progress.advance(len(block))

    report = {"output": options.output, "shape": shape, "dtype": tc.config.dtype}
    text = (
        f"{printable(options.output)}: {plural(shape[0], 'row')} of {plural(shape[1], 'number')}, "
        f"{tc.config.dtype}"
    )
    print_report(options, report, text, made=printable(options.output))


def _write_header(file: BinaryIO, shape: tuple[int, int], dtype: np.dtype) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(file, header)
