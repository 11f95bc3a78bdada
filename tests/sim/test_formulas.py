"""Products in tiles: how far a main loop steps, and what its operands cost the L2."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hwspecs import device
from hwspecs.rates import rates
from sim import formulas, gemm_reference, tiles
from sim.calibration import load

TERMS = load().terms
V100 = rates(device.load("v100-pcie"))
EXTENTS = st.integers(1, 8192).map(float)


def product(batch: float, m: float, n: float, k: float, itemsize: float, bm: float, bn: float) -> formulas.Terms:
    """The terms of one product on a V100, with one tile and k in one part."""
    on = tiles.chip(V100, TERMS, V100.tensor["fp16" if itemsize == 2.0 else "fp32"], V100.vector["fp32"])
    return formulas.gemm(on, tiles.tile_terms(TERMS), batch, m, n, k, itemsize, 2.0 * batch * m * n * k, bm, bn, 1.0)


def test_lanes_step_by_eight_and_matrix_units_by_thirty_two() -> None:
    on_lanes = [product(64.0, 256.0, 256.0, k, 4.0, 64.0, 64.0).latency for k in (8.0, 16.0, 32.0)]
    assert np.allclose(np.array(on_lanes) / on_lanes[0], (1.0, 2.0, 4.0))
    on_unit = [product(64.0, 256.0, 256.0, k, 2.0, 64.0, 64.0).latency for k in (8.0, 32.0)]
    assert on_unit[0] == on_unit[1]


@given(st.integers(1, 64).map(float), EXTENTS, EXTENTS, EXTENTS, st.sampled_from(tiles.TILES))
def test_pairs_share_reads_and_every_operand_is_read(
    batch: float, m: float, n: float, k: float, tile: tuple[int, int]
) -> None:
    bm, bn = map(float, tile)
    moved = float(product(batch, m, n, k, 2.0, bm, bn).l2_bytes)
    alone = 2.0 * batch * (np.ceil(m / bm) * np.ceil(n / bn) * np.ceil(k / 32.0) * 32.0 * (bm + bn) + m * n)
    assert 2.0 * batch * (m * k + k * n + m * n) <= moved <= alone


def test_a_library_without_small_tiles() -> None:
    one = np.ones(1)
    shapes = gemm_reference.Shapes(512 * one, 40 * one, 40 * one, 256 * one, 0 * one, 1e9 * one, 4.0, "fp32")
    times = []
    for edge in (0.0, 64.0, 128.0):
        priced = gemm_reference.price(shapes, V100, TERMS, least=edge * one)
        bm, bn, split = tiles.MENU[priced.tile[0]]
        assert min(bm, bn) >= edge
        assert split == 1 or edge == 0
        times.append(float(priced.time[0]))
    assert times == sorted(times)
