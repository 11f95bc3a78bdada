"""A projection: groups add up to a replay, crossovers equal the closed form, output is what its page says."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from explore.project import (
    CROSS,
    GROUPS,
    REST,
    SPATIAL,
    TEMPORAL,
    Projection,
    crossings,
    load,
)  # fmt: skip
from explore.project_cli import project as command
from explore.project_report import note, rows_csv, text, to_json
from sim.scenario import load as load_scenario
from sim.simulate import replay

PAGE = Path(__file__).parents[2] / "docs/project-json.md"
FRAMES = [2, 4, 16, 64, 1024]
# Each level of the UNet: positions over those of the first, heads, spatial self-attentions; temporal blocks have two.
LEVELS = ((1, 5, 5), (4, 10, 5), (16, 20, 5), (64, 20, 1))
ENTRY_HEADS, HEAD_DIM, CLIPS, STEPS = 8, 64, 2, 50


def test_sizes_in_the_order_of_the_file_and_frames_ascending(found: Projection) -> None:
    assert [(p.height, p.width, p.frames) for p in found.points] == [(64, w, f) for w in (64, 128) for f in FRAMES]


def test_lengths_in_seconds_stand_for_frames(scenario: Path) -> None:
    """At 24 frames a second, of a model that makes every count: without frames, and beside them."""
    alone = load_scenario(scenario, ["project.frames=[]", "project.seconds=[1 s, 0.5 s]"])
    assert load(alone)[1] == [12, 24]
    assert load(load_scenario(scenario, ["project.frames=[2, 24]", "project.seconds=[1 s]"]))[1] == [2, 24]


def test_the_groups_add_up_to_a_replay(found: Projection, scenario: Path) -> None:
    settings = ["request.height=64", "request.width=128", "request.frames=1024", "level=physical"]
    result = replay(load_scenario(scenario, settings))
    (point,) = (p for p in found.of(64, 128) if p.frames == 1024)
    assert point.gpu_time == pytest.approx(result.gpu_time, rel=1e-12)
    assert sum(g.flops for g in point.groups.values()) == result.trace.flops()
    assert sum(g.hbm_bytes for g in point.groups.values()) == pytest.approx(result.total().hbm_bytes, rel=1e-12)
    assert point.latency == pytest.approx(result.latency, rel=1e-12)
    assert point.peak_bytes == result.memory.peak == max(g.peak_bytes for g in point.groups.values())
    assert point.groups[TEMPORAL].time == pytest.approx(result.by_role()["temporal"].time, rel=1e-12)
    attention = result.by_class()["Attention"].time
    ours = sum(point.groups[name].time for name in (SPATIAL, TEMPORAL, CROSS))
    assert attention * 0.9 < ours < attention  # less what the text encoder and the decoder have


@pytest.mark.parametrize("index", [0, 1])
def test_flops_and_their_crossover_equal_the_closed_form(found: Projection, index: int) -> None:
    crossover = found.crossovers[index]
    positions = crossover.height * crossover.width // 64
    per = 4 * CLIPS * HEAD_DIM * STEPS
    a_s = per * sum(n * heads * (positions // over) ** 2 for over, heads, n in LEVELS)
    a_t = 2 * per * (sum(n * heads * positions // over for over, heads, n in LEVELS) + ENTRY_HEADS * positions)
    for point in found.of(crossover.height, crossover.width):
        assert point.groups[SPATIAL].flops == a_s * point.frames
        assert point.groups[TEMPORAL].flops == a_t * point.frames**2
    assert crossover.flops == Fraction(a_s, a_t)


def test_the_crossover_moves_right_with_the_resolution(found: Projection) -> None:
    small, large = found.crossovers
    assert small.flops
    assert large.flops
    assert small.flops < large.flops
    assert not small.times or not large.times or small.times[-1] <= large.times[-1]
    # few frames do not fill the blocks of a fused kernel, so that temporal attention may be the longer one from the first on
    assert large.times or large.first_above


def test_scores_are_those_of_the_largest_call(found: Projection) -> None:
    for point in found.of(64, 64):
        assert point.groups[SPATIAL].scores_bytes == 2 * CLIPS * point.frames * 5 * 64**2
        assert point.groups[TEMPORAL].scores_bytes == 2 * CLIPS * 64 * ENTRY_HEADS * point.frames**2
        assert point.groups[REST].scores_bytes == 0


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.lists(st.integers(1, 10**5), min_size=2, max_size=9, unique=True))
def test_straight_lines_cross_where_they_should(a: float, b: float, frames: list[int]) -> None:
    frames = sorted(frames)
    x = crossings(frames, [a * f for f in frames], [b * f**2 for f in frames])
    inside = frames[0] * (1 + 1e-9) < a / b < frames[-1] * (1 - 1e-9)
    touching = np.isclose(a / b, frames, rtol=1e-9).any()
    assert touching or len(x) == inside
    assert not x or x[0] == pytest.approx(a / b, rel=1e-6)


def test_crossings_of_curves_that_turn_and_touch() -> None:
    assert crossings([1, 4, 16], [1, 1, 1], [2, 0.5, 2]) == pytest.approx((2, 8))
    assert crossings([1, 4, 16], [1, 1, 1], [2, 1, 2]) == ()
    assert crossings([1, 4, 16], [1, 1, 1], [0.5, 1, 2]) == pytest.approx((4,))
    assert crossings([1, 4], [1, 1], [2, 3]) == ()


def test_what_the_note_says() -> None:
    from explore.project import Crossover

    def projection(times: tuple[float, ...], first_above: bool) -> tuple[Projection, Crossover]:
        crossover = Crossover(8, 8, None, times, first_above)
        ends = [_Point(frames=f, height=8, width=8, fits=True, not_calibrated=0.5) for f in (1, 64)]
        return Projection(None, tuple(ends), (crossover,)), crossover  # type: ignore[arg-type]

    assert note(*projection((5.0,), False)) == ""
    assert note(*projection((), False)) == ""
    assert note(*projection((), True)) == "temporal attention takes longer already at 1 frame"
    assert note(*projection((5.0,), True)) == (
        "temporal attention takes longer already at 1 frame; and less time from 5.00 frames on"
    )
    assert note(*projection((5.0, 9.0), True)) == (
        "temporal attention takes longer already at 1 frame; the times cross more than once: at 5.00, 9.00 frames"
    )
    assert [projection(t, a)[1].time for t, a in (((5.0,), False), ((5.0,), True), ((5.0, 9.0), True))] == [5, None, 9]


class _Point:
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


def test_the_text_names_units_and_ends_with_the_crossovers(found: Projection) -> None:
    lines = text(found).splitlines()
    assert lines[0] == (
        "toy: modelscope-t2v, batch 1, steps 50, guidance on, dtype fp16, vae_slicing off; clips of 24 frames a second"
    )
    assert "64 x 128: kernel time of one inference in seconds; latency; memory" in lines
    assert sum(line.split()[:1] == ["1024"] for line in lines) == 4
    table = lines[lines.index("Where temporal attention overtakes spatial attention") + 3 :]
    assert table[0].startswith("64 x 64  ")
    assert any(
        line.startswith("Fits 85.9 GB, of the frame counts asked for: 64 x 64 up to 1024 frames") for line in table
    )
    assert [line for line in lines if len(line) >= 160 and not line.startswith(("on ", "64 x", "Fits"))] == []


def test_few_frames_with_fused_attention_are_said_to_be_padded(found: Projection) -> None:
    fused = replace(found.scenario, software=replace(found.scenario.software, attention="flash-2"))
    unfused = replace(found.scenario, software=replace(found.scenario.software, attention="unfused"))
    said = "(here flash-2) computes whole blocks"
    assert text(replace(found, scenario=fused)).count(said) == len(found.crossovers)
    assert "computes whole blocks" not in text(replace(found, scenario=unfused))
    longer = tuple(replace(p, frames=p.frames + 128) for p in found.points)
    assert said not in text(replace(found, scenario=fused, points=longer))


def test_json_keys_are_those_of_the_docs(found: Projection) -> None:
    data = json.loads(json.dumps(to_json(found)))
    documented = set(re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(encoding="utf-8"), flags=re.M))
    assert set(_keys(data)) == documented
    assert set(data["points"][0]["groups"]) == {name.replace(" ", "_") for name in GROUPS}
    assert f"`schema_version` is {data['schema_version']}." in PAGE.read_text(encoding="utf-8")


def _keys(data: Any, path: str = "") -> Iterator[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _keys(value, f"{path}.{'<group>' if path.endswith('groups') else key}".lstrip("."))
    elif isinstance(data, list) and data and isinstance(data[0], dict):
        for value in data:
            yield from _keys(value, f"{path}[]")
    else:
        yield path


def test_csv_is_tidy(found: Projection) -> None:
    rows = list(csv.DictReader(io.StringIO(rows_csv(found))))
    assert len(rows) == 10 * len(GROUPS)
    assert [row["group"] for row in rows[: len(GROUPS)]] == list(GROUPS)
    assert sum(float(row["group_time_s"]) for row in rows[: len(GROUPS)]) == pytest.approx(float(rows[0]["gpu_time_s"]))


@pytest.mark.usefixtures("found")
def test_files_and_formats_of_the_command(scenario: Path, tmp_path: Path) -> None:
    def run(*args: str) -> str:
        ran = CliRunner().invoke(command, [str(scenario), *args], catch_exceptions=False, standalone_mode=False)
        assert ran.return_value == 0
        return ran.stdout

    outs = [tmp_path / "a", tmp_path / "b"]
    for out in outs:
        printed = run("--format", "json", "--out", str(out))
        assert sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()) == [
            "plots/frames-share.png", "plots/frames-share.svg", "plots/frames.png", "plots/frames.svg", "plots/ways.png",
            "plots/ways.svg", "project.csv",
            "project.json", "scenario.resolved.yaml",
        ]  # fmt: skip
        assert printed == (out / "project.json").read_text(encoding="utf-8")
        assert (out / "plots/frames.png").read_bytes().startswith(b"\x89PNG")
    for name in ("plots/frames.svg", "plots/frames.png", "plots/frames-share.svg", "project.csv"):
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes()
    assert run("--format", "csv") == (outs[0] / "project.csv").read_text(encoding="utf-8")
    resolved = load_scenario(outs[0] / "scenario.resolved.yaml")
    assert resolved.resolved() == (outs[0] / "scenario.resolved.yaml").read_text(encoding="utf-8")
    assert load(resolved) == ([(64, 64), (64, 128)], FRAMES)


@pytest.mark.usefixtures("found")
def test_an_image_size_of_its_own_and_one_frame_count(scenario: Path) -> None:
    loaded = load_scenario(
        scenario, ["project.sizes=[]", "project.frames=[16]", "request.height=64", "request.width=64"]
    )
    assert load(loaded) == ([(64, 64)], [16])


def test_memory_that_holds_nothing_and_shares_that_are_one(found: Projection) -> None:
    points = tuple(replace(p, fits=False, not_calibrated=0.691) for p in found.points)
    shown = text(replace(found, points=points))
    assert "of the frame counts asked for: 64 x 64 at none of them, " in shown
    assert "Not calibrated: 69.1 % of kernel time." in shown
