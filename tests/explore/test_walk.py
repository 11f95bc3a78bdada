"""Sweeps in chunks: the same whatever happens to them, an exact front, and files that a kill cannot spoil."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from explore import walk, walk_files
from explore.space import origin
from explore.sweep import plan
from explore.walk import Found, Walk
from framecast import main
from hwspecs.errors import SpecError, StudyError
from sim.scenario import load
from sim.simulate import replay
from tests.explore.test_study import KILLED, ROOT
from tests.explore.toys import opened, use_toy, write

GRID = """sweep:
  device.sm_count: 64..256 step 4
  device.hbm.bandwidth: 1..8 TB/s log, 6 points
  device.l2.capacity: [20 MiB, 40 MiB]
  device.hbm.capacity: [1 MB, 80 GB]
  objectives: {latency_s: minimize, images_per_s / area_mm2: maximize, full_power_w: minimize}
  constraints: [area_mm2 <= 858, latency_s * 1000 <= 400]
"""
SAMPLE = GRID.replace(", 6 points", "") + "  sample: 700\n"


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    use_toy(monkeypatch)


def walked(folder: Path, text: str = GRID, *overrides: str) -> Walk:
    return walk.walk(plan(opened(folder, text, *overrides)))


def same(one: Found, other: Found) -> bool:
    fronts = all(np.array_equal(one.front[n], other.front[n]) for n in one.front)
    return (one.points, one.feasible, one.missed, one.least, one.greatest, set(one.front)) == (
        other.points, other.feasible, other.missed, other.least, other.greatest, set(other.front),
    ) and fronts  # fmt: skip


def points(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "points").sort_values("point", ignore_index=True)


def command(capsys: Any, monkeypatch: Any, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["framecast", "sweep", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    out = capsys.readouterr()
    return int(done.value.code or 0), out.out, out.err


@pytest.mark.parametrize(
    "text", [GRID, SAMPLE, GRID + "  request.steps: [5, 20]\n  device: [a100-sxm-80gb, h100-sxm]\n"]
)
def test_chunks_and_their_order_change_nothing(tmp_path: Path, monkeypatch: Any, text: str) -> None:
    w = walked(tmp_path, text)
    whole = walk.run(w, tmp_path / "whole")
    assert whole.points == w.plan.count
    monkeypatch.setattr(walk, "CHUNK", 192)
    parts = walk.run(w, tmp_path / "parts", elsewhere=lambda w, todo: ((c, walk.price(w, c)) for c in todo[::-1]))
    assert same(whole, parts)
    pd.testing.assert_frame_equal(points(tmp_path / "whole"), points(tmp_path / "parts"), check_exact=True)


def test_the_front_is_exact_and_counts_add_up(tmp_path: Path) -> None:
    w = walked(tmp_path)
    found = walk.run(w, tmp_path / "out")
    table = points(tmp_path / "out")
    assert found.missed == {
        c: int(table[f"misses {c}"].sum()) for c in ("memory", *(c.text for c in w.goals.constraints))
    }
    assert found.missed["memory"] == w.plan.count // 2
    kept = table[table.feasible]
    assert found.feasible == len(kept)
    loss = w.goals.losses({n: kept[n].to_numpy() for n in w.goals.objectives})
    beaten = ((loss[:, None] <= loss[None]).all(2) & (loss[:, None] < loss[None]).any(2)).any(0)
    expected = np.unique(loss[~beaten], axis=0)
    np.testing.assert_array_equal(np.unique(w.goals.losses(found.front), axis=0), expected)
    assert len(found.front["point"]) == len(expected)
    assert found.mean("latency_s") == pytest.approx(kept.latency_s.mean())
    assert kept["images_per_s / area_mm2"].to_numpy() == pytest.approx((kept.images_per_s / kept.area_mm2).to_numpy())


def test_any_point_is_what_a_run_gives(tmp_path: Path) -> None:
    w = walked(tmp_path, SAMPLE)
    walk.run(w, tmp_path / "out")
    table = points(tmp_path / "out")
    for i in (0, 333, 699):
        row = table.iloc[i]
        settings = [f"device.sm_count={row['device.sm_count']}", f"device.l2.capacity={int(row['device.l2.capacity (B)'])} B",
                    f"device.hbm.bandwidth={float(row['device.hbm.bandwidth (B/s)'])!r} B/s"]  # fmt: skip
        result = replay(load(tmp_path / "toy.yaml", settings))
        assert row.latency_s == pytest.approx(result.latency, rel=1e-9)


def test_it_goes_on_and_mends_what_is_damaged(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(walk, "CHUNK", 256)
    w, out = walked(tmp_path), tmp_path / "out"
    whole = walk.run(w, out)
    parts = sorted((out / "points").iterdir())
    parts[0].unlink()
    parts[1].write_bytes(parts[1].read_bytes()[:100])
    priced: list[int] = []
    again = walk.run(w, out, elsewhere=lambda w, todo: ((c, walk.price(w, c)) for c in todo if not priced.append(c)))  # type: ignore[func-returns-value]
    assert priced == [0, 1]
    assert same(whole, again)


def test_kill_and_go_on(tmp_path: Path) -> None:
    text = GRID.replace("log, 6 points", "log, 3000 points")
    path, out = write(tmp_path, text), tmp_path / "out"
    arguments = [sys.executable, "-c", KILLED, "sweep", str(path), "--out", str(out), "--format", "json"]
    environment = {**os.environ, "FRAMECAST_CACHE": os.environ.get("FRAMECAST_CACHE", str(tmp_path / "cache"))}
    for least in (1, 4):
        process = subprocess.Popen(
            arguments, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and len(list((out / "points").glob("*.parquet"))) < least:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = {p: p.stat().st_mtime_ns for p in (out / "points").glob("*.parquet")}
    assert kept
    done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(p.stat().st_mtime_ns == written for p, written in kept.items())
    whole = walk.run(walked(tmp_path, text))
    found = json.loads(done.stdout)
    assert (found["points"], found["feasible"]) == (whole.points, whole.feasible)
    assert sorted(row["point"] for row in found["front"]) == sorted(whole.front["point"].tolist())


def test_a_changed_space_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    walk.run(walked(tmp_path), out)
    for settings, change in (
        (["sweep.device.sm_count=64..128 step 4"],
         "device.sm_count was 64–256 step 4, is 64–128 step 4; give another folder to --out or restore the range"),
        (["request.steps=3"], "request.steps was 50, is 3; give another folder to --out or restore the space"),
    ):  # fmt: skip
        with pytest.raises(StudyError) as caught:
            walk.run(walked(tmp_path, GRID, *settings), out)
        assert str(caught.value) == f"{out}/sweep.json: space changed since chunk 1: {change}"
    (out / "sweep.json").write_text("{")
    with pytest.raises(StudyError, match=r"sweep\.json: damaged, or no sweep's; give another folder to --out"):
        walk.run(walked(tmp_path), out)
    (out / "sweep.json").unlink()
    with pytest.raises(
        StudyError, match=r"holds points of a sweep without its sweep\.json; give another folder to --out"
    ):
        walk.run(walked(tmp_path), out)


def test_one_sweep_writes_to_a_folder(tmp_path: Path) -> None:
    w, out = walked(tmp_path), tmp_path / "out"
    with walk_files.held(out), pytest.raises(StudyError) as caught:
        walk.run(w, out)
    assert str(caught.value) == f"{out}: another sweep is writing to it; wait for it, or give another folder to --out"
    assert walk.run(w, out).points == w.plan.count


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    w, limits = walked(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        with pytest.raises(
            SpecError, match=r"cannot write the sweep: .*; the same command goes on where it stopped$"
        ) as caught:
            walk.run(w, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert len(caught.value.problems) == 1
    assert not list((tmp_path / "out/points").iterdir())
    assert walk.run(w, tmp_path / "out").points == w.plan.count


def test_a_mix_weighs_its_workloads(tmp_path: Path) -> None:
    text = GRID.replace("latency_s * 1000 <= 400", "long.latency_s <= 1 s")
    mix = "  workloads:\n    - {weight: 3}\n    - {name: long, request.steps: 100, request.batch: 2}\n"
    w = walked(tmp_path, text + mix)
    walk.run(w, tmp_path / "mixed")
    table = points(tmp_path / "mixed")
    each = []
    for i, settings in enumerate(((), ("request.steps=100", "request.batch=2"))):
        walk.run(walked(tmp_path, GRID, *settings), tmp_path / f"alone{i}")
        each.append(points(tmp_path / f"alone{i}"))
    mean = (3 * each[0].latency_s + each[1].latency_s) / 4
    assert table.latency_s.to_numpy() == pytest.approx(mean.to_numpy())
    assert table.images_per_s.to_numpy() == pytest.approx(((3 * 1 + 2) / (4 * mean)).to_numpy())
    assert table["long.latency_s"].to_numpy() == pytest.approx(each[1].latency_s.to_numpy())
    assert table.peak_memory_bytes.to_numpy() == pytest.approx(
        np.maximum(each[0].peak_memory_bytes, each[1].peak_memory_bytes)
    )
    assert w.space["workload long"] == "request.steps=100, request.batch=2, weight 1"


def test_the_command(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    path, out = str(write(tmp_path, GRID)), tmp_path / "out"
    code, text, err = command(capsys, monkeypatch, path, "--out", str(out))
    assert code == 0
    goals = "minimize latency_s, maximize images_per_s / area_mm2, minimize full_power_w"
    assert err == f"sweep: 4 fields, 1,176 points (every combination); {goals}\n"
    assert "588 do not fit into memory" in text
    assert text.rstrip().endswith(f"Every point: {out}/points")
    assert sorted(p.name for p in out.iterdir()) == [
        "front.csv",
        "points",
        "scenario.resolved.yaml",
        "summary.json",
        "sweep.json",
    ]
    found = json.loads((out / "summary.json").read_text())
    _, text, _ = command(capsys, monkeypatch, path, "--format", "csv")
    assert len(text.splitlines()) == 1 + len(found["front"])
    _, text, _ = command(capsys, monkeypatch, path, "--set", "sweep.constraints=[area_mm2 <= 1]")
    assert "No point is feasible: relax the constraint that most points miss" in text
    assert "Only the front and the totals were kept" in text
    again = walk.walk(plan(origin(str(out / "scenario.resolved.yaml"))))
    assert again.space == walked(tmp_path).space
    code, _, err = command(capsys, monkeypatch, path, "--out", str(tmp_path / "a.parquet"))
    text = "a sweep in chunks writes many files; expected a folder, whose name has no ending"
    assert (code, err) == (2, f"--out {tmp_path}/a.parquet: {text}\n")
