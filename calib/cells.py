"""Intervals of single rows on a chip that was never fitted, from chips that were left out, and whether such an interval holds.

A cell is a part of the tables, and within it short and long rows. The interval of a new chip has to hold what differs between
chips: it is the pooled one with a margin on either side, the least with which those of all chips but one cover, in the mean over
chips, the wanted share of that one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.families.base import Floats
from calib.intervals import COVERAGE
from calib.transfer import Left
from sim.spread import ROW_EDGES

QUANTILES = (0.1, 0.9)
LEAST = 60  # rows of a chip and a group from which they count in a cell
MARGINS = np.linspace(0.0, 1.5, 151)  # in the logarithm


@dataclass(frozen=True)
class Cell:
    """Ends of the interval in the logarithm of measured over predicted time; the margin in them; and, by chip, the share of its
    rows inside the interval of all others, with the margin and as pooled."""

    low: float
    high: float
    margin: float
    covered: Mapping[str, float]
    pooled: Mapping[str, float]
    rows: int


def cells(found: Sequence[Left]) -> dict[str, Cell]:
    """By "part" and "part | bin of predicted time"; a part that one chip alone has takes its pooled interval."""
    out: dict[str, Cell] = {}
    for part in sorted({f.part for f in found}):
        own = [f for f in found if f.part == part]
        out[part] = _cell([(f.chip, f.away) for f in own])
        for i in range(len(ROW_EDGES) + 1):
            rows = [(f.chip, f.away[_bins(f.guess) == i]) for f in own]
            many = [(chip, away) for chip, away in rows if len(away) >= LEAST]
            if len({chip for chip, _ in many}) > 1:
                out[f"{part} | {i}"] = _cell(many)
    return out


def _bins(seconds: Floats) -> NDArray[np.int64]:
    return np.searchsorted(ROW_EDGES, seconds, side="right")


def _cell(groups: Sequence[tuple[str, Floats]]) -> Cell:
    margin = float(next((m for m in MARGINS if _mean(_crossed(groups, m)) >= COVERAGE), MARGINS[-1]))
    low, high = _pooled([away for _, away in groups])
    rows = sum(len(away) for _, away in groups)
    return Cell(low - margin, high + margin, margin, _crossed(groups, margin), _crossed(groups, 0.0), rows)


def _mean(covered: Mapping[str, float]) -> float:
    return float(np.mean(list(covered.values()))) if covered else 1.0


def _crossed(groups: Sequence[tuple[str, Floats]], margin: float) -> dict[str, float]:
    """By chip, the share of its rows, each group alike, inside the interval of the others; {} for one chip alone."""
    out = {}
    for chip in sorted({name for name, _ in groups}):
        others = [away for name, away in groups if name != chip]
        if others:
            low, high = _pooled(others)
            own = [away for name, away in groups if name == chip]
            out[chip] = float(np.mean([np.mean((a >= low - margin) & (a <= high + margin)) for a in own]))
    return out


def _pooled(groups: Sequence[Floats]) -> tuple[float, float]:
    """Quantiles of rows, each group with the same weight."""
    own = [np.quantile(away, np.linspace(0.005, 0.995, 100)) for away in groups]
    low, high = np.quantile(np.concatenate(own), QUANTILES)
    return float(low), float(high)
