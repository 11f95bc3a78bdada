"""Columns of numbers for people: the unit that suits the largest of a column, and no figure that is shown as less than it is."""

from __future__ import annotations

import math
from collections.abc import Sequence

PREFIXES = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12}  # SI prefix -> power of ten
DIGITS = 3  # that count, of the largest of a column and of a figure too small for its decimals


def column(values: Sequence[float], usual: str, places: int) -> tuple[str, list[str]]:
    """The prefix of a column and its texts: the usual prefix, a smaller one where the largest value stays below 1 with it.

    `values` (rows,), 0 or more, in the plain unit. So many decimals with the usual prefix; with another one three digits of the
    largest, and a decimal at least. A value above 0 that they would show as 0 has significant digits of its own.
    """
    largest = max(values, default=0)
    suits = prefix(largest, usual)
    if suits != usual:
        places = 0 if not suits else max(DIGITS - 1 - math.floor(math.log10(largest) % 3), 1)
    return suits, [plain(v / 10 ** PREFIXES[suits], places) for v in values]


def prefix(largest: float, usual: str = "T") -> str:
    """The prefix, up to the usual one, that leaves 1 or more of a number of 0 or more; of 0 the usual one."""
    fits = [p for p, power in PREFIXES.items() if power <= PREFIXES[usual] and largest >= 10**power]
    return fits[-1] if fits else ("" if largest else usual)


def plain(value: float, places: int) -> str:
    """A number, 0 or more, with so many decimals; with three digits that count where it is above 0 and they would show 0."""
    text = f"{value:,.{places}f}"
    if not value or float(text.replace(",", "")):
        return text
    return f"{value:.{DIGITS}g}"
