"""the active features of activations, as a SciPy CSR .npz

Reads the rows of X.npy a block at a time and writes a sparse matrix (rows, dict_size), which
scipy.sparse.load_npz reads.
"""

from __future__ import annotations

import argparse
from typing import Any

from ..files.atomic import atomic_write
from ..files.npz import write_arrays
from .printing import plural
from .rows import add_arguments_for, for_each_block, opened, report_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL X -o OUT.npz."""
    add_arguments_for(parser, "where the features go, .npz")


def run(options: argparse.Namespace) -> None:
    """Encode ``X`` and write the features."""
    from scipy import sparse

    tc, x = opened(options, ".npz")
    blocks: list[sparse.csr_array] = []
    for_each_block(x, lambda block: blocks.append(tc.encode(block, backend=options.backend)))
    hidden = sparse.vstack(blocks, format="csr")
    with atomic_write(options.output, force=options.force) as file:
        write_arrays(file, _as_scipy_writes(hidden))

    rows, features = hidden.shape
    l0 = hidden.nnz / rows
    report_output(
        options,
        {"rows": rows, "features": features, "active": hidden.nnz, "l0": l0},
        f"{plural(rows, 'row')} of {plural(features, 'feature')}, {l0:.1f} active in a row",
    )


def _as_scipy_writes(hidden: Any) -> dict[str, Any]:
    """What `scipy.sparse.save_npz` puts into its archive for a CSR array."""
    return {
        "indices": hidden.indices,
        "indptr": hidden.indptr,
        "format": b"csr",
        "shape": hidden.shape,
        "data": hidden.data,
        "_is_array": True,
    }
