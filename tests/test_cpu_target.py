"""The screen is chosen by what Numba compiles for."""

from __future__ import annotations

import numpy as np
import pytest

from reftranscoder.kernels.screen import cpu_target

pytestmark = pytest.mark.kernels


@pytest.mark.parametrize(
    ("architecture", "features", "registers"),
    [
        ("x86_64", {"+avx2", "+avx512f"}, 32),
        ("x86_64", {"+avx2", "-avx512f"}, 16),
        ("x86_64", {""}, 16),
        ("aarch64", {"+neon"}, 32),
    ],
)
def test_a_tile_fits_the_registers(architecture, features, registers):
    tile = cpu_target.tile_of(architecture, features)
    assert tile.features == tile.vectors * tile.lanes
    assert tile.rows * tile.vectors + tile.vectors + 1 <= registers
    assert tile.features <= 64  # one bit each


VNNI = {"+avx2", "+avx512f", "+avx512bw", "+avx512vnni"}
AMX = VNNI | {"+amx-tile", "+amx-int8"}


@pytest.mark.parametrize(
    ("lanes", "features", "tiles", "panels"),
    [
        (16, AMX, True, ("int8", "uint8", "int16", "float32")),
        (16, AMX, False, ("uint8", "int16", "float32")),
        (16, VNNI, True, ("uint8", "int16", "float32")),
        (16, {"+avx512f", "+avx512bw"}, False, ("int16", "float32")),
        (16, {"+avx512f"}, False, ("float32",)),
        (8, {"+avx2", "+avxvnni"}, False, ("uint8", "int16", "float32")),
        (8, {"+avx2", "-avxvnni"}, False, ("int16", "float32")),
        (8, {"-avx2"}, False, ("float32",)),
        (8, {"+dotprod"}, False, ("float32",)),
        (4, {"+neon", "+dotprod"}, False, ("int8", "float32")),
        (4, {"+neon"}, False, ("float32",)),
    ],
)
def test_what_a_target_can_multiply(lanes, features, tiles, panels):
    kinds = cpu_target.kinds_of(lanes, features, tiles)
    assert tuple(np.dtype(dtype).name for dtype in kinds) == panels
    assert all(kind.weights == dtype for dtype, kind in kinds.items())
    assert all(kind.lanes in (0, lanes) for kind in kinds.values())


def test_each_kind_of_panel_needs_every_feature():
    for kind in cpu_target.TABLE:
        assert cpu_target.kinds_of(kind.lanes, kind.needs, True)[kind.weights] == kind
        for feature in kind.needs:
            without = kind.needs - {feature} | {feature.replace("+", "-")}
            assert kind not in cpu_target.kinds_of(kind.lanes, without, True).values()


def test_no_fewer_than_eight_whole_numbers_are_taken_at_once():
    for kind in cpu_target.TABLE:
        assert kind.steps % 2 == 0  # as the loop takes them
        assert kind.weights == np.float32 or kind.steps * kind.numbers % 8 == 0


def test_pairs_are_multiplied_by_an_instruction_that_is_there():
    assert cpu_target.pairs_of({"+avx2", "+avx512f", "+avx512bw"}).instruction.endswith(".512")
    assert "avx2" in cpu_target.pairs_of({"+avx2", "+avx512f", "-avx512bw"}).instruction
    assert cpu_target.pairs_of({"+neon", "-avx2"}).instruction == ""


@pytest.mark.parametrize(("answer", "allowed"), [(0, True), (-1, False)])
def test_tiles_are_asked_for(monkeypatch, answer, allowed):
    asked = []

    class Library:
        def syscall(self, *arguments):
            asked.append(arguments)
            return answer

    monkeypatch.setattr(cpu_target.sys, "platform", "linux")
    monkeypatch.setattr(cpu_target.ctypes, "CDLL", lambda name: Library())
    assert cpu_target.tiles_are_allowed() is allowed
    assert asked == [(158, 0x1023, 18)]


def test_tiles_are_not_asked_for_where_there_is_nobody_to_ask(monkeypatch):
    def without(name):
        raise OSError

    monkeypatch.setattr(cpu_target.ctypes, "CDLL", without)
    monkeypatch.setattr(cpu_target.sys, "platform", "linux")
    assert not cpu_target.tiles_are_allowed()
    monkeypatch.setattr(cpu_target.sys, "platform", "win32")
    monkeypatch.setattr(cpu_target.ctypes, "CDLL", None)
    assert not cpu_target.tiles_are_allowed()
