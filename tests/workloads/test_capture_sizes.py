"""`framecast capture --out NAME.sizes`: a user's model at any size without its module."""

from __future__ import annotations

import lzma
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hwspecs.errors import FramecastError, SpecError, StudyError
from workloads import capture_cli, capture_model, capture_sizes, templates
from workloads.cache import trace_of
from workloads.capture_file import load
from workloads.capture_model import Captured
from workloads.model import denoising, find
from workloads.trace import same

NETS = Path(__file__).parent / "own_nets.py"
FILE = f"""
dims: {{frames: 8, pixels: 12, steps: 5}}
stages:
  net:
    module: {NETS}:video
    repeats: "{{steps}}"
  head:
    module: {NETS}:HalfLinear
    inputs: {{x: "{{frames*pixels}},16:fp32"}}
"""
UNSEEN = ({"frames": 7, "pixels": 50}, {"frames": 33, "pixels": 8, "steps": 2}, {"frames": 100, "pixels": 11})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture file, its `.sizes` file beside it."""
    folder = tmp_path_factory.mktemp("sizes")
    (folder / "net.yaml").write_text(FILE)
    file = folder / "net.yaml"
    captured = Captured(load(file), str(file), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAMECAST_CACHE", str(folder / "cache"))
        capture_cli._write(captured, capture_model.again(str(file), captured), str(folder / "net.sizes"))
    return folder / "net.sizes"


@pytest.mark.parametrize("dims", UNSEEN, ids=str)
def test_sizes_that_took_no_part_are_those_of_a_capture(written: Path, dims: dict[str, int]) -> None:
    captured = Captured(load(written.with_suffix(".yaml")), "", written.parent)
    whole = {**captured.file.dims, **dims}
    model = find(str(written))
    quick = trace_of(str(written), model.request(**dims))
    fresh = capture_model.fresh(captured, whole)
    assert same(quick, fresh)
    assert [(s.name, s.repeats) for s in quick.segments] == [("net", whole["steps"]), ("head", 1)]
    assert (quick.request, quick.notes) == (whole, fresh.notes)
    assert "temporal" in {row["role"] for row in _attention(quick)}
    assert denoising(model, model.request(**dims)) == (0,)


def _attention(trace: Any) -> list[dict[str, Any]]:
    from workloads.cli import summary

    return [row for component in summary(trace)["components"] for row in component["attention"]]


def test_no_torch_is_needed(written: Path) -> None:
    program = (
        "import sys\nfrom workloads.cache import trace_of\nfrom workloads.model import find\n"
        f"model = find({str(written)!r})\nprint(trace_of(model.id, model.request(frames=21)).calls > 10, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.split() == ["True", "False"]


def test_a_size_at_which_nothing_was_proven_says_so(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates.Family, "at", lambda *_: None)
    model = find(str(written))
    with pytest.raises(SpecError) as raised:
        trace_of(str(written), model.request(frames=3))
    text = "nothing was proven at frames 3, pixels 12 for net; capture that size where the module is at hand"
    assert str(raised.value) == f"{written}: {text}"


def test_a_division_that_leaves_a_rest_is_an_error(tmp_path: Path) -> None:
    stage = load(_file(tmp_path, 'inputs: {x: "{frames/2},16:fp32"}')).stages["net"]
    with pytest.raises(SpecError, match="frames"):
        capture_sizes.numbers_of(stage, {"frames": 7})


def _file(folder: Path, inputs: str, dims: str = "{frames: 4}", module: str = "Inner") -> Path:
    path = folder / "net.yaml"
    path.write_text(f"dims: {dims}\nstages:\n  net:\n    module: {NETS}:{module}\n    {inputs}\n")
    return path


def test_without_a_dimension_there_is_nothing_to_find(tmp_path: Path) -> None:
    path = _file(tmp_path, 'inputs: {x: "4,16:fp32"}', dims="{}")
    with pytest.raises(SpecError, match="no dimension changes what is captured; name one"):
        capture_sizes.find(Captured(load(path), str(path), tmp_path))


def test_sizes_of_no_rule_are_refused(tmp_path: Path) -> None:
    """A width that no product of dimensions gives."""
    nets = tmp_path / "odd.py"
    nets.write_text(
        "import torch\ndef build(frames):\n"
        "    width = 1 + frames * 7919 % 1009\n    return torch.nn.Linear(width, 3), torch.empty(2, width)\n"
    )
    path = tmp_path / "odd.yaml"
    path.write_text(f"dims: {{frames: 64}}\nstages:\n  net:\n    module: {nets}:build\n")
    with pytest.raises(SpecError, match=r"stages.net: sizes of no rule: .*; capture each size instead"):
        capture_sizes.find(Captured(load(path), str(path), tmp_path))


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        (b"", "truncated, damaged, or not written by framecast capture"),
        (b"model: x", "truncated, damaged, or not written by framecast capture"),
        (lzma.compress(b"[1"), "truncated, damaged, or not written by framecast capture"),
        (lzma.compress(b"{}"), "expected a file that `framecast capture --out NAME.sizes` wrote, of version 1"),
    ],
)
def test_foreign_files_are_one_line(stored: bytes, text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.sizes"
    path.write_bytes(stored)
    with pytest.raises(StudyError) as raised:
        find(str(path))
    assert str(raised.value) == f"{path}: {text}"


def test_a_missing_file_is_one_line() -> None:
    with pytest.raises(FramecastError, match=r"none\.sizes: cannot be read: No such file"):
        find("none.sizes")
