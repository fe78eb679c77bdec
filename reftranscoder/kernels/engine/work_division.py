"""How work is divided: into blocks of rows that fit in cache, and equally among the threads.

Neither is seen in a result: every row of an output is made by one thread, whole.
"""

from __future__ import annotations

import contextlib

import numba
import numpy as np

from .threads_and_forks import threads

#: More than one part a thread, so that a thread that was interrupted delays the others less.
_PARTS_PER_THREAD = 4

_BLOCK_BYTES = 1 << 25  # of float64 pre-activations: D = 131072 gives 32 rows
_INPUT_BYTES = 1 << 19  # of float64 inputs: half of a usual second-level cache
_FEWEST_ROWS, _MOST_ROWS = 16, 256


@contextlib.contextmanager
def few_threads(tasks):
    """Inside, kernels run on at most ``tasks`` threads: waking more costs more than they save."""
    tasks, available = max(tasks, 1), threads()
    if tasks < available:
        numba.set_num_threads(tasks)
    try:
        yield
    finally:
        if tasks < available:
            numba.set_num_threads(available)


def row_blocks(B, D, I=1):
    """Yield slices of at most 256 rows that cover ``B``, to make (B, D) arrays of (B, I) ones."""
    rows = min(_BLOCK_BYTES // (8 * D), _INPUT_BYTES // (8 * I), _MOST_ROWS)
    rows = max(rows - rows % 2, _FEWEST_ROWS)
    for start in range(0, B, rows):
        yield slice(start, min(start + rows, B))


def equal_parts(starts, row_work=1):
    """Divide rows among threads by their entries, where row r holds ``starts[r]:starts[r + 1]``.

    Returns the first row of each part and, at the end, the number of rows.  A row counts as
    ``row_work`` entries besides its own, so that a stretch of empty ones is divided too.
    """
    work = starts + row_work * np.arange(len(starts))
    parts = _PARTS_PER_THREAD * threads()
    return np.searchsorted(work, np.linspace(0, work[-1], parts + 1))
