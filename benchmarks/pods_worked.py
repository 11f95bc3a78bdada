"""The worked example of docs/concurrency.md: `python -m benchmarks.pods_worked` plays it and rewrites the table there.

What was found is kept in benchmarks/results/pods_worked.json; a test holds the page to it.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from explore.pods import compare
from explore.pods_report import to_json
from explore.pods_verdict import turning
from sim.scenario import load

ROOT = Path(__file__).parent.parent
PAGE, RESULTS = ROOT / "docs/concurrency.md", ROOT / "benchmarks/results/pods_worked.json"
MODELS = ("pods-stable-diffusion", "pods-make-a-video")
STARVED = "device.hbm.bandwidth=500 GB/s"  # a quarter of the A100's: no product
DEVICES = {
    "A100": ("device=a100-sxm-80gb",),
    "H100": ("device=h100-sxm",),
    "A100 with 500 GB/s (imagined)": ("device=a100-sxm-80gb", STARVED),
}
CORES = 2
BEGIN, END = "<!-- worked example: begin -->\n", "<!-- worked example: end -->\n"


def play(example: str, device: str) -> dict[str, Any]:
    """One cell of the table."""
    found = compare(load(ROOT / f"examples/{example}.yaml", DEVICES[device]))
    turn = turning(found)
    data = to_json(found, turn)
    rows = {name: data[name] and data[name]["makespan_s"] for name in ("serial", "batched", "best", "lockstep")}
    kept = {
        "gain": [c["gain"] for c in data["contention"]],
        "verdict": data["verdict"],
        "schedule": data["best"]["schedule"]["words"],
    }
    return {"example": example, "device": device, **rows, "lower_bound": data["lower_bound_s"], **kept}


def table(cells: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| example | device | serial s | batched s | pods s | lower bound s | pods against the better, over the range |"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for c in cells:
        times = " | ".join(f"{c[name]:.3g}" for name in ("serial", "batched", "best", "lower_bound"))
        gains = f"{100 * (min(c['gain']) - 1):+.0f} % to {100 * (max(c['gain']) - 1):+.0f} %"
        lines.append(f"| {c['example']} | {c['device']} | {times} | {gains} |")
    lines.append("")
    lines += [f"- {c['example']}, {c['device']} ({c['schedule']}): {c['verdict']}." for c in cells]
    return "\n".join(lines) + "\n"


def page(text: str, cells: list[dict[str, Any]]) -> str:
    """The page with the table between its marks."""
    head, _, rest = text.partition(BEGIN)
    return head + BEGIN + table(cells) + END + rest.partition(END)[2]


def main() -> None:
    """Play every cell; rewrite the results and the page."""
    with ProcessPoolExecutor(CORES) as pool:
        cells = list(pool.map(play, *zip(*((m, d) for m in MODELS for d in DEVICES), strict=True)))
    RESULTS.write_text(json.dumps(cells, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), cells), encoding="utf-8")


if __name__ == "__main__":
    main()
