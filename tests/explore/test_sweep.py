"""Sweeps: every point is what a run gives; tables, plots, memory."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from explore import evaluate
from explore.evaluate import RATES, prepare, stack
from explore.silicon import VARIED
from explore.space import fields
from explore.sweep import plan, sweep
from framecast import main
from hwspecs import device as devices
from hwspecs.rates import rates
from sim.scenario import load
from sim.simulate import replay
from tests.explore.toys import opened, use_toy, write

GRID = """sweep:
  request.steps: [1, 20]
  software.attention: [flash-2, unfused, auto]
  device.hbm.bandwidth: 1..4 TB/s, 3 points
  device.l2.capacity: [40 MiB, 80 MiB]
"""


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    use_toy(monkeypatch)


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["framecast", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    out = capsys.readouterr()
    return int(done.value.code or 0), out.out, out.err


@pytest.mark.parametrize("level", ["physical", "roofline"])
@pytest.mark.parametrize("compiled_from", [1, 10_000])
def test_every_point_is_what_a_run_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str, compiled_from: int
) -> None:
    monkeypatch.setattr(evaluate, "COMPILED_FROM", compiled_from)
    found = sweep(plan(opened(tmp_path, GRID, f"level={level}")))
    frame = found.frame()
    assert len(frame) == 36
    for i in range(0, 36, 5):
        settings = [axis.settings[found.plan.index[a, i]] for a, axis in enumerate(found.plan.axes)]
        result = replay(load(tmp_path / "toy.yaml", [f"level={level}", *settings]))
        row, expected = frame.iloc[i], result.to_json()
        for name in ("latency_s", "images_per_s", "step_time_s", "gpu_time_s", "hbm_bytes", "peak_memory_bytes"):
            assert row[name] == pytest.approx(expected[name], rel=1e-9), (settings, name)
        for name, totals in result.by_class().items():
            assert row[f"{name.lower()}_time_s"] == pytest.approx(totals.time, rel=1e-9)
        assert row["fits"] == expected["fits_memory"]


@pytest.mark.parametrize("compiled_from", [1, 10_000])
def test_check_bits_beside_the_data_vary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled_from: int) -> None:
    """One stack of designs with and without; each as a run has it, and only its energy by how long it lasts."""
    monkeypatch.setattr(evaluate, "COMPILED_FROM", compiled_from)
    text = "sweep:\n  device.hbm.inline_ecc: [true, false]\n  device.hbm.bandwidth: [300 GB/s, 2 TB/s]\n"
    frame = sweep(plan(opened(tmp_path, text))).frame()
    for i, (ecc, bandwidth) in enumerate([(e, b) for e in ("true", "false") for b in ("300 GB/s", "2 TB/s")]):
        settings = [f"device.hbm.inline_ecc={ecc}", f"device.hbm.bandwidth={bandwidth}"]
        assert frame.latency_s[i] == pytest.approx(replay(load(tmp_path / "toy.yaml", settings)).latency, rel=1e-9)
    assert frame.gpu_time_s[0] > frame.gpu_time_s[2]
    assert frame.gpu_time_s[1] > frame.gpu_time_s[3]
    assert frame.hbm_bytes[0] == frame.hbm_bytes[2]


def test_a_search_varies_no_switch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "search:\n  device.hbm.inline_ecc: [true, false]\n  objectives: {latency_s: min}\n")
    code, _, err = run(capsys, monkeypatch, "search", str(tmp_path / "toy.yaml"))
    assert code == 2
    assert (
        "device.hbm.inline_ecc: a search varies numbers of the device; change it in the scenario, or use `sweep`" in err
    )


def test_every_number_of_a_device_can_be_stacked(tmp_path: Path) -> None:
    scenario = opened(tmp_path, "").scenario
    numbers = [path for path, field in fields(scenario).items() if path.startswith("device.") and field.numeric]
    assert sorted([*RATES, *VARIED]) == sorted(numbers)
    workload = prepare(scenario)
    for path in RATES:
        value = 2.0 * float(load_value(scenario.device, path)) or 64.0
        value = 0.5 if path in ("device.tensor.sustained", "device.tensor.older") else value
        text = load(tmp_path / "toy.yaml").device
        changed = rates(set_value(text, path.removeprefix("device.").split("."), value))
        found = stack(workload, {path: np.array([value])})
        for field in dataclasses.fields(found):
            one, other = getattr(found, field.name), getattr(changed, field.name)
            if isinstance(one, dict):
                assert {t: float(np.squeeze(v)) for t, v in one.items()} == dict(other), path
            else:
                assert float(np.squeeze(one)) == other, path


def load_value(device: Any, path: str) -> Any:
    for step in path.split(".")[1:]:
        device = getattr(device, step)
    return device


def set_value(spec: Any, steps: list[str], value: float) -> Any:
    if not steps:
        return type(spec)(value)
    return dataclasses.replace(spec, **{steps[0]: set_value(getattr(spec, steps[0]), steps[1:], value)})


def test_lists_side_by_side(tmp_path: Path) -> None:
    text = "sweep:\n  mode: list\n  request.steps: [5, 9]\n  device: [h100-sxm, a100-sxm-80gb]\n"
    frame = sweep(plan(opened(tmp_path, text))).frame()
    assert frame[["request.steps", "device"]].to_numpy().tolist() == [[5, "h100-sxm"], [9, "a100-sxm-80gb"]]
    assert devices.load("h100-sxm").hbm.bandwidth > devices.load("a100-sxm-80gb").hbm.bandwidth
    assert frame.latency_s[0] < frame.latency_s[1]


def test_progress_counts_every_point(tmp_path: Path) -> None:
    seen: list[int] = []
    sweep(plan(opened(tmp_path, GRID)), seen.append)
    assert sum(seen) == 36


def test_table_csv_json(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    path = str(write(tmp_path, GRID))
    code, out, err = run(capsys, monkeypatch, "sweep", path)
    assert (code, err) == (0, "")
    assert out.startswith("toy: stable-diffusion-1.5 on NVIDIA A100 SXM4 80 GB, 36 points\n\n")
    assert out.splitlines()[2].split()[:2] == ["request.steps", "software.attention"]
    assert "2.5 TB/s" in out
    _, out, _ = run(capsys, monkeypatch, "sweep", path, "--format", "csv")
    frame = pd.read_csv(io.StringIO(out))
    assert list(frame.columns[:5]) == [
        "request.steps", "software.attention", "device.hbm.bandwidth (B/s)", "device.l2.capacity (B)", "latency_s",
    ]  # fmt: skip
    _, out, _ = run(capsys, monkeypatch, "sweep", path, "--format", "json")
    found = json.loads(out)
    assert found["fields"]["device.hbm.bandwidth"] == "B/s"
    assert found["points"][3]["latency_s"] == pytest.approx(frame.latency_s[3])


def test_long_tables_are_cut(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    path = str(write(tmp_path, "sweep:\n  device.sm_count: 1..100 step 1\n"))
    _, out, _ = run(capsys, monkeypatch, "sweep", path)
    assert out.endswith("... and 60 more; `--format csv` prints all, `--out` writes them\n")


def test_a_warning_where_memory_is_too_small(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    path = str(write(tmp_path, "sweep:\n  device.hbm.capacity: [1 MB, 80 GB]\n"))
    code, _, err = run(capsys, monkeypatch, "sweep", path)
    text = "1 of 2 points do not fit into memory; their times are those of a device with enough memory"
    assert (code, err) == (0, f"warning: {path}: {text}\n")


def test_an_ending_that_is_no_table(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    path, out = str(write(tmp_path, GRID)), str(tmp_path / "a.txt")
    text = "found the ending '.txt', expected a table (.csv or .parquet), or a folder, whose name has no ending"
    assert run(capsys, monkeypatch, "sweep", path, "--out", out) == (2, "", f"--out {out}: {text}\n")


def test_the_title_leaves_out_what_varies(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    path = str(write(tmp_path, "sweep:\n  device: [h100-sxm, a100-sxm-80gb]\n"))
    out = run(capsys, monkeypatch, "sweep", path)[1]
    assert out.startswith("toy: stable-diffusion-1.5 on several devices, 2 points\n")


def test_files(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    path, out = str(write(tmp_path, GRID)), tmp_path / "out"
    assert run(capsys, monkeypatch, "sweep", path, "--out", str(out))[0] == 0
    names = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert names == ["plots/sweep.png", "plots/sweep.svg", "scenario.resolved.yaml", "sweep.csv"]
    assert run(capsys, monkeypatch, "sweep", path, "--out", str(out / "points.parquet"))[0] == 0
    pd.testing.assert_frame_equal(pd.read_parquet(out / "points.parquet"), sweep(plan(opened(tmp_path, GRID))).frame())
    resolved = str(out / "scenario.resolved.yaml")
    assert run(capsys, monkeypatch, "sweep", resolved, "--format", "csv")[1] == (out / "sweep.csv").read_text()


@pytest.mark.parametrize(
    "section",
    ["sweep:\n  device: [h100-sxm, a100-sxm-80gb]\n", "sweep:\n  device.hbm.bandwidth: 0.1..8 TB/s log, 5 points\n"],
)
def test_plots(tmp_path: Path, capsys: Any, monkeypatch: Any, section: str) -> None:
    path = str(write(tmp_path, section))
    assert run(capsys, monkeypatch, "sweep", path, "--out", str(tmp_path / "out"))[0] == 0
    assert "latency of one inference (s)" in (tmp_path / "out/plots/sweep.svg").read_text()
