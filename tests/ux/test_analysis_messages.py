"""Every message of explain, compare, sensitivity, report, schema and completion, word for word; --quiet; TAB."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

import framecast
from explore.schema import KINDS, schema
from hwspecs import notes
from hwspecs.catalogue import DATA
from sim import sensitivity, simulate
from sim.completion import settings
from tests.sim.toy import trace_of, write

ROOT = Path(__file__).parents[2]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Runs the command line on the toy trace: (exit code, stdout, stderr)."""
    for module in (simulate, sensitivity):
        monkeypatch.setattr(module, "trace_of", trace_of)

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["framecast", *args])
        with pytest.raises(SystemExit) as done:
            framecast.main()
        out, err = capfd.readouterr()
        return int(done.value.code or 0), out, err

    return run


def test_explain(program: Any, tmp_path: Path) -> None:
    path = str(write(tmp_path))
    code, out, err = program("explain", path, "--op", "conv_out")
    assert (code, err) == (0, "")
    assert out.startswith(
        "conv_out: conv, class Convolution\non NVIDIA A100 SXM4 80 GB (a100-sxm-80gb), pytorch-eager, "
    )
    code, out, _ = program("explain", path, "--op", "conv_out", "--format", "json")
    assert json.loads(out)["path"] == "conv_out"
    assert program("explain", path) == (2, "", "Missing option '--op'; see 'framecast explain --help'\n")
    text = "--op cnv_out: no operator of stable-diffusion-1.5 is at this module path; did you mean 'conv_out'?\n"
    assert program("explain", path, "--op", "cnv_out") == (2, "", text)


def test_both_sides_of_a_comparison_are_corrected_or_none(program: Any, tmp_path: Path) -> None:
    path = str(write(tmp_path))
    for sides, level in (((path, path), "calibrated"), (("a100-sxm-80gb", "h100-sxm", "--scenario", path), "physical")):
        code, out, _ = program("compare", *sides, "--format", "json")
        assert (code, json.loads(out)["level"]) == (0, level)


def test_compare(program: Any, tmp_path: Path) -> None:
    path = str(write(tmp_path))
    code, out, err = program("compare", "a100-sxm-80gb", "h100-sxm", "--scenario", path)
    assert (code, err) == (0, "")
    assert out.startswith("A: stable-diffusion-1.5 on NVIDIA A100 SXM4 80 GB (a100-sxm-80gb), pytorch-eager, ")
    out_dir = tmp_path / "slide"
    code, out, _ = program("compare", path, path, "--format", "json", "--out", str(out_dir))
    assert json.loads(out)["speed_up"] == 1
    names = sorted(str(p.relative_to(out_dir)) for p in out_dir.rglob("*") if p.is_file())
    assert names == ["comparison.json", "plots/comparison.png", "plots/comparison.svg"]


@pytest.mark.parametrize(
    ("a", "b", "more", "message"),
    [
        ("SCENARIO", "h100-sxm", (), "compare h100-sxm: a device needs a scenario to run; hold it against another device:"
         " framecast compare DEVICE h100-sxm --scenario SCENARIO"),
        ("a100-sxm-80gb", "h100-sxm", (),
         "compare a100-sxm-80gb: a device needs a scenario to run: add --scenario SCENARIO"),
        ("a100-sxm-80gb", "SCENARIO", ("--scenario", "SCENARIO"),
         "compare SCENARIO: a scenario, but with --scenario both are devices; leave --scenario out"),
        (
            "SCENARIO", "h100-sx", (),
            "compare h100-sx: expected a scenario (.yaml), a result.json or its folder, or a device with --scenario;"
            " did you mean 'h100-sxm'?",
        ),
        ("SCENARIO", "no.yaml", (), "no.yaml: no such file"),
        ("SCENARIO", "no.json", (), "no.json: cannot read the result: no such file or directory"),
        ("FOLDER", "SCENARIO", ("--set", "device.sm_count=1"),
         "--set device.sm_count=1: cannot change FOLDER, which is a result already; give its scenario instead"),
    ],
)  # fmt: skip
def test_sides_that_cannot_be(
    program: Any, tmp_path: Path, a: str, b: str, more: tuple[str, ...], message: str
) -> None:
    names = {"SCENARIO": str(write(tmp_path)), "FOLDER": str(tmp_path)}
    code, out, err = program("compare", names.get(a, a), names.get(b, b), *(names.get(m, m) for m in more))
    found = err.replace(names["SCENARIO"], "SCENARIO").replace(str(tmp_path), "FOLDER")
    assert (code, out, found) == (2, "", message + "\n")


def test_sensitivity(program: Any, tmp_path: Path) -> None:
    path, out_dir = str(write(tmp_path)), tmp_path / "slide"
    code, out, err = program("sensitivity", path, "--out", str(out_dir))
    assert (code, err) == (0, "")
    assert "What moves the latency" in out
    names = sorted(str(p.relative_to(out_dir)) for p in out_dir.rglob("*") if p.is_file())
    assert names == ["plots/tornado.png", "plots/tornado.svg", "sensitivity.json"]
    code, _, err = program("sensitivity", path, "--step", "5")
    assert (code, err) == (
        2,
        "Invalid value for '--step': '5' is not one of '1', '10'; see 'framecast sensitivity --help'\n",
    )


def test_report_of_a_folder_that_is_none(program: Any, tmp_path: Path) -> None:
    text = f"report {tmp_path}: no scenario.resolved.yaml in it; expected a folder that `framecast run --out` wrote\n"
    assert program("report", str(tmp_path)) == (2, "", text)


def test_quiet_drops_warnings_and_keeps_errors(program: Any, tmp_path: Path) -> None:
    args = (str(write(tmp_path)), "--set", "device.hbm.capacity=1 MB")
    assert program("run", *args)[2].startswith("warning: ")
    assert program("run", *args, "--quiet")[2] == ""
    code, _, err = program("run", *args, "-q", "--strict")
    assert code == 3
    assert "does not fit" in err


def test_what_does_not_fit_is_warned_of(program: Any, tmp_path: Path) -> None:
    path, small = str(write(tmp_path)), ("--set", "device.hbm.capacity=1 MB")
    for args in (("explain", path, "--op", "conv_out"), ("sensitivity", path), ("compare", path, path)):
        code, _, err = program(*args, *small)
        assert code == 0
        assert err.startswith(f"warning: {path}: does not fit a100-sxm-80gb: needs ")
        assert err.endswith("; the times below are those of a device with enough memory\n")
        assert program(*args, *small, "-q")[2] == ""


def test_progress_is_for_terminals_that_are_not_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert notes.shows_progress()
    with CliRunner().isolation():
        assert not notes.shows_progress()


@pytest.mark.parametrize("variable", ["NO_COLOR", "FORCE_COLOR"])
def test_output_has_no_colour(program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    assert "\x1b" not in "".join(map(str, program("run", str(write(tmp_path)))))


@pytest.mark.parametrize("kind", KINDS)
def test_the_schemas_in_the_docs_are_current(program: Any, kind: str) -> None:
    code, out, err = program("schema", kind)
    assert (code, err) == (0, "")
    shipped = (ROOT / "docs/schema" / f"{kind}.json").read_text(encoding="utf-8")
    assert out == shipped, "run `python -m benchmarks.docs`"


def test_wrong_kinds_and_shells(program: Any) -> None:
    one_of = "'scenario', 'device', 'software', 'capture'; see 'framecast schema --help'\n"
    assert program("schema", "devices") == (
        2,
        "",
        f"Invalid value for '{{scenario|device|software|capture}}': 'devices' is not one of {one_of}",
    )
    code, _, err = program("completion", "tcsh")
    assert code == 2
    assert err.endswith("'tcsh' is not one of 'bash', 'zsh', 'fish'; see 'framecast completion --help'\n")


def _valid(kind: str, data: Any) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(schema(kind)).iter_errors(data)]


def test_what_is_shipped_follows_its_schema() -> None:
    for kind, files in (
        ("scenario", (ROOT / "examples").glob("*.yaml")),
        ("device", DATA.glob("*.yaml")),
        ("software", (DATA / "software").glob("*.yaml")),
    ):
        jsonschema.Draft202012Validator.check_schema(schema(kind))
        for file in sorted(files):
            assert _valid(kind, yaml.safe_load(file.read_text(encoding="utf-8"))) == [], file


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_examples_point_to_their_schema(example: Path) -> None:
    first = example.read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=../docs/schema/scenario.json"
    assert (example.parent / first.partition("=")[2]).is_file()


@pytest.mark.parametrize(
    "wrong",
    [
        {"device": "a100-sxm-90gb"},
        {"device": {"base": "a100-sxm-80gb", "hbm": {"bandwidth": 4}}},
        {"device": {"base": "a100-sxm-80gb", "hbm": {"bandwith": "4 TB/s"}}},
        {"device": {"hbm": {"bandwidth": "4 TB/s"}}},
        {"request": {"hight": 512}},
        {"model": "stable-difusion-1.5"},
        {"softwar": "pytorch-eager"},
        {"sweep": {"device.hbm.bandwith": ["1 TB/s"]}},
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(wrong: dict[str, Any]) -> None:
    good = {"model": "stable-diffusion-1.5", "device": "a100-sxm-80gb"}
    assert _valid("scenario", good) == []
    assert _valid("scenario", good | wrong)


@pytest.mark.parametrize("shell", ["zsh", "fish", "bash"])
def test_completion_scripts(program: Any, shell: str) -> None:
    code, out, err = program("completion", shell)
    assert (code, err) == (0, "")
    assert f"_FRAMECAST_COMPLETE={shell}_complete" in out


def _tab(words: str, position: int) -> list[str]:
    """What bash is offered for the word at `position`."""
    cli = framecast.commands()
    environment = {"_FRAMECAST_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(position)}
    found = CliRunner(env={**os.environ, **environment}).invoke(cli, [], prog_name="framecast")
    return [line.partition(",")[2] for line in found.output.splitlines()]


def test_names_are_completed() -> None:
    assert "explain" in _tab("framecast e", 1)
    assert {"h100-sxm"} <= set(_tab("framecast hardware show h1", 3))
    assert "stable-diffusion-1.5" in _tab("framecast trace stable", 2)
    assert "device.hbm.bandwidth=" in _tab("framecast run x.yaml --set device.hbm.b", 4)
    assert _tab("framecast run exa", 2) == ["exa"]  # the shell's own completion of files
    assert "h100-sxm" in _tab("framecast compare h1", 2)
    assert {"search.objectives=", "search.device.hbm.bandwidth="} <= set(
        _tab("framecast search x.yaml --set search.", 4)
    )
    assert "sweep.device.hbm.bandwidth=" in _tab("framecast sweep x.yaml --set sweep.device.hbm", 4)
    assert "pods.members=" in _tab("framecast pods x.yaml --set pods.", 4)
    assert "project.frames=" in _tab("framecast project x.yaml --set project.", 4)
    assert set(_tab("framecast compare --scenario x.yaml a100-sxm-8", 4)) == {"a100-sxm-80gb"}


def test_module_paths_are_completed_a_level_at_a_time(program: Any) -> None:
    scenario = "examples/stable-diffusion-a100.yaml"
    assert program("check", scenario)[0] == 0  # captured from here on
    assert _tab(f"framecast explain {scenario} --op unet.mid", 4) == ["unet.mid_block."]
    assert {"unet.conv_in", "unet.down_blocks.", "unet.up_blocks."} <= set(
        _tab(f"framecast explain {scenario} --op unet.", 4)
    )
    assert _tab("framecast explain missing.yaml --op unet.", 4) == [""]


def test_values_that_are_names_are_completed() -> None:
    nothing: Any = None
    assert settings(nothing, nothing, "device=h100") == ["device=h100-pcie", "device=h100-sxm"]
    assert settings(nothing, nothing, "level=") == ["level=roofline", "level=physical", "level=calibrated"]
    assert settings(nothing, nothing, "request.height=") == []
    assert "request.height=" in settings(nothing, nothing, "request.h")
