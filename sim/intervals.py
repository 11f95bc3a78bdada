"""Intervals of single predictions: how far they may be off, by software and size of the time, and by what is new of a row.

An interval is a pair of quantiles of log(measured / predicted) over rows that no network saw, times how unsure the correction is
of the row: how much networks differ that did not see it, and how far off they were, below and above, of rows like it. It is that
of a row of measured values, of which only the combination may be new. Of a row with a value between measured ones, or beyond the
outermost, it is wider by what errors of rows have on top whose values were kept out of the fit altogether, by the column that is
new; errors add as independent ones do, by their squares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sim.forest import Forest

Floats: TypeAlias = NDArray[np.float64]
BINS = (10e-6, 20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 2e-3)  # s, predicted: intervals of their own between these edges
SIZES = (*(f"< {1e6 * edge:.0f} us" for edge in BINS), "longer")  # as intervals are labelled
# What is new of a row: a value between measured ones, below the smallest or above the largest.
INSIDE, BELOW, ABOVE = "between values", "below values", "above values"
HOLE = 0.25  # octaves between the measured values around a new one from which it counts as new
SLACK = 1e-9  # octaves: nearer to a measured value, it is that value


@dataclass(frozen=True)
class Interval:
    """Held-out quantiles of log(measured / predicted), and the rows that they come from."""

    low: float
    high: float
    rows: int


@dataclass(frozen=True)
class Doubt:
    """How unsure a correction is of a row: by how much networks differ that are blind to it, and by what the row is like.

    `networks`: by number, those that saw none of one fold of the units: of a new row, they say as much as they and others say of
    held-out rows, by which intervals are made. `floor` is added to their standard deviation, in the logarithm; `typical` is the
    median of that sum over held-out rows, which intervals are given for. `forest`: what that leaves of the errors of rows, below
    and above, by what `reads` gives of them; 1 in a typical row.
    """

    networks: tuple[int, ...]
    floor: float
    typical: float
    forest: Forest | None = None

    def scale(self, each: Floats, inputs: NDArray[np.float32], column: NDArray[np.int64], seconds: Floats) -> Floats:
        """How much further than that of a typical row an interval reaches below and above, (rows, 2): of what networks make of
        rows, (networks, rows), of what they read, (rows, features), of the software's column and the prediction (rows,)."""
        return self.ends(disagreement(each[list(self.networks)]), inputs, column, seconds)

    def ends(self, spread: Floats, inputs: NDArray[np.float32], column: NDArray[np.int64], seconds: Floats) -> Floats:
        """The same of their standard deviation (rows,)."""
        wide = self.wider(spread)
        like = self.forest(reads(inputs, column, seconds, wide)) if self.forest else np.ones((len(wide), 2))
        return np.asarray(wide[:, None] * like)

    def wider(self, spread: Floats) -> Floats:
        """How much wider the standard deviation alone (rows,) makes an interval, (rows,)."""
        return np.asarray((spread + self.floor) / self.typical)


def reads(inputs: NDArray[np.float32], column: NDArray[np.int64], seconds: Floats, wide: Floats) -> NDArray[np.float32]:
    """What a forest looks at, (rows, features + 3): features, logarithms of the time and of the disagreement, the software."""
    return np.column_stack([inputs, np.log(seconds), np.log(wide), column]).astype(np.float32)


def disagreement(each: Floats) -> Floats:
    """Standard deviation (rows,) among networks, (networks, rows)."""
    return np.asarray(each.std(axis=0, ddof=1))


WIDE = Interval(-float(np.log(2.0)), float(np.log(2.0)), 0)  # where no held-out row says how far off we are


def size_of(seconds: float) -> str:
    """The group by predicted time that a row belongs to, one of SIZES."""
    return SIZES[sum(seconds >= edge for edge in BINS)]


def interval_of(intervals: Mapping[str, Interval], condition: str, group: str, default: Interval = WIDE) -> Interval:
    """Of a software and a group (a size, or what is new), of the software, of the group, or of all: the first that there is."""
    at = f" | {group}" if group else ""
    labels = (condition + at, condition, at, "") if condition else (at, "")
    return next((intervals[n] for n in labels if n in intervals), default)


def ends_of(
    intervals: Mapping[str, Interval],
    condition: NDArray[np.object_],
    group: NDArray[np.object_],
    default: Interval = WIDE,
) -> tuple[Floats, Floats]:
    """Both ends of the intervals of rows by their software and group, (rows,) each."""
    low, high = np.zeros(len(group)), np.zeros(len(group))
    for name, label in set(zip(condition.tolist(), group.tolist(), strict=True)):
        mask = (condition == name) & (group == label)
        own = interval_of(intervals, name, label, default)
        low[mask], high[mask] = own.low, own.high
    return low, high


def widened(
    low: Floats, high: Floats, added: Mapping[str, float], new: Mapping[str, NDArray[np.object_]]
) -> tuple[Floats, Floats]:
    """The ends of rows, (rows,) each, with what is added for what is new of them in each column ("" for nothing)."""
    squared = np.zeros(len(low))
    for name, what in new.items():
        for label in sorted(set(what) - {""}):
            squared[what == label] += added_for(added, name, label) ** 2
    return -np.sqrt(low**2 + squared), np.sqrt(high**2 + squared)


def added_for(added: Mapping[str, float], column: str, what: str) -> float:
    """Of what is new in a column, in the logarithm; of that in any column, or none: the first that there is."""
    return added.get(f"{column} {what}", added.get(what, 0.0))


def sizes(seconds: Floats) -> NDArray[np.object_]:
    """The size that each row belongs to, (rows,)."""
    return np.array(SIZES, dtype=object)[np.searchsorted(BINS, seconds, side="right")]


def news(columns: Mapping[str, Floats], known: Mapping[str, Floats]) -> dict[str, NDArray[np.object_]]:
    """What is new of each row in each column, (rows,), "" for nothing. `known`: the measured values of each column, sorted and
    positive."""
    out = {}
    for name, values in known.items():
        grid, at = np.log2(values), np.log2(columns[name])
        right = np.clip(np.searchsorted(grid, at), 0, len(grid) - 1)
        left = np.maximum(right - 1, 0)
        off = np.minimum(np.abs(at - grid[right]), np.abs(at - grid[left]))
        what = np.full(len(at), "", dtype=object)
        what[(off > SLACK) & (grid[right] - grid[left] >= HOLE)] = INSIDE
        what[at < grid[0] - SLACK], what[at > grid[-1] + SLACK] = BELOW, ABOVE
        out[name] = what
    return out
