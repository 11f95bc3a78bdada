"""Intervals of predictions, conformal by groups: whole units that were held out say how far predictions are off.

A software, and within it short and long rows, have intervals of their own where enough rows of enough units were held out: errors
differ more between those than within. A quantile is taken a little further out than that of the rows, as split conformal
prediction does (Vovk et al. 2005). Of many rows the interval is the shortest that holds as many: errors lean to one side, and
tails need not be alike.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from calib.families.base import Floats
from sim.intervals import SIZES, WIDE, Interval, size_of

COVERAGE = 0.8
LEAST_QUANTILE = 9  # rows: the outermost two of n hold a new one with (n - 1) / (n + 1), which is COVERAGE
LEAST_ROWS, LEAST_UNITS = 60, 20  # held out, from which a group has an interval of its own
MANY = 1000  # rows, from which an interval is the shortest: of fewer, the choice of tails would follow chance
LOWER = np.linspace(0.02, 0.18, 17)  # shares below the interval that are tried


def conformal(
    condition: NDArray[np.object_],
    unit: NDArray[np.int64],
    measured: Floats,
    guess: Floats,
    nearer: float = 1.0,
    scale: Floats | float = 1.0,
) -> dict[str, Interval]:
    """Intervals of log(measured / predicted) by "software | size", "software", " | size" and "" (all of them).

    `nearer`: how much nearer the prediction is that the intervals are for than `guess`, as a ratio of their errors. `scale`: how
    much further off than a typical row each is taken to be, below and above (rows, 2); intervals are those of a typical one.
    """
    away = nearer * np.log(measured / guess)
    below, above = np.broadcast_to(scale, (len(away), 2)).T
    away = away / np.where(away > 0.0, above, below)
    return {
        label: _interval(away[rows], float(below[rows].mean()), float(above[rows].mean()))
        for label, rows in _groups(condition, guess)
        if not label or (rows.sum() >= LEAST_ROWS and len(np.unique(unit[rows])) >= LEAST_UNITS)
    }


def _groups(condition: NDArray[np.object_], guess: Floats) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    size = np.array([size_of(seconds) for seconds in guess], dtype=object)
    for name in ["", *sorted(set(condition) - {""})]:
        own = (condition == name) if name else np.ones(len(guess), dtype=bool)
        yield name, own
        for label in SIZES:
            yield f"{name} | {label}", own & (size == label)


def _interval(away: Floats, below: float, above: float) -> Interval:
    """Quantiles of errors: of n rows, ceil((n + 1) (1 - a)) / n instead of the quantile 1 - a, and so a tail of a - (1 - a) / n.

    Both tails alike; of MANY rows, those of LOWER that make the interval shortest, where its ends reach `below` and `above` times
    as far in the mean. Of fewer than LEAST_QUANTILE rows even the outermost two hold too little: their interval is no narrower
    than where there are none. The prediction lies within, also where most rows are off to one side."""
    lower = LOWER if len(away) >= MANY else np.array([(1.0 - COVERAGE) / 2.0])
    low = np.minimum(np.quantile(away, _outer(lower, len(away))), 0.0)
    high = np.maximum(np.quantile(away, 1.0 - _outer(1.0 - COVERAGE - lower, len(away))), 0.0)
    best = int(np.argmin(high * above - low * below))
    least = WIDE if len(away) < LEAST_QUANTILE else Interval(0.0, 0.0, 0)
    return Interval(min(float(low[best]), least.low), max(float(high[best]), least.high), len(away))


def _outer(share: Floats, rows: int) -> Floats:
    return np.maximum(share - (1.0 - share) / rows, 0.0)
