"""What a fit of few rows may change, and what it says of that: the most telling parameter first, a correction last.

Compared on products that were held out by whole (n, k), of an A100 and an L40S, each from the parameters of the other: with 10
rows one parameter, with 100 six and a smooth correction, with 400 all of them had the smallest errors (docs/accuracy.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEW, SOME = (
    50,
    400,
)  # rows below which only the first, or the first six, parameters are refitted: transfer notes, section 6
SIX = 6
LEARNED_ROWS, LEARNED_UNITS = 75, 40  # rows, and held-out units among them, from which a correction is learned,
MANY_ROWS = 1000  # and from which it may be more than a smooth one
LEAST_SPREAD = (
    0.15  # of the log errors of few rows: terms of one chip miss shapes on another by 0.14 (calibrations/spread.yaml)
)
TOLD = 0.5  # share of a change of a parameter that a row's time must follow to say something of it
LEAST_TOLD = 2  # rows; where fewer follow, all are used
FOLDS = 3  # without each of which the fit is made again, to know its errors


def carried(names: tuple[str, ...], rows: int) -> tuple[str, ...]:
    """The parameters that so many rows can carry; `names` has the most telling first."""
    return names[:1] if rows < FEW else names[:SIX] if rows < SOME else names


def can_learn(unit: NDArray[np.int64]) -> bool:
    """Whether rows of these units are enough for a correction."""
    return len(unit) >= LEARNED_ROWS and len(np.unique(unit)) >= LEARNED_UNITS


def telling(before: NDArray[np.float64], after: NDArray[np.float64], change: float) -> NDArray[np.bool_]:
    """Rows (rows,) whose seconds follow a parameter that was multiplied by `change`; all where hardly any does."""
    follows = np.abs(np.log(after / before)) > TOLD * abs(np.log(change))
    return follows if follows.sum() >= LEAST_TOLD else np.ones(len(before), dtype=bool)


def said(name: str, rows: int, names: tuple[str, ...], learns: bool) -> str:
    """One line on what was refitted of a part with few rows; '' for one with many."""
    if rows >= MANY_ROWS:
        return ""
    none = f"no correction (from {LEARNED_ROWS} rows of {LEARNED_UNITS} shapes on)"
    own = f"a smooth correction (a finer one from {MANY_ROWS} rows on)" if learns else none
    more = (
        f" (from {FEW} rows on {SIX}, from {SOME} all)"
        if rows < FEW
        else f" (from {SOME} rows on all)"
        if rows < SOME
        else ""
    )
    return f"{name}: {rows} rows: refitted {', '.join(names)}{more}; {own}"
