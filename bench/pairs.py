"""Every row of `TWINS` as a contest: the kernel against its reference."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from reftranscoder.bounds import Worst
from reftranscoder.testing import Probe
from reftranscoder.twins import Twin, to_kernel

from .contest import Contestant, Result, hold

#: Enough rows to see a fault; the bounds need several (B, D) arrays of float64.
VERIFIED_ROWS = 32

#: The reference makes dense arrays, and seconds of work of what takes a kernel milliseconds.
MOST = {"B": 512, "D": 4096}


def smaller(sizes: dict[str, int]) -> dict[str, int]:
    """``sizes``, none of them larger than a pair is timed at."""
    sizes = {letter: min(size, MOST.get(letter, size)) for letter, size in sizes.items()}
    return sizes | {"K": min(sizes["K"], sizes["D"])}


def hold_one(
    twin: Twin, sizes: dict[str, int], options: argparse.Namespace, wrong: list[str]
) -> Iterator[Result]:
    """Yield the result of a pair that agrees; append a line to ``wrong`` for each disagreement."""
    entries = verify(twin, sizes, options.dtype, options.seed)
    problems = [
        f"{twin.name}: {name}{list(entry.index)} is {entry.got} instead of {entry.want}, "
        f"{entry.ratio:.3g} times its bound away"
        for name, entry in entries.items()
        if not entry.holds
    ]
    wrong += problems
    if not problems:
        both = contestants(twin, sizes, options.dtype, options.seed)
        yield hold(twin.name, both, options.rounds, wrong)


def verify(twin: Twin, sizes: dict[str, int], dtype: str, seed: int) -> dict[str, Worst]:
    """The entry of each output that uses most of its bound, on a few rows of what will be timed."""
    few = sizes | {"B": min(sizes["B"], VERIFIED_ROWS)}
    return twin.compare(Probe(seed, dtype=dtype, **few).arguments(twin))


def contestants(twin: Twin, sizes: dict[str, int], dtype: str, seed: int) -> list[Contestant]:
    """The kernel, and the reference in the kernel's dtype, each with its own arguments."""
    arguments = Probe(seed, dtype=dtype, **sizes).arguments(twin)
    given = {name: to_kernel(name, value) for name, value in arguments.items()}
    reference, kernel = twin.function("reference"), twin.function("kernel")
    return [
        Contestant("kernel", lambda: kernel(**given)),
        Contestant("reference", lambda: reference(**arguments), calls_blas=True),
    ]
