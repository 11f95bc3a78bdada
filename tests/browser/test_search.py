"""search.html in a real browser, headless, at three widths: no console error, no overflow, every table and plot shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from explore import objectives
from explore.answer import answer
from explore.answer_page import TITLES, page
from explore.storage import Location
from explore.study import run
from tests.browser.test_report import WIDTHS, framed, needs_browser
from tests.explore.toys import SEARCH, opened, use_toy

pytestmark = needs_browser
GOALS = "latency_s: minimize, area_mm2: minimize, full_power_w: minimize"
MEASURE = """
addEventListener("load", () => {
  const inside = document.querySelector("iframe").contentDocument, root = inside.documentElement;
  document.body.dataset.overflow = root.scrollWidth - root.clientWidth;
  const shown = (what) => [...inside.querySelectorAll(what)].filter((e) => e.getBoundingClientRect().height > 0).length;
  document.body.dataset.tables = shown("table");
  document.body.dataset.plots = shown("figure svg");
});
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("search")
    with pytest.MonkeyPatch.context() as patch:
        use_toy(patch)
        goals = SEARCH.replace("latency_s: minimize, relative_resources: minimize", GOALS)
        search = objectives.read(opened(folder, goals.replace("relative_resources <= 2", "area_mm2 <= 858")))
        where = Location(str(folder / "s.journal"))
        yield page(answer(search, run(search, where), where))


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_and_shows_all(text: str, tmp_path: Path, width: int) -> None:
    measured = framed(text, tmp_path, width, MEASURE)
    assert measured == {"overflow": "0", "tables": "4", "plots": str(len(TITLES))}
    assert "How sure it is" in text
    assert "front, by full_power_w" in text  # three objectives: points, coloured by the third
