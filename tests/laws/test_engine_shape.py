"""The shape of the matrix unit: its own tile, and the cycles to fill and drain it."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwspecs import device
from hwspecs.rates import rates
from sim import compiled, formulas, tiles
from sim.calibration import load as load_calibration
from sim.cost import Cost, cost
from sim.packed import pack
from tests.build import a100, eager, kernels, trace
from tests.laws.test_cost_laws import gemm, operators
from workloads.kind import kinds
from workloads.lower import lower

TERMS = tiles.tile_terms(load_calibration().terms)
SIDE = 128.0
COLUMNS = ("time", "tensor", "l2", "hbm", "latency", "tile", "chosen")


def array(fill: float = 0.0, side: float = SIDE) -> formulas.Chip:
    """One core with one weight-stationary array of side x side cells; everything else is out of the way."""
    rate, rest = 2.0 * side * side, 1e9
    return formulas.chip(1.0, 1.0, rate, 1.0, 1.0, rest, rest, rest, rest, rest, side, side, side, fill)


def product(chip: formulas.Chip, m: float, n: float, k: float, bm: float = SIDE, bn: float = SIDE) -> Any:
    """Terms of one product in tiles of bm x bn; the clock is 1 Hz, so that seconds are cycles."""
    return formulas.gemm(chip, TERMS, 1.0, m, n, k, 2.0, 2.0 * m * n * k, bm, bn, 1.0)


def attention(q_len: int, kv_len: int, head_dim: int) -> tuple[str, dict[str, int]]:
    return "attention", {
        "batch": 2, "heads": 8, "kv_heads": 8, "q_len": q_len, "kv_len": kv_len, "head_dim": head_dim, "causal": 0,
        "role": 0, "interleaved": 0, "mask": 0,
    }  # fmt: skip


def priced(op: tuple[str, Any], dtype: str = "fp16", **shape: Any) -> Cost:
    """A kernel on an A100 with another matrix unit, attention fused."""
    return cost(kernels([op], dtype, attention="flash-2"), dataclasses.replace(a100(), **shape))


@pytest.mark.parametrize("fill", [0.0, 32.0, 254.0])
def test_a_pass_lasts_its_rows_and_the_fill(fill: float) -> None:
    """One weight tile: 128 rows stream through it, then it is drained. Of SCALE-Sim's 2 k + n + rows - 2, k hides the loading."""
    assert product(array(fill), 128, 128, 128).tensor == pytest.approx((128 + fill) / TERMS.tile_issue)


def test_passes_add_up() -> None:
    """256 x 384 x 512: 2 x 3 blocks of 4 passes each."""
    assert product(array(32), 256, 384, 512).tensor == pytest.approx(2 * 3 * 4 * (128 + 32) / TERMS.tile_issue)


def test_more_rows_a_pass_hide_the_fill() -> None:
    few, many = product(array(128), 256, 128, 128), product(array(128), 256, 128, 128, bm=256.0)
    assert few.tensor / many.tensor == pytest.approx((2 * (128 + 128)) / (256 + 128))


@pytest.mark.parametrize("part", [{"m": 1}, {"n": 1}, {"k": 1}, {"m": 100, "n": 100, "k": 100}])
def test_a_part_of_a_unit_tile_costs_a_whole_one(part: dict[str, int]) -> None:
    whole = {"m": 128, "n": 128, "k": 128}
    assert product(array(), **(whole | part)).tensor == product(array(), **whole).tensor


def test_small_blocks_waste_a_large_unit() -> None:
    assert product(array(), 128, 128, 128, 32.0, 32.0).tensor == pytest.approx(16 * 128 / TERMS.tile_issue)


def test_many_small_arrays_fill_faster_than_one_large_one() -> None:
    """The same rate: four arrays of 64 x 64 cells pad a product of 64 columns less."""
    large, small = array(), array(side=64.0)._replace(matrix=array().matrix, flop=array().flop, limit=array().limit)
    assert product(small, 128, 64, 64, bn=64.0).tensor < product(large, 128, 64, 64, bn=64.0).tensor


def test_the_head_dimension_is_padded_to_the_unit() -> None:
    shape: dict[str, Any] = {"tile_m": 128.0, "tile_n": 128.0, "tile_k": 128.0}
    small, large = (priced(attention(4096, 4096, d), **shape).tensor.sum() for d in (40, 128))
    assert small == large
    assert priced(attention(4096, 4096, 40)).tensor.sum() < 0.6 * small


@given(operators(), st.sampled_from(["fp16", "fp32"]), st.sampled_from(["unfused", "flash-2"]))
@settings(max_examples=60, deadline=None)
def test_the_instruction_of_a_tensor_core_changes_nothing(op: tuple[str, Any], dtype: str, attention: str) -> None:
    """m16n8k16 divides every tile of the menu: a GPU is priced as if its matrix unit had no shape."""
    k = kernels([op], dtype, attention=attention)
    unit: dict[str, Any] = {"tile_m": 1.0, "tile_n": 1.0, "tile_k": 1.0}
    assert (a100().tile_m, a100().tile_n, a100().tile_k, a100().tensor_fill) == (16, 8, 16, 0)
    shaped, shapeless = cost(k, a100()), cost(k, dataclasses.replace(a100(), **unit))
    for column in COLUMNS:
        np.testing.assert_array_equal(getattr(shaped, column), getattr(shapeless, column))


@pytest.mark.parametrize("op", [gemm(100, 100, 100), gemm(2048, 320, 4096), attention(77, 77, 64)])
def test_products_on_the_vector_lanes_have_no_unit_tile(op: tuple[str, Any]) -> None:
    """fp32 on an A100 runs on the vector lanes, whatever the shape of its matrix units."""
    shape = {"tile_m": 256.0, "tile_n": 256.0, "tile_k": 256.0, "tensor_fill": 300.0}
    np.testing.assert_array_equal(priced(op, "fp32", **shape).time, priced(op, "fp32").time)
    assert priced(op, "fp16", **shape).time.sum() > priced(op, "fp16").time.sum()


@pytest.mark.parametrize("op", [gemm(1, 2048, 2048), gemm(4096, 4096, 4096), attention(77, 77, 40)])
def test_a_matrix_unit_of_the_wrong_shape_costs_nothing(op: tuple[str, Any]) -> None:
    """As its rate passes that of the vector lanes, time falls or stays, however much the unit would pad."""
    shape: dict[str, Any] = {"tile_m": 512.0, "tile_n": 512.0, "tile_k": 512.0, "tensor_fill": 300.0}
    rates_of = [dict(a100().tensor) | {"fp16": rate} for rate in (0.0, 511.0, 512.0, 520.0, 4096.0, 1e6)]
    base = dataclasses.replace(a100(), **shape)
    times = [cost(kernels([op], attention="flash-2"), dataclasses.replace(base, tensor=t)).time.sum() for t in rates_of]
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in pairwise(times))
    assert times[-1] < times[0]


def test_compiled_equals_array_code_for_units_of_every_shape() -> None:
    ops = [(name, example) for name, kind in kinds().items() for example in kind.examples]
    base, rng = device.load("imaginary-systolic"), np.random.default_rng(0)
    designs = [
        dataclasses.replace(
            base,
            tensor=dataclasses.replace(
                base.tensor,
                tile=device.TensorTile(**{name: 2 ** int(rng.integers(0, 10)) for name in "mnk"}),
                fill=float(rng.uniform(0, 300)),
                bf16=float(rng.choice([0.0, 131072.0])),
            ),
        )
        for _ in range(150)
    ]
    stack = rates(designs)
    for dtype in ("fp16", "bf16"):
        k = lower(trace(ops, dtype), eager(attention="auto"))
        plain = cost(k, stack)
        np.testing.assert_allclose(compiled.price(pack(k), stack).time.T, plain.per_row(plain.time), rtol=1e-12)


def test_the_systolic_accelerator_reaches_a_good_part_of_its_peak() -> None:
    """A large product keeps its arrays busy; one that fills a tenth of an array in each direction does not."""
    on = rates(device.load("imaginary-systolic"))
    peak = on.sm_count * on.sm_clock * on.tensor["bf16"]
    large, small = (cost(kernels([gemm(*s)], "bf16"), on) for s in ((8192, 8192, 8192), (8192, 16, 16)))
    assert 0.5 < large.flops.sum() / large.time.sum() / peak <= 0.74
    assert small.flops.sum() / small.time.sum() / peak < 0.02
