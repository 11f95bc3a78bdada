"""Energy of a run: its parts add up, it follows the work, and a device that does not say what it is made of has none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hwspecs import device, power, spec
from hwspecs.estimate import data
from hwspecs.rates import rates
from hwspecs.silicon import anchor
from sim import compare_report, energy, report, sensitivity_report
from sim import sensitivity as sensitivities
from sim.compare import compare, of_result
from sim.energy import DESIGN, KEYS
from sim.result import Result
from sim.scenario import load
from sim.simulate import replay
from sim.tiles import filled
from tests.sim.toy import result, trace_of

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def a100(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Result:
    return result(monkeypatch, tmp_path)


def bare(folder: Path) -> Path:
    """An H100 that does not say what it is made of."""
    found = spec.to_data(device.load("h100-sxm"))
    kept = {k: v for k, v in found.items() if k != "silicon"} | {"name": "bare"}
    kept["sources"] = {k: v for k, v in found["sources"].items() if not k.startswith("silicon")}
    path = folder / "bare.yaml"
    path.write_text(spec.dump(kept))
    return path


def test_terms_classes_and_components_add_up(a100: Result) -> None:
    found = a100.energy()
    assert found
    whole = float(found.total.value)
    assert sum(found.terms.values()) == pytest.approx(whole)
    assert sum(found.classes.values()) + found.waiting == pytest.approx(whole)
    assert sum(found.components.values()) == pytest.approx(sum(found.classes.values()))
    assert set(found.classes) == set(a100.by_class())
    assert min(*found.terms.values(), *found.classes.values(), found.waiting) >= 0
    assert found.average_power.value == pytest.approx(whole / a100.latency)


def test_bytes_of_memory_are_paid_for(a100: Result) -> None:
    found = a100.energy()
    assert found
    least = a100.total().hbm_bytes * 1e-12 * data("energy")["memory"]["HBM2e"][1]
    assert found.terms["hbm"] == pytest.approx(least)
    assert found.total.value > least


def test_average_power_is_between_idle_and_full(a100: Result) -> None:
    found = a100.energy()
    assert found
    assert found.terms["idle"] / a100.latency < found.average_power.value < found.full_power.value


def test_every_figure_of_the_json_is_in_its_interval(a100: Result) -> None:
    found = json.loads(json.dumps(a100.to_json()))
    for key in KEYS:
        if key.endswith("_interval"):
            low, high = found[key]
            assert 0 < low <= found[key.removesuffix("_interval")] <= high


def test_more_steps_take_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    few, many = (result(monkeypatch, tmp_path, f"request.steps={n}").energy() for n in (10, 20))
    assert few
    assert many
    assert 1.5 < many.total.value / few.total.value < 2.0


def test_a_faster_clock_is_not_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slow, fast = (result(monkeypatch, tmp_path, f"device.sm_clock={n} MHz").energy() for n in (1410, 2820))
    assert slow
    assert fast
    work = ("matrix", "vector", "exp", "registers", "shared", "l2")
    ratio = sum(fast.terms[n] for n in work) / sum(slow.terms[n] for n in work)
    assert ratio == pytest.approx((2820 / 1410) ** 2, rel=1e-6)  # both above the nominal voltage's floor


def test_a_device_that_does_not_say_what_it_is_made_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = result(monkeypatch, tmp_path, f"device={bare(tmp_path)}")
    assert found.energy() is None
    assert {found.to_json()[key] for key in KEYS} == {None}
    assert "Energy: unknown, since bare does not say what it is made of (device.silicon)." in report.text(found)


def test_comparisons_show_both_sides_with_ranges(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    alone = result(monkeypatch, tmp_path, "level=physical")  # as H100, which no fit corrects
    h100 = result(monkeypatch, tmp_path, "device=h100-sxm")
    found = compare(of_result(alone, "a"), of_result(h100, "b"))
    assert {row.name for row in found.silicon} == set(DESIGN)
    line = next(line for line in compare_report.text(found).splitlines() if line.startswith("energy per image"))
    assert line.split()[4] == report.number(found.silicon[0].a)
    rows = compare_report.to_json(found)["silicon"]
    assert all(row["interval_a"][0] <= row["a"] <= row["interval_a"][1] for row in rows)
    none = result(monkeypatch, tmp_path, f"device={bare(tmp_path)}")
    assert compare(of_result(alone, "a"), of_result(none, "b")).silicon == ()


def test_sensitivities_of_energy_area_and_price(a100: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensitivities, "trace_of", trace_of)
    found = sensitivities.sensitivity(a100.scenario, 0.01)
    by_path = {f.path: f.silicon for f in found.fields}
    assert by_path["device.sm_clock"]["energy_per_image_j"] > 0.5
    assert by_path["device.sm_clock"]["area_mm2"] == 0
    assert by_path["device.l2.capacity"]["area_mm2"] > 0
    assert by_path["device.hbm.capacity"]["price_usd"] > 0
    assert "USD per image" in sensitivity_report.text(found)


def test_what_is_outside_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = result(monkeypatch, tmp_path, "device.sm_count=240")
    assert "outside the dies that are known: a die of" in report.text(found)
    assert found.to_json()["outside_known_dies"]


@pytest.mark.parametrize(("frames", "low", "high"), [(8, 0.05, 0.07), (64, 0.005, 0.011)])
def test_what_whole_blocks_of_few_frames_would_add(frames: int, low: float, high: float) -> None:
    """Energy with the FLOPs of whole blocks of fused attention over that of useful FLOPs, less 1: docs/silicon.md."""
    settings = [f"request.frames={frames}", "request.height=256", "request.width=256"]
    found = replay(load(EXAMPLES / "frames-projection.yaml", settings))
    cost, on, made_of = found.priced.cost, rates(found.scenario.device), found.scenario.device.silicon
    assert made_of
    share = [
        filled(int(cost.tile[k]), cost.kernels.flash[:, k]) or 1.0 if cost.occupancy[k] else 1.0
        for k in range(len(cost.kernels))
    ]
    runs = found.priced.runs(found.trace.call_repeats())
    joules = []
    for kernels in (cost.kernels, replace(cost.kernels, flops=cost.kernels.flops / share)):
        done = energy.summed(energy.activity(kernels, cost.hbm_bytes), runs)
        terms = energy.joules(done, found.latency, on, made_of, anchor(found.scenario.device))
        joules.append(float(power.at_board(terms, made_of).value))
    assert low < joules[1] / joules[0] - 1 < high
    spent = found.energy()
    assert spent
    assert joules[0] == pytest.approx(float(spent.total.value))
