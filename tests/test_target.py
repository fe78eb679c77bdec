"""The screen is chosen by what Numba compiles for."""

from __future__ import annotations

import pytest

from reftranscoder.kernels.engine import target

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
    tile = target.tile_of(architecture, features)
    assert tile.features == tile.vectors * tile.lanes
    assert tile.rows * tile.vectors + tile.vectors + 1 <= registers
    assert tile.features <= 64  # one bit each


def test_eight_bits_need_every_feature():
    every = {"+avx512f", "+avx512bw", "+avx512vnni"}
    assert target.eight_bit(every)
    for feature in every:
        assert not target.eight_bit(every - {feature} | {feature.replace("+", "-")})
