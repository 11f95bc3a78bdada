"""The commands run and check, and the program's entry: outputs, exit codes, files, nothing half-written."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import framecast
from sim import plots, simulate
from tests.sim.toy import trace_of, write


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Runs the command line on the toy trace: (exit code, stdout, stderr)."""
    monkeypatch.setattr(simulate, "trace_of", trace_of)

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["framecast", *args])
        with pytest.raises(SystemExit) as done:
            framecast.main()
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return int(done.value.code or 0), out, err

    return run


def test_run_prints_the_report(program: Any, tmp_path: Path) -> None:
    code, out, err = program("run", str(write(tmp_path)))
    assert (code, err) == (0, "")
    assert out.startswith("toy: stable-diffusion-1.5, height 512")


def test_json_is_one_object_and_repeats_the_command(program: Any, tmp_path: Path) -> None:
    path = str(write(tmp_path))
    code, out, err = program(
        "run", path, "--format", "json", "--set", "device.hbm.bandwidth=4 TB/s", "--level", "roofline"
    )
    found = json.loads(out)
    assert (code, err, found["level"], found["changed"]) == (0, "", "roofline", ["device.hbm.bandwidth"])
    assert (
        found["command"] == f"framecast run {path} --format json --set 'device.hbm.bandwidth=4 TB/s' --level roofline"
    )


def test_csv(program: Any, tmp_path: Path) -> None:
    code, out, _ = program("run", str(write(tmp_path)), "--format", "csv")
    assert code == 0
    assert out.startswith("component,path,kind,label,class,dims,dtype,calls,time_s,flops,hbm_bytes,l2_bytes,bound,way,")


def test_out_writes_every_file_and_nothing_else(program: Any, tmp_path: Path) -> None:
    out = tmp_path / "a/b"
    code, text, _ = program("run", str(write(tmp_path)), "--out", str(out), "--format", "json")
    assert code == 0
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()) == [
        "ops.csv", *(f"plots/{name}.{s}" for name in ("breakdown", "memory", "roofline", "step") for s in ("png", "svg")),
        "report.html", "result.json", "scenario.resolved.yaml", "timeline.json",
    ]  # fmt: skip
    assert (out / "result.json").read_text() == text
    code, again, _ = program("run", str(out / "scenario.resolved.yaml"), "--format", "json")
    assert {**json.loads(again), "command": ""} == {**json.loads(text), "command": ""}


def test_an_out_that_cannot_be_is_one_line(program: Any, tmp_path: Path) -> None:
    path = write(tmp_path)
    for out in (str(path), f"{path}/x"):
        code, text, err = program("run", str(path), "--out", out)
        assert (code, text) == (2, "")
        assert err.startswith(f"--out {out}: cannot write the results: ")
        assert err.count("\n") == 1


def test_a_failure_while_writing_leaves_nothing(program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_result: object, _path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plots, "roofline", full)
    code, _, err = program("run", str(write(tmp_path)), "--out", str(tmp_path / "a/b"))
    assert (code, err) == (2, f"--out {tmp_path}/a/b: cannot write the results: no space left on device\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["toy.yaml"]


def test_what_is_in_the_way_is_named_before_anything_is_written(program: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "timeline.json").mkdir(parents=True)
    code, text, err = program("run", str(write(tmp_path)), "--out", str(out))
    assert (code, text) == (2, "")
    assert err == f"--out {out}: cannot write the results: {out}/timeline.json is a folder\n"
    assert [p.name for p in out.iterdir()] == ["timeline.json"]
    (out / "timeline.json").rmdir()
    (out / "plots").write_text("")
    code, _, err = program("run", str(write(tmp_path)), "--out", str(out))
    assert (code, err) == (2, f"--out {out}: cannot write the results: {out}/plots is a file\n")
    assert [p.name for p in out.iterdir()] == ["plots"]


def test_an_empty_name_is_no_folder_and_no_file(program: Any, tmp_path: Path) -> None:
    path = str(write(tmp_path))
    assert program("run", path, "--out", "") == (2, "", "--out: empty; expected the name of a folder\n")
    assert program("run", "") == (2, "", "SCENARIO: empty; expected the path of a scenario's YAML file\n")


def test_an_override_that_changes_nothing_is_a_warning(program: Any, tmp_path: Path) -> None:
    code, out, err = program("run", str(write(tmp_path)), "--set", "device.power.tdp=1 kW")
    assert (code, err) == (
        0,
        "warning: --set device.power.tdp: no time depends on it; energy, power, area or price may\n",
    )
    assert "(a100-sxm-80gb, changed: power.tdp)" in out


def test_the_largest_number_of_steps(program: Any, tmp_path: Path) -> None:
    for command in ("run", "check"):
        code, _, err = program(command, str(write(tmp_path)), "--set", "request.steps=1000")
        assert (code, err) == (0, "")


@pytest.mark.parametrize(("home", "placed"), [("/dev/null/none", True), ("writable", False)], ids=["no home", "home"])
def test_the_font_cache_is_where_it_can_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str, placed: bool
) -> None:
    for name in ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / home))
    monkeypatch.setenv("FRAMECAST_CACHE", str(tmp_path / "cache"))
    framecast._place_font_cache()
    assert os.environ.get("MPLCONFIGDIR") == (str(tmp_path / "cache/matplotlib") if placed else None)


def test_too_much_memory_warns_and_strict_stops(program: Any, tmp_path: Path) -> None:
    args = ("run", str(write(tmp_path)), "--set", "device.hbm.capacity=1 MB")
    code, out, err = program(*args)
    assert code == 0
    assert out
    assert err.startswith(f"warning: {tmp_path}/toy.yaml: does not fit a100-sxm-80gb: needs ")
    assert err.endswith("; the times below are those of a device with enough memory\n")
    code, out, err = program(*args, "--strict")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert err.startswith(f"{tmp_path}/toy.yaml: does not fit")


def test_strict_stops_at_what_is_not_calibrated(program: Any, tmp_path: Path) -> None:
    code, out, err = program("run", str(write(tmp_path)), "--strict")
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert err.startswith(f"{tmp_path}/toy.yaml: not calibrated: ")
    assert err.endswith(" %; without --strict the numbers are printed\n")


def test_check(program: Any, tmp_path: Path) -> None:
    path = str(write(tmp_path))
    code, out, err = program("check", path)
    assert (code, err) == (0, "")
    assert out.startswith(f"{path}: ok, scenario ")
    assert "11 calls of 9 distinct operators: text_encoder 3 x 2, unet 6 x 50, vae_decoder 2 x 1" in out
    assert "sm_clock: 1.41 GHz" in out
    code, out, err = program("check", path, "--set", "device.hbm.capacity=1 MB", "--format", "json")
    found = json.loads(out)
    assert (code, found["fits_memory"], found["memory_capacity_bytes"]) == (3, False, 1_000_000)
    assert err.startswith(f"{path}: does not fit")


def test_problems_are_lines_on_stderr(program: Any, tmp_path: Path) -> None:
    code, out, err = program("run", str(write(tmp_path, "model: x\ndevice: y\n")))
    assert (code, out, err.count("\n")) == (2, "", 2)


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("run", "x.yaml", "--out"), "Option '--out' requires an argument; see 'framecast run --help'\n"),
        (
            ("hardware", "show", "--yam"),
            "No such option '--yam'. Did you mean '--yaml'?; see 'framecast hardware show --help'\n",
        ),
        (("run",), "Missing argument 'SCENARIO'; see 'framecast run --help'\n"),
        (("run", "nowhere.yaml"), "nowhere.yaml: no such file\n"),
        (("nosuch",), "No such command 'nosuch'; see 'framecast --help'\n"),
    ],
)
def test_wrong_use(program: Any, args: tuple[str, ...], line: str) -> None:
    assert program(*args) == (2, "", line)


def test_our_own_mistake_is_one_line(program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_model: str, _request: object) -> None:
        raise KeyError("oops\nmore")

    monkeypatch.setattr(simulate, "trace_of", broken)
    code, _, err = program("run", str(write(tmp_path)))
    assert code == 1
    assert err.startswith("internal error: KeyError: ")
    assert err.endswith("(set FRAMECAST_DEBUG=1 for the traceback); please report it\n")
    assert err.count("\n") == 1


def test_what_needs_torch_says_what_to_install(program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bare(_model: str, _request: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(simulate, "trace_of", bare)
    line = "framecast run needs torch, which is not installed: pip install 'framecast[capture]'\n"
    assert program("run", str(write(tmp_path))) == (2, "", line)


@pytest.mark.parametrize(
    ("device", "attention", "has"),
    [
        ("t4", "flash-2", "NVIDIA T4 has 16 x 8 x 8"),
        ("v100-pcie", "flash-3", "NVIDIA V100 PCIe 32 GB has 8 x 8 x 4"),
        ("p100-pcie", "flash-2", "NVIDIA P100 PCIe 16 GB has none"),
        ("t4", "unfused", ""),
        ("l40s", "flash-2", ""),
    ],
)
def test_a_kernel_that_its_library_has_not_for_the_chip_is_told(
    program: Any, tmp_path: Path, device: str, attention: str, has: str
) -> None:
    ways = ("--set", f"device={device}", "--set", f"software.attention={attention}")
    _, _, err = program("run", str(write(tmp_path)), *ways)
    kernel = f"note: {attention} is written for matrix instructions of 16 x 8 x 16 (Ampere) and newer ones"
    said = f"{kernel}, and {has}: its time is that of the same kernel written for it\n"
    assert (said in err) == bool(has)
    assert ("is written for" in err) == bool(has)


def test_interrupt(program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_model: str, _request: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(simulate, "trace_of", stopped)
    code, out, err = program("run", str(write(tmp_path)))
    assert (code, out, err.strip()) == (130, "", "interrupted")


@pytest.mark.parametrize("args", [(), ("run",), ("check",), ("hardware",), ("models",), ("trace",)])
def test_every_help_ends_with_examples(program: Any, args: tuple[str, ...]) -> None:
    code, out, _ = program(*args, "--help")
    assert code == 0
    assert "Examples:\n" in out


def test_a_hidden_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sim.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "sim")
    way_out = "rename it, or run framecast from another folder"
    assert framecast.hidden_packages() == [f"{tmp_path.resolve()}/sim.py: hides framecast's package 'sim'; {way_out}"]


def test_public_names() -> None:
    for name in framecast.__all__:
        assert getattr(framecast, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        framecast.nothing  # noqa: B018
