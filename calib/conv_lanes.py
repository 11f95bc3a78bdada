"""`python -m calib.conv_lanes TABLES` fits the constants of convolutions on the fp32 lanes, and scores them on pairs left out.

The constants (`calib.convolutions.COST`) are ratios to peak rates and to the bandwidth of streams, so they are fitted once, on
the device with the most rows. Short calls say little of kernels: the host takes 50 to 340 us around them (`calib.conv_alike`).
Which calls are long is read off the prediction: among those that were measured long, more have a slow host than not.
Pairs of channels that docs/accuracy.md scores have no part in the fit. Other devices are fitted to see whether the form holds.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import numpy as np

from calib.convolutions import ALGORITHMS, COST, seconds, shape
from calib.families.base import Floats
from calib.few import MANY_ROWS
from calib.fit import Rows, errors, held_units, parts_of
from calib.make import rows_on
from calib.physics import Fitted, Start, least_squares
from calib.table import read
from hwspecs import device
from hwspecs.rates import Rates, rates
from sim.fitted import base_terms

PART, HARDWARE = "conv/fp32", "a100-pcie-80gb"
LONG = 300e-6  # s that a call takes by COST, from which its row is fitted
SPREAD = 0.5  # prior on a constant, standard deviation of the logarithm
HOST = 150e-6  # s of the host in a call, to start from


def on_device(rows: Rows) -> Rates:
    """Rates of the device of rows that are all of one."""
    return rates(device.load(str(rows.frame["device_id"].iat[0])))


def kernels(rows: Rows, on: Rates, values: Mapping[str, float] = COST) -> Floats:
    """Seconds of the kernels of each row by the algorithm that it names; infinite where that cannot run the shape, or none is."""
    found = seconds(shape(rows.frame), on, base_terms().hbm_stream, values)
    return np.select([rows.condition == name for name in ALGORITHMS], [found[name] for name in ALGORITHMS], np.inf)


def fitted(rows: Rows) -> Fitted:
    """The constants, and the time of the host ('host'), on long rows of one device."""
    on = on_device(rows)
    first = kernels(rows, on) + HOST
    own = rows.take(np.isfinite(first) & (first >= LONG))
    start = {name: Start(value, SPREAD) for name, value in {**COST, "host": HOST}.items()}
    unit = np.unique(own.unit, return_inverse=True)[1].astype(np.int64)
    return least_squares(lambda v: np.asarray(kernels(own, on, v) + v["host"]), own.measured, start, unit)


def main(tables: Sequence[str]) -> None:
    """Print the constants of each device with standard errors, and the errors on pairs left out. Those in use are HARDWARE's."""
    frame = rows_on(read(tables).frame, None)
    for device_id in sorted(set(frame["device_id"])):
        own = frame[frame["device_id"] == device_id].reset_index(drop=True)
        rows = next((rows for rows in parts_of(own) if rows.name == PART), None)
        if rows is not None and np.isfinite(kernels(rows, on_device(rows))).sum() >= MANY_ROWS:
            _report(device_id, rows)
    print(f"in use, of {HARDWARE}: {dict(COST)}")


def _report(device_id: str, rows: Rows) -> None:
    held = held_units(rows.unit, 0)
    found, out = fitted(rows.take(~held)), rows.take(held)
    values = ", ".join(f"{name} {found.values[name]:.3g} ± {found.errors[name]:.1g}" for name in COST)
    print(f"{device_id}: {values}, host {1e6 * found.values['host']:.0f} ± {1e6 * found.errors['host']:.0f} us")
    guess = kernels(out, on_device(out), found.values) + found.values["host"]
    for label, least in (("all", 0.0), ("700 us and more", 700e-6)):
        some = np.isfinite(guess) & (out.measured >= least)
        left = ", ".join(f"{n} {v:.1f} %" for n, v in errors(out.measured[some], guess[some]).items())
        print(f"  pairs left out, {label}, {some.sum()} rows: {left}")


if __name__ == "__main__":
    main(sys.argv[1:])
