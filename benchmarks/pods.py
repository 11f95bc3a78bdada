"""Schedules a second: `python -m benchmarks.pods` prints JSON, name -> value, unit, baseline, ratio, command.

The hardest schedules of the search: 8 requests of SD 1.5 (512 x 512, 50 steps) all in flight, staggered. Two threads, as the
search runs them, with traces in few pieces, as it ranks them; and the full loop, every kernel of every request an event.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sim.concurrent import inference, play
from sim.scenario import load
from sim.schedule import podded

EXAMPLE = Path(__file__).parent.parent / "examples/pods-stable-diffusion.yaml"
BARS = {True: 100.0, False: 5.0}  # schedules/s on two cores, in few pieces and in full: the bars that they are held to
COUNTS = {True: 200, False: 12}
MEMBERS, THREADS = 8, 2


def pods() -> dict[str, dict[str, Any]]:
    """The benchmark's entries of benchmarks/results/latest.json."""
    one = inference(load(EXAMPLE))
    play(one, podded(2, 2))  # compiles, or loads what was compiled
    command = "python -m benchmarks.pods"
    entries = {}
    for brief, name in ((True, "pod_schedules_per_s"), (False, "pod_schedules_full_per_s")):
        schedules = [podded(MEMBERS, MEMBERS, (i + 0.5) / COUNTS[brief]) for i in range(COUNTS[brief])]
        with ThreadPoolExecutor(THREADS) as pool:
            start = time.perf_counter()
            list(pool.map(lambda s, few=brief: play(one, s, brief=few).makespan, schedules))
            rate = COUNTS[brief] / (time.perf_counter() - start)
        bar = BARS[brief]
        entries[name] = {"value": rate, "unit": "1/s", "baseline": bar, "ratio": rate / bar, "command": command}
    return entries


if __name__ == "__main__":
    print(json.dumps(pods(), indent=2))
