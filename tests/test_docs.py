"""The docs show what the commands print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import best_accelerator, docs, first_principles, hypervolume, limits, pods_worked
from benchmarks.run import RESULTS


@pytest.mark.parametrize("page", docs.pages(), ids=lambda p: p.name)
def test_console_blocks_show_what_was_printed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert docs.refreshed(text) == text, "run `python -m benchmarks.docs`"


def test_first_principles_page_is_current() -> None:
    assert first_principles.PAGE.read_text(encoding="utf-8") == first_principles.page()


def test_rates_stay_below_their_peaks() -> None:
    for name, _, _, share in first_principles.limits():
        assert 50 <= float(share.removesuffix(" %")) <= 100, name


def test_the_worked_example_of_pods_is_what_was_played() -> None:
    cells = json.loads(pods_worked.RESULTS.read_text(encoding="utf-8"))
    text = pods_worked.PAGE.read_text(encoding="utf-8")
    assert pods_worked.page(text, cells) == text, "run `python -m benchmarks.pods_worked`"
    assert {(c["example"], c["device"]) for c in cells} == {
        (m, d) for m in pods_worked.MODELS for d in pods_worked.DEVICES
    }


def test_the_best_accelerator_is_what_was_found() -> None:
    data = json.loads(best_accelerator.RESULTS.read_text(encoding="utf-8"))
    text = best_accelerator.PAGE.read_text(encoding="utf-8")
    assert best_accelerator.page(text, data) == text, "run `python -m benchmarks.best_accelerator`"
    area, power = data["outputs"]["area_mm2"][1], data["outputs"]["full_power_w"][1]
    assert area <= 826
    assert power <= 400


def test_the_table_of_hypervolumes_is_what_was_measured() -> None:
    found = json.loads(hypervolume.RESULTS.read_text(encoding="utf-8"))
    text = hypervolume.PAGE.read_text(encoding="utf-8")
    assert hypervolume.page(text, found) == text, "run `python -m benchmarks.hypervolume`"
    assert set(hypervolume.SPACES) < set(found)


def test_the_limits_of_pricing_are_what_was_measured() -> None:
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    text = limits.PAGE.read_text(encoding="utf-8")
    assert limits.page(text, found) == text, "run `make bench`"
    assert 0 < found["price_share_of_arithmetic_limit"]["value"] < 1
