"""What a ``.npy`` file says of itself, before a number in it is read.

The header is a Python literal, which NumPy's own reader evaluates and never runs.
"""

from __future__ import annotations

import math
import warnings
from typing import IO, NamedTuple

import numpy as np

#: What `numpy.save` makes of the bfloat16 of ml_dtypes: two bytes without a meaning.
BFLOAT16 = np.dtype("V2")


class Header(NamedTuple):
    """The dtype and shape of an array in a file, and how its entries are ordered."""

    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool  # column by column

    @property
    def nbytes(self) -> int:
        """The bytes of the entries, which follow the header and end the file."""
        return self.dtype.itemsize * math.prod(self.shape)


def read_header(file: IO[bytes]) -> Header:
    """Read the header with which ``file`` begins, and leave ``file`` at the first entry.

    What the header promises is the caller's to judge, by the bytes that follow and by what it has
    use for; objects above all, as to read them is to run what the file says.

    Raises:
        ValueError: there is no header, or it makes no sense.
    """
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(file)
        if version not in readers:
            raise ValueError(f"it is of version {version}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers as Python 2 wrote them
            shape, fortran, dtype = readers[version](file)
    except Exception as error:  # whatever NumPy stumbles over, the file is at fault
        raise ValueError(str(error) or type(error).__name__) from None
    return Header(dtype, shape, fortran)
