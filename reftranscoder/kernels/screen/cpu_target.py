"""What the processor that Numba compiles for can do; never what the one that we run on can.

LLVM aborts the process on an instruction that its target lacks, and the two differ where
``NUMBA_CPU_NAME`` or ``NUMBA_CPU_FEATURES`` is set, or where code is compiled for elsewhere.
"""

from __future__ import annotations

import ctypes
import sys
from typing import NamedTuple

import numpy as np
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


class Pairs(NamedTuple):
    """How products of 16-bit numbers are made: neighbours multiplied and added, exactly."""

    lanes: int  # sums of 32 bits
    instruction: str  # LLVM's name, or "" where LLVM finds one by itself


def pairs_of(features):
    """The `Pairs` of a target."""
    if {"+avx512f", "+avx512bw"} <= features:
        return Pairs(16, "llvm.x86.avx512.pmaddw.d.512")
    if "+avx2" in features:
        return Pairs(8, "llvm.x86.avx2.pmadd.wd")
    return Pairs(4, "")


def panels_of(architecture, features, tiles):
    """The dtypes of weights that a target can multiply tile by tile, the fastest first.

    - int8, by AMX: 16 rows by 16 features by 64 bytes an instruction.  ``tiles`` says whether the
      operating system lets this process use its registers.
    - uint8, by AVX-512 VNNI, whose sums do not saturate.
    - float32, by any.
    """
    found = [np.float32]
    if {"+avx512f", "+avx512bw", "+avx512vnni"} <= features:
        found.insert(0, np.uint8)
        if tiles and architecture == "x86_64" and {"+amx-tile", "+amx-int8"} <= features:
            found.insert(0, np.int8)
    return tuple(found)


def tiles_are_allowed():
    """Ask Linux for the registers of AMX, which it gives to the processes that ask."""
    if sys.platform != "linux":
        return False
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18
    try:
        return ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0
    except (OSError, AttributeError):
        return False


_ARCHITECTURE, _FEATURES = _features()

PAIRS = pairs_of(_FEATURES)
TILE = tile_of(_ARCHITECTURE, _FEATURES)
PANELS = panels_of(_ARCHITECTURE, _FEATURES, "+amx-tile" in _FEATURES and tiles_are_allowed())
