"""What the networks that did not see a row make of it: how far their mean is off, and how much they differ.

At prediction a new row is one that no network saw. Those that were kept from the first fold judge how unsure it is, as many as
judged each held-out row, so that both are alike; more of them would differ less by chance, and every interval be too wide.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calib.families.base import Floats, Physical
from calib.network import Inputs, Recipe, blind_to
from sim.intervals import Doubt, disagreement
from sim.residual import Residual, averaged

FLOOR = 2.0  # of the median disagreement, added to all: two networks may agree by chance. 1 to 3 give intervals of the same width


def held_out(
    correction: Residual,
    inputs: Inputs,
    condition: NDArray[np.object_],
    fold: NDArray[np.int64],
    recipe: Recipe,
    physical: Physical,
) -> tuple[Floats, Floats, Doubt | None]:
    """Seconds of each row (rows,) by the networks blind to it, how much wider than that of a typical row its interval is (rows,),
    and what says so of other rows; None where a single network is blind to a row."""
    seconds, spread = np.zeros(len(fold)), np.zeros(len(fold))
    for i in range(recipe.folds):
        rows = fold == i
        seconds[rows], spread[rows] = judged(
            correction, blind_to(i, recipe), inputs[rows], condition[rows], physical.take(rows)
        )
    found = doubt(spread, recipe)
    return seconds, scale(found, spread), found


def judges(index: int, recipe: Recipe) -> tuple[int, ...]:
    """The networks that see no row of the mask of this number, of those that are trained for intervals alone."""
    each = len(blind_to(0, recipe))
    return tuple(range(index * each, (index + 1) * each))


def judged(
    correction: Residual,
    networks: tuple[int, ...],
    inputs: Inputs,
    condition: NDArray[np.object_],
    physical: Physical,
) -> tuple[Floats, Floats]:
    """Seconds (rows,) by the mean of some of the networks, and the standard deviation among them, in the logarithm; zeros of a
    single one."""
    each = replace(correction, layers=tuple(correction.layers[i] for i in networks)).each(inputs, condition)
    spread = disagreement(each) if len(each) > 1 else np.zeros(len(inputs))
    return physical.corrected(averaged(each)), spread


def doubt(spread: Floats, recipe: Recipe) -> Doubt | None:
    """How unsure rows are, from the disagreement (rows,) about held-out rows; None where each had a single network."""
    if recipe.spared < 2 or not spread.any():
        return None
    floor = FLOOR * float(np.median(spread))
    return Doubt(blind_to(0, recipe), floor, float(np.median(spread)) + floor)


def scale(doubts: Doubt | None, spread: Floats) -> Floats:
    """How much wider than that of a typical row the interval of each is, (rows,)."""
    return doubts.wider(spread) if doubts else np.ones(len(spread))
