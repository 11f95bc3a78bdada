"""Products in tiles: how far a main loop steps, and what its operands cost the L2."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwspecs import device
from hwspecs.rates import rates
from sim import formulas, gemm_reference, tiles
from sim.calibration import load

TERMS = load().terms
V100, A100, L40S = (rates(device.load(id_)) for id_ in ("v100-pcie", "a100-sxm-80gb", "l40s"))
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


@given(EXTENTS, EXTENTS, EXTENTS, st.sampled_from(tiles.TILES), st.floats(0.2, 1.0))
def test_a_power_limit_eases_where_waves_leave_sms_idle(
    m: float, n: float, k: float, tile: tuple[int, int], share: float
) -> None:
    """Never faster than the tiles, nor than the sustained rate; at most their sum; without a limit, the tiles."""

    def tensor(sustained: float) -> float:
        on = tiles.chip(replace(A100, tensor_sustained=sustained), TERMS, A100.tensor["fp16"], A100.vector["fp16"])
        flops = 2.0 * m * n * k
        return float(formulas.gemm(on, tiles.tile_terms(TERMS), 1.0, m, n, k, 2.0, flops, tile[0], tile[1], 1.0).tensor)

    alone, limited = tensor(1.0), tensor(share)
    peak = 2.0 * m * n * k / float(np.max(A100.sm_count * A100.sm_clock * A100.matmul("fp16")))
    assert max(alone, peak / share) * (1 - 1e-9) <= limited <= alone + peak / share
    assert limited == pytest.approx((alone**4 + (peak / share) ** 4 - peak**4) ** 0.25)


def test_full_waves_keep_the_sustained_rate() -> None:
    on = tiles.chip(replace(A100, tensor_sustained=0.6), TERMS, A100.tensor["fp16"], A100.vector["fp16"])
    p = tiles.tile_terms(TERMS)._replace(tile_issue=1.0)
    n = 128.0 * float(np.max(A100.sm_count))
    flops = 2.0 * 256 * n * 4096
    time = float(formulas.gemm(on, p, 1.0, 256.0, n, 4096.0, 2.0, flops, 256.0, 128.0, 1.0).tensor)
    assert flops / time / float(np.max(A100.sm_count * A100.sm_clock * A100.matmul("fp16"))) == pytest.approx(0.6)


def tall(m: float, distance: float) -> gemm_reference.Shapes:
    """A product of few columns and many k, 16 bits."""
    one = np.ones(1)
    return gemm_reference.Shapes(one, m * one, 64 * one, 8192 * one, one, distance * one, 2.0, "bf16")


def test_a_library_that_chooses_as_if_operands_came_from_memory() -> None:
    shapes = tall(3072.0, 1e6)  # read again and again, so from L2
    free, bound = (gemm_reference.price(shapes, L40S, TERMS, from_memory=of) for of in (False, True))
    read = shapes.reads[0] / float(np.max(L40S.hbm_bandwidth))
    assert not gemm_reference.USUAL[free.tile[0]]
    assert free.time[0] < 0.5 * read
    assert bound.time[0] >= read * (1 - 1e-12)
    cold = [gemm_reference.price(tall(3072.0, 1e12), L40S, TERMS, from_memory=of).time[0] for of in (False, True)]
    assert cold[0] == cold[1]
    wide = tall(32768.0, 1e6)  # fills the device with usual tiles
    usual = gemm_reference.price(wide, L40S, TERMS, from_memory=True)
    assert gemm_reference.USUAL[usual.tile[0]]
    assert usual.time[0] < wide.reads[0] / float(np.max(L40S.hbm_bandwidth))


@given(EXTENTS, st.floats(1e5, 1e9), st.sampled_from(["l2_capacity", "hbm_bandwidth", "sm_count", "sm_clock"]))
def test_such_a_library_is_no_slower_on_better_hardware(m: float, distance: float, field: str) -> None:
    better = replace(L40S, **{field: 1.3 * getattr(L40S, field)})
    times = [gemm_reference.price(tall(m, distance), on, TERMS, from_memory=True).time[0] for on in (L40S, better)]
    assert times[1] <= times[0] * (1 + 1e-12)


def test_a_rate_above_the_peak_is_no_limit() -> None:
    """`explain` multiplies every number of a device to see what binds; beyond the peak rate tiles alone count."""
    shares = np.array([1.0, 1.0000001, 16.0])
    on = tiles.chip(replace(A100, tensor_sustained=shares), TERMS, A100.tensor["fp16"], A100.vector["fp16"])
    assert (on.limit == 0.0).all()
