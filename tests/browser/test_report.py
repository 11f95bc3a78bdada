"""report.html in a real browser, headless: no console error, the figures of result.json, no overflow, a table that sorts."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sim.html import page
from sim.result import Result
from tests.sim.toy import result

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no chromium on this machine (.ci/run installs it where it may)"
)
pytestmark = needs_browser
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run",
    "--hide-scrollbars", "--enable-logging=stderr", "--dump-dom",
)  # fmt: skip
WIDTHS = (390, 1024, 1600)  # a phone, a tablet, a desk
SECONDS = 60
MEASURE = """
addEventListener("load", () => {
  const frame = document.querySelector("iframe"), root = frame.contentDocument.documentElement;
  document.body.dataset.overflow = root.scrollWidth - root.clientWidth;
  const shown = [...frame.contentDocument.querySelectorAll("svg")].filter((s) => s.getBoundingClientRect().height > 0);
  document.body.dataset.charts = shown.length;
  document.body.dataset.smallest = Math.min(...shown.map((s) => s.getBoundingClientRect().width / s.viewBox.baseVal.width));
});
"""
SORT = """
<script>
const rows = () => [...document.querySelectorAll("#operators tbody tr")];
const read = (i) => rows().map((row) => row.cells[i].dataset.value ?? row.cells[i].textContent);
const heads = document.querySelectorAll("#operators th button"), names = [...heads].map((h) => h.textContent);
const out = {};
for (const name of ["calls", "module", "time, ms"]) {
  const i = names.indexOf(name);
  heads[i].click(); const once = read(i); heads[i].click();
  out[name] = [once, read(i)];
}
document.body.dataset.sorted = JSON.stringify(out);
</script>
"""


class Tagged(HTMLParser):
    """Collects (data-key, data-value, text) of a page, and the contents of elements with an id."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[list[str]] = []
        self.texts: dict[str, str] = {}
        self._key = self._id = ""

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self._key, self._id = values.get("data-key") or "", values.get("id") or ""
        if self._key:
            self.found.append([self._key, values.get("data-value") or "", ""])

    def handle_data(self, data: str) -> None:
        if self._key:
            self.found[-1][2] += data
            self._key = ""
        if self._id:
            self.texts[self._id] = self.texts.get(self._id, "") + data
            self._id = ""


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Result:
    return result(monkeypatch, tmp_path)


def rendered(text: str, folder: Path, width: int = 1024) -> tuple[str, list[str]]:
    """The page after its scripts have run, and what it wrote to the console."""
    file = folder / "page.html"
    file.write_text(text, encoding="utf-8")
    assert BROWSER
    command = [BROWSER, *FLAGS, f"--window-size={width},900", f"--user-data-dir={folder / 'profile'}", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def framed(text: str, folder: Path, width: int, script: str) -> dict[str, str]:
    """What a script measures of a page in a frame of a width and writes to the data of the body; the console stays empty."""
    frame = f'<iframe style="width:{width}px;height:800px;border:0" srcdoc="{html.escape(text)}"></iframe>'
    dom, console = rendered(f"<!DOCTYPE html><body>{frame}<script>{script}</script></body>", folder, 1700)
    assert console == []
    return dict(re.findall(r'data-(\w+)="([^"]*)"', dom[: dom.index("<iframe")]))


def test_the_check_sees_a_console_error(tmp_path: Path) -> None:
    _, console = rendered("<!DOCTYPE html><script>nosuch();</script>", tmp_path)
    assert len(console) == 1
    assert "nosuch is not defined" in console[0]


def test_it_renders_and_shows_the_figures_of_the_json(toy: Result, tmp_path: Path) -> None:
    dom, console = rendered(page(toy), tmp_path)
    assert console == []
    data = json.loads(json.dumps(toy.to_json()))
    parser = Tagged()
    parser.feed(dom)
    assert json.loads(parser.texts["result"]) == data
    keys = [key for key, _, _ in parser.found]
    assert {"latency_s", "gpu_time_s", "peak_memory_bytes", "components[0].time_s", "bounds.hbm"} < set(keys)
    for key, value, text in parser.found:
        assert json.loads(value) == _at(data, key), key
        assert text.strip(), key


def _at(data: Any, key: str) -> Any:
    """components[0].time_s of plain data."""
    for name, index in re.findall(r"(\w+)(?:\[(\d+)\])?", key):
        data = data[name][int(index)] if index else data[name]
    return data


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows_and_text_is_not_scaled_away(toy: Result, tmp_path: Path, width: int) -> None:
    measured = framed(page(toy), tmp_path, width, MEASURE)
    assert (measured["overflow"], measured["charts"]) == ("0", "5")
    assert float(measured["smallest"]) > 0.85  # of 12 pixels


def test_the_table_sorts_both_ways(toy: Result, tmp_path: Path) -> None:
    dom, console = rendered(page(toy).replace("</body>", f"{SORT}</body>"), tmp_path)
    assert console == []
    match = re.search(r'data-sorted="([^"]*)"', dom)
    assert match
    columns = json.loads(html.unescape(match[1]))
    assert columns["module"][0][0] == columns["module"][1][-1] == min(columns["module"][0])
    for name in ("calls", "time, ms"):
        once, twice = ([float(value) for value in column] for column in columns[name])
        assert once == sorted(once, reverse=True)
        assert twice == sorted(twice)
