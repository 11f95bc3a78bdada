"""Campaigns as a bare machine runs them: killed, resumed, repeated, out of time; on the CPU, in processes of their own."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from calib.measure_files import MEASURED, PLAN
from calib.table import read
from tests.calib.plans import SMALL, STEADY, campaign, command, lab_of_cpu, table, write_plan

TOO_LARGE = {"op": "softmax", "rows": 1 << 40, "cols": 1 << 10}
UNKNOWN = {"op": "fold", "rows": 1, "cols": 1}


def test_every_row_ends_in_the_file_with_its_status(tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "plan.csv", [*SMALL[:6], TOO_LARGE, UNKNOWN])
    done = campaign(plan, tmp_path / "out", "--only", "operators", "--minutes", "0.5")
    assert done.returncode == 0, done.stderr
    rows = {row["plan_id"]: row for row in table(tmp_path / "out/operators.csv")}
    assert list(next(iter(rows.values()))) == [*PLAN, *MEASURED]
    assert [rows[f"row{i}"]["status"] for i in range(8)] == ["ok"] * 6 + ["oom", "unsupported"]
    assert rows["row7"]["reason"].startswith("unknown operator 'fold'")
    assert all(row["device"].startswith("cpu:") for row in rows.values())
    ok = rows["row0"]
    assert float(ok["latency_us"]) >= float(ok["min_us"]) > 0
    assert (ok["method"], ok["timing"], ok["source"]) == ("thread", "with_launch", "framecast")
    assert int(ok["visits"]) >= 3
    assert "8 of 8 rows (6 ok, 1 oom, 1 unsupported)" in done.stderr
    note = json.loads((tmp_path / "out/campaign.json").read_text())
    assert note["device"] == ok["device"]
    found, cpu = read(tmp_path / "out/operators.csv"), read(tmp_path / "out/operators.csv", cpu=True)
    assert (len(found.frame), len(cpu.frame)) == (0, 6)  # rows of a CPU come back only when asked for
    assert dict(cpu.provenance[0].dropped) == {"not measured (oom)": 1, "not measured (unsupported)": 1}
    assert found.provenance[0].dropped["timed on a CPU"] == 6


def test_a_killed_campaign_keeps_its_rows_and_goes_on(tmp_path: Path) -> None:
    plan, out = write_plan(tmp_path / "plan.csv", [*SMALL, *STEADY[:6]]), tmp_path / "out"
    arguments = ("--only", "operators", "--minutes", "1")
    kept: list[str] = []
    rng = random.Random(7)
    for _ in range(4):
        process = subprocess.Popen(command(plan, out, *arguments), stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while not (out / "operators.csv").exists() and time.monotonic() < until and process.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 1.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        now = [row for row in table(out / "operators.csv") if row["device"]] if (out / "operators.csv").exists() else []
        assert [
            row["plan_id"] for row in now[: len(kept)]
        ] == kept  # nothing that was finished is lost or measured again
        kept = [row["plan_id"] for row in now]
    done = campaign(plan, out, *arguments)
    assert done.returncode == 0, done.stderr
    rows = table(out / "operators.csv")
    assert [row["plan_id"] for row in rows[: len(kept)]] == kept
    assert sorted(row["plan_id"] for row in rows) == sorted(f"row{i}" for i in range(len(SMALL) + 6))
    assert {row["status"] for row in rows} == {"ok"}


def test_two_campaigns_agree_within_their_spread(tmp_path: Path) -> None:
    """For at least 90 % of rows. Other programs may disturb one campaign, so any two of at most four count."""
    plan = write_plan(tmp_path / "plan.csv", STEADY)
    found: list[dict[str, tuple[float, float]]] = []
    best = 0.0
    for i in range(4):
        out = tmp_path / f"out{i}"
        assert campaign(plan, out, "--only", "operators", "--minutes", "1", "--seed", str(i)).returncode == 0
        rows = table(out / "operators.csv")
        assert {row["status"] for row in rows} == {"ok"}
        latest = {row["plan_id"]: (float(row["latency_us"]), float(row["spread"])) for row in rows}
        for other in found:
            agree = [abs(t - other[k][0]) <= s * t + other[k][1] * other[k][0] for k, (t, s) in latest.items()]
            best = max(best, sum(agree) / len(agree))
        found.append(latest)
        if best >= 0.9:
            break
    assert best >= 0.9


def test_it_stops_before_the_limit_and_says_how_to_go_on(tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "plan.csv", STEADY * 20, "cold")
    begun = time.monotonic()
    done = campaign(plan, tmp_path / "out", "--only", "operators", "--minutes", "0.15")
    assert done.returncode == 0
    assert "call again with the same --out to go on" in done.stderr
    assert time.monotonic() - begun < 9.0 + 6.0  # the start and the end of the interpreter are not the campaign's
    path = tmp_path / "out/operators.csv"
    assert not path.exists() or len(table(path)) < 20 * len(STEADY)


def test_peaks_modules_and_streams(tmp_path: Path) -> None:
    plan, out = write_plan(tmp_path / "plan.csv", SMALL[:1]), tmp_path / "out"
    for phases, minutes in (("peaks", "1"), ("modules,streams", "1")):
        done = campaign(plan, out, "--only", phases, "--minutes", minutes)
        assert done.returncode == 0, done.stderr
    assert len(list(out.iterdir())) <= 8
    peaks = table(out / "peaks.csv")
    copies = [float(row["value"]) for row in peaks if row["probe"] == "copy_bandwidth" and row["status"] == "ok"]
    assert copies
    assert min(copies) > 1e8  # B/s
    reasons = {row["reason"] for row in peaks if row["status"] == "unsupported"}
    assert "the arithmetic probes are CUDA code" in reasons or len(peaks) < 10
    modules = table(out / "modules.csv")
    assert modules[0]["network"] == "tiny-unet"
    assert {row["status"] for row in modules} <= {"ok", "unsupported"}
    kernels = table(out / "kernels.csv")
    assert {"aten::group_norm", "aten::linear"} <= {row["op"] for row in kernels if row["path"]}
    streams = {(row["mode"], row["streams"]): row for row in table(out / "streams.csv")}
    assert streams["serial", "1"]["status"] == "ok"
    if ("lockstep", "2") in streams:
        assert streams["lockstep", "2"]["reason"] == "a CPU has no streams"
    blocks = table(out / "blocks.csv")
    assert {row["phase"] for row in blocks} >= {"peaks", "modules"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "NVIDIA H100"}, "was measured with device 'NVIDIA H100', this is 'cpu:"),
        ({"software": "torch 1"}, "was measured with software 'torch 1', this is 'torch "),
    ],
)
def test_rows_of_two_machines_never_share_a_folder(tmp_path: Path, change: dict[str, str], message: str) -> None:
    plan, out = write_plan(tmp_path / "plan.csv", SMALL[:1]), tmp_path / "out"
    out.mkdir()
    machine = lab_of_cpu()
    (out / "campaign.json").write_text(json.dumps(machine | change))
    done = campaign(plan, out, "--minutes", "0.1")
    assert done.returncode == 2
    assert done.stderr.startswith(f"{out}/campaign.json: {message}")
    assert done.stderr.endswith("'; use another --out\n")
