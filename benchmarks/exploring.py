"""Designs a second of a mix, growth with the points, Optuna's share: `python -m benchmarks.exploring` prints JSON."""

from __future__ import annotations

import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from explore import objectives, walk
from explore.evaluate import OUTPUTS
from explore.space import origin
from explore.storage import Location
from explore.study import run
from explore.sweep import plan

HEAD = "model: stable-diffusion-1.5\ndevice: a100-sxm-80gb\nsoftware: {base: pytorch-compiled, attention: flash-2}\n"
FIELDS = "device.sm_count: 64..256, device.hbm.bandwidth: 1..8 TB/s, device.l2.capacity: 20..128 MiB, device.sm_clock: 1..2 GHz"
MIX = (
    "[{weight: 4}, {name: large, request.height: 1024, request.width: 1024, weight: 2}, {name: four, request.batch: 4},"
    " {name: clip, model: animatediff, request.frames: 16}]"
)
GOALS = "objectives: {latency_s: minimize, area_mm2: minimize}"
POINTS, DESIGNS, TRIALS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000), 65_536, 512
LEAST = 20_000.0  # designs/s of the mix that the project is held to on two cores
MEMORY = 2e9  # bytes that a sweep of 1e7 points may take
OVERHEAD = 1.2  # time of a search over that of Optuna alone that it is held to


def exploring() -> dict[str, dict[str, Any]]:
    """The entries of benchmarks/results/latest.json."""
    command = "python -m benchmarks.exploring"
    with tempfile.TemporaryDirectory() as folder:
        mix = _walked(Path(folder), DESIGNS, f"workloads: {MIX}")
        seconds = {str(n): _walked(Path(folder), n, GOALS) for n in POINTS}
        ours, alone = _search(Path(folder))
    slope = (seconds[str(POINTS[-1])] / POINTS[-1]) / (seconds[str(POINTS[-3])] / POINTS[-3])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # bytes; Linux counts in KiB
    found = {
        "mix4_designs_per_s": (DESIGNS / mix, "designs/s", LEAST),
        "sweep_time_a_point_1e7_over_1e5": (slope, "", 1.0),
        "sweep_1e7_peak_memory": (float(peak), "B", MEMORY),
        "search_over_optuna_alone": (ours / alone, "", OVERHEAD),
    }
    return {
        name: {"value": value, "unit": unit, "baseline": baseline, "ratio": value / baseline, "command": command}
        for name, (value, unit, baseline) in found.items()
    } | {"sweep_seconds": {"value": seconds, "unit": "s", "baseline": None, "ratio": None, "command": command}}


def _walked(folder: Path, count: int, more: str) -> float:
    """Seconds of a sample of `count` points, front included, without capture and compilation."""
    path = folder / "sweep.yaml"
    path.write_text(f"{HEAD}sweep: {{{FIELDS}, sample: {count}, {more}}}\n")
    ready = walk.walk(plan(origin(str(path))))
    walk.price(ready, 0)
    start = time.perf_counter()
    walk.run(ready)
    return time.perf_counter() - start


def _search(folder: Path) -> tuple[float, float]:
    """Seconds of a search whose prices are for nothing, and of the same sampler and journal driven by Optuna alone."""
    import optuna

    path = folder / "search.yaml"
    path.write_text(f"{HEAD}search: {{{FIELDS}, {GOALS}, trials: {TRIALS}}}\n")
    search = objectives.read(origin(str(path)))
    start = time.perf_counter()
    run(search, Location(str(folder / "ours.journal")))
    ours = time.perf_counter() - start
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "optuna.journal"))
    sampler = optuna.samplers.NSGAIISampler(population_size=search.batch, seed=0)
    study = optuna.create_study(
        directions=["minimize"] * 2, sampler=sampler, storage=optuna.storages.JournalStorage(backend)
    )

    def trivial(trial: optuna.Trial) -> tuple[float, float]:
        values = [trial.suggest_float(axis.path, axis.values[0], axis.values[1]) for axis in search.axes]
        for name in OUTPUTS:
            trial.set_user_attr(name, values[0])
        return values[0], -values[1]

    start = time.perf_counter()
    study.optimize(trivial, n_trials=TRIALS)
    return ours, time.perf_counter() - start


if __name__ == "__main__":
    print(json.dumps(exploring(), indent=2))
