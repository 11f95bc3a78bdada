"""Does a result fit its device? What it needs, what there is, what it consists of, and what would help."""

from __future__ import annotations

import math

from sim.memory import memory
from sim.report import contributors, size, size_parts
from sim.result import Result


def problem(result: Result) -> str:
    """'' where the peak fits into device memory, else one line: need, have, contributors, and a way out."""
    need, have = result.memory.peak, result.scenario.device.hbm.capacity
    if result.fits:
        return ""
    parts = size_parts(contributors(result.memory), need)
    what = f"does not fit {result.scenario.device.name}: needs {size(need)} of {size(have)} ({parts})"
    return f"{result.scenario.path}: {what}; {_way_out(result)}"


def _way_out(result: Result) -> str:
    """The single change that makes it fit: fused attention where that is enough, else a smaller batch, else more memory.

    The batch is an estimate: everything but the weights grows in proportion to it.
    """
    have, s, weights = result.scenario.device.hbm.capacity, result.scenario, result.memory.weights
    fused = list(result.attention)[-1]
    if s.software.attention != fused and memory(result.trace, result.attention[fused].cost).peak <= have:
        return f"use software.attention: {fused}"
    batch = math.floor(getattr(s.request, "batch", 1) * (have - weights) / (result.memory.peak - weights))
    if batch >= 1:
        return f"use a request.batch of about {batch}"
    smaller = "a smaller image, or " if weights < have else ""
    return f"use {smaller}a device with at least {size(result.memory.peak)}"
