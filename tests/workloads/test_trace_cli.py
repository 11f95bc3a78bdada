"""`framecast trace` and `framecast models`."""

from __future__ import annotations

import json
import re
from math import prod
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from hwspecs.errors import SpecError
from tests.workloads.conftest import MODEL
from tests.workloads.timelines import small
from workloads import formats
from workloads.cli import register
from workloads.model import models
from workloads.trace import Trace


@click.group()
def cli() -> None:
    """framecast"""


register(cli)


def run(*args: str) -> str:
    result = CliRunner().invoke(cli, args, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def problems(*args: str) -> tuple[str, ...]:
    with pytest.raises(SpecError) as refused:
        CliRunner().invoke(cli, args, catch_exceptions=False)
    return refused.value.problems


def test_json(sd: Trace) -> None:
    found = json.loads(run("trace", MODEL, "--steps", "30", "--format", "json"))
    assert list(found) == ["schema_version", "model", "request", "components", "unpriced", "notes"]
    assert (found["schema_version"], found["model"], found["request"]["steps"]) == (1, MODEL, 30)
    assert [(c["name"], c["repeats"]) for c in found["components"]] == [
        ("text_encoder", 2), ("unet", 30), ("vae_decoder", 1),
    ]  # fmt: skip
    for component, segment in zip(found["components"], sd.segments, strict=True):
        assert list(component) == [
            "name", "repeats", "parameters", "weight_bytes", "flops", "calls", "flops_by_kind", "attention",
        ]  # fmt: skip
        assert component["parameters"] == segment.parameters
        assert component["flops"] == sum(component["flops_by_kind"].values())
        assert sum(component["calls"].values()) == segment.stop - segment.start
        assert len(component["attention"]) == component["calls"]["attention"]
    assert found["components"][1]["attention"][1] == {
        "role": "cross", "batch": 2, "heads": 8, "q_len": 4096, "kv_len": 77, "head_dim": 40, "causal": False,
    }  # fmt: skip
    assert sum(c["flops"] * c["repeats"] for c in found["components"]) < sd.flops()


def test_table(sd: Trace) -> None:
    lines = run("trace", MODEL).splitlines()
    assert lines[0] == f"{MODEL}: height 512, width 512, batch 1, steps 50, guidance on, dtype fp16"
    assert lines[1].startswith(f"{sd.flops() / 1e12:.2f} TFLOP in all")
    assert (
        "component       repeats    parameters, M    calls a pass    GFLOP a pass    TFLOP in all    share, %" in lines
    )
    assert max(map(len, lines)) <= 110


@pytest.mark.usefixtures("sd")
def test_set_and_options_mean_the_same() -> None:
    assert run("trace", MODEL, "--set", "request.steps=7") == run("trace", MODEL, "--steps", "7")
    assert run("trace", MODEL, "--set", "steps = 7") == run("trace", MODEL, "--steps", "7")


ALLOWED = "(allowed: height, width, batch, steps, guidance, dtype, images, vae_tile, cache)"


@pytest.mark.parametrize(
    ("args", "messages"),
    [
        (("--height", "500"), ("--height: request.height: found 500, expected a multiple of 8; nearest: 496, 504",)),
        (
            ("--height", "x", "--steps", "0"),
            (
                "--height: request.height: found 'x', expected a whole number of at least 8 and at most 8192",
                "--steps: request.steps: found '0', expected a whole number of at least 1 and at most 1000",
            ),
        ),
        (
            ("--dtype", "fp17"),
            ("--dtype: request.dtype: found 'fp17', expected one of fp16, bf16, fp32; did you mean 'fp16'?",),
        ),
        (
            ("--set", "request.hight=512"),
            (f"--set hight: request.hight: unknown field; did you mean 'height'? {ALLOWED}",),
        ),
        (("--set", "height"), ("--set height: expected FIELD=VALUE, for example request.height=768",)),
    ],
)
def test_messages(args: tuple[str, ...], messages: tuple[str, ...]) -> None:
    assert problems("trace", MODEL, *args) == messages


def test_unknown_model() -> None:
    (message,) = problems("trace", "stable-difusion-1.5")
    assert message.startswith(f"unknown model 'stable-difusion-1.5'; did you mean '{MODEL}'? (known: ")


def test_a_file_of_another_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.bin").write_text("x")
    monkeypatch.chdir(tmp_path)
    (message,) = problems("trace", "net.bin")
    assert message.startswith(
        "net.bin: a file, but no ending that framecast knows (known: .yaml, .yml, .sizes, .trace, "
    )


def test_models() -> None:
    text = run("models")
    assert f"{MODEL}: Stable Diffusion 1.5" in text
    assert re.search(r"request\.height +512", text)
    listed: dict[str, Any] = json.loads(run("models", "--format", "json"))
    assert listed["schema_version"] == 1
    (model,) = (m for m in listed["models"] if m["id"] == MODEL)
    assert [(f["path"], f["default"]) for f in model["request"]] == [
        ("height", 512), ("width", 512), ("batch", 1), ("steps", 50), ("guidance", True), ("dtype", "fp16"),
        ("images", None), ("vae_tile", None), ("cache.every", None), ("cache.reuse", None),
    ]  # fmt: skip


def test_models_by_name() -> None:
    text = run("models", MODEL)
    assert text.startswith(f"{MODEL}: Stable Diffusion 1.5\n  source: ")
    assert text in run("models")
    asked = ("hunyuanvideo", MODEL, "hunyuanvideo")
    assert [m["id"] for m in json.loads(run("models", *asked, "--format", "json"))["models"]] == ["hunyuanvideo", MODEL]


def test_models_of_an_unknown_name() -> None:
    lines = problems("models", MODEL, "hunyuanvido", "sdxll")
    assert [line.partition(" (known: ")[0] for line in lines] == [
        "unknown model 'hunyuanvido'; did you mean 'hunyuanvideo'?",
        "unknown model 'sdxll'; did you mean 'sdxl'?",
    ]
    assert all(f" (known: {', '.join(models())})" in line for line in lines)


@pytest.mark.parametrize("command", ["trace", "models"])
def test_help_ends_with_examples(command: str) -> None:
    lines = [line.strip() for line in run(command, "--help").rstrip().splitlines()]
    examples = lines[lines.index("Examples:") + 1 :]
    assert len(examples) >= 2
    assert all(line.startswith(f"framecast {command}") for line in examples)


def test_a_call_of_more_flops_than_are_counted_is_refused() -> None:
    size = ("--height", "8192", "--width", "8192", "--set", "frames=513")
    (line,) = problems("trace", "hunyuanvideo", *size)
    dims = (
        "batch 1, heads 24, kv_heads 24, q_len 33816832, kv_len 33816832, head_dim 128, causal 0, role 0, interleaved 1"
    )
    start = f"hunyuanvideo: attention of {dims}, mask 33816832: found 1.41e+19 FLOP in one call"
    assert line == f"{start}, expected at most 9.22e+18; ask for less"


def test_flops_are_exact_up_to_what_is_counted() -> None:
    found = json.loads(run("trace", "hunyuanvideo", "--height", "4096", "--width", "4096", "--format", "json"))
    (component,) = (c for c in found["components"] if c["name"] == "transformer")
    names = ("batch", "heads", "q_len", "kv_len", "head_dim")
    calls = [tuple(a[n] for n in names) for a in component["attention"]]
    assert component["flops_by_kind"]["attention"] == sum(4 * prod(sizes) for sizes in calls)
    assert component["flops_by_kind"]["attention"] > 2**61


def test_tables_of_a_small_module_have_figures(tmp_path: Path) -> None:
    """3 runs of a product of 8 x 8 x 8: 1,024 FLOP each, 64 parameters."""
    formats.save(small(), tmp_path / "net.npz")
    lines = [line.split() for line in run("trace", str(tmp_path / "net.npz")).splitlines()]
    assert lines[1][:4] == ["3.07", "kFLOP", "in", "all"]
    assert " ".join(lines[3]) == "component repeats parameters calls a pass kFLOP a pass kFLOP in all share, %"
    assert lines[5] == ["net", "3", "64", "1", "1.02", "3.07", "100.0"]
    assert lines[9] == ["net", "gemm", "1", "1.02"]
    assert lines[11:] == [["No", "attention"]]
