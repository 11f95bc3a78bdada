"""The plots are drawn, at the size promised, the same bytes each time, with their source in the corner."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from sim import plots
from sim.result import Result
from tests.sim.toy import result


@pytest.mark.parametrize("draw", [plots.breakdown, plots.roofline])
def test_png_and_svg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, draw: Callable[[Result, Path], None]) -> None:
    toy = result(monkeypatch, tmp_path)
    draw(toy, tmp_path / "a.png")
    header = (tmp_path / "a.png").read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">I", header[16:20]) == (1800,)
    for name in ("a.svg", "b.svg"):
        draw(toy, tmp_path / name)
    svg = (tmp_path / "a.svg").read_text()
    assert svg == (tmp_path / "b.svg").read_text()
    assert toy.scenario.hash in svg
    assert "Attention" in svg
    assert "512 x 512, batch 1, 50 steps, fp16, pytorch-eager, attention flash-2" in svg
    changed = result(monkeypatch, tmp_path, "device.sm_count=80", "software.cuda_graphs=true")
    draw(changed, tmp_path / "c.svg")
    svg = (tmp_path / "c.svg").read_text()
    assert "on NVIDIA A100 SXM4 80 GB (changed): " in svg
    assert "pytorch-eager (changed: cuda_graphs), attention flash-2" in svg
