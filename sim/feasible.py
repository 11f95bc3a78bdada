"""Does a result fit its device? What it needs, what there is, what it consists of, and what would help."""

from __future__ import annotations

from sim.memory import memory
from sim.report import contributors, number
from sim.result import Result


def problem(result: Result) -> str:
    """'' where the peak fits into device memory, else one line: need, have, contributors, and a way out."""
    need, have = result.memory.peak, result.scenario.device.hbm.capacity
    if result.fits:
        return ""
    parts = ", ".join(f"{name} {number(b / 1e9)}" for name, b in contributors(result.memory).items())
    what = f"does not fit {result.scenario.device.name}: needs {number(need / 1e9)} GB of {number(have / 1e9)} GB ({parts})"
    return f"{result.scenario.path}: {what}; {_way_out(result)}"


def _way_out(result: Result) -> str:
    """The single change that makes it fit: fused attention where that is enough, else a smaller batch, else more memory."""
    have, s = result.scenario.device.hbm.capacity, result.scenario
    if s.software.attention != "flash-2" and memory(result.trace, result.attention["flash-2"].cost).peak <= have:
        return "use software.attention: flash-2"
    if result.images > 1 and result.memory.weights < have:
        return f"use a request.batch below {result.images}"
    return f"use a smaller image, or a device with at least {number(result.memory.peak / 1e9)} GB"
