"""Ranges, lists and where they may be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from explore.space import Range, axes, fields, parse, section, settled
from hwspecs.errors import SpecError
from tests.explore.toys import opened


@pytest.mark.parametrize(
    ("text", "unit", "whole", "expected"),
    [
        ("64..256 step 4", "", True, Range(64, 256, step=4)),
        ("1..8 TB/s log", "B/s", False, Range(1e12, 8e12, log=True)),
        ("1..8 TB/s, 8 points", "B/s", False, Range(1e12, 8e12, points=8)),
        ("1..8 TB/s log, 8 points", "B/s", False, Range(1e12, 8e12, points=8, log=True)),
        ("500 GB/s .. 8 TB/s step 500 GB/s", "B/s", False, Range(5e11, 8e12, step=5e11)),
        ("0.5..1", "", False, Range(0.5, 1.0)),
        ("20..40 MiB", "B", False, Range(20 * 2**20, 40 * 2**20)),
    ],
)
def test_ranges(text: str, unit: str, whole: bool, expected: Range) -> None:
    assert parse(text, unit, whole) == expected


def points(folder: Path, text: str, path: str = "device.hbm.bandwidth") -> tuple[object, ...]:
    at = opened(folder, f"sweep:\n  {path}: {text}\n")
    return axes(at, section(at, "sweep", ""), "sweep", searched=False)[0].values


def test_points_of_a_range(tmp_path: Path) -> None:
    assert points(tmp_path, "1..4 TB/s, 4 points") == (1e12, 2e12, 3e12, 4e12)
    assert points(tmp_path, "1..8 TB/s log, 4 points") == pytest.approx((1e12, 2e12, 4e12, 8e12))
    assert points(tmp_path, "1..2 TB/s step 400 GB/s") == (1e12, 1.4e12, 1.8e12)
    assert points(tmp_path, "64..72 step 4", "device.sm_count") == (64, 68, 72)
    assert points(tmp_path, "1..4, 100 points", "request.batch") == (1, 2, 3, 4)
    assert points(tmp_path, "[1, 50]", "request.steps") == (1, 50)
    assert points(tmp_path, "[true, false]", "software.cuda_graphs") == (True, False)
    assert points(tmp_path, "[h100-sxm]", "device") == ("h100-sxm",)


def test_fields_below_fields_and_set(tmp_path: Path) -> None:
    text = "sweep:\n  device: {hbm: {bandwidth: [1 TB/s]}}\n  request.steps: [5]\n"
    at = opened(tmp_path, text, "sweep.request.steps=[7, 8]")
    node, problems = settled(section(at, "sweep", ""), "sweep", ["mode"])
    assert problems == []
    found = axes(at, node, "sweep", searched=False)
    assert [(a.path, a.values) for a in found] == [("device.hbm.bandwidth", (1e12,)), ("request.steps", (7, 8))]


def test_texts(tmp_path: Path) -> None:
    lines = (
        "device.hbm.bandwidth: 2..8 TB/s log",
        "device.l2.capacity: [40 MiB, 64 MiB]",
        "device.sm_count: 64..256 step 4",
        "device.sm_clock: 900..1800 MHz",
        "device.launch.gap: 0.4..1.2 us",
    )
    at = opened(tmp_path, "search:\n" + "".join(f"  {line}\n" for line in lines))
    texts = [axis.text() for axis in axes(at, section(at, "search", ""), "search", searched=True)]
    assert texts == ["2–8 TB/s log", "40 MiB, 64 MiB", "64–256 step 4", "900 MHz–1.8 GHz", "400 ns–1.2 us"]


def test_no_field_without_effect(tmp_path: Path) -> None:
    known = fields(opened(tmp_path, "").scenario)
    assert {"model", "device", "request.steps", "device.hbm.bandwidth", "software.attention"} <= set(known)
    assert not {"device.title", "device.power.tdp", "device.sources"} & set(known)


def test_a_list_of_numbers_that_share_a_unit(tmp_path: Path) -> None:
    mebi = (40 * 2**20, 64 * 2**20)
    assert points(tmp_path, "[40, 64] MiB  # as people write it", "device.l2.capacity") == mebi
    assert points(tmp_path, "'[40, 64] MiB'", "device.l2.capacity") == mebi
    assert points(tmp_path, "[1, 2 TB/s, 4e3 GB/s] TB/s") == (1e12, 2e12, 4e12)
    at = opened(tmp_path, "sweep:\n  device.sm_count: [64]\n", "sweep.device.l2.capacity=[40, 64] MiB")
    assert axes(at, section(at, "sweep", ""), "sweep", searched=False)[1].values == mebi
    for text, told in (
        ("[40, 64] MB/s", r"toy.yaml:5:23: sweep.device.l2.capacity: found '40 MB/s', expected a size with its unit"),
        ("[40, x] MiB", r"toy.yaml:5:23: sweep.device.l2.capacity: found 'x', expected a size"),
        ("[40, 64] MiB MiB", r"toy.yaml:5:32: YAML syntax"),
        ("[] MiB", r"toy.yaml:5:26: YAML syntax"),
    ):
        with pytest.raises(SpecError, match=told):
            points(tmp_path, text, "device.l2.capacity")
