"""Kernels of the vector lanes on a chip: the clock that its power leaves them, and what a benchmark of single calls sees of it.

Public fp32 rows are single calls with the host's dispatch between them, so a short kernel leaves the chip idle for most of the
time and runs at the boost clock, while a long one, called again and again, runs at the clock that the power limit sustains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from calib.families.base import Floats
from hwspecs.device import Device
from hwspecs.power import LANES, lane_clock
from hwspecs.rates import Rates, rates
from hwspecs.silicon import anchor

PRODUCTS = "gemm/fp32"  # the part that keeps the lanes full, and meets the power limit
PARTS = (PRODUCTS, "conv/fp32")  # parts on the vector lanes, which draw less power than the matrix unit
IDLE = 200e-6  # s that a chip rests between two timed calls: dispatch and synchronisation. Public fp32 products on the T4, whose
# rate falls from 7 to 3 TFLOP/s as calls grow from 0.1 to 10 ms, give 50 to 230 us


def share(device: Device) -> float:
    """Rate of long fp32 products over that at the boost clock, as the power limit leaves it; LANES where it does not bind, or
    where the file does not say what the device is made of."""
    if device.silicon is None:
        return LANES
    on = rates(device)
    return LANES * float(lane_clock(on, device.silicon, device.power.tdp, anchor(device))) / float(on.sm_clock)


def at_clock(of: float) -> Callable[[Rates], Rates]:
    """Rates with the clock at a share of the boost clock, and no other limit on power."""
    return lambda on: replace(on, sm_clock=on.sm_clock * of, tensor_sustained=1.0)


def throttled(boost: Floats, sustained: Floats) -> Floats:
    """Seconds of calls that take `boost` near the boost clock and `sustained` at the sustained one: in between by the share of
    the time that a call keeps the chip busy, T / (T + IDLE)."""
    return np.asarray(boost + (sustained - boost) * boost / (boost + IDLE))
