"""Loading: references, overrides, hash, round trip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwspecs import device, software
from hwspecs.errors import SpecError
from hwspecs.spec import dump
from sim.scenario import load
from tests.sim.toy import write

EXAMPLE = Path(__file__).parents[2] / "examples/stable-diffusion-a100.yaml"


def test_the_example_means_what_it_says() -> None:
    s = load(EXAMPLE)
    assert (s.name, s.model, s.level) == ("stable-diffusion-a100", "stable-diffusion-1.5", "calibrated")
    assert s.device == device.load("a100-sxm-80gb")
    eager = software.load("pytorch-eager")
    assert s.software == replace(eager, cuda_graphs=True, sources={**eager.sources, "cuda_graphs": "override"})
    assert (s.request.height, s.request.steps, s.request.guidance) == (512, 50, True)
    assert s.changed() == ("software.cuda_graphs",)
    assert load(EXAMPLE, ["software=pytorch-eager"]).changed() == ()


def test_defaults(tmp_path: Path) -> None:
    s = load(write(tmp_path, "model: stable-diffusion-1.5\ndevice: h100-sxm\n", "small.yaml"))
    assert (s.name, s.software.name, s.level, s.request.batch) == ("small", "pytorch-eager", "calibrated", 1)


def test_resolved_loads_back_and_gives_the_same_bytes(tmp_path: Path) -> None:
    first = load(EXAMPLE, ["device.hbm.bandwidth=4 TB/s", "request.height=768", "software.attention=auto"])
    again = load(write(tmp_path, first.resolved()))
    assert again.resolved() == first.resolved()
    assert again.hash == first.hash
    assert (again.device, again.software, again.request) == (first.device, first.software, first.request)
    assert again.changed() == first.changed()
    assert again.changed() == ("device.hbm.bandwidth", "software.attention", "software.cuda_graphs")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(8, 128).map(lambda n: 8 * n),
    batch=st.integers(1, 64),
    sms=st.integers(1, 1000),
    capacity=st.floats(1e6, 1e9),
    attention=st.sampled_from(["unfused", "flash-2", "auto"]),
)
def test_round_trip_of_any_scenario(
    tmp_path: Path, height: int, batch: int, sms: int, capacity: float, attention: str
) -> None:
    overrides = [
        f"request.height={height}", f"request.batch={batch}", f"device.sm_count={sms}",
        f"device.l2.capacity={capacity!r} B", f"software.attention={attention}",
    ]  # fmt: skip
    first = load(EXAMPLE, overrides)
    assert first.device.l2.capacity == capacity
    again = load(write(tmp_path, first.resolved()))
    assert (again.resolved(), again.hash) == (first.resolved(), first.hash)


def test_hash_moves_with_every_part() -> None:
    changes = [
        "request.steps=20",
        "device.sm_count=107",
        "software.attention=auto",
        "level=roofline",
        "device=h100-sxm",
    ]
    hashes = {load(EXAMPLE, [c]).hash for c in changes} | {load(EXAMPLE).hash}
    assert len(hashes) == len(changes) + 1
    assert all(len(h) == 16 for h in hashes)


def test_override_is_the_source_of_what_it_changed() -> None:
    s = load(EXAMPLE, ["device.hbm={bandwidth: 4 TB/s}", "software.fusion=pointwise"])
    assert s.device.hbm.bandwidth == 4e12
    assert s.device.sources["hbm.bandwidth"] == "override"
    assert s.changed() == ("device.hbm.bandwidth", "software.fusion", "software.cuda_graphs")


def test_an_override_with_the_value_of_the_base_changes_nothing() -> None:
    same = ["device.sm_count=108", "device.hbm.bandwidth=2.039 TB/s", "software.attention=flash-2"]
    assert load(EXAMPLE, same).hash == load(EXAMPLE).hash
    back = load(EXAMPLE, ["device.sm_count=120", "device.sm_count=108"])
    assert back.changed() == load(EXAMPLE).changed()


def test_any_field_that_differs_is_changed(tmp_path: Path) -> None:
    assert load(EXAMPLE, ["device.name=abc", "device.power.tdp=1 kW"]).changed()[:2] == (
        "device.name",
        "device.power.tdp",
    )
    text = dump(device.load("h100-sxm")).replace("sm_count: 132", "sm_count: 100", 1)
    write(tmp_path, text, "mine.yaml")  # still called h100-sxm, which it is not
    s = load(write(tmp_path, "model: stable-diffusion-1.5\ndevice: mine.yaml\n"))
    assert s.changed() == ("device.sm_count",)
    own = load(write(tmp_path, "model: stable-diffusion-1.5\ndevice: mine.yaml\n"), ["device.name=x", "device.title=y"])
    assert own.changed() == ("device.name", "device.title")


def test_a_mapping_with_base_keeps_a_source_that_it_gives(tmp_path: Path) -> None:
    text = (
        "model: stable-diffusion-1.5\ndevice:\n  base: a100-sxm-80gb\n  sm_count: 120\n  hbm:\n    bandwidth: 3 TB/s\n"
        "  sources:\n    hbm: a wish\n"
    )
    s = load(write(tmp_path, text))
    assert (s.device.sm_count, s.device.hbm.bandwidth, s.device.hbm.capacity) == (
        120,
        3e12,
        device.load("a100-sxm-80gb").hbm.capacity,
    )
    assert (s.device.sources["hbm.bandwidth"], s.device.sources["sm_count"]) == ("a wish", "override")


def test_device_file_is_relative_to_the_scenario(tmp_path: Path) -> None:
    mine = device.load("h100-sxm")
    write(tmp_path, dump(mine).replace("name: h100-sxm", "name: mine", 1), "mine.yaml")
    s = load(write(tmp_path, "model: stable-diffusion-1.5\ndevice: mine.yaml\n"), ["device.sm_count=64"])
    assert (s.device.name, s.device.sm_count, s.device.hbm) == ("mine", 64, mine.hbm)


def test_names_are_overridden_before_fields(tmp_path: Path) -> None:
    path = write(tmp_path)
    s = load(
        path, ["device.sm_count=64", "device=h100-sxm", "software.base=pytorch-compiled", "software.attention=unfused"]
    )
    assert (s.device.name, s.device.sm_count) == ("h100-sxm", 64)
    assert (s.software.name, s.software.attention) == ("pytorch-compiled", "unfused")


def test_all_problems_of_a_file_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "nam: x\nmodel: stable-diffusion-1.5\nrequest:\n  height: 500\n  steps: many\ndevice:\n  base: a100-sxm-80g\n"
        "  hbm:\n    bandwith: 4 TB/s\nsoftware:\n  base: pytorch-eager\n  attention: flash\nlevel: fast\n",
    )
    with pytest.raises(SpecError) as caught:
        load(path, ["request.hight=64"])
    lines = [problem.removeprefix(f"{path}:") for problem in caught.value.problems]
    places = [line.partition(" ")[0] for line in lines]
    assert places == ["--set", "1:1:", "4:11:", "5:10:", "7:9:", "9:5:", "12:14:", "13:8:"]
