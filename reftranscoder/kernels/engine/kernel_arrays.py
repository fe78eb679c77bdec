"""The form in which arrays enter a kernel: one Numba type for each dtype and number of axes.

A kernel is compiled anew for every array type, and Numba tells writable from read-only, contiguous
from strided, aligned from unaligned.  What comes through here has one type, so that nothing
compiles twice; and no kernel can write to an input.
"""

from __future__ import annotations

import numpy as np

from ...sparse import Sparse


def as_kernel_array(array, dtype):
    """Return ``array`` in that form, as ``dtype``: a read-only view, of a copy where needed."""
    plain = type(array) is np.ndarray and array.dtype == dtype
    if plain and array.flags.c_contiguous and array.flags.aligned:
        if not array.flags.writeable:
            return array
        view = array.view()
    else:
        view = np.require(np.asarray(array), dtype, ["C", "A"]).view()
    view.flags.writeable = False
    return view


def as_kernel_sparse(matrix, dtype):
    """Return the `Sparse` ``matrix`` with its arrays in that form, the values as ``dtype``."""
    return Sparse(
        as_kernel_array(matrix.indptr, np.int32),
        as_kernel_array(matrix.indices, np.int32),
        as_kernel_array(matrix.values, dtype),
        matrix.shape,
    )
