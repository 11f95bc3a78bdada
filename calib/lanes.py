"""Kernels of the vector lanes on a chip: how fast shared memory feeds them, the clock that its power leaves them, and what a
benchmark of single calls sees of it.

Public fp32 rows are single calls with the host's dispatch between them, so a short kernel leaves the chip idle for most of the
time and runs at the boost clock, while a long one, called again and again, may draw no more than the power limit in the mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from calib.families.base import Floats
from hwspecs.device import SHARED_BANDWIDTH, Device
from hwspecs.power import LANES, lane_clock, memory_energy
from hwspecs.rates import Rates, rates
from hwspecs.silicon import anchor
from sim.formulas import fourth, fourth_root

PRODUCTS = "gemm/fp32"  # the part that keeps the lanes full, and meets the power limit
PARTS = (PRODUCTS, "conv/fp32")  # parts on the vector lanes, which draw less power than the matrix unit
IDLE = 380e-6  # s that a chip rests between two timed calls, for dispatch and synchronisation: least squares with the T4's share
# on its unbatched fp32 products, +- 16 us; its batched ones, which have no part in that, give 460 +- 30 us
FRAGMENT = 8.0  # longest edge of what a thread computes of C (CUTLASS, SIMT kernels of 128 x 128)
# A block has a warp for each scheduler of an SM at least, so that threads of small blocks hold less of C, and read more for it.
THREADS = 128.0
ITEM = 4.0  # B
LARGE = (128.0, 128.0)  # the block that long products take


def feed(bm: Any, bn: Any, per_cycle: Any, width: float) -> Any:
    """Time of fp32 blocks of bm x bn on lanes of `per_cycle` FLOP/cycle which `width` B/cycle feed, over that of LARGE ones which
    SHARED_BANDWIDTH feeds: a thread reads its fragments of A and B for every k, and the tiles pass the same port twice, into
    registers and out again."""

    def time(m: Any, n: Any, through: float) -> Any:
        held = np.minimum(FRAGMENT**2, m * n / THREADS)
        wide = np.exp2(np.ceil(np.log2(held) / 2.0))
        per_flop = ITEM * ((wide + held / wide) / held + 2.0 * (m + n) / (m * n)) / 2.0
        return fourth_root(1.0 + fourth(per_flop * per_cycle / through))

    return time(bm, bn, width) / time(*LARGE, SHARED_BANDWIDTH)


def share(device: Device) -> float:
    """Rate of long fp32 products over that at the boost clock, as the power limit leaves it; LANES where it does not bind, or
    where the file does not say what the device is made of."""
    if device.silicon is None:
        return LANES
    on = rates(device)
    busy = LANES / float(feed(*LARGE, device.vector.fp32, device.sm.shared_bandwidth))
    return LANES * float(lane_clock(on, device.silicon, device.power.tdp, anchor(device), busy)) / float(on.sm_clock)


def at_clock(of: float) -> Callable[[Rates], Rates]:
    """Rates with the clock at a share of the boost clock, and no other limit on power."""
    return lambda on: replace(on, sm_clock=on.sm_clock * of, tensor_sustained=1.0)


def per_byte(device: Device) -> float:
    """s that a byte of device memory takes out of what the power limit leaves for work; 0 where the file does not say what the
    device is made of."""
    if device.silicon is None:
        return 0.0
    return float(memory_energy(rates(device), device.silicon, device.power.tdp, anchor(device)))


def throttled(boost: Floats, sustained: Floats) -> Floats:
    """Seconds of calls that take `boost` at the boost clock and `sustained`, no less, at what the power limit pays for: energy of
    the rest between two calls (IDLE) is left over for the call, so that it takes the longer of `boost` and `sustained` - IDLE. A
    soft maximum, as overlapping times are combined, which is `boost` for short calls and where the limit just does not bind."""
    spared, at_most = (np.maximum(time - IDLE, 0.0) for time in (sustained, boost))
    return np.asarray(fourth_root(fourth(boost) + fourth(spared) - fourth(at_most)))
