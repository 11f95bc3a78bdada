"""What a projection says to act on: crossovers, longest clips, windows, chunks, levers; and what it says to wrong input."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from explore.horizon import (
    ELSE,
    GROUPS,
    JOINT,
    SPATIAL,
    TEMPORAL,
    TILE,
    chunk_count,
    last_rise,
    longest_fit,
    sparse,
    windowed,
)
from explore.project import Projection, project
from explore.project import load as frames_of
from explore.project_cli import project as command
from explore.project_report import text as report
from explore.project_report import to_json
from hwspecs.errors import SpecError
from hwspecs.rates import rates
from sim.energy import of_result
from sim.scenario import load
from sim.simulate import replay
from tests.sim.toy import write
from workloads.cache import trace_of
from workloads.model import shown

SECTION = """project:
  frames: [2, 4, 1024]
  sizes: [64]
  seconds: [4 s]
  frames_per_second: 16
  devices: [h200]
  axis: {field: hbm.capacity, factors: [0.05]}
  windows: [1, 256]
  strides: [4]
  chunks: [{frames: 16, overlap: 4}]
"""


@pytest.fixture(scope="session")
def film(found: Projection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small projection with all that can be compared; captured with that of test_project, whose cache stays set."""
    folder = tmp_path_factory.mktemp("horizon")
    assert found.points
    return write(folder, f"model: modelscope-t2v\ndevice: a100-sxm-80gb\nsoftware: pytorch-eager\n{SECTION}")


@pytest.fixture(scope="session")
def seen(film: Path) -> Projection:
    return project(load(film))


def test_every_way_and_device_is_a_curve_over_the_same_frames(seen: Projection) -> None:
    (h,) = seen.horizons
    assert [(c.name, c.device) for c in h.curves] == [
        ("as it is", "a100-sxm-80gb"), ("window of 1 frames", "a100-sxm-80gb"), ("window of 256 frames", "a100-sxm-80gb"),
        ("every 4th frame", "a100-sxm-80gb"),
        ("chunks of 16, 4 shared", "a100-sxm-80gb"), ("as it is", "h200"), ("as it is", "hbm.capacity x0.05"),
    ]  # fmt: skip
    assert {tuple(r.frames for r in c.runs) for c in h.curves} == {
        (2, 4, 16, 64, 1024)
    }  # 4 s at 16 frames a second, chunks of 16
    assert all(r.energy and r.latency > 0 for c in h.curves for r in c.runs)


def test_the_own_curve_is_a_replay(seen: Projection, film: Path) -> None:
    result = replay(load(film, ["request.height=64", "request.width=64", "request.frames=64", "level=physical"]))
    last = seen.horizons[0].own.runs[3]
    assert last.latency == pytest.approx(result.latency, rel=1e-12)
    assert last.peak_bytes == result.memory.peak
    assert last.groups.sum() == pytest.approx(result.gpu_time, rel=1e-12)
    energy = of_result(result)
    assert energy is not None
    assert last.energy == pytest.approx(float(energy.total.value), rel=1e-9)


def test_fewer_keys_save_flops_and_as_many_as_frames_change_nothing(seen: Projection, film: Path) -> None:
    own, one, wide, fourth = seen.horizons[0].curves[:4]
    assert wide.runs[2].latency == own.runs[2].latency  # 16 frames, all of them in the window
    temporal = GROUPS.index(TEMPORAL)
    assert one.runs[-1].groups[temporal] < wide.runs[-1].groups[temporal] < own.runs[-1].groups[temporal]
    assert fourth.runs[-1].groups[temporal] < own.runs[-1].groups[temporal]
    request = replace(load(film).request, height=64, width=64, frames=1024)
    trace = trace_of("modelscope-t2v", request)
    d, ops = trace.dims("attention"), trace.ops_of("attention")
    for fewer, keys in ((windowed(trace, 16), 16 + TILE - 1), (windowed(trace, 1), TILE), (sparse(trace, 3), 342)):
        saved = (trace.op_flops()[ops] - fewer.op_flops()[ops])[d.role == 2]
        assert np.array_equal(saved, (4 * d.batch * d.heads * d.q_len * (1024 - keys) * d.head_dim)[d.role == 2])
    assert np.array_equal(
        windowed(trace, 16).op_dims[trace.op_kind != trace.kinds.index("attention")],
        trace.op_dims[trace.op_kind != trace.kinds.index("attention")],
    )


@pytest.mark.usefixtures("found")
def test_a_model_without_temporal_attention_attends_jointly(tmp_path: Path) -> None:
    text = "model: phenaki\nrequest: {height: 32, width: 32, text_len: 8}\ndevice: a100-sxm-80gb\nsoftware: pytorch-eager\n"
    spatial = "project: {frames: [3, 33, 1025]}\n"
    found = project(load(write(tmp_path, text + spatial)))
    groups = found.points[-1].groups
    assert groups[JOINT].time > 0
    assert groups[SPATIAL].time == groups[TEMPORAL].time == 0
    joint = [p.groups[JOINT].flops for p in found.points]
    assert joint[2] / joint[1] == pytest.approx((513 / 17) ** 2, rel=1e-9)  # pairs of frames, and the first
    own = found.horizons[0].own
    assert own.over_frames == JOINT
    assert own.overtakes()[SPATIAL] is None
    later = own.overtakes()[ELSE]
    assert later is None or later >= 3
    said = report(found)
    assert "joint\nTFLOP" in said or "joint" in said
    assert "No temporal attention" in said
    assert "nan" not in said
    with pytest.raises(SpecError) as error:
        project(load(write(tmp_path, text + spatial), ["project.windows=[4]"]))
    (line,) = error.value.problems
    assert "project.windows: phenaki has no temporal attention; it attends over space and time jointly" in line


def test_chunks_cost_their_number(seen: Projection) -> None:
    own, chunked = seen.horizons[0].own, seen.horizons[0].curves[4]
    assert chunk_count(64, 16, 4) == 5
    assert chunked.runs[3].latency == pytest.approx(5 * own.runs[2].latency)
    assert chunked.runs[3].peak_bytes == own.runs[2].peak_bytes
    assert chunked.runs[0] == own.runs[0]


@given(st.integers(2, 500), st.integers(0, 400), st.integers(1, 5000))
def test_chunks_cover_a_clip_and_none_is_spare(chunk: int, overlap: int, frames: int) -> None:
    overlap = min(overlap, chunk - 1)
    n = chunk_count(frames, chunk, overlap)
    assert chunk + (n - 1) * (chunk - overlap) >= frames
    assert n == 1 or chunk + (n - 2) * (chunk - overlap) < frames


def test_a_better_number_never_makes_a_clip_slower(seen: Projection) -> None:
    levers = {x.path: x for x in seen.horizons[0].levers}
    assert set(levers) == {
        "sm_count",
        "tensor.fp16",
        "exp",
        "l2.capacity",
        "l2.bandwidth",
        "hbm.bandwidth",
        "hbm.capacity",
        "silicon.link",
    }
    assert all(x.latency <= 1 + 1e-12 for x in levers.values())
    assert levers["hbm.capacity"].latency == levers["silicon.link"].latency == 1


def test_the_link_and_the_capacity_are_read_by_no_rate(film: Path) -> None:
    """Their levers say 1 without being priced."""
    import yaml

    changed = {"hbm.capacity": "160 GB", "silicon.link": "1.2 TB/s"}
    assert yaml.safe_load(film.read_text())["device"] == "a100-sxm-80gb"
    own, other = (load(film, [f"device.{k}={v}" for k, v in c.items()]).device for c in ({}, changed))
    assert own != other
    assert replace(rates(other), hbm_capacity=rates(own).hbm_capacity) == rates(own)


@given(st.floats(1.5, 900), st.floats(0.1, 10))
def test_a_rise_is_where_the_curves_meet(at: float, scale: float) -> None:
    frames = [1, 10, 100, 1000]
    other = np.array([scale * at * f for f in frames])
    one = np.array([scale * f * f for f in frames])
    assert last_rise(frames, other, one) == pytest.approx(at, rel=1e-6)
    assert last_rise(frames, one * 1e9, one) is None
    assert last_rise(frames, one / 2, one) == 1


def test_frames_that_a_model_puts_between_count_for_the_length_of_a_clip(tmp_path: Path) -> None:
    text = "model: make-a-video\ndevice: a100-sxm-80gb\nsoftware: pytorch-eager\n"
    scenario = load(write(tmp_path, f"{text}project: {{frames: [16], seconds: [4 s], frames_per_second: 19}}\n"))
    assert shown(scenario.request, 16) == 76
    assert Projection(scenario, (), (), frames_per_second=19).seconds(16) == 4
    assert frames_of(scenario)[1] == [16]  # 4 s are 76 frames, of 16
    longer = load(write(tmp_path, f"{text}project: {{frames: [16], seconds: [4.01 s], frames_per_second: 19}}\n"))
    assert frames_of(longer)[1] == [16, 17]


def test_the_longest_clip_lies_on_the_line_between_two() -> None:
    assert longest_fit([2, 4, 8], [10, 20, 40], 30) == 6
    assert longest_fit([2, 4], [10, 20], 5) == 0
    assert math.isinf(longest_fit([2, 4], [10, 20], 20))


def test_json_has_what_the_page_of_keys_says(seen: Projection) -> None:
    page = (Path(__file__).parents[2] / "docs/project-json.md").read_text(encoding="utf-8")
    for key in json.loads(json.dumps(to_json(seen)["horizons"]))[0]["curves"][0]:
        assert f"`horizons[].curves[].{key}" in page
    for key in to_json(seen)["horizons"][0]["levers"][0]:
        assert f"`horizons[].levers[].{key}`" in page


@pytest.mark.usefixtures("seen")
def test_the_table_to_act_on(film: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(command, [str(film), "--out", str(tmp_path / "out")], standalone_mode=False)
    assert done.exception is None, done.exception
    assert "64 x 64: what to act on; a clip of 1024 frames lasts 64.0 s" in done.stdout
    assert "what a better device moves" in done.stdout
    plots = {p.name for p in (tmp_path / "out/plots").iterdir()}
    assert plots == {f"{n}.{s}" for n in ("frames", "frames-share", "ways") for s in ("png", "svg")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("axis.field=hbm.bandwith",
        "project.axis.field: unknown number 'hbm.bandwith' of the device; did you mean 'hbm.bandwidth'?"),
        ("devices=[p100-pcie]", "project.devices.0: p100-pcie has no bf16 arithmetic"),
        ("devices=[b201]", "project.devices.0: unknown device 'b201'; did you mean 'b200'"),
        ("chunks=[{frames: 8, overlap: 8}]", "project.chunks.0.overlap: found 8, expected less than the chunk's 8 frames"),
        ("seconds=[2]", "project.seconds.0: found '2', expected a time with its unit, for example '1.2 us'"),
        ("seconds=[1000000 s]",
        "project.seconds.0: found '16000000', expected a whole number of at least 1 and at most 262144 frames"),
        ("windows=[0]", "project.windows.0: found '0', expected a whole number of at least 1"),
        ("strides=[1]", "project.strides.0: found '1', expected a whole number of at least 2"),
        ("windows=[4, 4]", "4 is listed twice; leave one of them out"),
    ],
)  # fmt: skip
def test_messages(film: Path, change: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        project(load(film, [f"project.{change}", "request.dtype=bf16"]))
    (line,) = error.value.problems
    assert message in line
