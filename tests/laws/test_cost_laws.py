"""Laws of the cost models, at the physical level, for any operator on any hardware."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwspecs.rates import Rates
from sim.cost import cost
from sim.tiles import per_kernel
from sim.traffic import sum_reads
from tests.build import a100, kernels

size = st.integers(1, 4096)
BETTER_UP = (
    "sm_count", "sm_clock", "tensor", "tensor_sustained", "tensor_older", "vector", "exp", "shared_memory", "registers",
    "max_threads", "l2_capacity", "l2_bandwidth", "l2_port", "hbm_bandwidth",
)  # fmt: skip
BETTER_DOWN = (
    "hbm_latency",
    "launch_gap",
    "l2_partitions",
    "tile_m",
    "tile_n",
    "tile_k",
    "tensor_fill",
    "hbm_inline_ecc",
)
TILE = ("tile_m", "tile_n", "tile_k")  # powers of two


def gemm(m: int, n: int, k: int, batch: int = 1, weight: int = 1) -> tuple[str, Mapping[str, int]]:
    return "gemm", {"batch": batch, "m": m, "n": n, "k": k, "weight": weight, "bias": 0}


@st.composite
def operators(draw: st.DrawFn) -> tuple[str, Mapping[str, int]]:
    kind = draw(st.sampled_from(["gemm", "conv", "attention", "softmax", "group_norm", "elementwise", "permute"]))
    if kind == "gemm":
        weight = draw(st.integers(0, 1))
        return gemm(draw(size), draw(size), draw(size), 1 if weight else draw(st.integers(1, 64)), weight)
    if kind == "conv":
        side, taps = draw(st.integers(1, 128)), draw(st.sampled_from([1, 9]))
        return kind, {
            "n": draw(st.integers(1, 4)), "c": draw(st.integers(1, 1280)), "k": draw(st.integers(1, 1280)), "groups": 1,
            "in_positions": side**2, "out_positions": side**2, "taps": taps, "spatial_dims": 2, "stride": 1, "bias": 1,
            "transposed": 0,
        }  # fmt: skip
    if kind == "attention":
        heads = draw(st.integers(1, 16))
        return kind, {
            "batch": draw(st.integers(1, 2048)), "heads": heads, "kv_heads": heads, "q_len": draw(st.integers(1, 1024)),
            "kv_len": draw(st.integers(1, 1024)), "head_dim": draw(st.sampled_from([40, 64, 80, 128, 160])),
            "causal": draw(st.integers(0, 1)), "role": 0, "interleaved": draw(st.integers(0, 1)),
            "mask": 0,
        }  # fmt: skip
    if kind == "softmax":
        return kind, {"rows": draw(size), "cols": draw(size)}
    if kind == "group_norm":
        return kind, {
            "n": draw(st.integers(1, 32)),
            "c": 32 * draw(st.integers(1, 40)),
            "positions": draw(size),
            "groups": 32,
            "affine": 1,
        }
    if kind == "elementwise":
        n = draw(st.integers(1, 1 << 24))
        return kind, {
            "elements": n,
            "read0": 2 * n,
            "read1": draw(st.sampled_from([0, 2 * n, 2 * (n // 64)])),
            "read2": 0,
            "write": 2 * n,
            "exps": draw(st.integers(0, 1)),
        }
    n = draw(st.integers(1, 1 << 24))
    return kind, {
        "read0": n,
        "read1": 0,
        "read2": 0,
        "write": n,
        "run": draw(st.sampled_from([0, 2, 16, 80, 2560])),
        "layout": 0,
    }


@st.composite
def hardware(draw: st.DrawFn) -> Rates:
    """The A100 with every rate scaled by its own factor, and a matrix unit of any shape."""
    base, factor = a100(), st.floats(0.2, 5.0)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(Rates):
        f, value = draw(factor), getattr(base, field.name)
        values[field.name] = {t: v * f for t, v in value.items()} if isinstance(value, Mapping) else value * f
    values["sm_count"] = float(max(1, round(values["sm_count"])))
    values["tensor_sustained"] = draw(st.floats(0.2, 1.0))
    values["tensor_older"] = draw(st.floats(0.2, 1.0))
    values["l2_partitions"] = float(draw(st.integers(1, 4)))
    values |= {name: 2.0 ** draw(st.integers(0, 9)) for name in TILE}
    values["tensor_fill"] = draw(st.floats(0, 500))
    values["hbm_inline_ecc"] = float(draw(st.booleans()))
    return Rates(**values)


def improved(rates: Rates, name: str, factor: float) -> Rates:
    value: Any = getattr(rates, name)
    scale = 1 / factor if name in BETTER_DOWN else factor
    new: Any = {t: v * scale for t, v in value.items()} if isinstance(value, Mapping) else value * scale
    if name in ("tensor_sustained", "tensor_older"):
        new = min(new, 1.0)
    if name == "hbm_inline_ecc":  # on or off
        new = 0.0
    if name == "sm_count":
        new = float(np.ceil(new))
    if name in TILE:
        new = max(value / 2.0 ** np.ceil(np.log2(factor)), 1.0)
    return dataclasses.replace(rates, **{name: new})


attentions = st.sampled_from(["unfused", "flash-1", "flash-2", "flash-3", "auto"])


@given(operators(), hardware(), attentions)
@settings(max_examples=150, deadline=None)
def test_time_is_at_least_every_lower_bound(op: tuple[str, Mapping[str, int]], rates: Rates, attention: str) -> None:
    k = kernels([op], attention=attention)
    c = cost(k, rates)
    chip = rates.sm_count * rates.sm_clock
    slack = 1 - 1e-9
    assert np.all(c.time >= slack * k.flops / (chip * per_kernel(rates, k.dtype, "matmul")))
    assert np.all(c.time >= slack * k.vector_flops / (chip * rates.vector["fp32"]))
    assert np.all(c.time >= slack * k.exp_ops / (chip * rates.exp))
    assert np.all(c.time >= slack * c.hbm_bytes / rates.hbm_bandwidth)
    assert np.all(c.time >= slack * c.l2_bytes / (rates.l2_bandwidth * rates.sm_clock))


@given(operators(), hardware(), attentions, st.sampled_from(BETTER_UP + BETTER_DOWN), st.floats(1.001, 4.0))
@settings(max_examples=400, deadline=None)
def test_better_hardware_is_never_slower(
    op: tuple[str, Mapping[str, int]], rates: Rates, attention: str, field: str, factor: float
) -> None:
    k = kernels([op], attention=attention)
    before, after = cost(k, rates), cost(k, improved(rates, field, factor))
    whole = [float(c.per_row(c.time + c.gap).sum()) for c in (before, after)]
    assert whole[1] <= whole[0] * (1 + 1e-9)


@given(operators(), hardware())
@settings(max_examples=100, deadline=None)
def test_hbm_bytes_are_compulsory_or_resident(op: tuple[str, Mapping[str, int]], rates: Rates) -> None:
    """What nobody touched before is read from HBM in full; only a kernel's own predecessor can have left bytes in L2."""
    k = kernels([op])
    c = cost(k, rates)
    fresh = np.where(np.isinf(k.distances), k.reads, 0.0).sum(axis=0)
    assert np.all(c.hbm_bytes >= (1 - 1e-9) * (fresh + k.write_bytes))
    assert np.all(sum_reads(k) >= 0)


@given(operators(), st.lists(hardware(), min_size=2, max_size=4), attentions)
@settings(max_examples=60, deadline=None)
def test_a_stack_of_designs_equals_its_members(
    op: tuple[str, Mapping[str, int]], each: list[Rates], attention: str
) -> None:
    def stacked(values: list[Any]) -> Any:
        if isinstance(values[0], Mapping):
            return {t: stacked([v[t] for v in values]) for t in values[0]}
        return np.array(values)[:, None]

    k = kernels([op], attention=attention)
    stack = Rates(**{f.name: stacked([getattr(r, f.name) for r in each]) for f in dataclasses.fields(Rates)})
    for level in ("physical", "roofline"):
        together = cost(k, stack, level)
        for i, rates in enumerate(each):
            alone = cost(k, rates, level)
            for column in ("time", "hbm_bytes", "l2_bytes", "tensor", "latency", "waves"):
                np.testing.assert_allclose(getattr(together, column)[i], getattr(alone, column), rtol=1e-12)
            np.testing.assert_array_equal(together.chosen[i], alone.chosen)


CONTINUOUS = (
    "sm_clock",
    "tensor",
    "vector",
    "exp",
    "l2_capacity",
    "l2_bandwidth",
    "l2_port",
    "hbm_bandwidth",
    "hbm_latency",
    "tensor_fill",
)


@given(operators(), hardware(), st.sampled_from(CONTINUOUS))
@settings(max_examples=200, deadline=None)
def test_one_percent_of_hardware_moves_time_by_about_one_percent(
    op: tuple[str, Mapping[str, int]], rates: Rates, field: str
) -> None:
    """L2 residency falls with the fourth power of the capacity, so it may move its share of the time by 4 %."""
    k = kernels([op])
    before, after = cost(k, rates), cost(k, improved(rates, field, 1.01))
    limit = 1.05 if field == "l2_capacity" else 1.0101
    assert before.time.sum() / after.time.sum() <= limit


@given(st.integers(1, 16), st.integers(1, 16), st.integers(1, 32), st.sampled_from(["m", "n", "k"]))
@settings(max_examples=100, deadline=None)
def test_more_aligned_work_is_never_faster(m: int, n: int, k: int, grown: str) -> None:
    dims = {"m": 256 * m, "n": 256 * n, "k": 1024 * k}
    larger = dims | {grown: 2 * dims[grown]}
    c = cost(kernels([gemm(**dims), gemm(**larger)]), a100())
    assert c.time[0] <= c.time[1] * (1 + 1e-9)


def test_auto_picks_the_faster_way() -> None:
    dims = {"batch": 2, "heads": 8, "kv_heads": 8, "q_len": 4096, "kv_len": 4096, "head_dim": 40}
    op = ("attention", dims | {"causal": 0, "role": 0, "interleaved": 1, "mask": 0})
    priced = {a: cost(kernels([op], attention=a), a100()) for a in ("unfused", "flash-2", "auto")}
    times = {a: float(c.per_row(c.time).sum()) for a, c in priced.items()}
    assert times["auto"] == min(times.values())
    assert times["flash-2"] < times["unfused"]


def test_unknown_level_is_named() -> None:
    with pytest.raises(ValueError, match="level: found 'guess', expected one of roofline, physical"):
        cost(kernels([gemm(1, 1, 1)]), a100(), "guess")
