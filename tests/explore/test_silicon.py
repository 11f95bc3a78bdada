"""Energy, area, power and price as outputs of sweeps and goals of searches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from explore import evaluate, objectives
from explore.silicon import OUTPUTS
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
