"""Every message of the sections `sweep:` and `search:`, word for word."""

from __future__ import annotations

from pathlib import Path

import pytest

from explore import objectives
from explore.evaluate import OUTPUTS
from explore.space import origin
from explore.sweep import plan, sweep
from hwspecs.errors import SpecError
from sim.scenario import load
from tests.explore.toys import SEARCH, opened, use_toy

NUMBERS = ", ".join([*(name for name in OUTPUTS if name != "fits"), "relative_resources"])
RANGE = "expected a list, or a range, for example '2.4..4.8 TB/s, 8 points'"


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    use_toy(monkeypatch)


def problems(folder: Path, section: str, *overrides: str) -> list[str]:
    at = opened(folder, section, *overrides)
    with pytest.raises(SpecError) as caught:
        objectives.read(at) if section.startswith("search") else sweep(plan(at))
    return [problem.replace(str(folder / "toy.yaml"), "PATH") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            "device.hbm.bandwith: [1 TB/s]",
            "PATH:5:3: sweep.device.hbm.bandwith: unknown field; did you mean 'device.hbm.bandwidth'?",
        ),
        (
            "vary: {device.exp: [16]}",
            "PATH:5:10: sweep.vary.device.exp: unknown field; put device.exp directly under sweep, not under 'vary'",
        ),
        ("device.title: [x]", "PATH:5:3: sweep.device.title: unknown field; did you mean 'device.exp'?"),
        (
            "device.hbm.bandwidth: 4 TB/s",
            f"PATH:5:25: sweep.device.hbm.bandwidth: found '4 TB/s', {RANGE}",
        ),
        (
            "request.steps: 30",
            "PATH:5:18: sweep.request.steps: found '30', expected a list, or a range, for example '64..256 step 8'",
        ),
        (
            "device.hbm.bandwidth: 1..4 TBs, 3 points",
            "PATH:5:25: sweep.device.hbm.bandwidth: found '1 TBs', expected a rate with its unit, for example '4.8 TB/s'",
        ),
        (
            "device.hbm.bandwidth: 1..4, 3 points",
            "PATH:5:25: sweep.device.hbm.bandwidth: found '1', expected a rate with its unit, for example '4.8 TB/s'",
        ),
        (
            "device.hbm.bandwidth: 4..1 TB/s, 3 points",
            "PATH:5:25: sweep.device.hbm.bandwidth: found '4..1 TB/s, 3 points': the range is reversed; expected the low"
            " end first, '1 TB/s..4 TB/s'",
        ),
        (
            "device.hbm.bandwidth: 4..4 TB/s, 3 points",
            "PATH:5:25: sweep.device.hbm.bandwidth: found '4..4 TB/s, 3 points': the range is empty, both ends are"
            " 4 TB/s; expected two different ends",
        ),
        (
            "device.hbm.bandwidth: 1..4 TB/s",
            "PATH:5:25: sweep.device.hbm.bandwidth: found '1..4 TB/s': how many points? Add 'step N' or ', N points'",
        ),
        (
            "device.hbm.bandwidth: 1..4 TB/s step 8 TB/s",
            "PATH:5:25: sweep.device.hbm.bandwidth: found '1..4 TB/s step 8 TB/s': expected a step above 0 and at most"
            " 4 TB/s - 1 TB/s",
        ),
        (
            "device.hbm.bandwidth: 1..4 TB/s, 1 point",
            "PATH:5:25: sweep.device.hbm.bandwidth: found '1..4 TB/s, 1 point': expected 2 to 1000000 points",
        ),
        (
            "device.hbm.bandwidth: 1..4 TB/s step 1 TB/s, 3 points",
            "PATH:5:25: sweep.device.hbm.bandwidth: found '1..4 TB/s step 1 TB/s, 3 points': expected a step or a number"
            " of points, not both",
        ),
        (
            "device.hbm.bandwidth: 1..4 TB/s log step 1 TB/s",
            "PATH:5:25: sweep.device.hbm.bandwidth: found '1..4 TB/s log step 1 TB/s': a logarithmic range has no step;"
            " use 'N points'",
        ),
        (
            "device.tensor.sustained: 0..1 log, 3 points",
            "PATH:5:28: sweep.device.tensor.sustained: found '0..1 log, 3 points': a logarithmic range starts above 0,"
            " not at 0",
        ),
        (
            "device.hbm.bandwidth: 1..4 TB/s, often",
            "PATH:5:25: sweep.device.hbm.bandwidth: found 'often' in the range, expected log, 'step N' or 'N points'",
        ),
        (
            "device.hbm.bandwidth: 0..4 TB/s, 5 points",
            "PATH:5:25: sweep.device.hbm.bandwidth: found '0 B/s', expected a rate of at least 1 GB/s and at most 1000 PB/s",
        ),
        ("device.sm_count: 1..9.5 step 1", "PATH:5:20: sweep.device.sm_count: found '9.5', expected a whole number"),
        (
            "device.sm_count: 1..2000000 step 1",
            "PATH:5:20: sweep.device.sm_count: found '1..2000000 step 1': 2000000 points; expected at most 1000000",
        ),
        (
            "device.hbm.bandwidth: [1 TB/s, 2]",
            "PATH:5:34: sweep.device.hbm.bandwidth: found '2', expected a rate with its unit, for example '4.8 TB/s'",
        ),
        (
            "device.hbm.bandwidth: []",
            "PATH:5:25: sweep.device.hbm.bandwidth: the list is empty; expected at least one value",
        ),
        (
            "request.steps: [5, 6, 5]",
            "PATH:5:18: sweep.request.steps: 5 stands in the list more than once",
        ),
        ("request.steps: [[5]]", "PATH:5:19: sweep.request.steps: found a list of 1, expected one value"),
        (
            "request.height: [512, 500]",
            "PATH:5:25: sweep.request.height: found 500, expected a multiple of 8; nearest: 496, 504",
        ),
        (
            "software.attention: [flash]",
            "PATH:5:24: sweep.software.attention: found 'flash', expected one of unfused, flash-1, flash-2, flash-3, auto; "
            "did you mean 'flash-1', 'flash-2' or 'flash-3'?",
        ),
        (
            "software.attention: flash-2",
            "PATH:5:23: sweep.software.attention: found 'flash-2', expected a list of values",
        ),
        (
            "request.steps: [5]\n  mode: gird",
            "PATH:6:9: sweep.mode: found 'gird', expected one of grid, list; did you mean 'grid'?",
        ),
        (
            "request.steps: [5]\n  request.batch: [1, 2]\n  mode: list",
            "PATH:5:3: sweep.mode: a list takes as many values of each field; found request.steps 1, request.batch 2",
        ),
        (
            "mode: list",
            "PATH:5:3: sweep: no field varies; expected at least one, for example `request.height: [512, 768]`",
        ),
        (
            "request.steps: 1..1000 step 1\n  request.batch: 1..1000 step 1\n  device.sm_count: 1..10001 step 1",
            "PATH:5:3: sweep: 1000 x 1000 x 10001 points; expected at most 10000000000 in all; use `sample: N`",
        ),
    ],
)
def test_a_sweep_that_cannot_be(tmp_path: Path, lines: str, message: str) -> None:
    assert problems(tmp_path, f"sweep:\n  {lines}\n") == [message]


def test_no_sweep(tmp_path: Path) -> None:
    example = "request.height: [512, 768]"
    assert problems(tmp_path, "") == [
        f"PATH: sweep: missing; expected fields that vary, for example `sweep: {{{example}}}`"
    ]
    for text, found in (("3", "'3'"), ("", "nothing"), ("{}", "no fields"), ("[1]", "a list of 1")):
        (problem,) = problems(tmp_path, f"sweep: {text}\n")
        assert problem.endswith(f": sweep: found {found}, expected fields that vary, for example `{example}`")


def test_all_problems_of_a_sweep_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, "sweep:\n  request.stps: [5]\n  request.steps: [0, none]\n  mode: x\n")
    assert [problem.split(": ")[1] for problem in found] == [
        "sweep.request.stps", "sweep.request.steps", "sweep.request.steps", "sweep.mode",
    ]  # fmt: skip


def test_a_combination_that_cannot_be(tmp_path: Path) -> None:
    text = "sweep:\n  request.dtype: [fp16, bf16]\n  device.tensor.bf16: [0 FLOP/cycle, 2048 FLOP/cycle]\n"
    assert problems(tmp_path, text, "device.vector.bf16=128 FLOP/cycle") == [
        "PATH:5:25: sweep.request.dtype: a100-sxm-80gb has no bf16 arithmetic; it has fp32, tf32, fp16, int8"
        " (at request.dtype=bf16, device.tensor.bf16=0 FLOP/cycle)"
    ]  # though each value alone can be
    at = "sweep:\n  request.height: [512, 1024]\n  device: [a100]\n"
    (problem,) = problems(tmp_path, at)
    assert problem.startswith("PATH:6:12: sweep.device: unknown device 'a100'")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "device.hbm.bandwidth",
            "device.hbm.bandwith",
            "PATH:6:3: search.device.hbm.bandwith: unknown field; did you mean 'device.hbm.bandwidth'?",
        ),
        (
            "device.sm_count: 64..256 step 4",
            "vary: {device.sm_count: 64..256 step 4}",
            "PATH:5:10: search.vary.device.sm_count: unknown field; put device.sm_count directly under search, not under 'vary'",
        ),
        (
            "device.sm_count: 64..256 step 4",
            "request.steps: 1..9",
            "PATH:5:18: search.request.steps: a search varies numbers of the device; change it in the scenario, or use `sweep`",
        ),
        (
            "64..256 step 4",
            "256..64 step 4",
            "PATH:5:20: search.device.sm_count: found '256..64 step 4': the range is reversed; expected the low end first,"
            " '64..256'",
        ),
        (
            "64..256 step 4",
            "64..64",
            "PATH:5:20: search.device.sm_count: found '64..64': the range is empty, both ends are 64; expected two"
            " different ends",
        ),
        (
            "1..8 TB/s log",
            "1..8 TB/s, 8 points",
            "PATH:6:25: search.device.hbm.bandwidth: found '1..8 TB/s, 8 points': a search draws from the whole range;"
            " leave out the points, or give a list",
        ),
        (
            "1..8 TB/s log",
            "1..8 GHz",
            "PATH:6:25: search.device.hbm.bandwidth: found '1 GHz', expected a rate with its unit, for example '4.8 TB/s'",
        ),
        (
            "{latency_s: minimize,",
            "{latency: minimize,",
            f"PATH:8:16: search.objectives.latency: unknown output; did you mean 'latency_s'? (allowed: {NUMBERS})",
        ),
        (
            "{latency_s: minimize,",
            "{latency_s: smallest,",
            "PATH:8:27: search.objectives.latency_s: found 'smallest', expected one of minimize, maximize",
        ),
        (
            "objectives: {latency_s: minimize, relative_resources: minimize}",
            "objectives: {}",
            "PATH:8:15: search.objectives: empty; expected at least one",
        ),
        (
            "  objectives: {latency_s: minimize, relative_resources: minimize}\n",
            "",
            "PATH:5:3: search.objectives: missing; expected outputs and directions, for example"
            " `objectives: {latency_s: minimize}`",
        ),
        (
            "relative_resources <= 2",
            "relative_resources < 2",
            "PATH:9:17: search.constraints.0: found 'relative_resources < 2', expected an output, <= or >=, and a number,"
            " for example 'latency_s <= 0.8 s'",
        ),
        (
            "relative_resources <= 2",
            "relative_cost <= 2",
            f"PATH:9:17: search.constraints.0: unknown output 'relative_cost';"
            f" did you mean 'relative_resources'? (allowed: {NUMBERS})",
        ),
        (
            "relative_resources <= 2",
            "latency_s <= 2 GB",
            "PATH:9:17: search.constraints.0: found '2 GB', expected a time with its unit, for example '1.2 us'",
        ),
        ("trials: 20", "trials: 0", "PATH:10:11: search.trials: found '0', expected a whole number of at least 1"),
        (
            "trials: 20",
            "trails: 20",
            "PATH:10:3: search.trails: unknown field; did you mean 'trials'?",
        ),
        (
            "trials: 20",
            "resources: {device.hbm.bandwidht: 1}",
            "PATH:10:15: search.resources.device.hbm.bandwidht: not a number of the device; did you mean 'device.hbm.bandwidth'?",
        ),
        (
            "trials: 20",
            "resources: {device.tensor.fp8: 1}",
            "PATH:10:14: search.resources.device.tensor.fp8: the baseline has none of it (0 FLOP/cycle); leave it out",
        ),
        (
            "trials: 20",
            "resources: {device.sm_count: -1}",
            "PATH:10:32: search.resources.device.sm_count: found '-1', expected a number of at least 0",
        ),
    ],
)
def test_a_search_that_cannot_be(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert problems(tmp_path, SEARCH.replace(old, new)) == [message]


def test_problems_of_overrides(tmp_path: Path) -> None:
    found = problems(
        tmp_path, SEARCH, "search.device.sm_count=9..8", "search.objectives.speed=maximize", "search.seed=-1"
    )
    assert found == [
        "--set search.seed: found '-1', expected a whole number of at least 0 and at most 999999",
        "--set search.device.sm_count: found '9..8': the range is reversed; expected the low end first, '8..9'",
    ]
    found = problems(tmp_path, SEARCH, "search.objectives.speed=maximize")
    assert found == [f"--set search.objectives.speed: unknown output (allowed: {NUMBERS})"]


def test_a_field_that_the_file_gives_twice(tmp_path: Path) -> None:
    twice = "given twice, in lines 5 and 7; leave one of them out"
    text = "  device.hbm.bandwidth: {0}\n  device.sm_count: [100]\n  device: {{hbm: {{bandwidth: {0}}}}}\n"
    found = problems(tmp_path, "sweep:\n" + text.format("[1 TB/s]"))
    assert found == [f"PATH:7:18: sweep.device.hbm.bandwidth: {twice}"]
    found = problems(
        tmp_path,
        "search:\n" + text.format("1..8 TB/s").replace("[100]", "9..90") + "  objectives: {latency_s: minimize}\n",
    )
    assert found == [f"PATH:7:18: search.device.hbm.bandwidth: {twice}"]
    weights = SEARCH + "  resources:\n    device.sm_count: 1\n    device:\n      sm_count: 2\n"
    (problem,) = problems(tmp_path, weights)
    assert problem.endswith("search.resources.device.sm_count: given twice, in lines 14 and 16; leave one of them out")


def test_overrides_add_replace_and_take_out(tmp_path: Path) -> None:
    settings = ("search.resources.device.sm_clock=3", "search.device.sm_count=9..90", "search.device.l2.capacity=null",
                "search.objectives.latency_s=null")  # fmt: skip
    found = objectives.read(opened(tmp_path, SEARCH, *settings))
    assert found.resources == {"device.sm_clock": 3}
    assert {axis.path: axis.text() for axis in found.axes} == {
        "device.sm_count": "9–90",
        "device.hbm.bandwidth": "1–8 TB/s log",
    }
    assert dict(found.objectives) == {"relative_resources": "minimize"}
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(found.scenario.resolved())
    again = objectives.read(origin(str(resolved)))  # the resolved scenario is the search that was made
    assert (again.axes[0].text(), again.objectives) == (found.axes[0].text(), found.objectives)


def test_an_override_names_its_field_once(tmp_path: Path) -> None:
    found = problems(tmp_path, "sweep:\n  request.height: [512]\n", "sweep.request.height=[500]")
    assert found == ["--set sweep.request.height: found 500, expected a multiple of 8; nearest: 496, 504"]


def test_no_search(tmp_path: Path) -> None:
    example = "device.hbm.bandwidth: 1..8 TB/s"
    found = problems(tmp_path, "search:\n  objectives: {latency_s: minimize}\n")
    assert found == [f"PATH:5:3: search: no field varies; expected at least one, for example `{example}`"]
    with pytest.raises(
        SpecError, match=r"search: missing; expected fields that vary, for example `search: {device\.hbm"
    ):
        objectives.read(opened(tmp_path, ""))


def test_null_takes_out_only_what_is_there(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("model: stable-diffusion-1.5\ndevice: a100-sxm-80gb\nsweep:\n  request.height: [512]\n")
    with pytest.raises(SpecError) as caught:
        load(file, ["sweep.request.heigth=null"])
    assert str(caught.value) == "--set sweep.request.heigth: nothing to take out; did you mean 'request.height'?"


def test_an_override_replaces_a_field_where_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "model: stable-diffusion-1.5\ndevice: a100-sxm-80gb\nsearch:\n  device.sm_count: 64..128 step 8\n"
        "  device: {hbm: {bandwidth: 1..4 TB/s}}\n  device.exp: 8..16\n  resources: {device.sm_count: 4}\n"
    )
    settings = ("search.device.sm_count=9..90", "search.device.hbm.bandwidth=1..2 TB/s", "search.device.exp=null",
                "search.resources.device.sm_count=2", "search.resources.device.exp=1",
                "search.device.sm_clock=1..2 GHz")  # fmt: skip
    assert load(file, settings).sections["search"].plain() == {
        "device.sm_count": "9..90",
        "device": {"hbm": {"bandwidth": "1..2 TB/s"}},
        "resources": {"device.sm_count": 2, "device.exp": 1},
        "device.sm_clock": "1..2 GHz",
    }
