"""What `framecast pods` found as text for people and as JSON for programs (keys: docs/json.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from explore.pods import Comparison, Row, verdict
from sim.report import number, percent, seconds
from sim.result import SCHEMA_VERSION
from sim.schedule import spans

HEADS = ("schedule", "makespan", "images/s", "of serial", "HBM mean %", "HBM peak %", "memory GB", "SMs kept", "host")
ASSUMED = (
    "Kernels share compute, L2 and HBM bandwidth as fluids, max-min fair in speed, at no cost, and do not evict each other's "
    "data from L2.\n"
    "'SMs kept' is the makespan if a kernel also keeps the SM slots that its blocks fill; real GPUs lie between the two.\n"
    "All makespans are GPU time; 'host' is what one thread needs to launch the kernels, and the verdict counts the larger."
)
QUALITY = "framecast predicts time, not quality: what relaxing the order of steps does to the image is not modelled."


def text(found: Comparison) -> str:
    """Title, verdict, table, schedules in words, bound, memory, assumptions."""
    return "\n\n".join(
        part for part in (_title(found), _table(found), _words(found), _bound(found), _assumed(found)) if part
    )


def to_json(found: Comparison) -> dict[str, Any]:
    """Plain data."""
    s = found.scenario
    return {
        "schema_version": SCHEMA_VERSION,
        "name": s.name,
        "scenario_hash": s.hash,
        "model": s.model,
        "device": s.device.name,
        "software": s.software.name,
        "level": s.level,
        "members": found.pods.members,
        "count": found.rows["best"].played.schedule.count,
        **dict.fromkeys(("best", "serial", "batched", "lockstep")),
        **{name: _row_json(row) for name, row in found.rows.items()},
        "lower_bound_s": found.lower_bound,
        "verdict": verdict(found),
        "trials": found.pods.trials,
        "seed": found.pods.seed,
        "too_large_for_memory": list(found.too_large),
        "capacity_bytes": int(s.device.hbm.capacity),
        "assumptions": [*ASSUMED.split("\n"), QUALITY],
    }


def _row_json(row: Row) -> dict[str, Any]:
    p, s = row.played, row.played.schedule
    return {
        "makespan_s": p.makespan,
        "images_per_s": p.images / p.makespan,
        "hbm_utilisation_mean": p.hbm_mean,
        "hbm_utilisation_peak": p.hbm_peak,
        "memory_bytes": int(p.memory),
        "makespan_sms_kept_s": row.held,
        "host_s": p.host,
        "schedule": {
            "mode": s.mode,
            "members": s.members,
            "pods": [spans(pod).replace("–", "-") for pod in s.pods],  # as the scenario takes them
            "offsets": list(s.offsets),
            "streams": 1 if s.batched else s.streams or s.largest,
            "words": s.words(),
        },
    }


def _title(found: Comparison) -> str:
    s = found.scenario
    size = ", ".join(
        f"{n} {v}" for n, v in vars(s.request).items() if n in ("frames", "height", "width", "batch", "steps")
    )
    what = f"{found.rows['best'].played.schedule.count} {found.pods.members}"
    where = (
        f"on {s.device.title} ({s.device.name}), {s.software.name}, attention {s.software.attention}, level {s.level}"
    )
    imaginary = " - not a product, all values are assumptions" if s.device.imaginary else ""
    return f"{s.name}: {what} of {s.model}, {size}\n{where}{imaginary}\n\nVerdict: {verdict(found)}."


def _table(found: Comparison) -> str:
    from tabulate import tabulate

    align = ("left", *("right" for _ in HEADS[1:]))
    return tabulate(list(_rows(found)), HEADS, tablefmt="simple", colalign=align, disable_numparse=True)


def _rows(found: Comparison) -> Iterator[list[str]]:
    whole = found.rows["serial"].played.makespan
    for name, row in found.rows.items():
        p = row.played
        mode = f" ({p.schedule.mode})" if name in ("best", "given") else ""
        rates = (
            number(p.images / p.makespan),
            f"{number(whole / p.makespan)}x",
            percent(p.hbm_mean),
            percent(p.hbm_peak),
        )
        memory = f"{number(p.memory / 1e9)}{' (!)' if p.memory > found.scenario.device.hbm.capacity else ''}"
        yield [f"{name}{mode}", seconds(p.makespan), *rates, memory, seconds(row.held), seconds(p.host)]


def _words(found: Comparison) -> str:
    width = max(map(len, found.rows))
    return "\n".join(f"{name:{width}}  {row.played.schedule.words()}" for name, row in found.rows.items())


def _bound(found: Comparison) -> str:
    above = found.rows["best"].played.makespan / found.lower_bound - 1
    lines = [
        f"Lower bound {seconds(found.lower_bound)}: no schedule of this work takes less; the best is {percent(above)} % above it "
        f"(of {found.pods.trials} tried)."
    ]
    if found.too_large:
        sizes = ", ".join(map(str, found.too_large))
        capacity = number(found.scenario.device.hbm.capacity / 1e9)
        lines.append(f"Not tried: pods of {sizes}, which do not fit into {capacity} GB.")
    return "\n".join(lines)


def _assumed(found: Comparison) -> str:
    return f"{ASSUMED}\n{QUALITY}" if found.pods.members == "steps" else ASSUMED
