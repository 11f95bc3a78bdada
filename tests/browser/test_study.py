"""study.html in a real browser, headless, at three widths: no console error, no overflow, every figure and claim shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from explore.paper.answer import Answer, answer
from explore.paper.page import page
from explore.paper.suite import Suite
from tests.browser.test_report import WIDTHS, framed, needs_browser

pytestmark = needs_browser
MEASURE = """
addEventListener("load", () => {
  const inside = document.querySelector("iframe").contentDocument, root = inside.documentElement;
  document.body.dataset.overflow = root.scrollWidth - root.clientWidth;
  const shown = (what) => [...inside.querySelectorAll(what)].filter((e) => e.getBoundingClientRect().height > 0).length;
  document.body.dataset.claims = shown(".claim .verdict");
  document.body.dataset.figures = [...inside.images].filter((image) => image.naturalWidth > 0).length;
});
"""


@pytest.fixture(scope="module")
def found() -> Answer:
    """Claims that need no model, and one figure drawn from the smallest network."""
    suite = Suite()
    from explore.paper import tables
    from explore.paper.tables import Table

    rows = tuple(
        ("toy", side, way, 0.1 * side, 0.2 * side, 0.05 * side, 0.5 * side)
        for side in (64, 128)
        for way in ("unfused", "flash-2")
    )
    heads = ("scenario", "side_px", "attention", "convolution_s", "attention_s", "projections_s", "all_s")
    assert "fig5" in tables.FIGURES
    return Answer(answer(["C24", "C25", "C26"], suite).findings, {"fig5": (Table("fig5", heads, rows),)}, suite)


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_and_shows_all(found: Answer, tmp_path: Path, width: int) -> None:
    measured = framed(page(found), tmp_path, width, MEASURE)
    assert measured == {"overflow": "0", "claims": "3", "figures": "1"}
