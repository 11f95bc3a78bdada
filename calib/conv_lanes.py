"""`python -m calib.conv_lanes TABLES` fits the constants of convolutions on the fp32 lanes, and scores them on pairs left out.

The constants (`calib.convolutions.COST`) are ratios to peak rates and to the bandwidth of streams, so they are fitted once, on
the device with the most rows. Short calls say little of kernels: the host takes 50 to 340 us around them (`calib.conv_alike`).
Pairs of channels that docs/accuracy.md scores have no part in the fit.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import numpy as np

from calib.convolutions import ALGORITHMS, COST, seconds, shape
from calib.families.base import Floats
from calib.fit import Rows, errors, held_units, parts_of
from calib.make import rows_on
from calib.physics import Fitted, Start, least_squares
from calib.table import read
from hwspecs import device
from hwspecs.rates import Rates, rates
from sim.fitted import base_terms

PART, HARDWARE = "conv/fp32", "a100"
LONG = 400e-6  # s from which rows are fitted
SPREAD = 0.5  # prior on a constant, standard deviation of the logarithm
FLOOR = Start(160e-6, 0.01)  # s: median time of the shortest calls (`calib.conv_alike`), which long ones do not tell


def predicted(rows: Rows, on: Rates, values: Mapping[str, float]) -> Floats:
    """Seconds of rows of one device by the algorithms that they name, the host's time included."""
    found = seconds(shape(rows.frame), on, base_terms().hbm_stream, values)
    named = np.select([rows.condition == name for name in ALGORITHMS], [found[name] for name in ALGORITHMS], np.inf)
    return np.asarray(named + values["floor"])


def fitted(rows: Rows, on: Rates) -> Fitted:
    """The constants, and the host's time, on the rows of LONG and more that name an algorithm that can run them."""
    able = np.isfinite(predicted(rows, on, {**COST, "floor": 0.0}))
    own = rows.take(able & (rows.measured >= LONG))
    start = {name: Start(value, SPREAD) for name, value in COST.items()} | {"floor": FLOOR}
    unit = np.unique(own.unit, return_inverse=True)[1].astype(np.int64)
    return least_squares(lambda values: predicted(own, on, values), own.measured, start, unit)


def main(tables: Sequence[str]) -> None:
    """Print the constants with standard errors, and the errors on pairs left out."""
    frame = rows_on(read(tables).frame, HARDWARE)
    rows = next(rows for rows in parts_of(frame) if rows.name == PART)
    on = rates(device.load(str(rows.frame["device_id"].iat[0])))
    held = held_units(rows.unit, 0)
    found, out = fitted(rows.take(~held), on), rows.take(held)
    print(", ".join(f"{name} {found.values[name]:.3g} ± {found.errors[name]:.1g}" for name in COST))
    print(f"in use: {dict(COST)}")
    guess = predicted(out, on, found.values)
    for label, some in (("all", out.measured > 0.0), ("700 us and more", out.measured >= 700e-6)):
        left = ", ".join(f"{n} {v:.1f} %" for n, v in errors(out.measured[some], guess[some]).items())
        print(f"pairs left out, {label}, {some.sum()} rows: {left}")


if __name__ == "__main__":
    main(sys.argv[1:])
