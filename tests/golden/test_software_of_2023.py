"""What torch of 2023 does slowly, beside published times: the first FlashAttention, broadcasting, the host by operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwspecs import device, software
from hwspecs.rates import rates
from sim.cost import cost
from workloads.kind import DISPATCH, Dims, kinds
from workloads.lower import column


def dims(kind: str, **values: int) -> Dims:
    """One operator as columns of one row; what is not given is 0."""
    names = kinds()[kind].dims
    return Dims({n: np.array([values.get(n, 0)], dtype=np.int64) for n in names})


def seconds(work: Any, dtype: str, on: str) -> float:
    return float(cost(column(work, dtype, np.array([np.inf])), rates(device.load(on))).time[0])


@pytest.mark.parametrize(
    ("batch", "heads", "head_dim", "published"),
    [(64, 12, 32, 1792e-6), (64, 16, 64, 3979e-6), (16, 12, 128, 2461e-6), (64, 16, 128, 12500e-6)],
)
def test_flash_1_meets_published_times(batch: int, heads: int, head_dim: int, published: float) -> None:
    """fxmarty/efficient-attention-benchmark, README: flash-attention 1, A100-SXM4-80GB, fp16, 1024 x 1024, not causal."""
    shape = {"batch": batch, "heads": heads, "kv_heads": heads, "q_len": 1024, "kv_len": 1024, "head_dim": head_dim}
    ways = {w.name: w for w in kinds()["attention"].ways}
    d, item, eager = dims("attention", **shape), np.array([2]), software.load("pytorch-eager")
    first, second = (seconds(ways[n].rows(d, item, eager)[0], "fp16", "a100-sxm-80gb") for n in ("flash-1", "flash-2"))
    assert abs(first / published - 1.0) < 0.2
    assert first > 2.0 * second


def test_broadcasting_misses_the_bandwidth() -> None:
    """pytorch/pytorch pull request 69010: 185e9 elements a second on a V100 (1.53 GHz; ours is the PCIe part, 1.38 GHz)."""
    count = 1 << 28
    way = kinds()["elementwise"].ways[0]
    d = dims("elementwise", elements=count, read0=2 * count, read1=2 << 10, write=count)
    eager, compiled = (
        seconds(way.rows(d, np.array([2]), software.load(n))[0], "fp16", "v100-pcie")
        for n in ("pytorch-eager", "pytorch-compiled")
    )
    assert abs(count / eager / (185e9 * 1.38 / 1.53) - 1.0) < 0.1
    assert compiled < 0.7 * eager


def test_a_tensor_of_another_dtype_does_not_broadcast() -> None:
    count = 1 << 20
    way, eager = kinds()["elementwise"].ways[0], software.load("pytorch-eager")
    mixed = dims("elementwise", elements=count, read0=4 * count, read1=2 * count, write=4 * count)
    scalar = dims("elementwise", elements=count, read0=4 * count, read1=4, write=4 * count)
    assert all(np.all(way.rows(d, np.array([4]), eager)[0].vector_flops == count) for d in (mixed, scalar))


def test_a_module_costs_the_host_more_than_a_function() -> None:
    assert 1.0 < DISPATCH["bmm"] < DISPATCH["softmax"] < DISPATCH["layer_norm"] < DISPATCH["linear"] < DISPATCH["conv"]
    assert {w.dispatch for w in kinds()["elementwise"].ways} == {1.0}
