"""The docs show what the commands print."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import docs, first_principles


@pytest.mark.parametrize("page", docs.pages(), ids=lambda p: p.name)
def test_console_blocks_show_what_was_printed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert docs.refreshed(text) == text, "run `python -m benchmarks.docs`"


def test_first_principles_page_is_current() -> None:
    assert first_principles.PAGE.read_text(encoding="utf-8") == first_principles.page()


def test_rates_stay_below_their_peaks() -> None:
    for name, _, _, share in first_principles.limits():
        assert 50 <= float(share.removesuffix(" %")) <= 100, name
