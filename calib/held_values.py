"""What an interval of a value that nobody measured is made of: networks that whole values of a column were kept from.

Tables of serving libraries are grids: a fold of their pairs (n, k) or (batch, length) leaves every value of n in the fit. How far
off a prediction is between two values, or beyond the outermost, only a network says that saw none of a value. Such networks are
trained for less long, give intervals alone, and have no part in predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from calib.families.base import Floats
from calib.intervals import COVERAGE, LEAST_ROWS
from calib.network import blind_to, spares
from sim.intervals import ABOVE, BELOW, INSIDE, Interval, ends_of, news, sizes

if TYPE_CHECKING:
    import pandas as pd

    from calib.network import Recipe
    from sim.fitted import Part

Mask: TypeAlias = NDArray[np.bool_]
OCTAVE = 2.0  # ratio of the outermost value to the first that a network sees: powers of two lose one value
ADJACENT = (2, 1)  # values next to each other that are held out, first for each column, then again
MOST_VALUES = 64  # of a column whose inner values are held out: of more, one has another within a few percent
LEAST_VALUES = 8  # of a column of which any is held out
FACTORS = np.linspace(1.0, 5.0, 81)  # of a stretch that is made of few values
LEAST_END = 1e-3  # of an interval, in the logarithm, that errors are divided by
SHORTER = 0.3  # of the epochs of the other networks


def measured_values(frame: pd.DataFrame, columns: Sequence[str]) -> dict[str, Floats]:
    """The values of each column, sorted."""
    return {name: np.unique(frame[name].to_numpy(dtype=np.float64)) for name in columns}


@dataclass(frozen=True)
class Blind:
    """Rows (rows,) that a network does not see, and the column of which it misses inner values."""

    mask: Mask
    column: str


def held(frame: pd.DataFrame, columns: Sequence[str], seed: int) -> list[Blind]:
    """What each network does not see: in turn the outermost octave of every column at its upper or its lower end, since the next
    value of some is nearer than a percent, and one or two values inside one of them, drawn at random."""
    known = {name: v for name, v in measured_values(frame, columns).items() if len(v) >= LEAST_VALUES}
    inner = [(name, count) for count in ADJACENT for name, v in known.items() if len(v) <= MOST_VALUES]
    rng, out = np.random.default_rng(seed), []
    for i, (name, count) in enumerate(inner):
        mask = np.zeros(len(frame), dtype=bool)
        for other, values in known.items():
            own = frame[other].to_numpy(dtype=np.float64)
            mask |= (own > values[-1] / OCTAVE) if i % 2 == 0 else (own < values[0] * OCTAVE)
        first = int(rng.integers(1, len(known[name]) - count - 1))
        out.append(Blind(mask | np.isin(frame[name].to_numpy(), known[name][first : first + count]), name))
    return out


def recipes(blind: Sequence[Blind], fold: NDArray[np.int64], recipe: Recipe) -> list[tuple[Mask, Recipe]]:
    """Rows (rows,) that each network does not see, and its recipe: for each mask as many as are blind to a fold, and blind
    to what those are."""
    less = replace(
        recipe, epochs=int(SHORTER * recipe.epochs), least_steps=int(SHORTER * recipe.least_steps), folds=1, spared=1
    )
    each = [b.mask | spares(fold, i, recipe) for b in blind for i in blind_to(0, recipe)]
    return [(mask, replace(less, seed=recipe.seed + recipe.folds + i)) for i, mask in enumerate(each)]


def columns_of(frame: pd.DataFrame, part: Part) -> dict[str, Floats]:
    """The columns (rows,) in which a value may be new to a part."""
    return {name: frame[name].to_numpy(dtype=np.float64) for name in part.known}


def stretches(
    frame: pd.DataFrame,
    columns: Sequence[str],
    blind: Sequence[Blind],
    errors: Sequence[Floats],
) -> dict[str, Interval]:
    """Stretches by " | what is new", of the `errors` (rows of the mask,) of each pair of networks in units of the interval of the
    row; of all softwares together, whose errors about the same values are alike."""
    label, value = [], []
    for own in blind:
        out = frame[own.mask]
        known, mine = (
            measured_values(frame[~own.mask], columns),
            {c: out[c].to_numpy(dtype=np.float64) for c in columns},
        )
        what = news(mine, known, len(out))
        label.append(what)
        value.append(np.where(what == INSIDE, _labels(own.column, mine[own.column]), _beyond(mine, known)))
    if not blind:
        return {}
    return _grouped(np.concatenate(label), np.concatenate(value), np.concatenate(errors))


def in_units(
    away: Floats,
    intervals: Mapping[str, Interval],
    condition: NDArray[np.object_],
    seconds: Floats,
    scale: Floats | float = 1.0,
) -> Floats:
    """Errors (rows,) over the end of the row's interval on their side; `seconds` are predicted, `scale` is how much wider its
    interval is than that of a typical row."""
    low, high = (scale * end for end in ends_of(intervals, condition, sizes(seconds)))
    return np.asarray(away / np.maximum(np.where(away > 0.0, high, -low), LEAST_END))


def against(errors: Floats, known: Floats) -> Floats:
    """Errors (rows,) of networks about values that they did not see, over those of the same networks about values that they know
    (other rows,), both in units of intervals: they are trained for less long, and what that costs says nothing of new values."""
    return errors / max(float(np.quantile(np.abs(known), COVERAGE)), LEAST_END) if len(known) else errors


def _labels(column: str, values: Floats) -> NDArray[np.object_]:
    return np.array([f"{column} {v:g}" for v in values], dtype=object)


def _beyond(columns: Mapping[str, Floats], known: Mapping[str, Floats]) -> NDArray[np.object_]:
    """The first column of each row, (rows,), that lies beyond the known values: those of one column are one piece of news."""
    out = np.full(len(next(iter(columns.values()))), "", dtype=object)
    for name in reversed(list(columns)):
        outside = (columns[name] < known[name][0]) | (columns[name] > known[name][-1])
        out = np.where(outside, name, out)
    return out


def _grouped(label: NDArray[np.object_], value: NDArray[np.object_], error: Floats) -> dict[str, Interval]:
    rows = {new: label == new for new in (INSIDE, BELOW, ABOVE)}
    return {f" | {new}": clustered(error[m], value[m]) for new, m in rows.items() if m.sum() >= LEAST_ROWS}


def clustered(error: Floats, value: NDArray[np.object_]) -> Interval:
    """The stretch for errors, in units of an interval, that come in few values: a quantile of the sizes of all, each value with
    the same weight, and further by the least factor with which that of all values but one covers, in the mean over values, the
    wanted share of that one; where no factor does, the widest of any value. Both sides alike, since the side on which some values
    err says nothing of others. Never less than 1: what is new is no surer.
    """
    each = [np.abs(error[value == v]) for v in sorted(set(value))]
    end = _pooled(each)
    others = [(own, _pooled(each[:i] + each[i + 1 :])) for i, own in enumerate(each)] if len(each) > 1 else []

    def covered(factor: float) -> float:
        return float(np.mean([np.mean(own <= factor * other) for own, other in others] or [1.0]))

    factor = next((float(f) for f in FACTORS if covered(f) >= COVERAGE), None)
    end = max(_pooled([own]) for own in each) if factor is None else factor * end
    return Interval(-max(end, 1.0), max(end, 1.0), len(error))


def _pooled(each: Sequence[Floats]) -> float:
    own = np.concatenate([np.quantile(sizes, np.linspace(0.005, 0.995, 100)) for sizes in each])
    return float(np.quantile(own, COVERAGE))
