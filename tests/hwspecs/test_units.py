"""Quantities as text: exact both ways, readable, and strict about units."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwspecs import units

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None)
@given(FINITE, st.sampled_from(sorted(units.UNITS)))
def test_parse_undoes_format(value: float, unit: str) -> None:
    assert units.parse(units.format(value, unit), unit) == value


@settings(deadline=None)
@given(st.integers(0, 2**50), st.sampled_from(["B", "B/s", "FLOP", ""]))
def test_whole_numbers_too(value: int, unit: str) -> None:
    assert units.parse(units.format(value, unit), unit) == value


@settings(deadline=None)
@given(FINITE, st.sampled_from(sorted(units.UNITS)))
def test_what_format_writes_matches_the_schema_pattern(value: float, unit: str) -> None:
    assert re.match(units.pattern(unit), units.format(value, unit))


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("3.35 TB/s", "B/s", 3.35e12),
        ("2039GB/s", "B/s", 2.039e12),
        ("40 MiB", "B", 40 * 2**20),
        ("80 GB", "B", 80e9),
        ("80 GiB", "B", 80 * 2**30),
        ("1410 MHz", "Hz", 1.41e9),
        ("1.2 us", "s", 1.2e-6),
        ("1.2 µs", "s", 1.2e-6),
        ("1.2 μs", "s", 1.2e-6),
        ("2048 FLOP/cycle", "FLOP/cycle", 2048.0),
        ("16 op/cycle", "op/cycle", 16.0),
        (" 1e3 W ", "W", 1000.0),
        ("5 mJ", "J", 5e-3),
        ("0.87", "", 0.87),
    ],
)
def test_parse(text: str, unit: str, value: float) -> None:
    assert units.parse(text, unit) == value


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (40 * 2**20, "B", "40 MiB"),
        (164 * 1024, "B", "164 KiB"),
        (1.5 * 2**20, "B", "1.5 MiB"),
        (80e9, "B", "80 GB"),
        (32e9, "B", "32 GB"),
        (2039e9, "B/s", "2.039 TB/s"),
        (6.6e-7, "s", "660 ns"),
        (3600, "s", "3600 s"),
        (0.25, "B", "0.25 B"),
        (4096, "FLOP/cycle", "4096 FLOP/cycle"),
        (0, "B", "0 B"),
        (0.87, "", "0.87"),
    ],
)
def test_format(value: float, unit: str, text: str) -> None:
    assert units.format(value, unit) == text


@pytest.mark.parametrize(
    ("text", "unit", "message"),
    [
        ("4800", "B/s", "found '4800', expected a rate with its unit, for example '4.8 TB/s'"),
        ("4 GB", "B/s", "found '4 GB', expected a rate with its unit, for example '4.8 TB/s'"),
        ("4 tb", "B", "found '4 tb', expected a size with its unit, for example '40 MiB'; did you mean 'TB'?"),
        ("4 mB", "B", "found '4 mB', expected a size with its unit, for example '40 MiB'; did you mean 'MB'?"),
        ("4 Ms", "s", "found '4 Ms', expected a time with its unit, for example '1.2 us'; did you mean 'ms'?"),
        ("2 kFLOP/cycle", "FLOP/cycle",
         "found '2 kFLOP/cycle', expected a rate with its unit, for example '2048 FLOP/cycle'"),
        ("1e999 s", "s",
         "found '1e999 s', expected a time with its unit, for example '1.2 us': the value is out of range"),
        ("fast", "", "found 'fast', expected a number"),
        ("", "Hz", "found '', expected a frequency with its unit, for example '1410 MHz'"),
    ],
)  # fmt: skip
def test_messages(text: str, unit: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        units.parse(text, unit)


def test_wrong_use() -> None:
    with pytest.raises(ValueError, match="unknown unit 'furlong'"):
        units.parse("1 furlong", "furlong")
    with pytest.raises(ValueError, match="not a finite number"):
        units.format(float("inf"), "s")
