"""What the networks that did not see a row make of it: how far their mean is off, and how unsure they are.

At prediction a new row is one that no network saw. Those that were kept from the first fold judge how unsure it is, as many as
judged each held-out row, so that both are alike; more of them would differ less by chance, and every interval be too wide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib import forest
from calib.families.base import Floats, Physical
from calib.held_values import Off, beside
from calib.network import Inputs, Recipe, blind_to
from sim.intervals import Doubt, Interval, disagreement, reads
from sim.residual import Residual, averaged

FLOOR = 2.0  # of the median disagreement, added to all: two networks may agree by chance. 1 to 3 give intervals of the same width


@dataclass(frozen=True)
class Held:
    """Rows that some networks did not see: what these read (rows, features); software, fold, unit, seconds measured, (rows,); and
    the physical stage."""

    inputs: Inputs
    condition: NDArray[np.object_]
    fold: NDArray[np.int64]
    unit: NDArray[np.int64]
    measured: Floats
    physical: Physical

    def take(self, mask: Any) -> Held:
        """The rows of a mask."""
        return Held(
            self.inputs[mask], self.condition[mask], self.fold[mask], self.unit[mask], self.measured[mask],
            self.physical.take(mask),
        )  # fmt: skip


def held_out(correction: Residual, rows: Held, recipe: Recipe) -> tuple[Floats, Floats, Doubt | None]:
    """Seconds of each row (rows,) by the networks blind to it, how much further than that of a typical row its interval reaches
    below and above (rows, 2), and what says so of other rows; None where a single network is blind to a row."""
    seconds, spread = np.zeros(len(rows.fold)), np.zeros(len(rows.fold))
    for i in range(recipe.folds):
        own = rows.fold == i
        seconds[own], spread[own] = judged(correction, blind_to(i, recipe), rows.take(own))
    found = doubt(spread, recipe)
    if found is None:
        return seconds, np.ones((len(seconds), 2)), None
    wide, how = found.wider(spread), forest.growth(rows.unit, recipe.seed)
    seen = reads(rows.inputs, correction.columns(rows.condition), seconds, wide)
    grown, ends = forest.grown(seen, np.log(rows.measured / seconds) / wide, rows.fold % how.groups, how)
    return seconds, wide[:, None] * ends, replace(found, forest=grown)


def judges(index: int, recipe: Recipe) -> tuple[int, ...]:
    """The networks that see no row of the mask of this number, of those that are trained for intervals alone."""
    each = len(blind_to(0, recipe))
    return tuple(range(index * each, (index + 1) * each))


def judged(correction: Residual, networks: tuple[int, ...], rows: Held) -> tuple[Floats, Floats]:
    """Seconds (rows,) by the mean of some of the networks, and the standard deviation among them, in the logarithm; zeros of a
    single one."""
    each = replace(correction, layers=tuple(correction.layers[i] for i in networks)).each(rows.inputs, rows.condition)
    spread = disagreement(each) if len(each) > 1 else np.zeros(len(rows.inputs))
    return rows.physical.corrected(averaged(each)), spread


def off(
    correction: Residual, networks: tuple[int, ...], rows: Held, doubts: Doubt | None, bands: Mapping[str, Interval]
) -> Off:
    """How far the mean of some of the networks is off, and the ends that `bands` and those networks give the rows."""
    seconds, spread = judged(correction, networks, rows)
    column, ends = correction.columns(rows.condition), np.ones((len(seconds), 2))
    if doubts:
        ends = doubts.ends(spread, rows.inputs, column, seconds)
    return beside(np.log(rows.measured / seconds), bands, rows.condition, seconds, ends)


def doubt(spread: Floats, recipe: Recipe) -> Doubt | None:
    """How unsure rows are, from the disagreement (rows,) about held-out rows; None where each had a single network."""
    if recipe.spared < 2 or not spread.any():
        return None
    floor = FLOOR * float(np.median(spread))
    return Doubt(blind_to(0, recipe), floor, float(np.median(spread)) + floor)
