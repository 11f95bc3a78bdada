"""`framecast trace --plot --over`: the files it writes, and what it prints."""

from __future__ import annotations

import json
import xml.etree.ElementTree as Tree
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

import framecast
from sim.views_cli import settings
from tests.workloads.conftest import MODEL
from tests.workloads.timelines import small
from workloads import formats
from workloads.trace import Trace
from workloads.view_tables import HEADS

PLOTS = ("arithmetic_intensity", "sequence_length", "similarity_memory", "sequence_histogram")


def run(*args: str) -> str:
    result = CliRunner().invoke(framecast.commands(), ["trace", *args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def stored(sd: Trace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trace of Stable Diffusion 1.5 as a file."""
    path = tmp_path_factory.mktemp("views") / "sd.npz"
    formats.save(sd, path)
    return path


def test_plots_and_tables(stored: Path, tmp_path: Path) -> None:
    text = run(str(stored), "--plot", str(tmp_path / "out"))
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {f"{n}.csv" for n in HEADS} | {f"{n}.{suffix}" for n in PLOTS for suffix in ("png", "svg")}
    for name in PLOTS:
        Tree.parse(tmp_path / "out" / f"{name}.svg")
        with Image.open(tmp_path / "out" / f"{name}.png") as image:
            assert image.width >= 1600
    assert next(line.split() for line in text.splitlines() if line.startswith(MODEL))[1:] == [
        "1,625",
        "64",
        "4096",
        "32",
        "50",
    ]
    drawn = (tmp_path / "out" / "sequence_length.svg").read_text()
    assert "period 32 calls, 50 of them in all" in drawn


@pytest.mark.usefixtures("sd")
def test_side_by_side(sd: Trace) -> None:
    found = json.loads(run(MODEL, "--over", "steps=20,50", "--format", "json"))
    assert found["model"] == MODEL
    assert [(r["setting"], r["periods"]) for r in found["sequence_length"]] == [("steps=20", 20), ("steps=50", 50)]
    assert [r["flops"] for r in found["arithmetic_intensity"] if r["component"] == "all"][1] == sd.flops()


@pytest.mark.usefixtures("sd")
def test_every_component_has_its_intensity() -> None:
    """The text encoder has less than 0.1 % of the FLOPs."""
    lines = run(MODEL, "--over", "steps=20,50").partition("Arithmetic intensity")[2].splitlines()[3:]
    components = ["text_encoder", "unet", "vae_decoder", "all"]
    assert [line.split()[:2] for line in lines] == [[f"steps={n}", c] for n in (20, 50) for c in components]


def test_a_trace_without_attention_has_no_lengths(tmp_path: Path) -> None:
    formats.save(small(), tmp_path / "net.et")
    lines = run(str(tmp_path / "net.et"), "--plot", str(tmp_path / "out")).splitlines()
    assert lines[0] == "No attention: no sequence lengths, no similarity matrices"
    assert lines[2].startswith("Arithmetic intensity")
    assert len(lines) == 6  # a blank line, title, head, rule, a row
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {"arithmetic_intensity.png"}


def test_fields_change_together() -> None:
    assert settings(()) == [()]
    assert settings(("height=256, 512", "request.width=1,2")) == [("height=256", "width=1"), ("height=512", "width=2")]
