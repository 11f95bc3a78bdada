"""Area, power and price: against what is public, the fit that is committed, and what devices state of themselves."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from click.testing import CliRunner

from calib import dies
from framecast import commands
from hwspecs import device, estimate, figures, power, price, silicon, spec
from hwspecs.device import Device, Silicon
from hwspecs.errors import SpecError
from hwspecs.rates import rates

REAL = [n for n in device.device_names() if (d := device.load(n)).silicon is not None and not d.imaginary]


def made_of(found: Device) -> Silicon:
    assert found.silicon is not None
    return found.silicon


@pytest.fixture(scope="module")
def fitted() -> dies.Fit:
    return dies.fit()


def test_every_die_is_met_by_a_fit_that_did_not_see_it(fitted: dies.Fit) -> None:
    assert len(fitted.rows) >= 15
    assert all(row.published["source"] for row in fitted.rows)
    median, worst = dies.HELD
    assert fitted.median <= median
    assert fitted.worst <= worst
    assert len(silicon.PARTS) <= 6


def test_dies_of_which_a_bound_is_public_are_not_far_above_it(fitted: dies.Fit) -> None:
    bounds = silicon.public_dies(bounds=True)
    assert not {row["name"] for row, _ in bounds} & {row.published["name"] for row in fitted.rows}
    for row, die in bounds:
        assert 0.5 < silicon.area(die, fitted.values) / row["area_mm2"] < 1 + dies.HELD[0]


def test_the_committed_coefficients_are_those_of_the_fit(fitted: dies.Fit) -> None:
    assert (estimate.FOLDER / "area.yaml").read_text(encoding="utf-8") == dies.coefficients(fitted)


def test_a_wrong_area_would_be_noticed(fitted: dies.Fit) -> None:
    row = dataclasses.replace(fitted.rows[0], published={**fitted.rows[0].published, "area_mm2": 300})
    assert dataclasses.replace(fitted, rows=(row, *fitted.rows[1:])).worst > dies.HELD[1]


@pytest.mark.parametrize("name", REAL)
def test_power_at_full_activity_is_near_the_limit(name: str) -> None:
    found = device.load(name)
    drawn = power.of_device(found)
    assert drawn is not None
    low, value, high = map(float, drawn.full)
    assert abs(value / found.power.tdp - 1) <= 0.25
    assert low <= found.power.tdp <= high
    assert 0 < drawn.clock <= found.sm_clock


def test_kinds_of_devices_are_those_of_the_tables() -> None:
    hints = get_type_hints(Silicon)
    assert set(get_args(hints["node"])) == set(silicon.nodes())
    kinds = set(get_args(hints["memory"]))
    assert kinds == set(estimate.data("energy")["memory"]) == set(estimate.data("prices")["memory"])
    assert {row["node"] for row, _ in silicon.public_dies()} <= set(silicon.nodes())


def test_full_counts_are_kept_apart_from_enabled_ones() -> None:
    counts = silicon.full_counts(device.load("a100-sxm-80gb"))
    assert counts["sm_count"] == 128
    assert counts["l2_bytes"] == pytest.approx(48 * 2**20, rel=1e-3)
    assert counts["memory_units"] == 6


def test_a_stated_area_wins_is_marked_and_carries_over_to_changed_designs() -> None:
    a100 = device.load("a100-sxm-80gb")
    assert figures.figures(a100)["die area"] == figures.Figure(estimate.exactly(826.0), "mm2", stated=True)
    modelled = silicon.die_area(rates(a100), made_of(a100))
    assert modelled.value != 826
    assert modelled.low < 826 < modelled.high
    bigger = dataclasses.replace(a100, sm_count=216, sources={**a100.sources, "sm_count": "override"})
    found = figures.figures(bigger)["die area"]
    model = silicon.area(silicon.die_of(rates(bigger), made_of(bigger)), silicon.fitted())
    assert not found.stated
    assert found.value.value == pytest.approx(826 * model / modelled.value)
    assert found.value.high / found.value.value > 1.02


def test_a_stated_power_wins_and_is_marked() -> None:
    a100 = device.load("a100-sxm-80gb")
    told = dataclasses.replace(a100, silicon=dataclasses.replace(made_of(a100), load_power=390.0))
    assert figures.figures(told)["power at full activity"].words() == "390 W (stated)"
    assert not figures.figures(a100)["power at full activity"].stated


def test_what_no_die_covers_is_said() -> None:
    a100 = device.load("a100-sxm-80gb")
    assert silicon.outside(a100) == []
    node = dataclasses.replace(a100, silicon=dataclasses.replace(made_of(a100), node="N2", area=0.0))
    told = "node N2: no public die of it was fitted (known: 16FF, 12FFN, 8N, N7, N6, N5, 4N)"
    assert silicon.outside(node)[0] == told
    big = dataclasses.replace(a100, sm_count=216, silicon=dataclasses.replace(made_of(a100), area=0.0))
    assert "is beyond the reticle of 858 mm2; at least 2 dies are needed" in silicon.outside(big)[0]
    wide = dataclasses.replace(a100, hbm=dataclasses.replace(a100.hbm, bandwidth=4e12))
    assert silicon.outside(wide) == ["11.8 HBM stacks; 6 fit along the two long edges of 1 x 826 mm2"]


def test_known_boards_hold_their_stacks() -> None:
    assert all("stacks" not in line for name in REAL for line in silicon.outside(device.load(name)))


def test_a_device_may_leave_its_silicon_out(tmp_path: Path) -> None:
    data = spec.to_data(device.load("h100-sxm"))
    data = {k: v for k, v in data.items() if k != "silicon"} | {"name": "bare"}
    data["sources"] = {k: v for k, v in data["sources"].items() if not k.startswith("silicon")}
    path = tmp_path / "bare.yaml"
    path.write_text(spec.dump(data))
    bare = device.load(str(path))
    assert bare.silicon is None
    assert figures.figures(bare) == {}
    assert "silicon" not in " ".join(bare.doubts())
    shown = CliRunner().invoke(commands(), ["hardware", "show", str(path)], catch_exceptions=False).output
    assert "Area, power and price: unknown, since the file has no `silicon`" in shown
    compared = CliRunner().invoke(commands(), ["hardware", "compare", str(path), "h100-sxm"], catch_exceptions=False)
    assert compared.exit_code == 0
    assert next(line for line in compared.output.splitlines() if line.startswith("die area")).split()[2] == "-"


def test_harvest_is_the_poisson_sum() -> None:
    assert price.harvest(2.0, 0.0) == pytest.approx(math.exp(-2))
    assert price.harvest(2.0, 2.0) == pytest.approx(math.exp(-2) * (1 + 2 + 2))
    assert price.harvest(2.0, 0.5) == pytest.approx(math.exp(-2) * (1 + 0.5 * 2))
    assert price.harvest(np.array([0.0, 3.0]), np.array([0.0, 60.0])) == pytest.approx([1, 1])


def test_dies_of_a_wafer() -> None:
    # 300 mm wafer, 3 mm edge: rectangular layouts hold some 580 to 600 dies of 100 mm2, and 60 to 64 of 814 mm2 (GH100)
    assert price.dies_per_wafer(100.0) == pytest.approx(613, abs=20)
    assert price.dies_per_wafer(814.0) == pytest.approx(61, abs=3)


def test_the_price_of_an_h100_is_in_the_reports_range() -> None:
    # made for about 3300 dollars (Raymond James, 2023), sold for 25,000 to 30,000: list prices exceed a corporate margin
    found = figures.figures(device.load("h100-sxm"))
    cost, bought = found["cost to make"].value, found["price"].value
    assert cost.high / 3300 == pytest.approx(1, abs=0.15)
    assert bought.low < bought.value < bought.high < 25_000


def test_the_fit_as_a_command(tmp_path: Path) -> None:
    out = tmp_path / "area.yaml"
    ran = CliRunner().invoke(commands(), ["calib", "dies", "--out", str(out)], catch_exceptions=False)
    assert "Left out of the fit: median error" in ran.output
    assert out.read_text() == (estimate.FOLDER / "area.yaml").read_text()


def test_a_file_of_coefficients_that_cannot_be_written(tmp_path: Path) -> None:
    out = tmp_path / "none" / "area.yaml"
    with pytest.raises(SpecError) as caught:
        CliRunner().invoke(
            commands(), ["calib", "dies", "--out", str(out)], catch_exceptions=False, standalone_mode=False
        )
    assert str(caught.value) == f"--out {out}: cannot write the file: no such file or directory"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("node: 4N", "node: N4", "silicon.node: found 'N4', expected one of 16FF, 12FFN, 8N, N7, N6, N5, 4N, N3E, N2"),
        (
            "memory: HBM3\n",
            "memory: HBM5\n",
            "silicon.memory: found 'HBM5', expected one of HBM2, HBM2e, HBM3, HBM3e, HBM4, GDDR6, GDDR6X, GDDR7",
        ),
        ("area: 814 mm2", "area: 814", "silicon.area: found '814', expected an area with its unit, for example '826 mm2'"),
        (
            "sm_enabled: 0.9167",
            "sm_enabled: 1.1",
            "silicon.sm_enabled: found '1.1', expected a number greater than 0 and at most 1",
        ),
        ("  memory_unit: 670 GB/s\n", "", "silicon.memory_unit: missing; expected a rate with its unit, for example '4.8 TB/s'"),
        (
            "  silicon: ",
            "  silicon.node: ",
            "silicon.dies: has no source; add it under sources, for example `silicon.dies: data sheet, page 1`",
        ),
    ],
)  # fmt: skip
def test_a_wrong_silicon_is_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (Path(device.__file__).parent / "data/h100-sxm.yaml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("name: h100-sxm", "name: mine").replace(old, new))
    with pytest.raises(SpecError) as caught:
        device.load(str(path))
    assert message in [
        problem.split(": ", 1)[1].split(" did you mean")[0].rstrip(";") for problem in caught.value.problems
    ]


def test_devices_side_by_side_show_ranges() -> None:
    ran = CliRunner().invoke(commands(), ["hardware", "compare", "a100-sxm-80gb", "b200"], catch_exceptions=False)
    line = next(line for line in ran.output.splitlines() if line.startswith("die area"))
    assert "826 mm2 (stated)" in line
    assert re.search(r"\d+ mm2 \(\d+ to \d+\)", line)
    args = ["hardware", "compare", "a100-sxm-80gb", "b200", "--format", "json"]
    rows = json.loads(CliRunner().invoke(commands(), args, catch_exceptions=False).output)["rows"]
    area = next(row for row in rows if row["field"] == "die area")
    assert area["stated"] == [True, False]
    assert area["intervals"][1][0] < area["values"][1] < area["intervals"][1][1]
