"""Energy, area, power and price as outputs of sweeps and goals of searches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from explore import evaluate, objectives, study, walk
from explore.answer import answer
from explore.answer_report import search_text
from explore.silicon import OUTPUTS
from explore.storage import Location
from explore.sweep import plan, sweep
from hwspecs.errors import SpecError
from sim import simulate
from sim.scenario import load
from tests.explore.toys import SEARCH, opened, use_toy, write
from tests.sim.test_energy import bare


def test_a_design_of_a_sweep_is_what_a_run_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_toy(monkeypatch)
    section = "sweep:\n  device: [a100-sxm-80gb, h100-sxm, l4]\n  device.sm_count: [40, 200]\n"
    swept = sweep(plan(opened(tmp_path, section)))
    index = 0
    for name in ("a100-sxm-80gb", "h100-sxm", "l4"):
        for count in (40, 200):
            path = write(tmp_path, "", "alone.yaml")
            alone = simulate.replay(load(path, [f"device={name}", f"device.sm_count={count}"])).to_json()
            for output in OUTPUTS:
                assert swept.outputs[output][index] == pytest.approx(alone[output], rel=1e-9), (name, count, output)
            index += 1


def test_compiled_loops_and_array_code_agree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_toy(monkeypatch)
    workload = evaluate.prepare(load(write(tmp_path, "")))
    columns = {"device.sm_count": np.arange(50.0, 70.0), "device.l2.capacity": np.linspace(1e7, 2e8, 20)}
    arrays = evaluate.evaluate(workload, columns)
    monkeypatch.setattr(evaluate, "COMPILED_FROM", 1)
    loops = evaluate.evaluate(workload, columns, list(OUTPUTS))
    assert set(loops) == set(OUTPUTS)
    for name in OUTPUTS:
        np.testing.assert_allclose(loops[name], arrays[name], rtol=1e-9)


def test_area_and_price_are_goals_and_limits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_toy(monkeypatch)
    text = SEARCH.replace("relative_resources: minimize", "energy_per_image_j: minimize")
    text = text.replace("relative_resources <= 2", "area_mm2 <= 858 mm2, price_usd <= 9000")
    search = objectives.read(opened(tmp_path, text))
    found = search.prices({"device.sm_count": np.array([108.0, 216.0]), "device.hbm.bandwidth": np.full(2, 2e12)})
    missed = found["violation: area_mm2 <= 858 mm2"]
    assert missed[0] < 0 < missed[1]


def test_a_goal_that_the_device_cannot_have(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_toy(monkeypatch)
    text = SEARCH.replace("relative_resources: minimize", "area_mm2: minimize")
    path = write(tmp_path, text)
    with pytest.raises(SpecError) as caught:
        objectives.read(opened(tmp_path, text, f"device={bare(tmp_path)}"))
    told = "search: bare does not say what it is made of (silicon), so it has no area_mm2"
    assert str(caught.value) == f"{path}:5:3: {told}"


SILICON = """sweep:
  device.silicon.link: [0 GB/s, 300 GB/s]
  device.silicon.node: [N7, N5]
  device.silicon.dies: [1, 2]
  device.sm_count: [64, 128]
  objectives: {latency_s: minimize, area_mm2: minimize, full_power_w: minimize, price_usd: minimize}
"""


def test_what_a_design_is_made_of_varies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_toy(monkeypatch)
    w = walk.walk(plan(opened(tmp_path, SILICON)))
    table = pd.DataFrame(walk.price(w, 0))
    path = write(tmp_path, "", "alone.yaml")
    for _, row in table.iterrows():
        settings = [f"device.silicon.link={row['device.silicon.link (B/s)']} B/s"]
        settings += [
            f"{name}={row[name]}" for name in ("device.silicon.node", "device.silicon.dies", "device.sm_count")
        ]
        alone = simulate.replay(load(path, settings)).to_json()
        for name in w.goals.objectives:
            assert row[name] == pytest.approx(alone[name], rel=1e-9), (name, settings)
    assert table.groupby("device.sm_count").latency_s.nunique().eq(1).all()  # no time depends on it


def test_a_search_over_what_a_design_is_made_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_toy(monkeypatch)
    text = "search: {device.silicon.link: 0..900 GB/s, device.silicon.dies: 1..4, device.silicon.sm_enabled: 0.8..1,"
    text += " objectives: {price_usd: minimize, area_mm2: minimize}, trials: 16, batch: 8, spread: 8}\n"
    search = objectives.read(opened(tmp_path, text))
    assert search.resources == {}  # what it is made of is no resource
    trials = study.run(search, Location(str(tmp_path / "s.journal")))
    path = write(tmp_path, "", "alone.yaml")
    for i in range(0, 16, 5):
        settings = ["level=physical",
                    f"device.silicon.link={float(trials.params['device.silicon.link'][i])!r} B/s",
                    f"device.silicon.dies={int(trials.params['device.silicon.dies'][i])}",
                    f"device.silicon.sm_enabled={float(trials.params['device.silicon.sm_enabled'][i])!r}"]  # fmt: skip
        alone = simulate.replay(load(path, settings)).to_json()
        for name in ("latency_s", *OUTPUTS):
            assert trials.outputs[name][i] == pytest.approx(alone[name], rel=1e-9), (name, settings)
    found = answer(search, trials, Location("s"))
    assert np.array_equal(found.ranking.sigma, np.zeros_like(found.ranking.sigma))  # no time differs
    assert "device.silicon.dies" not in str(found.bounds_hit())  # fewer than one is none
    assert "links" in search_text(found)


def test_what_is_stated_of_a_die_does_not_vary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_toy(monkeypatch)
    for field in ("area", "load_power"):
        with pytest.raises(
            SpecError, match=rf"sweep\.device\.silicon\.{field}: is stated of a device, and does not vary"
        ):
            plan(opened(tmp_path, f"sweep:\n  device.silicon.{field}: [100]\n"))
    sample = "sweep:\n  sample: 8\n  device.sm_count: 64..128\n  device.silicon.link: 1..2 GB/s\n"
    told = r"a sample draws rates and sizes of the device above 0; give a list"
    with pytest.raises(SpecError, match=told):
        plan(opened(tmp_path, sample))
    listed = walk.walk(plan(opened(tmp_path, sample.replace("1..2 GB/s", "[1, 2] GB/s"))))
    assert set(walk.price(listed, 0)["device.silicon.link (B/s)"]) == {1e9, 2e9}
    with pytest.raises(SpecError, match="a search varies numbers of the device"):
        objectives.read(opened(tmp_path, SEARCH + "  device.silicon.node: [N7, N5]\n"))
