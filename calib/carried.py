"""Rows on a chip that no fit is for: which of them share terms, what their floors count, and their time at a sustained share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calib import lanes
from calib.families.base import Floats, Physical
from calib.fit import Rows, priced
from hwspecs import device
from hwspecs.power import LANES
from hwspecs.rates import Rates, rates
from sim.calibration import Terms
from sim.fitted import base_terms

STREAMS = ("norm", "softmax", "elementwise")  # families whose rows are of kernels that no matrix unit runs
KERNELS = "kernels"  # beside terms in the file of spreads: how many small kernels an attention layer runs beside the fused one


def groups(rows: Rows) -> NDArray[np.object_]:
    """Label of what is fitted apart: of attention the library, which is the kernel; of fp32 products the operator, since
    batched ones have few tiles to choose from; of streams the way of timing, since public rows of kernel time are of a serving
    library's own kernels; else ""."""
    if rows.family.name == "attention":
        return rows.condition
    if rows.family.name in STREAMS:
        return rows.frame["timing"].to_numpy(dtype=object)
    if rows.name == lanes.PRODUCTS:
        return rows.frame["op"].to_numpy(dtype=object)
    return np.full(len(rows), "", dtype=object)


def units(rows: Rows) -> Floats:
    """Seconds of what the floor of each row counts, on its own device; see `Family.floor_unit`."""
    out, ids = np.ones(len(rows)), rows.frame["device_id"].to_numpy()
    if rows.family.floor_unit is not None:
        for id_ in sorted(set(ids)):
            own = rows.frame[ids == id_]
            out[ids == id_] = rows.family.floor_unit(own, rates(device.load(str(id_))), base_terms())
    return out


def on_chip(rows: Rows, terms: Terms, share: float | None = None) -> Physical:
    """The kernels of one chip at a sustained share: of the matrix rate, of the clock of the vector lanes, or, of streams, of the
    bandwidth, in place of what check bits leave. None: as the device's file has it, and for products on the lanes as power
    leaves it."""
    if share is None and rows.name == lanes.PRODUCTS:
        share = lanes.share(device.load(str(rows.frame["device_id"].iat[0])))
    if share is None:
        return priced(rows, terms, is_abroad=True)
    if rows.name in lanes.PARTS:
        return _on_lanes(rows, terms, share)

    def change(on: Rates) -> Rates:
        if rows.family.name in STREAMS:
            return replace(on, hbm_bandwidth=on.hbm_bandwidth * share, hbm_inline_ecc=0.0)
        return replace(on, tensor_sustained=share)

    return priced(rows, terms, change, is_abroad=True)


def _on_lanes(rows: Rows, terms: Terms, share: float) -> Physical:
    """Kernels of the vector lanes at a sustained share of the clock. Where the power limit binds, the energies of lanes and of
    memory add up, whichever of the two would pace the kernel without it."""
    chip = device.load(str(rows.frame["device_id"].iat[0]))
    most = max(share, LANES)
    boost = priced(rows, terms, lanes.at_clock(most), is_abroad=True)
    if share == most:
        return boost
    long = priced(rows, terms, lanes.at_clock(share), is_abroad=True)
    moved = long.terms["hbm"] * chip.hbm.bandwidth * (terms.hbm_tile if rows.name == lanes.PRODUCTS else 1.0)
    return replace(long, time=lanes.throttled(boost.time, long.time + lanes.per_byte(chip) * moved))
