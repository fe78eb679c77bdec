"""the reconstruction of the target from activations, as a .npy

Reads the rows of X.npy a block at a time and writes an array (rows, output_size) in the dtype of
the transcoder.
"""

from __future__ import annotations

import argparse
from typing import BinaryIO

import numpy as np

from ..files.atomic import atomic_write
from .printing import plural
from .rows import add_arguments_for, for_each_block, opened, report_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL X -o OUT.npy."""
    add_arguments_for(parser, "where the reconstruction goes, .npy")


def run(options: argparse.Namespace) -> None:
    """Run the transcoder on ``X`` and write what it predicts."""
    tc, x = opened(options, ".npy")
    rows, numbers = shape = (len(x), tc.config.output_size)
    with atomic_write(options.output, force=options.force) as file:
        _write_header(file, shape, tc.params.dtype)
        for_each_block(x, lambda block: file.write(tc(block, backend=options.backend).tobytes()))
    report_output(
        options,
        {"shape": shape, "dtype": tc.config.dtype},
        f"{plural(rows, 'row')} of {plural(numbers, 'number')}, {tc.config.dtype}",
    )


def _write_header(file: BinaryIO, shape: tuple[int, int], dtype: np.dtype) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(file, header)
