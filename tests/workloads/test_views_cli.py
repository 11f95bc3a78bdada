"""`framecast trace --plot --over`: the files it writes, and what it prints."""

from __future__ import annotations

import json
import xml.etree.ElementTree as Tree
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

import framecast
from sim import slide, view_plots
from sim.views_cli import settings
from tests.workloads.conftest import MODEL
from tests.workloads.timelines import small
from workloads import formats
from workloads.cli import trace_for
from workloads.trace import Trace
from workloads.view_tables import HEADS, View

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


@pytest.mark.usefixtures("sd")
def test_panels_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One range for all panels, in a unit that suits; the caption is above the axes, where it covers no curve."""
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(view_plots, "save", lambda figure, _, path: drawn.update({path.stem: figure}))
    views = [
        View(f"height={n}", trace_for(MODEL, {"height": n, "width": n, "steps": steps}, ()))
        for n, steps in (("512", "1"), ("2048", "50"))
    ]
    for name, draw in view_plots.writers(views).items():
        draw(tmp_path / f"{name}.png")
    for name, unit in (("sequence_length", "sequence length"), ("similarity_memory", "similarity matrices (GB)")):
        panels = drawn[name].axes
        low, high = panels[0].get_ylim()
        assert {panel.get_ylim() for panel in panels} == {(low, high)}
        assert {panel.get_xlim() for panel in panels} == {(0, 3 * 32)}  # of the longer one
        assert unit in {panel.get_ylabel() for panel in panels}
        heights = [line.get_ydata() for panel in panels for line in panel.lines if line.get_linestyle() == "-"]
        assert len(heights) == len(views)
        assert all(low < y.min() and y.max() < high for y in heights)
        drawn[name].draw_without_rendering()
        texts = [label.get_text() for panel in panels for label in panel.get_yticklabels()]
        assert len(texts) >= 4
        assert not any("e" in text for text in texts)
        for panel in panels:
            (caption,) = [t for t in (panel.title, panel._left_title, panel._right_title) if t.get_text()]
            assert caption.get_window_extent().y0 >= panel.get_window_extent().y1


@pytest.mark.parametrize(
    ("bottom", "top", "least"), [(0.15, 0.9, ["0.2", "0.5"]), (0.002, 900.0, ["0.01", "100"]), (3, 18, ["5", "10"])]
)
def test_an_axis_has_plain_ticks(bottom: float, top: float, least: list[str]) -> None:
    figure, axes = slide.figure(9, 3)
    slide.log_axis(axes, 10, bottom, top)
    figure.draw_without_rendering()
    assert slide._tick(1e-5) == "0.00001"
    shown = [label.get_text() for label in axes.get_yticklabels() if bottom <= label.get_position()[1] <= top]
    assert set(least) <= set(shown)


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
