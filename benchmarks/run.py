"""`make bench`: writes benchmarks/results/latest.json, name -> value, unit, baseline, ratio, command; machine and versions.

A value is the median of several runs; a baseline is measured in the same run, or is the bar that the command names.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.exploring import exploring
from benchmarks.limits import PAGE, limits, page
from benchmarks.pods import pods
from benchmarks.startup import startup
from explore.evaluate import RATES, Workload, evaluate, prepare, stack
from hwspecs.rates import rates
from sim.cost import cost
from sim.host import host_time, serial_makespan
from sim.scenario import load

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "latest.json"
EXAMPLE = ROOT / "examples/stable-diffusion-a100.yaml"  # 512 x 512, 50 steps, guidance
RUNS = 5
DESIGNS, BASELINE_DESIGNS = 32_768, 64  # of the compiled loops, and of the array code, whose temporaries are large
OBJECTIVES = ("latency_s", "images_per_s", "peak_memory_bytes", "fits")
PACKAGES = ("framecast", "numpy", "numba", "optuna")


def designs() -> dict[str, dict[str, Any]]:
    """Designs a second, whole evaluation; against the array code in the same run, which keeps to what both compute."""
    workload = prepare(load(EXAMPLE))
    columns = varied(workload, DESIGNS)
    evaluate(workload, columns, OBJECTIVES)  # compiles, or loads what was compiled
    few = {path: column[:BASELINE_DESIGNS] for path, column in columns.items()}
    value = _rate(lambda: evaluate(workload, columns, OBJECTIVES), DESIGNS)
    baseline = _rate(lambda: _by_arrays(workload, few), BASELINE_DESIGNS)
    return {"sd15_512_designs_per_s": _entry(value, "designs/s", baseline, "python -m benchmarks.run")}


def varied(workload: Workload, count: int) -> dict[str, NDArray[np.float64]]:
    """Every number of the device that a result depends on, each between half and twice the baseline's, at random."""
    rng, base = np.random.default_rng(0), rates(workload.scenario.device)
    columns: dict[str, NDArray[np.float64]] = {}
    for path, name in RATES.items():
        part, _, dtype = name.partition(".")
        value = getattr(base, part)[dtype] if dtype else getattr(base, name)
        columns[path] = np.asarray(float(value) * rng.uniform(0.5, 2.0, count), dtype=np.float64)
    for path in ("device.sm_count", "device.sm.max_threads"):
        columns[path] = np.asarray(columns[path].round(), dtype=np.float64)
    for extent in "mnk":  # powers of two
        columns[f"device.tensor.tile.{extent}"] = np.exp2(rng.integers(0, 5, count)).astype(np.float64)
    columns["device.tensor.sustained"] = columns["device.tensor.sustained"].clip(max=1.0)
    return columns


def _by_arrays(workload: Workload, columns: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Latency by the array code, as a single run computes it."""
    priced = cost(workload.kernels, stack(workload, columns), workload.scenario.level)
    host = host_time(workload.trace, priced, workload.scenario.software)
    return serial_makespan(priced.per_call(priced.time + priced.gap), host, workload.trace)


def _rate(do: Callable[[], object], count: int) -> float:
    """Things done a second, the median of RUNS."""
    rates = []
    for _ in range(RUNS):
        start = time.perf_counter()
        do()
        rates.append(count / (time.perf_counter() - start))
    return statistics.median(rates)


def _entry(value: float, unit: str, baseline: float, command: str) -> dict[str, Any]:
    return {"value": value, "unit": unit, "baseline": baseline, "ratio": value / baseline, "command": command}


def _machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "system": platform.system()}


def main() -> None:
    """Measure everything, write the file, print it."""
    found: dict[str, Any] = designs() | limits() | exploring() | pods() | startup()
    found |= {
        "machine": _machine(),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
    }
    RESULTS.parent.mkdir(exist_ok=True)
    text = json.dumps(found, indent=2) + "\n"
    RESULTS.write_text(text, encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
