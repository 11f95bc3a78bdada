"""Estimate: a figure with the range that its public sources leave open; arithmetic on such ranges, for floats and for stacks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from hwspecs.rates import Rate

FOLDER = Path(__file__).parent / "data" / "silicon"


class Estimate(NamedTuple):
    """A value and the range that it is likely in; floats, or arrays that broadcast against a stack of designs."""

    low: Rate
    value: Rate
    high: Rate

    def times(self, factor: Any) -> Estimate:
        """All three multiplied by an exact positive factor."""
        return Estimate(self.low * factor, self.value * factor, self.high * factor)

    def times_estimate(self, other: Estimate) -> Estimate:
        """The product of two independent estimates: relative ranges add as the root of their squares."""
        value = self.value * other.value
        down = np.hypot(_share(self.value - self.low, self.value), _share(other.value - other.low, other.value))
        up = np.hypot(_share(self.high - self.value, self.value), _share(other.high - other.value, other.value))
        return Estimate(value / (1.0 + down), value, value * (1.0 + up))

    def over(self, other: Estimate) -> Estimate:
        """The quotient of two independent estimates."""
        return self.times_estimate(Estimate(1.0 / other.high, 1.0 / other.value, 1.0 / other.low))

    def floats(self) -> Estimate:
        """Of one device, plain floats."""
        return Estimate(*(float(np.asarray(part).reshape(-1)[0]) for part in self))

    def as_list(self) -> list[float]:
        """[low, high] for JSON."""
        found = self.floats()
        return [float(found.low), float(found.high)]


def exactly(value: Any) -> Estimate:
    """A figure without a range."""
    return Estimate(value, value, value)


def total(parts: Iterable[Estimate]) -> Estimate:
    """The sum of independent estimates: each side's distances add as the root of their squares."""
    listed = list(parts)
    value: Any = sum(part.value for part in listed)
    down: Any = np.sqrt(sum((part.value - part.low) ** 2 for part in listed))
    up: Any = np.sqrt(sum((part.high - part.value) ** 2 for part in listed))
    return Estimate(value - down, value, value + up)


def of(numbers: Sequence[float]) -> Estimate:
    """From [low, typical, high] of a file of ours."""
    low, value, high = numbers
    assert 0 < low <= value <= high, f"a range out of order: {numbers}"
    return Estimate(low, value, high)


@cache
def data(name: str) -> Any:
    """The content of one file of `data/silicon`."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where libyaml is there
    return yaml.load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), Loader=loader)


def _share(part: Any, whole: Any) -> Any:
    return part / np.where(np.asarray(whole) == 0, 1.0, whole)
