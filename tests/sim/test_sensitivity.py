"""sensitivity: elasticities are those of separate runs, dead fields are named, what halves the latency halves it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from hwspecs import units
from sim import profile_plots, sensitivity_report, simulate
from sim import sensitivity as module
from sim.scenario import load
from sim.sensitivity import Sensitivity, sensitivity
from tests.sim.toy import trace_of, write


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str, step: float = 0.1) -> Sensitivity:
    monkeypatch.setattr(module, "trace_of", trace_of)
    monkeypatch.setattr(simulate, "trace_of", trace_of)
    return sensitivity(load(write(folder), overrides), step)


@pytest.mark.parametrize("step", module.STEPS)
def test_a_field_moves_the_latency_as_a_run_with_it_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: float
) -> None:
    found = run(monkeypatch, tmp_path, step=step)
    assert found.latency == pytest.approx(simulate.replay(load(write(tmp_path), ["level=physical"])).latency, rel=1e-12)
    fields = {field.path: field for field in found.fields}
    for path in ("device.hbm.bandwidth", "device.sm_clock", "device.sm_count"):
        field = fields[path]
        for value, latency in ((field.low, field.low_latency), (field.high, field.high_latency)):
            assert value is not None
            text = units.format(value, field.unit) if field.unit else str(int(value))
            alone = simulate.replay(load(write(tmp_path), [f"{path}={text}", "level=physical"]))
            assert latency == pytest.approx(alone.latency, rel=1e-9)
        span = math.log((field.high or 1) / (field.low or 1))
        assert field.elasticity == pytest.approx(math.log(field.high_latency / field.low_latency) / span)


def test_every_number_of_device_and_software_is_there_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paths = [field.path for field in run(monkeypatch, tmp_path).fields]
    assert len(paths) == len(set(paths))
    assert {"device.hbm.capacity", "device.launch.gap", "device.l2.capacity", "device.tensor.fp16"} < set(paths)
    assert any(path.startswith("software.host_time") for path in paths)
    assert not {"device.power.tdp", "device.tensor.fp8"} & set(paths)  # descriptive; the A100 has none


def test_better_hardware_is_never_slower(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    less_is_better = (
        "device.hbm.latency",
        "device.launch.gap",
        "software.host",
        "device.l2.partitions",
        "device.tensor.",
    )
    for field in run(monkeypatch, tmp_path).fields:
        if not field.path.startswith(less_is_better) or field.path == "device.tensor.fp16":
            assert field.elasticity <= 1e-9, field.path


def test_what_changes_nothing_is_said_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = run(monkeypatch, tmp_path)
    dead = {field.path for field in found.fields if not field.is_live}
    assert {"device.hbm.capacity", "device.tensor.int8"} <= dead
    shown = sensitivity_report.text(found)
    said = next(line for line in shown.splitlines() if line.startswith("These change neither"))
    assert all(path in said for path in dead)
    assert "device.hbm.capacity (it decides only whether the model fits)" in said


def test_a_host_bound_run_moves_with_the_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    host = next(f.path for f in run(monkeypatch, tmp_path).fields if f.path.startswith("software.host_time"))
    found = run(monkeypatch, tmp_path, f"{host}=1 ms")
    assert found.fields[0].path == host
    assert found.fields[0].elasticity == pytest.approx(1, abs=0.02)
    assert found.halving.paths[0] == host


def test_a_graph_has_no_host_time_to_move(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = run(monkeypatch, tmp_path, "software.cuda_graphs=true")
    assert all(abs(f.elasticity) < 0.01 for f in found.fields if f.path.startswith("software."))


def test_halving_is_what_a_run_with_all_of_them_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = run(monkeypatch, tmp_path, "software.cuda_graphs=true")
    assert found.halving.reached
    assert list(found.halving.latencies) == sorted(found.halving.latencies, reverse=True)
    assert found.halving.latencies[-1] <= found.latency / 2
    fields = {field.path: field for field in found.fields}
    settings = []
    for path in found.halving.paths:
        value, unit = fields[path].doubled or 0.0, fields[path].unit
        settings.append(f"{path}={units.format(value, unit) if unit else f'{value:g}'}")
    alone = simulate.replay(load(write(tmp_path), ["software.cuda_graphs=true", *settings]))
    assert found.halving.latencies[-1] == pytest.approx(alone.latency, rel=1e-9)


def test_a_share_is_not_doubled_beyond_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    field = next(f for f in run(monkeypatch, tmp_path).fields if f.path == "device.tensor.sustained")
    assert field.doubled == pytest.approx(field.value / 2)
    assert field.high is None or field.high <= 1


def test_whole_numbers_that_cannot_change_by_the_step_are_named_with_their_values(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = run(monkeypatch, tmp_path)
    labels = {f.path: profile_plots.label(f, found.step) for f in found.fields}
    assert labels["device.l2.partitions"] == "l2.partitions  (2; priced: 1 and 4)"
    assert labels["device.sm_count"] == "sm_count  (108)"
    assert labels["device.hbm.bandwidth"] == "hbm.bandwidth  (2.039 TB/s)"


def test_text_json_and_tornado(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = run(monkeypatch, tmp_path)
    shown = sensitivity_report.text(found)
    for part in ("What moves the latency", "To halve the latency", "Peak memory"):
        assert part in shown
    data = json.loads(json.dumps(sensitivity_report.to_json(found), allow_nan=False))
    assert [f["path"] for f in data["fields"]] == [f.path for f in found.fields]
    for name in ("a.svg", "b.svg"):
        profile_plots.tornado(found, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
