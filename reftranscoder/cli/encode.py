"""the active features of activations, as a SciPy CSR .npz

Reads the rows of X.npy a block at a time and writes a sparse matrix (rows, dict_size), which
scipy.sparse.load_npz reads.
"""

from __future__ import annotations

import argparse
from typing import Any

from ..activations import Activations
from ..errors import printable
from ..files.atomic import atomic_write
from ..files.npz import write_arrays
from ..transcoder import Transcoder, load
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
    """MODEL X -o OUT.npz."""
    add_model(parser)
    parser.add_argument("x", metavar="X", help="activations (rows, input_size), .npy")
    add_output(parser, "OUT", "where the features go, .npz")
    add_run(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Encode ``X`` and write the features."""
    check_output(options, ".npz")
    tc = load(options.model)
    x = open_input(options, tc)
    hidden = _encode(tc, x, options.backend)
    with atomic_write(options.output, force=options.force) as file:
        write_arrays(file, _as_scipy_writes(hidden))

    rows, features = hidden.shape
    report = {"output": options.output, "rows": rows, "features": features, "active": hidden.nnz}
    report["l0"] = hidden.nnz / rows
    text = (
        f"{printable(options.output)}: {plural(rows, 'row')} of {plural(features, 'feature')}, "
        f"{report['l0']:.1f} active in a row"
    )
    print_report(options, report, text, made=printable(options.output))


def _encode(tc: Transcoder, x: Activations, backend: str):
    from scipy import sparse

    blocks = []
    with Progress(len(x), "rows") as progress:
        for block in x.blocks(BLOCK_ROWS):
            blocks.append(tc.encode(block, backend=backend))
            progress.advance(len(block))
    return sparse.vstack(blocks, format="csr")


def _as_scipy_writes(hidden) -> dict[str, Any]:
    """What `scipy.sparse.save_npz` puts into its archive for a CSR array."""
    return {
        "indices": hidden.indices,
        "indptr": hidden.indptr,
        "format": b"csr",
        "shape": hidden.shape,
        "data": hidden.data,
        "_is_array": True,
    }
