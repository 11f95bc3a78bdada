"""`framecast measured`: a timeline beside its prediction."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import framecast
from hwspecs.device import load as load_device
from hwspecs.rates import rates
from hwspecs.software import load as load_software
from sim.measured import alone, check
from sim.simulate import price
from tests.workloads.timelines import by_hand, profiled, with_kernels
from workloads.formats.profiler import Measured, load

DEVICE, SOFTWARE = "a100-sxm-80gb", "pytorch-eager"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A timeline of a Block with kernels."""
    folder = tmp_path_factory.mktemp("measured")
    return with_kernels(profiled(folder / "cpu.json"), folder / "block.json", stray=True)


@pytest.fixture(scope="module")
def found(path: Path) -> Measured:
    """The same, read."""
    return load(path)


def test_lines_add_up(found: Measured) -> None:
    device, software = load_device(DEVICE), load_software(SOFTWARE)
    held = check(found, device, software, "physical")
    cost = price(found.trace, software, rates(device), "physical").cost
    for lines in (held.classes, held.modules, held.operators):
        assert sum(x.calls for x in lines) == found.trace.calls == held.all.calls
        assert sum(x.kernels for x in lines) == found.kernels.sum()
        assert sum(x.measured for x in lines) == pytest.approx(found.seconds.sum())
        assert sum(x.predicted or 0 for x in lines) == pytest.approx(cost.per_call(cost.time).sum())
    assert {x.name: x.calls for x in held.classes}["Linear"] == 5
    assert {x.name: x.calls for x in held.modules}["Block_0.Attention_0"] == 5
    assert held.unattributed == pytest.approx(5e-6)
    assert held.all.ratio == pytest.approx((held.all.predicted or 0) / held.all.measured)


def test_without_a_device_nothing_is_predicted(found: Measured) -> None:
    assert {x.predicted for x in alone(found).classes} == {None}
    assert alone(found).all.measured == pytest.approx(found.seconds.sum())


def test_command(path: Path, tmp_path: Path) -> None:
    def run(*args: str) -> str:
        result = CliRunner().invoke(framecast.commands(), ["measured", str(path), *args], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    text = run("--device", DEVICE, "--calls", str(tmp_path / "calls.csv"))
    assert text.splitlines()[0] == "block on NVIDIA A100 SXM4 80 GB, PyTorch, eager, level physical"
    assert "0.005 ms of kernels belong to no operator and are in no line." in text
    rows = list(csv.DictReader((tmp_path / "calls.csv").open()))
    found = json.loads(run("--device", DEVICE, "--format", "json", "--level", "roofline"))
    assert sum(float(r["time_s"]) for r in rows) == pytest.approx(found["all"]["measured_s"])
    assert list(found) == ["schema_version", "title", "all", "unattributed_s", "classes", "modules", "operators"]
    assert run().splitlines()[0] == "block: time of kernels on the GPU"


def test_a_product_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(by_hand()))
    held = check(load(path), load_device(DEVICE), load_software(SOFTWARE), "roofline")
    assert [x.name for x in held.classes] == ["Linear", "Memory"]
    assert [x.measured for x in held.classes] == pytest.approx([7e-6, 4e-6])
    device = load_device(DEVICE)
    moved = 2 * (64 * 32 + 32 * 16 + 64 * 16) / device.hbm.bandwidth
    assert next(x for x in held.classes if x.name == "Linear").predicted == pytest.approx(moved, rel=0.2)
