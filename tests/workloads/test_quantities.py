"""Columns of numbers: the unit that suits the largest, and no figure shown as 0 that is not 0."""

from __future__ import annotations

import pytest

from workloads.quantities import column, plain


@pytest.mark.parametrize(
    ("values", "usual", "places", "expected"),
    [
        ([8.0e12, 2.5e11, 0], "T", 2, ("T", ["8.00", "0.25", "0.00"])),
        ([18_005_000_000_000, 3_000_000_000], "T", 2, ("T", ["18.00", "0.003"])),
        ([19_600_000_000], "T", 2, ("G", ["19.6"])),
        ([131_072, 512], "G", 1, ("k", ["131.1", "0.5"])),
        ([1_056, 32], "M", 1, ("k", ["1.06", "0.03"])),
        ([96, 32, 0], "M", 1, ("", ["96", "32", "0"])),
        ([999_999], "G", 1, ("k", ["1,000.0"])),
        ([0, 0], "M", 1, ("M", ["0.0", "0.0"])),
        ([], "M", 1, ("M", [])),
    ],
)
def test_columns(values: list[float], usual: str, places: int, expected: tuple[str, list[str]]) -> None:
    assert column(values, usual, places) == expected


def test_a_figure_that_its_decimals_would_show_as_zero() -> None:
    assert [plain(v, 1) for v in (0.0, 0.04, 0.05001, 1234.56)] == ["0.0", "0.04", "0.1", "1,234.6"]
