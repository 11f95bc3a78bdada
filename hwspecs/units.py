"""Quantities as text: '3.35 TB/s' <-> 3.35e12. The only place that knows prefixes.

A prefix is SI (k M G T P m u n; GB = 10^9 B) or, for bytes, binary (Ki Mi Gi Ti; GiB = 2^30 B). Each unit takes
only those that make sense for it, so that a slip of case (mB for MB, Ms for ms) is refused and not believed.
Both directions are exact: `parse(format(x, unit), unit) == x` for every finite float.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

SI = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "m": -3, "u": -6, "µ": -6, "μ": -6, "n": -9}  # power of 10
_UP, _DOWN, _MICRO = ("", "k", "M", "G", "T", "P"), ("", "m", "u", "n"), ("µ", "μ")  # the last two read as u
BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40}  # power of 2, bytes only

# Prefixes that a unit takes; none for rates per cycle and bare numbers.
PREFIXES = {
    **dict.fromkeys(("B", "B/s", "Hz", "FLOP", "FLOP/s"), _UP),
    "s": _DOWN,
    **dict.fromkeys(("W", "J"), _UP + _DOWN[1:]),
    **dict.fromkeys(("cycle", "FLOP/cycle", "op/cycle", "B/cycle", "mm2", ""), ("",)),
}
# What the values of a unit are called, and an example, in messages; also the list of known units.
UNITS = {
    "": ("a number", "0.5"),
    "B": ("a size", "40 MiB"),
    "B/s": ("a rate", "4.8 TB/s"),
    "Hz": ("a frequency", "1410 MHz"),
    "s": ("a time", "1.2 us"),
    "cycle": ("a time in clock cycles", "32 cycle"),
    "mm2": ("an area", "826 mm2"),
    "W": ("a power", "400 W"),
    "J": ("an energy", "3.2 J"),
    "FLOP": ("an amount of work", "2 TFLOP"),
    "FLOP/s": ("a rate", "312 TFLOP/s"),
    "FLOP/cycle": ("a rate", "2048 FLOP/cycle"),
    "op/cycle": ("a rate", "16 op/cycle"),
    "B/cycle": ("a rate", "64 B/cycle"),
}

NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_QUANTITY = re.compile(rf"({NUMBER})\s*(.*)")
_SHORT = 4  # significant digits up to which a binary prefix reads better than a decimal one


def parse(text: str, unit: str) -> float:
    """The value of `text` in `unit` (SI base). ValueError says what was found and expected."""
    match = _QUANTITY.fullmatch(text.strip())
    power = _powers(unit).get(match[2]) if match else None
    if match is None or power is None:
        raise ValueError(f"found '{text}', expected {expected(unit)}{_hint(match, unit)}")
    base, exponent = power
    value = float(match[1]) * 2.0**exponent if base == 2 else _shifted(match[1], exponent)
    if not math.isfinite(value):
        raise ValueError(f"found '{text}', expected {expected(unit)}: the value is out of range")
    return value


def format(value: float, unit: str) -> str:
    """Text of `value`, a finite number in `unit`, with a readable prefix and as many digits as it needs."""
    _known(unit)
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    short = _binary(float(value)) if unit == "B" else None
    if short:
        return short
    exact = Decimal(repr(float(value)))
    prefix = _prefix(exact, unit)
    return f"{_digits(exact, SI[prefix])} {prefix}{unit}".rstrip()


def expected(unit: str) -> str:
    """What a field of this unit wants, for messages: "a rate with its unit, for example '4.8 TB/s'"."""
    _known(unit)
    noun, example = UNITS[unit]
    return f"{noun} with its unit, for example '{example}'" if unit else noun


def pattern(unit: str) -> str:
    """Regular expression of the texts that `parse` reads in this unit, for JSON Schema."""
    suffixes = "|".join(re.escape(s) for s in _powers(unit))
    return rf"^\s*{NUMBER}\s*(?:{suffixes})\s*$"


def _powers(unit: str) -> dict[str, tuple[int, int]]:
    """Suffix -> (base, exponent), for example {'GB': (10, 9), 'GiB': (2, 30)}."""
    _known(unit)
    prefixes = PREFIXES[unit] + (_MICRO if "u" in PREFIXES[unit] else ())
    powers = {prefix + unit: (10, SI[prefix]) for prefix in prefixes}
    if unit in ("B", "B/s"):
        powers |= {prefix + unit: (2, power) for prefix, power in BINARY.items()}
    return powers


def _known(unit: str) -> None:
    if unit not in UNITS:
        raise ValueError(f"unknown unit '{unit}' (known: {', '.join(u for u in UNITS if u)})")


def _hint(match: re.Match[str] | None, unit: str) -> str:
    """The same suffix in its right case, where there is one: 'tb/s' -> 'TB/s'."""
    close = [s for s in _powers(unit) if match and match[2] and s.lower() == match[2].lower()]
    return f"; did you mean '{max(close, key=lambda s: _powers(unit)[s])}'?" if close else ""


def _shifted(number: str, exponent: int) -> float:
    """number x 10^exponent, rounded once."""
    mantissa, _, power = number.lower().partition("e")
    return float(f"{mantissa}e{int(power or 0) + exponent}")


def _binary(value: float) -> str | None:
    """'40 MiB' where that is short and exact (a whole number of KiB), else None."""
    if value < 1024 or value % 1024:
        return None
    prefix, power = max((item for item in BINARY.items() if value >= 2.0 ** item[1]), key=lambda item: item[1])
    text = repr(value / 2.0**power).removesuffix(".0")
    return f"{text} {prefix}B" if len(text.replace(".", "")) <= _SHORT else None


def _prefix(value: Decimal, unit: str) -> str:
    """The prefix that leaves 1 to 999 before the point, as far as the unit has one."""
    fits = [prefix for prefix in PREFIXES[unit] if value and value.adjusted() >= SI[prefix]]
    return max(fits, key=lambda prefix: SI[prefix], default="")


def _digits(exact: Decimal, power: int) -> str:
    """exact / 10^power in plain digits, or with an exponent where that would be long."""
    sign, digits, exponent = exact.as_tuple()
    shifted = Decimal((sign, digits, int(exponent) - power)).normalize() if exact else Decimal(0)
    return f"{shifted:f}" if -7 <= shifted.adjusted() < 16 else f"{shifted:e}"
