"""Published latencies: what is assumed for a row, what is not priced, and ours beside them on a small trace."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import framecast
from calib import published, validate, validate_report
from calib.published import COLUMNS, Case, assumed, case, read
from hwspecs.errors import CalibrationError
from tests.sim import toy

ROW = {
    "id": "a-1", "model": "SD 1.5", "component": "end_to_end", "height": "512", "width": "512", "frames": "", "steps": "50",
    "batch": "1", "cfg_doubles_batch": "default-yes", "precision": "fp16", "device": "A100 (size not stated)", "gpus": "1",
    "software_stack": "diffusers torch 2.1 SDPA eager", "latency_ms": "1604", "it_per_s": "", "source": "somewhere",
}  # fmt: skip


def write(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def one(**changed: str) -> Case:
    found = case(ROW | changed, 2)
    assert isinstance(found, Case), found
    return found


def test_a_row_becomes_a_case() -> None:
    found = one()
    assert (found.model, found.of, found.seconds, found.request.steps) == ("stable-diffusion-1.5", "run", 1.604, 50)
    assert found.devices == ("a100-sxm-80gb", "a100-sxm-40gb", "a100-pcie-80gb", "a100-pcie-40gb")
    step = one(component="denoise_loop", it_per_s="20", latency_ms="", steps="")
    assert (step.of, step.seconds) == ("step", 0.05)
    assert one(device="A100-SXM4-80GB").devices == ("a100-sxm-80gb",)
    assert one(cfg_doubles_batch="no").request.guidance is False


@pytest.mark.parametrize(
    ("words", "name", "attention", "graphs"),
    [
        ("vanilla attention, torch 1.13", "pytorch-eager", "unfused", False),
        ("PyTorch 1.13, no xFormers", "pytorch-eager", "unfused", False),
        ("PyTorch 1.13, xFormers", "pytorch-eager", "flash-1", False),
        ("torch 2.1 SDPA compiled, reduce-overhead", "pytorch-compiled", "flash-1", True),
        ("PyTorch 2.0 nightly SDPA + torch.compile", "pytorch-compiled", "flash-1", False),
        ("PyTorch 2.2 (SDPA)", "pytorch-eager", "flash-2", False),
        ("TensorRT 9.0", "pytorch-compiled", "flash-2", True),
    ],
)
def test_software_by_its_words(words: str, name: str, attention: str, graphs: bool) -> None:
    found = assumed(words, "")
    assert not isinstance(found, str)
    assert (found.name, found.attention, found.cuda_graphs) == (name, attention, graphs)


def test_containers_of_nvidia_allow_tf32() -> None:
    found = [
        one(precision="fp32 (single)", software_stack=f"PyTorch 1.13{w}, no xFormers") for w in ("", " (NGC 22.11)")
    ]
    assert [c.software.tf32.matmul for c in found] == [False, True]
    assert {c.request.dtype for c in found} == {"fp32"}


@pytest.mark.parametrize(
    ("words", "source", "layout"),
    [
        ("torch 2.1 SDPA compiled", "fal", "nchw"),
        ("torch 2.1 SDPA compiled, channels_last", "fal", "nhwc"),
        ("PyTorch 2.0, SDPA + torch.compile", "torch2.0.md @v0.25.0", "nhwc"),
        ("torch 2.1 SDPA eager", "torch2.0.md @v0.25.0", "nchw"),
        ("OneFlow", "fal", "nhwc"),
    ],
)
def test_layout_by_words_and_script(words: str, source: str, layout: str) -> None:
    found = assumed(words, source)
    assert not isinstance(found, str)
    assert found.convolution.layout == layout


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"model": "Kolors"}, "no model of that name"),
        ({"device": "RTX A5000"}, "no hardware file for this device"),
        ({"gpus": "2"}, "several devices"),
        ({"precision": "fp32"}, "fp32 in fused attention: its products of three TF32 each are not modelled"),
        ({"precision": "fp16 autocast"}, "another precision"),
        ({"steps": ""}, "the number of steps is not stated"),
        ({"model": "SD 1.5 inpaint"}, "another pipeline around the same UNet"),
        ({"software_stack": "SDPA, tiny VAE, torch 2.1"}, "another decoder"),
        ({"software_stack": "something"}, "its attention is not stated"),
        ({"software_stack": "OneDiff enterprise 0.12"}, "8-bit products"),
        (
            {"software_stack": "OneDiff (OneFlow)", "device": "RTX 3090"},
            "sums in fp16, at twice the rate of sums in fp32",
        ),
        ({"height": "500"}, "the model cannot be asked for it: "),
        ({"component": "unspecified (page)"}, "the work is not stated"),
    ],
)
def test_rows_that_are_not_priced(changed: dict[str, str], why: str) -> None:
    found = case(ROW | changed, 2)
    assert isinstance(found, str)
    assert found.startswith(why)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch": "many"}, "t.csv:2: batch: found 'many', expected a positive number, or nothing"),
        ({"latency_ms": "-3"}, "t.csv:2: latency_ms: found '-3', expected a positive number, or nothing"),
        (
            {"component": "end-to-end"},
            "t.csv:2: component: found 'end-to-end', expected end_to_end or denoise_loop; did you mean 'end_to_end'?",
        ),
    ],
)
def test_broken_rows_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: dict[str, str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CalibrationError) as found:
        read(write(Path("t.csv"), ROW | changed))
    assert found.value.problems == (message,)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"none\.csv: cannot read the table: No such file or directory"):
        read(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("op,device\nadd,A100\n")
    with pytest.raises(CalibrationError, match=r"other\.csv:1: the table lacks the column 'id' of published latencies"):
        read(tmp_path / "other.csv")
    (tmp_path / "heads.csv").write_text(",".join(COLUMNS) + "\n")
    with pytest.raises(CalibrationError, match=r"heads\.csv: the table has no rows"):
        read(tmp_path / "heads.csv")


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> published.Published:
    monkeypatch.setattr(validate, "trace_of", lambda _, request: toy.toy_trace(request.steps))
    rows = [ROW, ROW | {"id": "a-2", "device": "A100-SXM4-80GB"}, ROW | {"id": "a-3", "gpus": "8"}]
    return read(write(tmp_path / "t.csv", *rows))


def test_ours_beside_theirs(table: published.Published) -> None:
    open_, sxm = validate.validate(table)
    assert open_.low < open_.ours < open_.high
    assert sxm.low == sxm.ours == sxm.high
    assert open_.low <= sxm.ours <= open_.high
    assert math.isclose(sxm.error, sxm.ours / 1.604 - 1.0)
    assert sxm.interval[0] < 1.0 < sxm.interval[1]
    assert open_.ours * open_.interval[0] <= sxm.ours * sxm.interval[0] * (1 + 1e-9)  # over all that it may mean
    assert open_.ours * open_.interval[1] >= sxm.ours * sxm.interval[1] * (1 - 1e-9)
    assert math.isclose(sum(sxm.classes.values()), sxm.gpu, rel_tol=1e-9)
    text = validate_report.text(table, [open_, sxm])
    assert "not priced: 1 rows (several devices)" in text
    data = validate_report.to_json(table, [open_, sxm])
    assert data["left_out"] == [{"id": "a-3", "why": "several devices"}]
    page = (
        (Path(__file__).parents[2] / "docs/json.md").read_text(encoding="utf-8").partition("`framecast validate --")[2]
    )
    explained = {name.partition(".")[0] for name in re.findall(r"`([a-z0-9_.<>]+)`", page)}
    assert set(data["rows"][0]) <= explained
    assert set(data) - {"schema_version"} <= explained


def test_one_vote_a_model(table: published.Published) -> None:
    rows = [replace(r, host_bound=False) for r in validate.validate(table)]
    off = [replace(rows[0], ours=rows[0].case.seconds * factor) for factor in (1.1, 1.1, 1.1)]
    other = replace(rows[0], case=replace(rows[0].case, model="other"), ours=rows[0].case.seconds * 0.5)
    assert math.isclose(validate.overall([*off, other]), 0.3)  # the middle of 10 and 50 %
    assert math.isnan(validate.overall([replace(other, host_bound=True)]))


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["framecast", *words])
    with pytest.raises(SystemExit) as done:
        framecast.main()
    out = capsys.readouterr()
    return int(done.value.code or 0), out.out, out.err


def test_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, table: published.Published
) -> None:
    path = str(tmp_path / "t.csv")
    code, out, _ = command(monkeypatch, capsys, "validate", path)
    assert (code, out.count("\n| a-")) == (0, 2)
    code, out, _ = command(monkeypatch, capsys, "validate", path, "--format", "json")
    assert [row["id"] for row in json.loads(out)["rows"]] == [c.id for c in table.cases]
    code, out, err = command(monkeypatch, capsys, "validate", str(tmp_path / "none.csv"))
    assert (code, out) == (2, "")
    assert err == f"{tmp_path}/none.csv: cannot read the table: No such file or directory\n"


def test_leaving_out_takes_no_hardware(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ("calib", "score", str(tmp_path / "t.csv"), "--leave-out", "l40s", "--hardware", "t4")
    code, out, err = command(monkeypatch, capsys, *words)
    assert (code, out) == (2, "")
    assert err == "--leave-out: found with --hardware, which it does not take\n"
