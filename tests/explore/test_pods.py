"""The search over pods on a small model: what it finds, that it repeats, its verdict, text, JSON, plot and files."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import framecast
from explore import pods_search
from explore.pods import CORNERS, Comparison, Row, compare
from explore.pods_plots import curve, gantt
from explore.pods_report import text, to_json
from explore.pods_trace import trace_events
from explore.pods_verdict import Turn, met, turning, verdict
from sim import concurrent, simulate
from sim.energy import of_result
from sim.report import number
from sim.scenario import Scenario, load
from sim.simulate import replay
from tests.sim.toy import toy_trace, write
from workloads.trace import Trace

BASE = "model: stable-diffusion-1.5\ndevice: a100-sxm-80gb\nsoftware: {base: pytorch-eager, cuda_graphs: true}\n"
REQUESTS = BASE + "request: {steps: 6}\npods: {members: requests, count: 5, trials: 12, seed: 3}\n"
STEPS = BASE + (
    "request: {steps: 10}\n"
    "pods:\n  members: steps\n  budget: {largest: 3, serial_first: 2, serial_last: 1}\n"
    "  search: {size: [1, 2, 3], stagger: {low: 0.1, high: 0.9}}\n  trials: 12\n"
)
ROWS = ("best", "serial", "batched", "lockstep")


def trace_of(_model: str, request: Any) -> Trace:
    """The toy; a batch repeats its operators' rows, so that a batch of two takes about twice as long."""
    trace = toy_trace(request.steps)
    dims = trace.op_dims.copy()
    for kind, column in (
        ("conv", 0),
        ("attention", 0),
        ("group_norm", 0),
        ("gemm", 1),
        ("layer_norm", 0),
        ("embedding", 0),
    ):
        dims[trace.op_kind == trace.kinds.index(kind), column] *= request.batch
    wide = trace.op_kind == trace.kinds.index("elementwise")
    dims[wide, :5] *= request.batch
    return replace(trace, op_dims=dims, tensor_bytes=trace.tensor_bytes * request.batch)


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrent, "trace_of", trace_of)
    monkeypatch.setattr(simulate, "trace_of", trace_of)


def found(folder: Path, content: str, *overrides: str) -> Comparison:
    return compare(load(write(folder, content), overrides))


@pytest.mark.parametrize("content", [REQUESTS, STEPS])
def test_the_best_is_no_slower_than_what_was_tried_and_above_the_bound(tmp_path: Path, content: str) -> None:
    result = found(tmp_path, content)
    assert tuple(result.rows) == ROWS
    for row in result.rows.values():
        assert row.played.makespan >= result.lower_bound * (1 - 1e-9)
        assert row.corners[0] == row.played.makespan
        assert min(row.corners) >= result.lower_bound * (1 - 1e-9) or not row.fits(result)
        assert 0 < row.played.hbm_mean <= row.played.hbm_peak <= 1 + 1e-9
    assert result.rows["best"].played.makespan <= result.rows["serial"].played.makespan * (1 + 1e-9)
    assert verdict(result)


def test_the_same_seed_gives_the_same_study(tmp_path: Path) -> None:
    first, second = (found(tmp_path, REQUESTS) for _ in range(2))
    assert to_json(first) == to_json(second)


def test_the_search_stays_in_its_space(tmp_path: Path) -> None:
    result = found(tmp_path, STEPS, "pods.search={size: [2], stagger: {low: 0.4, high: 0.5}}")
    best = result.rows["best"].played.schedule
    assert best.largest == 2
    assert all(0.4 <= o <= 0.5 for o in best.offsets)
    assert len(best.offsets) == 1


@pytest.mark.parametrize("seed", range(10))
def test_the_search_finds_the_enumerated_optimum(tmp_path: Path, seed: int) -> None:
    """Within 2 %, in half as many trials as there are schedules."""
    space = "pods.search={size: [1, 2, 5], stagger: {low: 0, high: 1, points: 11}, streams: [2, 5], partition: [shared, equal]}"
    every = found(tmp_path, REQUESTS, space, "pods.trials=200")
    assert every.found.enumerated
    some = found(tmp_path, REQUESTS, space, "pods.trials=30", f"pods.seed={seed}")
    assert not some.found.enumerated
    assert some.found.tried < every.found.tried / 2
    assert some.rows["best"].played.makespan <= 1.02 * every.rows["best"].played.makespan


def test_free_offsets_and_uneven_partitions(tmp_path: Path) -> None:
    space = "pods.search={size: [4], stagger: {free: true}, partition: [uneven]}"
    best = found(tmp_path, REQUESTS, space).rows["best"].played.schedule
    assert len(set(best.offsets)) == 3
    assert sum(best.partition) == pytest.approx(1)
    assert len(best.partition) == 4


@pytest.mark.parametrize("objective", ["images_per_s", "first_image", "hbm_mean", "hbm_peak", "energy", "gain"])
def test_objectives(tmp_path: Path, objective: str) -> None:
    result = found(tmp_path, REQUESTS, f"pods.objective={objective}")
    rows = [row.played for name, row in result.rows.items() if name in ("best", "serial")]
    if objective == "first_image":
        assert rows[0].first <= rows[1].first * (1 + 1e-9)
    if objective == "hbm_mean":
        assert rows[0].hbm_mean >= rows[1].hbm_mean * (1 - 1e-9)
    assert to_json(result)["objective"] == objective


def test_hardware_is_searched_with_the_schedule(tmp_path: Path) -> None:
    """The least makespan is at the fast end; the device of the result is the one that was found."""
    space = "pods.search={size: [1, 5], hardware: {device.hbm.bandwidth: 1..4 TB/s, device.sm_count: 54..216}}"
    result = found(tmp_path, REQUESTS, space, "pods.trials=24")
    assert result.hardware["device.hbm.bandwidth"] > 2e12
    assert result.scenario.device.hbm.bandwidth == result.hardware["device.hbm.bandwidth"]
    assert result.scenario.device.sm_count == result.hardware["device.sm_count"]
    assert "on device.hbm.bandwidth" in text(result)


def test_stages_may_overlap(tmp_path: Path) -> None:
    result = found(tmp_path, REQUESTS, "pods.search={size: [1, 2], overlap: true}", "pods.trials=16")
    assert result.found.tried >= 3


def test_a_given_schedule_stands_beside_the_others(tmp_path: Path) -> None:
    result = found(tmp_path, REQUESTS, "pods.schedule={pods: ['1-2', '3, 5', '4'], offsets: [0.5], streams: 2}")
    schedule = result.rows["given"].played.schedule
    assert schedule.pods == ((1, 2), (3, 5), (4,))
    assert to_json(result)["given"]["schedule"]["pods"] == ["1-2", "3, 5", "4"]


def test_sizes_that_do_not_fit_are_left_out_and_said(tmp_path: Path) -> None:
    one = concurrent.inference(load(write(tmp_path, REQUESTS)))
    room = one.weights + 2.5 * one.largest("whole")
    result = found(tmp_path, REQUESTS, f"device.hbm.capacity={room:.0f} B", "pods.search.size=[1, 2, 4]")
    assert result.too_large == (4,)
    assert result.rows["lockstep"].played.schedule.largest == 2
    assert all(r.played.memory <= room for r in result.rows.values())
    assert "Not tried: pods of 4, which do not fit into 0.0" in text(result)


def test_where_nothing_runs_together_the_verdict_says_why(tmp_path: Path) -> None:
    alone = "there is nothing to run together: "
    assert verdict(found(tmp_path, REQUESTS, "pods.count=1")) == f"{alone}pods.count is 1"
    assert verdict(found(tmp_path, STEPS, "pods.budget.largest=1", "pods.search.size=[1]")) == (
        f"{alone}pods.budget.largest is 1"
    )
    one = concurrent.inference(load(write(tmp_path, REQUESTS)))
    room = one.weights + 1.2 * one.largest("whole")
    told = verdict(found(tmp_path, REQUESTS, f"device.hbm.capacity={room:.0f} B"))
    assert told == f"nothing but serial fits {number(room / 1e9)} GB"


def test_text_says_what_it_must(tmp_path: Path) -> None:
    said = text(found(tmp_path, STEPS))
    for part in ("Verdict: ", "best (", "serial", "batched", "lockstep", "Lower bound", "max-min", "not quality"):
        assert part in said
    assert "not quality" not in text(found(tmp_path, REQUESTS))


def test_json_has_the_documented_keys(tmp_path: Path) -> None:
    data = json.loads(json.dumps(to_json(found(tmp_path, REQUESTS))))
    keys = {"makespan_s", "images_per_s", "hbm_utilisation_mean", "hbm_utilisation_peak", "memory_bytes", "schedule"}
    for name in ROWS:
        assert keys <= set(data[name])
    assert {"lower_bound_s", "verdict", "device", "software", "scenario_hash", "schema_version"} <= set(data)
    page = (Path(__file__).parents[2] / "docs/pods.md").read_text()
    for key in {*data, *data["best"], *data["best"]["schedule"]}:
        assert f"`{key}`" in page or f".{key}`" in page, key


def timed(result: Comparison, best: tuple[float, ...], batched: float, host: float = 0.1) -> Comparison:
    """The same with other makespans of the best pods at each of CORNERS, and of the batch; serial takes 4 s."""

    def row(name: str, corners: tuple[float, ...], host: float) -> Row:
        return Row(replace(result.rows[name].played, makespan=corners[0], host=host), corners)

    rows = {
        "best": row("best", best, host),
        "serial": row("serial", (4.0,) * 5, 0.2),
        "batched": row("batched", (batched,) * 5, 0.1),
        "lockstep": row("lockstep", (9.0,) * 5, 0.1),
    }
    return replace(result, rows=rows, side_by_side=rows["best"])


FLIPS = (
    "pods are 50 % faster than batching if any mix of kernels runs side by side and streams share all of the L2, "
    "20 % slower if kernels keep the SMs that they fill and streams split the L2"
)


@pytest.mark.parametrize(
    ("best", "batched", "host", "expected"),
    [
        ((2.0, 2.0, 1.5, 1.5, 2.0), 1.0, 0.1, "batching wins here: 100 % faster than the best pods found"),
        ((2.0, 2.0, 2.0, 2.0, 2.0), 2.01, 0.1, "no difference: pods come within 1 % of batching"),
        ((3.6, 3.6, 2.0, 2.0, 3.6), 3.0, 0.1, f"undecided, because it hinges on how kernels share the SMs: {FLIPS}"),
        ((3.6, 2.0, 3.6, 2.0, 3.6), 3.0, 0.1, f"undecided, because it hinges on how streams share the L2: {FLIPS}"),
        (
            (3.6, 2.5, 3.6, 3.6, 3.6), 3.0, 0.1,
            "undecided, because it hinges on how kernels share the SMs and how streams share the L2: pods are 20 % faster than "
            "batching if kernels keep the SMs that they fill and streams share all of the L2, 20 % slower if kernels keep the "
            "SMs that they fill and streams split the L2",
        ),
        ((2.0, 2.0, 1.5, 1.5, 2.0), 3.0, 0.1, "staggered pods win here: 50 % faster than batching"),
        (
            (2.0, 2.0, 2.5, 1.5, 2.0), 3.0, 0.1,
            "staggered pods win here: 50 % faster than batching, at least 20 % however kernels share the device",
        ),
        (
            (2.8, 2.8, 2.8, 2.0, 3.1), 3.0, 0.1,
            "undecided, because it hinges on what running side by side costs: pods are 50 % faster than batching if any mix of "
            "kernels runs side by side and streams share all of the L2, 3 % slower if kernels keep the SMs that they fill and "
            "streams split the L2, which costs 10 % of their speed",
        ),
        ((2.0, 2.0, 1.5, 1.5, 2.0), 5.0, 0.1, "staggered pods win here: 100 % faster than running one after another"),
        (
            (4.5, 4.5, 4.5, 4.5, 4.5), 3.0, 4.5,
            "batching wins here: 50 % faster than the best pods found; the host's launches set the pace of the pods "
            "(cuda_graphs: true lifts that)",
        ),
    ],
)  # fmt: skip
def test_verdicts(tmp_path: Path, best: tuple[float, ...], batched: float, host: float, expected: str) -> None:
    result = found(tmp_path, REQUESTS, "pods.search={size: [5], stagger: {low: 0.2, high: 0.3}}")
    assert verdict(timed(result, best, batched, host)) == expected
    turn = Turn("device.hbm.bandwidth", 0.25, 1.5)
    assert verdict(timed(result, best, batched, host), turn).endswith(
        "; HBM bandwidth x 1/4 (pods 50 % faster) would turn it"
    )


def test_a_turn_in_words() -> None:
    assert Turn("device.tensor.fp16", 4.0, 0.8).words() == "matrix rate x 4 (pods 25 % slower)"
    assert Turn("device.sm_count", 0.5, 1.005).words() == "SMs x 1/2 (no difference)"


def test_what_turns_the_verdict_is_played_there(tmp_path: Path) -> None:
    """The field is one that the device has, and the other side wins there; or nothing turns it."""
    result = found(tmp_path, REQUESTS)
    turn = turning(result)
    before = to_json(result, turn)
    if turn:
        assert (turn.gain >= 1.01) != (before["contention"][0]["gain"] >= 1.01)
        assert before["turned_by"]["field"].startswith("device.")
    assert turning(found(tmp_path, REQUESTS, "pods.count=1")) is None
    assert len(before["contention"]) == len(CORNERS)


def test_energy_is_of_the_work_and_the_time(tmp_path: Path) -> None:
    """Serial is what a run alone takes, as many times; pods save idle power; a device of unknown silicon has none."""
    result = found(tmp_path, REQUESTS, "pods.objective=energy")
    rows = {name: row.energy for name, row in result.rows.items()}
    serial, best = rows["serial"], rows["best"]
    assert serial is not None
    assert best is not None
    scenario = load(write(tmp_path, REQUESTS))
    once = energy_of(scenario)
    assert serial.value == pytest.approx(5 * once, rel=0.01)  # of requests in a row the host issues the next early
    assert serial.low < serial.value < serial.high
    assert best.value <= serial.value
    assert to_json(result)["best"]["energy_j"] == best.value


def energy_of(scenario: Scenario) -> float:
    """Of one inference by `framecast run`."""
    found = of_result(replay(scenario))
    assert found is not None
    return float(found.total.value)


def test_what_is_met_adds_up(tmp_path: Path) -> None:
    assert sum(met(found(tmp_path, REQUESTS)).values()) == pytest.approx(1)


def test_perfetto(tmp_path: Path) -> None:
    result = found(tmp_path, REQUESTS)
    events = trace_events(result)["traceEvents"]
    spans = [e for e in events if e["ph"] == "X"]
    assert len(spans) == 5 * (2 + 6 + 1)
    for track in {e["tid"] for e in spans}:
        mine = sorted((e["ts"], e["ts"] + e["dur"]) for e in spans if e["tid"] == track)
        assert all(end <= start + 1e-3 for (_, end), (start, _) in itertools.pairwise(mine))
    counters = {e["name"] for e in events if e["ph"] == "C"}
    assert counters == {"HBM bandwidth %", "matrix units %", "SM slots %"}
    assert all(-1e-6 <= e["args"]["%"] <= 100.01 for e in events if e["ph"] == "C")


def test_the_bandwidth_curve_holds_all_bytes(tmp_path: Path) -> None:
    played = found(tmp_path, STEPS).rows["best"].played
    edges, use = curve(played, 50)
    assert edges[-1] == pytest.approx(played.makespan)
    assert use.mean() == pytest.approx(played.hbm_mean)
    assert (use >= -1e-12).all()


@pytest.mark.parametrize("content", [REQUESTS, STEPS])
def test_plot(tmp_path: Path, content: str) -> None:
    result = found(tmp_path, content)
    for suffix in ("png", "svg"):
        gantt(result, tmp_path / f"pods.{suffix}")
        assert (tmp_path / f"pods.{suffix}").stat().st_size > 5000


def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["framecast", "pods", *args])
    with pytest.raises(SystemExit) as done:
        framecast.main()
    out, err = capfd.readouterr()
    return int(done.value.code or 0), out, err


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    path, out = str(write(tmp_path, REQUESTS)), tmp_path / "a/b"
    code, said, err = run(monkeypatch, capfd, path, "--trials", "5", "--format", "json", "--out", str(out))
    assert (code, err) == (0, "")
    assert json.loads(said)["trials"] == 5
    files = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert files == {"scenario.resolved.yaml", "pods.json", "timeline.json", "plots/pods.png", "plots/pods.svg"}
    assert json.loads((out / "pods.json").read_text()) == json.loads(said)
    again = load(out / "scenario.resolved.yaml")
    assert again.resolved() == (out / "scenario.resolved.yaml").read_text()
    assert to_json(compare(again))["best"] == json.loads(said)["best"]
    code, said, err = run(monkeypatch, capfd, path)
    assert (code, err) == (0, "")
    assert said.startswith("toy: 5 requests of stable-diffusion-1.5")


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int, float]] = []
    compare(load(write(tmp_path, REQUESTS)), lambda *now: seen.append(now))
    assert [done for done, _, _ in seen] == [4, 8, 12]
    assert {trials for _, trials, _ in seen} == {12}
    assert pods_search.BATCH == 4
