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


class Kind(NamedTuple):
    """How weights and inputs of a screen are stored, and what multiplies them.

    Four bytes of a row are multiplied at a time, a step.
    """

    weights: type  # their dtype, by which a kind is known
    inputs: type
    product: str  # the instruction, or LLVM's name of it
    lanes: int  # of the `Tile` that it is for, or 0: any
    needs: frozenset  # features of the target
    steps: int  # taken at once: of whole numbers no fewer than eight

    @property
    def numbers(self):
        """Of a row in a step."""
        return 4 // np.dtype(self.weights).itemsize


_VNNI = frozenset({"+avx512f", "+avx512bw", "+avx512vnni"})
_AMX = _VNNI | {"+amx-tile", "+amx-int8"}

#: The fastest first.  int8 holds the weight, uint8 the weight + 128; no sum saturates.  AMX takes
#: 16 rows by 16 features by 64 bytes an instruction; the others a row by the features of a vector.
TABLE = (
    Kind(np.int8, np.int8, "tdpbssd", 16, _AMX, 16),
    Kind(np.uint8, np.int8, "llvm.x86.avx512.vpdpbusd.512", 16, _VNNI, 2),
    Kind(np.uint8, np.int8, "llvm.x86.avx512.vpdpbusd.256", 8, frozenset({"+avxvnni"}), 2),
    Kind(np.int8, np.int8, "llvm.aarch64.neon.sdot.v4i32.v16i8", 4, frozenset({"+dotprod"}), 2),
    Kind(np.int16, np.int16, "llvm.x86.avx512.pmaddw.d.512", 16, frozenset({"+avx512bw"}), 4),
    Kind(np.int16, np.int16, "llvm.x86.avx2.pmadd.wd", 8, frozenset({"+avx2"}), 4),
    Kind(np.float32, np.float32, "llvm.fma", 0, frozenset(), 2),
)


def kinds_of(lanes, features, tiles):
    """By the dtype of weights, the `Kind` that a target with ``lanes`` has, the fastest first.

    ``tiles`` says whether the operating system lets this process use the registers of AMX.
    """
    found = {}
    for kind in TABLE:
        there = kind.lanes in (0, lanes) and kind.needs <= features
        if there and (tiles or kind.product != "tdpbssd"):
            found.setdefault(kind.weights, kind)
    return found


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
_TILES = _ARCHITECTURE == "x86_64" and "+amx-tile" in _FEATURES and tiles_are_allowed()
KINDS = kinds_of(TILE.lanes, _FEATURES, _TILES)
PANELS = tuple(KINDS)
