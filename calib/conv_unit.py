"""`python -m calib.conv_unit TABLES` fits the constants of convolutions on the matrix unit, and scores them on problems left out.

Public rows of such convolutions on a device with a fit are few, and the constants (`calib.families.conv.UNIT`) come from the very
rows that are to be scored. So what is scored are fits of their own: constants, bandwidth of streams and floors by robust least
squares without a fifth of the problems (shapes, in all softwares), then these. Which of two paddings, and whether few channels
stay on the lanes, is chosen by the smaller mean error on the rows that such a fit sees: few rows tell, which a median overlooks.
An L40S, an RTX A6000 and an A10 choose as the A100 does.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from calib.families.base import Floats, joined
from calib.families.conv import UNIT, Unit, physical
from calib.fit import FLOOR_QUANTILE, FLOOR_SPREAD, SPREAD, Rows, errors, parts_of
from calib.make import rows_on
from calib.physics import Fitted, Start, least_squares
from calib.table import read
from calib.work import EXTENT_COLUMNS
from hwspecs import device
from hwspecs.rates import rates
from sim.fitted import base_terms

PART, HARDWARE = "conv/tensor", "a100"
FOLDS = 5  # of the problems
LONG = 200e-6  # s from which rows are scored: below, an eager convolution is the host's dispatch
# Where they start: a stream's time, an implicit GEMM's time, a multiply-add a cycle on each of a few lanes.
STARTS = {"convert": Start(1.0, 0.5), "grouped": Start(1.0, 1.0), "depthwise": Start(8.0, 1.0)}
CHOICES = tuple(product((16.0, 32.0), (0.0, 4.0)))  # access_3d, B; few, channels


@dataclass(frozen=True)
class Found:
    """One fit: mean absolute error of its rows (logarithm), the constants, and all parameters."""

    error: float
    unit: Unit
    fit: Fitted


def fitted(rows: Rows) -> Found:
    """The best of CHOICES on these rows."""
    return min((_of(rows, *choice) for choice in CHOICES), key=lambda found: found.error)


def predicted(rows: Rows, unit: Unit, values: Mapping[str, float]) -> Floats:
    """Seconds of rows, floors included; a software that the fit did not see has none."""
    terms = replace(base_terms(), hbm_stream=values["hbm_stream"])
    floors = np.array([values.get(f"floor {label}", 0.0) for label in rows.floor])
    out, ids = np.zeros(len(rows)), rows.frame["device_id"].to_numpy()
    for id_ in sorted(set(ids)):
        own = ids == id_
        out[own] = physical(rows.frame[own], rates(device.load(id_)), terms, unit).time
    return np.asarray(out + floors)


def crossed(rows: Rows) -> Floats:
    """Seconds of every row by a fit that saw no row of its problem, (rows,)."""
    extents = [name for name in EXTENT_COLUMNS if name in rows.frame and rows.frame[name].notna().any()]
    problem = np.unique(joined(rows.frame.fillna(dict.fromkeys(extents, 0)), "op", *extents), return_inverse=True)[1]
    fold = (np.random.default_rng(0).permutation(problem.max() + 1) % FOLDS)[problem]
    out = np.zeros(len(rows))
    for i in range(FOLDS):
        found = fitted(rows.take(fold != i))
        out[fold == i] = predicted(rows.take(fold == i), found.unit, found.fit.values)
    return out


def _of(rows: Rows, access_3d: float, few: float) -> Found:
    terms = base_terms()
    start = {**STARTS, "hbm_stream": Start(terms.hbm_stream, SPREAD, 1.0)} | {
        f"floor {label}": Start(float(np.quantile(rows.measured[rows.floor == label], FLOOR_QUANTILE)), FLOOR_SPREAD)
        for label in sorted(set(rows.floor) - {""})
    }

    def unit(values: Mapping[str, float]) -> Unit:
        return Unit(values["convert"], values["grouped"], values["depthwise"], access_3d, few)

    def predict(values: Mapping[str, float]) -> Floats:
        return predicted(rows, unit(values), values)

    number = np.unique(rows.unit, return_inverse=True)[1].astype(np.int64)
    found = least_squares(predict, rows.measured, start, number)
    error = float(np.mean(np.abs(np.log(predict(found.values) / rows.measured))))
    return Found(error, unit(found.values), found)


def main(tables: Sequence[str]) -> None:
    """Print the constants with standard errors, and the errors on problems left out."""
    frame = rows_on(read(tables).frame, HARDWARE)
    rows = next(rows for rows in parts_of(frame) if rows.name == PART)
    found = fitted(rows)
    values = ", ".join(f"{n} {found.fit.values[n]:.3g} ± {found.fit.errors[n]:.1g}" for n in STARTS)
    choice = f"padding in 3-D {found.unit.access_3d:g} B, on lanes below {found.unit.few:g} channels"
    print(f"{len(rows)} rows of {HARDWARE}: {values}; {choice}; in use: {UNIT}")
    guess, long = crossed(rows), rows.measured >= LONG
    left = ", ".join(f"{n} {v:.1f} %" for n, v in errors(rows.measured[long], guess[long]).items())
    print(f"problems left out, {long.sum()} rows of {1e6 * LONG:g} us and more: {left}")


if __name__ == "__main__":
    main(sys.argv[1:])
