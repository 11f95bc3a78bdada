"""Breakdowns add up, the timeline is sound, a sweep equals a stack, and the JSON is what docs/json.md says."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwspecs.rates import rates
from sim import simulate
from sim.report import ops_csv, text
from sim.result import Result
from sim.scenario import load
from sim.simulate import price
from sim.timeline import Timeline, serial
from sim.trace_event import trace_events
from tests.sim.toy import result, toy_trace, write
from workloads.kind import kinds
from workloads.trace import Segment

DOCS = Path(__file__).parents[2] / "docs/json.md"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Result:
    return result(monkeypatch, tmp_path)


def test_sums_agree(toy: Result) -> None:
    found = toy.to_json()
    for key, whole in (("time_s", "gpu_time_s"), ("flops", "flops"), ("hbm_bytes", "hbm_bytes")):
        assert sum(c[key] for c in found["components"]) == pytest.approx(found[whole])
    for c in found["components"]:
        for key in ("time_s", "flops"):
            assert sum(k[key] for k in c["classes"].values()) == pytest.approx(c[key])
    assert sum(found["bounds"].values()) == pytest.approx(found["gpu_time_s"])
    assert found["flops"] == toy.trace.flops()
    assert sum(v for k, v in found["memory"].items() if k != "at") == found["peak_memory_bytes"]
    assert found["images_per_s"] == pytest.approx(1 / found["latency_s"])
    calls = sum(k["calls"] for c in found["components"] for k in c["classes"].values())
    assert calls == int(toy.trace.call_repeats().sum())


def test_the_attention_class_holds_what_is_under_attention_but_no_linear_layer(toy: Result) -> None:
    unet = toy.to_json()["components"][1]["classes"]
    assert unet["Attention"]["calls"] == 2 * 50
    assert unet["Linear"]["calls"] == 50
    assert unet["Elementwise"]["calls"] == 50


def test_latency_holds_the_kernels_and_the_gaps(toy: Result) -> None:
    assert toy.latency >= toy.gpu_time + toy.gap_time - 1e-12
    assert toy.latency == pytest.approx(toy.timeline.makespan, rel=1e-12)
    assert 0 <= toy.host_bound() < 1
    step = toy.step_time()
    assert step is not None
    assert 0.9 * toy.latency < 50 * step < toy.latency


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_step_time_of_few_steps_is_of_the_unet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, steps: int) -> None:
    few = result(monkeypatch, tmp_path, f"request.steps={steps}")
    assert few.denoising == (1,)
    held = few.by_component()["unet"].time / steps
    step = few.step_time()
    assert step is not None
    assert held < step < few.latency


def test_own_attention_is_one_of_the_compared(toy: Result) -> None:
    found = toy.to_json()
    assert found["attention_comparison"]["flash-2"]["latency_s"] == found["latency_s"]
    assert found["attention_comparison"]["unfused"]["latency_s"] > found["latency_s"]
    assert toy.attention_kernels(toy.priced) < toy.by_class()["Attention"].time


@pytest.mark.parametrize(("way", "beside"), [("flash-3", "flash-3"), ("flash-1", "flash-2"), ("unfused", "flash-2")])
def test_what_attention_is_compared_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str, beside: str
) -> None:
    found = result(monkeypatch, tmp_path, f"software.attention={way}")
    assert list(found.to_json()["attention_comparison"]) == ["unfused", beside]
    assert f"Attention unfused against {beside}" in text(found)
    if way in ("unfused", beside):
        assert found.attention[way] is found.priced


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("device.sm_count", ["20", "108", "333"]),
        ("device.hbm.bandwidth", ["500 GB/s", "2039 GB/s", "9 TB/s"]),
        ("device.l2.capacity", ["1 MiB", "40 MiB", "400 MiB"]),
        ("device.launch.gap", ["0 s", "660 ns", "50 us"]),
        ("device.tensor.fp16", ["0 FLOP/cycle", "2048 FLOP/cycle"]),
    ],
)
@pytest.mark.parametrize("level", ["physical", "roofline"])
def test_a_sweep_by_set_equals_a_stack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, field: str, values: list[str], level: str
) -> None:
    base = ("software.attention=auto", f"level={level}")
    swept = [result(monkeypatch, tmp_path, *base, f"{field}={v}").latency for v in values]
    scenarios = [load(write(tmp_path), [*base, f"{field}={v}"]) for v in values]
    stack = price(toy_trace(50), scenarios[0].software, rates([s.device for s in scenarios]), level)
    np.testing.assert_allclose(stack.makespan, swept, rtol=1e-9)


def test_json_keys_are_those_of_the_docs(toy: Result) -> None:
    documented = set(re.findall(r"^\| `([^`]+)` \|", DOCS.read_text(), flags=re.M))
    assert set(_keys(json.loads(json.dumps(toy.to_json())))) == documented
    version = re.search(r"`schema_version` is (\d+)", DOCS.read_text())
    assert version
    assert int(version[1]) == toy.to_json()["schema_version"]


def _keys(data: Any, path: str = "") -> Iterator[str]:
    """Paths as docs/json.md writes them."""
    named = {
        "bounds": "<bound>",
        "attention_comparison": "<way>",
        "classes": "<class>",
        "attention_roles": "<role>",
        "attention_ways": "<way>",
        "energy_terms_j": "<term>",
        "energy_classes_j": "<class>",
        "energy_components_j": "<component>",
    }
    if isinstance(data, dict):
        place = named.get(path.rpartition(".")[2])
        for key, value in data.items():
            yield from _keys(value, f"{path}.{place or key}".lstrip("."))
    elif isinstance(data, list) and data and isinstance(data[0], dict):
        for value in data:
            yield from _keys(value, f"{path}[]")
    else:
        yield path


def test_trace_events_are_what_perfetto_wants(toy: Result) -> None:
    data = json.loads(json.dumps(trace_events(toy)))
    spans = [e for e in data["traceEvents"] if e["ph"] == "X"]
    events = [e for e in spans if e["cat"] not in ("host", "not shown")]
    assert {e["ph"] for e in data["traceEvents"]} == {"M", "X", "C"}
    assert len(events) == 3 * 2 + 6 * 2 + 2
    assert "20 of 308 calls" in data["otherData"]["shown"]
    assert all(e["dur"] >= 0 and e["ts"] >= 0 for e in events)
    for tid in {e["tid"] for e in spans}:
        track = sorted((e for e in spans if e["tid"] == tid), key=lambda e: float(e["ts"]))
        assert all(a["ts"] + a["dur"] <= b["ts"] + 1e-6 for a, b in pairwise(track))
    counters = [e for e in data["traceEvents"] if e["ph"] == "C"]
    assert all(0 <= e["args"]["GB/s"] <= 2039 * 1.01 for e in counters)
    assert events[-1]["ts"] + events[-1]["dur"] == pytest.approx(1e6 * toy.latency, abs=2e-3)


def test_the_timeline_shows_what_it_leaves_out_and_the_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slow = result(monkeypatch, tmp_path, "device.sm_count=80")
    events = trace_events(slow)["traceEvents"]
    names = {(e["name"], e["tid"]): e["args"]["name"] for e in events if e["ph"] == "M"}
    assert names["process_name", 0] == "NVIDIA A100 SXM4 80 GB (changed)"
    assert names["thread_name", 1] == "host"
    (left_out,) = [e for e in events if e.get("cat") == "not shown"]
    assert (left_out["name"], left_out["args"]) == ("48 repeats not shown", {"component": "unet"})
    host = [e for e in events if e.get("cat") == "host"]
    assert len(host) == 3 * 2 + 6 * 2 + 2
    assert host[0]["ts"] == 0
    assert host[0]["name"] == "issue embedding"


def test_no_sum_overflows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usual = result(monkeypatch, tmp_path, "request.steps=1000")
    dims, op = usual.trace.op_dims.copy(), int(usual.trace.ops_of("attention")[0])
    for name, value in {"batch": 2048, "q_len": 1 << 20, "kv_len": 1 << 20}.items():
        dims[op, kinds()["attention"].dims.index(name)] = value
    monkeypatch.setattr(simulate, "trace_of", lambda *_: replace(usual.trace, op_dims=dims))
    huge = simulate.replay(usual.scenario)
    found = huge.to_json()
    assert found["flops"] == huge.trace.flops()
    assert found["flops"] > 2**63
    assert found["components"][1]["classes"]["Attention"]["flops"] == 1000 * 4 * 2048 * 8 * 40 * (1 << 40)
    rows = list(csv.DictReader(io.StringIO(ops_csv(huge))))
    assert sum(int(row["flops"]) for row in rows) == found["flops"]
    assert all(float(row[key]) >= 0 for row in rows for key in ("flops", "hbm_bytes", "l2_bytes", "time_s"))


def test_only_the_device_that_was_measured_is_covered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def uncovered(*overrides: str) -> float:
        return sum(result(monkeypatch, tmp_path, *overrides).not_calibrated().values())

    assert uncovered() < 1
    assert uncovered("device=a100-sxm-40gb") < 1
    assert uncovered("device.power.tdp=1 kW") == uncovered("software.cuda_graphs=true") == uncovered()
    for other in (
        "device=imaginary-1",
        "device=h100-sxm",
        "device.sm_count=80",
        "device.hbm.bandwidth=1 TB/s",
        "device.name=x",
    ):
        assert uncovered(other) == pytest.approx(1)


def test_what_the_attention_calls_ran_as(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert result(monkeypatch, tmp_path).attention_ways() == {"flash-2": 50}
    assert result(monkeypatch, tmp_path, "software.attention=auto").to_json()["attention_ways"] == {"flash-2": 50}


times = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(st.tuples(times, st.integers(1, 4)), min_size=1, max_size=4))
def test_serial_timeline_is_the_recurrence(parts: list[tuple[list[tuple[float, float]], int]]) -> None:
    segments: list[Segment] = []
    gpu: list[float] = []
    host: list[float] = []
    for some, repeats in parts:
        segments.append(Segment("s", "s", len(gpu), len(gpu) + len(some), repeats, 0, 0))
        gpu += [g for g, _ in some]
        host += [h for _, h in some]
    line = serial(segments, np.array(gpu), np.array(host))
    issued = free = 0.0
    for event, call in enumerate(line.call):
        issued += host[call]
        free = max(issued, free) + gpu[call]
        assert line.end[event] == pytest.approx(free, abs=1e-9)
    assert line.check() == ()
    assert line.makespan >= sum(g * r for (some, r) in parts for g, _ in some) - 1e-9
    assert all(0 <= u <= 1 + 1e-9 for u in line.utilisation().values())


def test_check_names_what_is_impossible() -> None:
    def line(start: list[float], end: list[float]) -> Timeline:
        two = np.zeros(2, np.int64)
        return Timeline(("a",), two, two, two, np.array(start), np.array(end))

    assert line([0, 1], [1, 2]).check() == ()
    assert line([0, 0.5], [1, 2]).check() == ("a: two events overlap",)
    assert line([0, 2], [1, 1.5]).check() == ("an event ends before it starts",)
