"""Lower bounds: seconds that no schedule of the same kernels can be below."""

from __future__ import annotations

from sim.concurrent import Inference
from sim.demand import RESOURCES, SHARED
from sim.phases import Part
from sim.schedule import Schedule


def lower_bound(one: Inference, schedule: Schedule) -> tuple[float, str]:
    """Seconds below which no schedule of the same kernels can be, whatever its pods, within the same budget; what sets it.

    The largest of each resource's work, all of it at full capacity, the longest chain, each kernel at full speed, and the
    launches of one host thread. What must run alone (before and after the steps, and the budget's serial steps) adds its
    own time to those of the rest. With the whole L2 for each: less of it means more work.
    """
    b = schedule.budget
    if schedule.members == "requests" or b is None:
        launches = schedule.count * one.host("whole"), "the host's launches"
        chain = one.seconds("whole"), "one request alone"
        return max(_busiest(one, "whole", schedule.count), chain, launches)
    alone = min(b.serial_first + b.serial_last, schedule.count)
    rest = schedule.count - alone
    chain = -(-rest // b.largest) * one.seconds("step"), "the chain of pods"
    most, what = max(_busiest(one, "step", rest), chain)
    gpu = one.seconds("before") + alone * one.seconds("step") + most + one.seconds("after")
    host = one.host("before") + schedule.count * one.host("step") + one.host("after")
    return max((gpu, what), (host, "the host's launches"))


def _busiest(one: Inference, part: Part, times: int) -> tuple[float, str]:
    """Seconds of work of the resource that has the most, and its name."""
    work = one.work(part)[:RESOURCES] * times
    return float(work.max()), f"all work of {SHARED[int(work.argmax())]}"
