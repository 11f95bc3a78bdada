"""What an interval of a value that nobody measured is made of: networks that whole values of a column were kept from.

Tables of serving libraries are grids: a fold of their pairs (n, k) or (batch, length) leaves every value of n in the fit. How far
off a prediction is between two values, or beyond the outermost, only a network says that saw none of a value. Such networks are
trained for less long, give intervals alone, and have no part in predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from calib.families.base import Floats
from calib.intervals import LEAST_ROWS, interval
from sim.intervals import BEYOND, INSIDE, Interval, groups

if TYPE_CHECKING:
    import pandas as pd

    from calib.network import Recipe
    from sim.fitted import Part

Mask: TypeAlias = NDArray[np.bool_]
ADJACENT = (2, 1)  # values next to each other that are held out, first for each column, then again
MOST_VALUES = 64  # of a column whose inner values are held out: of more, one has another within a few percent
LEAST_VALUES = 8  # of a column of which any is held out
SHORTER = 0.4  # of the epochs of the other networks


def measured_values(frame: pd.DataFrame, columns: Sequence[str]) -> dict[str, Floats]:
    """The values of each column, sorted."""
    return {name: np.unique(frame[name].to_numpy(dtype=np.float64)) for name in columns}


def held(frame: pd.DataFrame, columns: Sequence[str], seed: int) -> list[Mask]:
    """Rows (rows,) that each network does not see: in turn the largest, or the smallest, value of every column, and one or two
    values inside one of them, drawn at random."""
    known = {name: v for name, v in measured_values(frame, columns).items() if len(v) >= LEAST_VALUES}
    inner = [(name, count) for count in ADJACENT for name, v in known.items() if len(v) <= MOST_VALUES]
    rng, out = np.random.default_rng(seed), []
    for i, (name, count) in enumerate(inner):
        mask = np.zeros(len(frame), dtype=bool)
        for other, values in known.items():
            mask |= frame[other].to_numpy() == values[-1 if i % 2 == 0 else 0]
        first = int(rng.integers(2, len(known[name]) - count - 1))
        out.append(mask | np.isin(frame[name].to_numpy(), known[name][first : first + count]))
    return out


def recipes(masks: Sequence[Mask], recipe: Recipe) -> list[tuple[Mask, Recipe]]:
    """Each mask with the recipe of the network that sees none of its rows."""
    less = replace(recipe, epochs=int(SHORTER * recipe.epochs), least_steps=int(SHORTER * recipe.least_steps), folds=1)
    return [(mask, replace(less, seed=recipe.seed + recipe.folds + i)) for i, mask in enumerate(masks)]


def columns_of(frame: pd.DataFrame, part: Part) -> dict[str, Floats]:
    """The columns (rows,) in which a value may be new to a part."""
    return {name: frame[name].to_numpy(dtype=np.float64) for name in part.known}


def intervals(
    frame: pd.DataFrame,
    columns: Sequence[str],
    condition: NDArray[np.object_],
    away: Sequence[Floats],
    masks: Sequence[Mask],
) -> dict[str, Interval]:
    """Intervals by "software | what is new" and " | what is new", of the errors `away` (rows of the mask,) of each network."""
    label, name, error = [], [], []
    for mask, own in zip(masks, away, strict=True):
        out = frame[mask]
        known, mine = measured_values(frame[~mask], columns), {c: out[c].to_numpy(dtype=np.float64) for c in columns}
        label.append(groups(np.zeros(len(out)), mine, known))
        name.append(condition[mask])
        error.append(own)
    return _grouped(np.concatenate(label), np.concatenate(name), np.concatenate(error)) if masks else {}


def _grouped(label: NDArray[np.object_], name: NDArray[np.object_], error: Floats) -> dict[str, Interval]:
    found: dict[str, Any] = {}
    for new in (INSIDE, BEYOND):
        for software in ["", *sorted(set(name) - {""})]:
            rows = (label == new) & ((name == software) if software else True)
            if rows.sum() >= LEAST_ROWS:
                found[f"{software} | {new}"] = interval(error[rows])
    return found
