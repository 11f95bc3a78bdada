"""How long a user waits before anything happens: `python -m benchmarks.startup`. Whole processes, the median of RUNS."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RUNS = 7
EXAMPLE = "examples/stable-diffusion-a100.yaml"
BARS = {  # what is run -> the most seconds that it may take
    "import": (["-c", "import framecast"], 0.3),
    "help": (["-m", "framecast", "--help"], 0.4),
    "warm_run": (["-m", "framecast", "run", EXAMPLE], 1.5),
    "warm_explain": (["-m", "framecast", "explain", EXAMPLE, "--op", "unet.conv_in"], 2.0),
    "warm_sensitivity": (["-m", "framecast", "sensitivity", EXAMPLE], 5.0),
}


def startup() -> dict[str, dict[str, Any]]:
    """Name -> seconds, the bar and their ratio; captures the example once before."""
    _seconds(BARS["warm_run"][0])
    found = {}
    for name, (arguments, bar) in BARS.items():
        value = statistics.median(_seconds(arguments) for _ in range(RUNS))
        found[f"{name}_s"] = {
            "value": value,
            "unit": "s",
            "baseline": bar,
            "ratio": value / bar,
            "command": "python -m benchmarks.startup",
        }
    return found


def _seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    for name, entry in startup().items():
        print(f"{name}: {entry['value']:.3f} s, at most {entry['baseline']:g} s")
