"""Intervals of single predictions: how far they may be off, by software, and by the size of the time or by what is new of a row.

An interval is a pair of quantiles of log(measured / predicted) over rows that no network saw. A row of measured values, of which
only the combination may be new, has the interval of rows of such combinations; one with a value between measured ones, or beyond
the outermost, that of rows whose values were kept out of the fit altogether.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
BINS = (10e-6, 20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 2e-3)  # s, predicted: intervals of their own between these edges
SIZES = (*(f"< {1e6 * edge:.0f} us" for edge in BINS), "longer")  # as intervals are labelled
INSIDE, BEYOND = (
    "between values",
    "beyond values",
)  # what is new of a row: a value between measured ones, or beyond them all
HOLE = 0.25  # octaves between the measured values around a new one from which it counts as new
SLACK = 1e-9  # octaves: nearer to a measured value, it is that value


@dataclass(frozen=True)
class Interval:
    """Held-out quantiles of log(measured / predicted), and the rows that they come from."""

    low: float
    high: float
    rows: int


def size_of(seconds: float) -> str:
    """The group by predicted time that a row belongs to, one of SIZES."""
    return SIZES[sum(seconds >= edge for edge in BINS)]


def interval_of(intervals: Mapping[str, Interval], condition: str, group: str) -> Interval:
    """Of a software and a group (a size, or what is new), of the software, of the group, or of all: the first that there is."""
    at = f" | {group}" if group else ""
    labels = (condition + at, condition, at, "") if condition else (at, "")
    return next((intervals[n] for n in labels if n in intervals), Interval(-np.log(2), np.log(2), 0))


def ends_of(
    intervals: Mapping[str, Interval], condition: NDArray[np.object_], group: NDArray[np.object_]
) -> tuple[Floats, Floats]:
    """Both ends of the intervals of rows by their software and group, (rows,) each, in the logarithm."""
    low, high = np.zeros(len(group)), np.zeros(len(group))
    for name, label in set(zip(condition.tolist(), group.tolist(), strict=True)):
        mask = (condition == name) & (group == label)
        own = interval_of(intervals, name, label)
        low[mask], high[mask] = own.low, own.high
    return low, high


def groups(seconds: Floats, columns: Mapping[str, Floats], known: Mapping[str, Floats]) -> NDArray[np.object_]:
    """What the interval of each row is looked up by, (rows,): what is new of it, or else the size of its time.

    `known`: the values of each column that were measured, sorted and positive.
    """
    out = np.array(SIZES, dtype=object)[np.searchsorted(BINS, seconds, side="right")]
    beyond = np.zeros(len(seconds), dtype=bool)
    for name, values in known.items():
        grid, at = np.log2(values), np.log2(columns[name])
        right = np.clip(np.searchsorted(grid, at), 0, len(grid) - 1)
        left = np.maximum(right - 1, 0)
        off = np.minimum(np.abs(at - grid[right]), np.abs(at - grid[left]))
        outside = (at > grid[-1] + SLACK) | (at < grid[0] - SLACK)
        out[~outside & (off > SLACK) & (grid[right] - grid[left] >= HOLE)] = INSIDE
        beyond |= outside
    out[beyond] = BEYOND
    return out
