"""How much of the exact front a search finds: `python -m benchmarks.hypervolume` writes results/hypervolume.json.

Four spaces of more than 10^5 points are enumerated by `explore.walk`; then `explore.study` searches each with 2 % of the
evaluations, with ten seeds. The figure is the share of the exact hypervolume, of a reference point at the worst of each objective
over the feasible points. The last space has three objectives, and a front of some thousand points.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from explore import objectives, walk
from explore.front import hypervolume
from explore.space import origin
from explore.storage import Location
from explore.study import Trials, run
from explore.sweep import plan

RESULTS = Path(__file__).parent / "results" / "hypervolume.json"
PAGE = Path(__file__).parent.parent / "docs/search.md"
BEGIN, END = "<!-- hypervolume: begin -->\n", "<!-- hypervolume: end -->\n"
SPREAD = 0.1  # of the evaluations: even sample before anything is proposed
SEEDS, SHARE, TARGET, OF_TEN = 10, 0.02, 0.99, 9  # what is held to: 99 % of the hypervolume for 9 of 10 seeds
HEAD = "model: stable-diffusion-1.5\ndevice: a100-sxm-80gb\nsoftware: {base: pytorch-compiled, attention: flash-2}\n"
# Every axis as a list or with a step, so that sweep and search have the same points: name -> fields, goals.
SPACES: dict[str, tuple[dict[str, str], str]] = {
    "latency-area": (
        {
            "device.sm_count": "64..256 step 8", "device.sm_clock": "1..2 GHz step 0.125 GHz",
            "device.hbm.bandwidth": "1..8 TB/s step 0.5 TB/s", "device.l2.capacity": "[20 MiB, 40 MiB, 64 MiB, 96 MiB, 128 MiB]",
            "device.l2.bandwidth": "2560..10240 B/cycle step 1024 B/cycle",
        },
        "objectives: {latency_s: minimize, area_mm2: minimize}, constraints: [area_mm2 <= 858]",
    ),
    "energy-latency": (
        {
            "device.sm_count": "32..224 step 8", "device.sm_clock": "0.8..2 GHz step 0.1 GHz",
            "device.hbm.bandwidth": "0.5..6 TB/s step 0.5 TB/s", "device.l2.capacity": "8..128 MiB step 8 MiB",
            "device.hbm.latency": "[400 ns, 800 ns]",
        },
        "objectives: {latency_s: minimize, energy_per_image_j: minimize}",
    ),
    "throughput-price": (
        {
            "device.sm_count": "64..256 step 8", "device.sm_clock": "1..2 GHz step 0.125 GHz",
            "device.hbm.bandwidth": "1..8 TB/s step 0.5 TB/s", "device.l2.capacity": "[20 MiB, 40 MiB, 64 MiB, 96 MiB, 128 MiB]",
            "device.sm.shared_memory": "[96 KiB, 164 KiB, 228 KiB, 320 KiB]", "device.exp": "[16 op/cycle, 32 op/cycle]",
        },
        "objectives: {images_per_s: maximize, price_usd: minimize}",
    ),
    "throughput-power-price": (
        {
            "device.sm_count": "64..256 step 8", "device.sm_clock": "1..2 GHz step 0.125 GHz",
            "device.hbm.bandwidth": "1..8 TB/s step 0.5 TB/s", "device.l2.capacity": "[20 MiB, 40 MiB, 64 MiB, 96 MiB, 128 MiB]",
            "device.sm.shared_memory": "[96 KiB, 164 KiB, 228 KiB, 320 KiB]", "device.exp": "[8 op/cycle, 32 op/cycle]",
        },
        "objectives: {images_per_s: maximize, full_power_w: minimize, area_mm2: minimize}",
    ),
}  # fmt: skip


def scenario(folder: Path, name: str) -> Path:
    """A scenario file that both enumerates and searches one of the spaces."""
    fields, goals = SPACES[name]
    inside = ", ".join(f"{path}: {text if text.startswith('[') else repr(text)}" for path, text in fields.items())
    path = folder / f"{name}.yaml"
    path.write_text(f"{HEAD}sweep: {{{inside}, {goals}}}\nsearch: {{{inside}, {goals}}}\n")
    return path


def share(trials: Trials, search: objectives.Search, reference: Any, exact: float) -> float:
    """Of the exact hypervolume, that of the feasible trials."""
    losses = search.goals.losses(trials.outputs)[trials.feasible]
    return hypervolume(losses, reference) / exact


def measure(name: str, folder: Path, seeds: int = SEEDS) -> dict[str, Any]:
    """Shares of the exact hypervolume for each seed."""
    file = scenario(folder, name)
    walked = walk.walk(plan(origin(str(file))))
    found = walk.run(walked)
    worst = {
        n: found.greatest[n] if way == "minimize" else found.least[n] for n, way in walked.goals.objectives.items()
    }
    reference = walked.goals.losses({n: np.array([v]) for n, v in worst.items()})[0]
    exact = hypervolume(walked.goals.losses(found.front), reference)
    evaluations = int(SHARE * found.points)
    shares, start = [], time.perf_counter()
    for seed in range(seeds):
        settings = [f"search.trials={evaluations}", f"search.seed={seed}", f"search.spread={int(SPREAD * evaluations)}"]
        search = objectives.read(origin(str(file), settings))
        shares.append(share(run(search, Location(str(folder / f"{name}-{seed}.journal"))), search, reference, exact))
        print(f"{name} seed {seed}: {shares[-1]:.4f} of {exact:.6g}", file=sys.stderr)
    return {
        "points": found.points, "feasible": found.feasible, "front": len(found.front["point"]), "evaluations": evaluations,
        "shares": shares, "reached": sum(s >= TARGET for s in shares), "seconds_a_search": (time.perf_counter() - start) / seeds,
        "held_to": f"{TARGET} of the exact hypervolume for {OF_TEN} of {SEEDS} seeds", "reference": list(map(float, reference)),
    }  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """Markdown: one row a space."""
    lines = [
        "| space | points | front | objectives | evaluations | least share | median share | seeds at 99 % |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, one in found.items():
        if name in SPACES:
            shares = one["shares"]
            numbers = [one["points"], one["front"], len(one["reference"]), one["evaluations"]]
            cells = [name, *(f"{n:,}" for n in numbers), f"{min(shares):.4f}", f"{np.median(shares):.4f}"]
            lines.append(f"| {' | '.join(cells)} | {one['reached']} of {len(shares)} |")
    return "\n".join(lines) + "\n"


def page(text: str, found: dict[str, Any]) -> str:
    """docs/search.md with the table between its marks."""
    head, _, rest = text.partition(BEGIN)
    return head + BEGIN + table(found) + END + rest.partition(END)[2]


def main() -> None:
    """Measure every space, write the file."""
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(2) as pool:
        measured = pool.map(measure, SPACES, [Path(folder)] * len(SPACES))
        found: dict[str, Any] = dict(zip(SPACES, measured, strict=True))
    found["command"] = "python -m benchmarks.hypervolume"
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
