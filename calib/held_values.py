"""What an interval of a value that nobody measured is made of: networks that whole values of a column were kept from.

Tables of serving libraries are grids: a fold of their pairs (n, k) or (batch, length) leaves every value of n in the fit. How far
off a prediction is between two values, or beyond the outermost, only a network says that saw none of a value. Such networks are
trained for less long, give intervals alone, and have no part in predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from calib.families.base import Floats
from calib.intervals import COVERAGE, LEAST_ROWS
from calib.network import blind_to, spares
from sim.intervals import Interval, ends_of, news, sizes

if TYPE_CHECKING:
    import pandas as pd

    from calib.network import Recipe
    from sim.fitted import Part

Mask: TypeAlias = NDArray[np.bool_]
OCTAVE = 2.0  # ratio of the outermost value to the first that a network sees: powers of two lose one value
ADJACENT = (2, 2, 1, 1)  # values next to each other that each network does not see of every column
MOST_VALUES = 64  # of a column whose inner values are held out: of more, one has another within a few percent
LEAST_VALUES = 8  # of a column of which any is held out
LEVELS = np.linspace(COVERAGE, 0.995, 40)  # quantiles, the first of which that holds for the value left out is taken
LEAST_END = 1e-3  # of an interval, in the logarithm, that errors are divided by
SHORTER = 0.3  # of the epochs of the other networks


def measured_values(frame: pd.DataFrame, columns: Sequence[str]) -> dict[str, Floats]:
    """The values of each column, sorted."""
    return {name: np.unique(frame[name].to_numpy(dtype=np.float64)) for name in columns}


def held(frame: pd.DataFrame, columns: Sequence[str], seed: int) -> list[Mask]:
    """Rows (rows,) that each network does not see: in turn the outermost octave of every column at its upper or its lower end,
    since the next value of some is nearer than a percent, and one or two values inside every column, drawn at random."""
    known = {name: v for name, v in measured_values(frame, columns).items() if len(v) >= LEAST_VALUES}
    inner = {name: v for name, v in known.items() if len(v) <= MOST_VALUES}
    rng, out = np.random.default_rng(seed), []
    for i, count in enumerate(ADJACENT if inner else ()):
        mask = np.zeros(len(frame), dtype=bool)
        for name, values in known.items():
            own = frame[name].to_numpy(dtype=np.float64)
            mask |= (own > values[-1] / OCTAVE) if i % 2 == 0 else (own < values[0] * OCTAVE)
            if name in inner:
                first = int(rng.integers(1, len(values) - count - 1))
                mask |= np.isin(own, values[first : first + count])
        out.append(mask)
    return out


def recipes(masks: Sequence[Mask], fold: NDArray[np.int64], recipe: Recipe) -> list[tuple[Mask, Recipe]]:
    """Rows (rows,) that each network does not see, and its recipe: for each mask as many as are blind to a fold, and blind
    to what those are."""
    less = replace(
        recipe, epochs=int(SHORTER * recipe.epochs), least_steps=int(SHORTER * recipe.least_steps), folds=1, spared=1
    )
    each = [mask | spares(fold, i, recipe) for mask in masks for i in blind_to(0, recipe)]
    return [(mask, replace(less, seed=recipe.seed + recipe.folds + i)) for i, mask in enumerate(each)]


def columns_of(frame: pd.DataFrame, part: Part) -> dict[str, Floats]:
    """The columns (rows,) in which a value may be new to a part."""
    return {name: frame[name].to_numpy(dtype=np.float64) for name in part.known}


def added(
    frame: pd.DataFrame,
    columns: Sequence[str],
    masks: Sequence[Mask],
    more: Sequence[Floats],
) -> dict[str, float]:
    """What intervals are wider by, in the logarithm, by "column what is new in it" and "what is new": of the `excess` (rows of
    the mask,) of each pair of networks, of all softwares together, whose errors about the same values are alike, and of rows that
    are new in one column alone."""
    cells: dict[str, list[tuple[NDArray[np.object_], Floats]]] = {}
    for mask, error in zip(masks, more, strict=True):
        mine = {c: frame.loc[mask, c].to_numpy(dtype=np.float64) for c in columns}
        what = news(mine, measured_values(frame[~mask], columns))
        alone = sum((w != "").astype(np.int64) for w in what.values()) == 1
        for name, labels in what.items():
            for label in sorted(set(labels[alone]) - {""}):
                own = alone & (labels == label)
                for cell in (f"{name} {label}", str(label)):
                    cells.setdefault(cell, []).append((_labels(name, mine[name][own]), error[own]))
    found = {cell: (np.concatenate(parts) for parts in zip(*own, strict=True)) for cell, own in cells.items()}
    return {cell: clustered(e, v) for cell, (v, e) in sorted(found.items()) if len(e) >= LEAST_ROWS}


Off: TypeAlias = tuple[Floats, Floats]  # errors of rows, and the ends of their intervals on that side, (rows,) each


def beside(
    away: Floats,
    intervals: Mapping[str, Interval],
    condition: NDArray[np.object_],
    seconds: Floats,
    scale: Floats | float = 1.0,
) -> Off:
    """Errors, and the end of the row's interval on their side; `seconds` are predicted, `scale` is how much further its interval
    reaches than that of a typical row, below and above (rows, 2)."""
    low, high = ends_of(intervals, condition, sizes(seconds))
    below, above = np.broadcast_to(scale, (len(away), 2)).T
    return away, np.maximum(np.where(away > 0.0, above * high, -below * low), LEAST_END)


def excess(new: Off, known: Off) -> Floats:
    """What an interval lacks (rows,) to hold errors of networks about values that they did not see, in the logarithm: the root of
    what their squares have on top. Errors are first divided by what the same networks miss values by that they know, in units of
    intervals: they are trained for less long, and what that costs says nothing of new values."""
    (away, end), (others, ends) = new, known
    longer = max(float(np.quantile(np.abs(others) / ends, COVERAGE)), LEAST_END) if len(others) else 1.0
    return np.asarray(np.sqrt(np.maximum((away / longer) ** 2 - end**2, 0.0)))


def _labels(column: str, values: Floats) -> NDArray[np.object_]:
    return np.array([f"{column} {v:g}" for v in values], dtype=object)


def clustered(more: Floats, value: NDArray[np.object_]) -> float:
    """What is added to intervals where what they lack (rows,) comes in few values: the least quantile of all, each value with the
    same weight, from that of the wanted share on, at which that of all values but one holds, in the mean over values, the wanted
    share of that one; where none does, the most of any value. One of more than MOST_VALUES makes no difference to the others.
    Both sides alike: on which some values err says nothing of others.
    """
    each = [more[value == v] for v in sorted(set(value))]
    alike = np.stack([np.quantile(own, np.linspace(0.005, 0.995, 100)) for own in each])
    if not 1 < len(each) <= MOST_VALUES:
        return float(np.quantile(alike, COVERAGE))
    others = [np.quantile(np.delete(alike, i, axis=0), LEVELS) for i in range(len(each))]
    held_by = np.mean([(own[:, None] <= ends).mean(axis=0) for own, ends in zip(each, others, strict=True)], axis=0)
    enough = np.flatnonzero(held_by >= COVERAGE)
    return float(np.quantile(alike, LEVELS[enough[0]]) if len(enough) else np.quantile(alike, COVERAGE, axis=1).max())
