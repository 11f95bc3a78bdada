"""Collectives: the latency-bandwidth model and the family of their tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.families import collective
from calib.families.base import families
from hwspecs import device
from hwspecs.rates import rates
from sim.collectives import OPS, Link, direct, ring, seconds, wire_bytes
from sim.fitted import base_terms

FAMILY = families()["collective"]
NVLINK = Link(225e9, 3e-6)
BYTES, GPUS = st.floats(1.0, 1e10), st.integers(2, 64)
A100 = rates(device.load("a100-sxm-80gb"))


def table(**columns: Any) -> pd.DataFrame:
    row = {
        "op": "all_reduce", "device_id": "a100-sxm-80gb", "dtype": "fp16", "software": "nccl 2", "implementation": "nccl",
        "gpus": 8.0, "nodes": 1.0, "bytes": 2.0**28, "timing": "kernel",
    }  # fmt: skip
    return pd.DataFrame([row | columns])


@pytest.mark.parametrize("op", OPS)
@given(size=BYTES, gpus=GPUS, factor=st.floats(1.0, 10.0))
def test_monotone_and_above_the_wire(op: str, size: float, gpus: int, factor: float) -> None:
    time = float(seconds(op, size, gpus, NVLINK))
    assert time >= float(wire_bytes(op, np.array(size), np.array(gpus))) / NVLINK.bandwidth
    assert float(seconds(op, size * factor, gpus, NVLINK)) >= time * (1 - 1e-12)
    assert float(seconds(op, size, gpus, Link(NVLINK.bandwidth * factor, NVLINK.latency))) <= time * (1 + 1e-12)
    assert float(seconds(op, size, gpus, Link(NVLINK.bandwidth, NVLINK.latency / factor))) <= time * (1 + 1e-12)


@given(size=BYTES, gpus=GPUS)
def test_an_all_reduce_is_a_scatter_and_a_gather(size: float, gpus: int) -> None:
    s, g = np.array(size), np.array(float(gpus))
    parts = ring("reduce_scatter", s, g, NVLINK) + ring("all_gather", s, g, NVLINK)
    assert ring("all_reduce", s, g, NVLINK) == pytest.approx(parts)


def test_small_ones_go_directly_and_large_ones_by_a_ring() -> None:
    g = np.array(8.0)
    for size, faster in ((1e3, direct), (1e9, ring)):
        assert seconds("all_reduce", size, g, NVLINK) == faster("all_reduce", np.array(size), g, NVLINK)


def test_one_gpu_takes_no_time() -> None:
    assert seconds("all_reduce", [1e6, 1e6], [1, 2], NVLINK).tolist()[0] == 0.0


def test_unknown_collective() -> None:
    with pytest.raises(ValueError, match="found 'broadcast', expected one of all_reduce, all_gather"):
        seconds("broadcast", 1.0, 2.0, NVLINK)


@pytest.mark.parametrize("op", FAMILY.ops)
def test_family_prices_every_operation(op: str) -> None:
    frame = table(op=op)
    priced = FAMILY.physical(frame, A100, base_terms())
    assert priced.time[0] >= priced.lower[0] > 0
    assert priced.terms["link"][0] + priced.terms["latency"][0] == pytest.approx(priced.time[0])
    assert all(np.isfinite(v).all() for v in FAMILY.features(frame, priced, A100).values())


def test_large_all_reduce_near_the_published_one() -> None:
    """Eight A100, 256 MB: 2.18 ms by nccl-tests."""
    assert FAMILY.physical(table(), A100, base_terms()).time[0] == pytest.approx(2.18e-3, rel=0.1)


def test_networks_and_boards_are_slower() -> None:
    rows: list[dict[str, Any]] = [
        {},
        {"nodes": 2.0},
        {"nodes": 2.0, "gpus": 2.0},
        {"nodes": 2.0, "gpus": 2.0, "implementation": "nccl pairwise"},
    ]
    times = [FAMILY.physical(table(**r), A100, base_terms()).time[0] for r in rows]
    assert times == sorted(times)
    board = FAMILY.physical(table(device_id="l40s"), A100, base_terms()).time[0]
    assert board > 5 * times[0]
    assert FAMILY.physical(table().drop(columns="nodes"), A100, base_terms()).time[0] == times[0]


def test_labels() -> None:
    assert FAMILY.floor(table()).tolist() == ["all_reduce | nccl_nccl 2 8_1"]
    assert FAMILY.condition(table()).tolist() == ["nccl_nccl 2"]


@given(size=BYTES, gpus=GPUS)
def test_flags_spare_handshakes_and_halve_the_bandwidth(size: float, gpus: int) -> None:
    quick = Link(NVLINK.bandwidth, NVLINK.latency, 0.6e-6)
    plain, both = (float(seconds("all_reduce", size, gpus, on, False)) for on in (NVLINK, quick))
    by_flag = float(ring("all_reduce", np.array(size), np.array(float(gpus)), Link(NVLINK.bandwidth / 2.0, 0.6e-6)))
    assert both == pytest.approx(min(plain, by_flag))


def test_who_exchanges_and_who_passes_around() -> None:
    by_nccl, own = (collective.exchanges(table(implementation=name)) for name in ("nccl", "vLLM_custom_graph"))
    assert (by_nccl.tolist(), own.tolist()) == ([False], [True])
    over_pcie = [table(device_id="l40s", implementation="vLLM_custom_graph", gpus=g) for g in (2.0, 4.0)]
    assert [collective.exchanges(t)[0] for t in over_pcie] == [True, False]
    pair, four = (float(np.ravel(collective.link(t).bandwidth)[0]) for t in over_pcie)
    assert four == pytest.approx(pair / 4.0)
