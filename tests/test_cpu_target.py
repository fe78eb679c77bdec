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


def test_each_kind_of_panel_needs_every_feature():
    vectors = {"+avx512f", "+avx512bw", "+avx512vnni"}
    tiles = vectors | {"+amx-tile", "+amx-int8"}
    assert cpu_target.panels_of("x86_64", vectors, True) == (np.uint8, np.float32)
    assert cpu_target.panels_of("x86_64", tiles, True) == (np.int8, np.uint8, np.float32)
    assert cpu_target.panels_of("x86_64", tiles, False) == (np.uint8, np.float32)
    assert cpu_target.panels_of("aarch64", {"+neon"}, False) == (np.float32,)
    for feature in tiles:
        without = tiles - {feature} | {feature.replace("+", "-")}
        fastest = cpu_target.panels_of("x86_64", without, True)[0]
        assert fastest == (np.float32 if feature in vectors else np.uint8)


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
