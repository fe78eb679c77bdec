"""What the machine can do: a bare matrix product of the encoder's shape, without top-k.

`pytorch` has that of PyTorch's BLAS beside it: whichever is faster is the limit.
"""

from __future__ import annotations

import numpy as np

from ..work import Work


class NumPyProduct:
    """NumPy's BLAS: ``sgemm``, for one row ``sgemv``, which is bound by reading W_enc."""

    name = "sgemm, NumPy"
    calls_blas = True

    def __init__(self, work: Work) -> None:
        self.W = work.tc.params.W_enc
        self.out = np.empty((len(work.x), len(self.W)), np.float32)

    def own(self, array: np.ndarray) -> np.ndarray:
        return array

    def encode(self, x):
        return np.matmul(x, self.W.T, out=self.out)

    def row(self, x):
        return self.W @ x[0]

    is_limit = True

    def variant(self, name, tc):
        return self.encode


ENTRANTS = VARIANTS = [NumPyProduct]
