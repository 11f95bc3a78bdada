"""Intervals of single rows on a chip that was never fitted, from chips that were left out, and whether such an interval holds.

A cell is a part of the tables, and within it short and long rows. The interval of a new chip has to hold what differs between
chips: it is the pooled one, widened until those of all chips but one cover, in the mean over chips, the wanted share of that one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.families.base import Floats
from calib.intervals import COVERAGE
from calib.transfer import Left
from sim.fitted import BINS, bin_of

QUANTILES = (0.1, 0.9)
LEAST = 60  # rows of a chip and a group from which they count in a cell
WIDEST = 4.0  # times that an interval is widened at most
STEPS = 60  # of the search for it


@dataclass(frozen=True)
class Cell:
    """Ends of the interval in the logarithm of measured over predicted time; how much wider than pooled; and, by chip, the share
    of its rows inside the interval of all others, widened and as pooled."""

    low: float
    high: float
    wider: float
    covered: Mapping[str, float]
    pooled: Mapping[str, float]
    rows: int


def cells(found: Sequence[Left]) -> dict[str, Cell]:
    """By "part" and "part | bin of predicted time"; a part that one chip alone has takes its pooled interval."""
    out: dict[str, Cell] = {}
    for part in sorted({f.part for f in found}):
        own = [f for f in found if f.part == part]
        out[part] = _cell([(f.chip, f.away) for f in own])
        for i in range(len(BINS) + 1):
            rows = [(f.chip, f.away[_bins(f.guess) == i]) for f in own]
            many = [(chip, away) for chip, away in rows if len(away) >= LEAST]
            if len({chip for chip, _ in many}) > 1:
                out[f"{part} | {i}"] = _cell(many)
    return out


def _bins(seconds: Floats) -> NDArray[np.int64]:
    return np.array([bin_of(s) for s in seconds], dtype=np.int64)


def _cell(groups: Sequence[tuple[str, Floats]]) -> Cell:
    wider = next((w for w in np.geomspace(1.0, WIDEST, STEPS) if _mean(_crossed(groups, w)) >= COVERAGE), WIDEST)
    low, high = (float(wider) * end for end in _pooled([away for _, away in groups]))
    rows = sum(len(away) for _, away in groups)
    return Cell(low, high, float(wider), _crossed(groups, float(wider)), _crossed(groups, 1.0), rows)


def _mean(covered: Mapping[str, float]) -> float:
    return float(np.mean(list(covered.values()))) if covered else 1.0


def _crossed(groups: Sequence[tuple[str, Floats]], wider: float) -> dict[str, float]:
    """By chip, the share of its rows, each group alike, inside the interval of the others; {} for one chip alone."""
    out = {}
    for chip in sorted({name for name, _ in groups}):
        others = [away for name, away in groups if name != chip]
        if others:
            low, high = (wider * end for end in _pooled(others))
            inside = [np.mean((away >= low) & (away <= high)) for name, away in groups if name == chip]
            out[chip] = float(np.mean(inside))
    return out


def _pooled(groups: Sequence[Floats]) -> tuple[float, float]:
    """Quantiles of rows, each group with the same weight; never on one side of nothing, so that widening widens."""
    own = [np.quantile(away, np.linspace(0.005, 0.995, 100)) for away in groups]
    low, high = np.quantile(np.concatenate(own), QUANTILES)
    return min(float(low), 0.0), max(float(high), 0.0)
