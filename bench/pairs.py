"""Every row of `TWINS` as a contest: the kernel against its reference."""

from __future__ import annotations

from reftranscoder.bounds import Worst
from reftranscoder.testing import Probe
from reftranscoder.twins import Twin, to_kernel

from .contest import Contestant

#: Enough rows to see a fault; the bounds need several (B, D) arrays of float64.
VERIFIED_ROWS = 32


def verify(twin: Twin, sizes: dict[str, int], dtype: str, seed: int) -> dict[str, Worst]:
    """The entry of each output that uses most of its bound, on a few rows of what will be timed."""
    few = sizes | {"B": min(sizes["B"], VERIFIED_ROWS)}
    return twin.compare(Probe(seed, dtype=dtype, **few).arguments(twin))


def contestants(twin: Twin, sizes: dict[str, int], dtype: str, seed: int) -> list[Contestant]:
    """The reference, in the dtype of the kernel, and the kernel, each with its own arguments."""
    arguments = Probe(seed, dtype=dtype, **sizes).arguments(twin)
    given = {name: to_kernel(name, value) for name, value in arguments.items()}
    reference, kernel = twin.function("reference"), twin.function("kernel")
    return [
        Contestant("reference", lambda: reference(**arguments), calls_blas=True),
        Contestant("kernel", lambda: kernel(**given)),
    ]
