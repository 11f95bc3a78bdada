"""Schedules a second: `python -m benchmarks.pods` prints JSON, name -> value, unit, baseline, ratio, command.

The hardest schedules of the search: 8 requests of SD 1.5 (512 x 512, 50 steps) all in flight, staggered, every kernel of every
request an event. Two threads, as the search runs them.
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
BASELINE = 5.0  # schedules/s: the first bar, for two cores
COUNT, MEMBERS, THREADS = 24, 8, 2


def pods() -> dict[str, dict[str, Any]]:
    """The benchmark's entry of benchmarks/results/latest.json."""
    one = inference(load(EXAMPLE))
    schedules = [podded(MEMBERS, MEMBERS, (i + 0.5) / COUNT) for i in range(COUNT)]
    play(one, podded(2, 2), "fluid")  # compiles, or loads what was compiled
    with ThreadPoolExecutor(THREADS) as pool:
        start = time.perf_counter()
        list(pool.map(lambda s: play(one, s, "fluid").makespan, schedules))
        rate = COUNT / (time.perf_counter() - start)
    command = "python -m benchmarks.pods"
    entry = {"value": rate, "unit": "1/s", "baseline": BASELINE, "ratio": rate / BASELINE, "command": command}
    return {"pod_schedules_per_s": entry}


if __name__ == "__main__":
    print(json.dumps(pods(), indent=2))
