"""What the processor that Numba compiles for can do; never what the one that we run on can.

LLVM aborts the process on an instruction that its target lacks, and the two differ where
``NUMBA_CPU_NAME`` or ``NUMBA_CPU_FEATURES`` is set, or where code is compiled for elsewhere.
"""

from __future__ import annotations

from typing import NamedTuple

from numba.core.registry import cpu_target


class Tile(NamedTuple):
    """How many rows by how many features are multiplied at once, with all their sums in registers.

    Features come in ``vectors`` registers of ``lanes`` 4-byte numbers: ``rows * vectors`` sums,
    ``vectors`` registers of weights and one for the input must fit the register file.
    """

    rows: int
    features: int
    lanes: int

    @property
    def vectors(self):
        return self.features // self.lanes


def _features():
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    return triple.partition("-")[0], frozenset(str(features).split(","))


def tile_of(architecture, features):
    """The `Tile` for a target: ``features`` as LLVM writes them, each with a plus or a minus."""
    if "+avx512f" in features:
        return Tile(8, 48, 16)  # 32 registers of 16 lanes
    if architecture in ("aarch64", "arm64"):
        return Tile(8, 12, 4)  # 32 of 4
    return Tile(6, 16, 8)  # 16 of 8: AVX2.  Where they are narrower, LLVM takes two for one.


def eight_bit(features):
    """Whether eight-bit products can be summed without saturation: AVX-512 VNNI."""
    return {"+avx512f", "+avx512bw", "+avx512vnni"} <= features


_ARCHITECTURE, _FEATURES = _features()

EIGHT_BIT = eight_bit(_FEATURES)
TILE = tile_of(_ARCHITECTURE, _FEATURES)
