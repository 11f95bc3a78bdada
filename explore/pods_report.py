"""What `framecast pods` found as text for people and as JSON for programs (keys: docs/json.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from explore.pods import CORNERS, Comparison, Row
from explore.pods_verdict import Turn, by_percent, gains, met, verdict
from explore.space import show
from sim.report import number, percent, seconds
from sim.result import SCHEMA_VERSION
from sim.schedule import spans

HEADS = (
    "schedule",
    "makespan",
    "images/s",
    "of serial",
    "first image",
    "HBM mean %",
    "HBM peak %",
    "memory GB",
    "energy J",
    "range",
    "host",
)
ASSUMED = (
    "A kernel keeps the SM slots that its blocks fill, in launch order; what is left of compute, L2 and HBM is shared max-min "
    "fair; streams in flight split the L2.\n"
    "'range' is the makespan over the whole range of these assumptions: from kernels that run side by side in any mix, and "
    "streams that all have the whole L2, to the above with a loss of 10 % of speed beside others.\n"
    "Makespans count the launches of one host thread; 'host' is these alone."
)
QUALITY = "framecast predicts time, not quality: what relaxing the order of steps does to the image is not modelled."


def text(found: Comparison, turn: Turn | None = None) -> str:
    """Title, verdict, table, schedules in words, bound, memory, assumptions."""
    parts = (_title(found, turn), _table(found), _words(found), _bound(found), _assumed(found))
    return "\n\n".join(part for part in parts if part)


def to_json(found: Comparison, turn: Turn | None = None) -> dict[str, Any]:
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
        "lower_bound_set_by": found.bound,
        "verdict": verdict(found, turn),
        "turned_by": turn and {"field": turn.field, "factor": turn.factor, "gain": turn.gain},
        "contention": [
            {"sms_kept": c.sms_kept, "l2_split": c.l2_split, "loss": c.loss, "gain": g}
            for c, g in zip(CORNERS, gains(found), strict=True)
        ],
        "overlap": met(found),
        "hardware": found.hardware,
        "objective": found.pods.objective,
        "trials": found.found.tried,
        "enumerated": found.found.enumerated,
        "seed": found.pods.seed,
        "too_large_for_memory": list(found.too_large),
        "capacity_bytes": int(s.device.hbm.capacity),
        "assumptions": [*ASSUMED.split("\n"), QUALITY],
    }


def _row_json(row: Row) -> dict[str, Any]:
    p, s = row.played, row.played.schedule
    return {
        "makespan_s": p.makespan,
        "images_per_s": p.images_per_s,
        "first_image_s": p.first,
        "hbm_utilisation_mean": p.hbm_mean,
        "hbm_utilisation_peak": p.hbm_peak,
        "memory_bytes": int(p.memory),
        "makespan_range_s": [min(row.corners), max(row.corners)],
        "energy_j": row.energy and row.energy.value,
        "energy_range_j": row.energy and row.energy.as_list(),
        "host_s": p.host,
        "schedule": {
            "mode": s.mode,
            "members": s.members,
            "pods": [spans(pod).replace("–", "-") for pod in s.pods],  # as the scenario takes them
            "offsets": list(s.offsets),
            "streams": 1 if s.batched else s.streams or s.largest,
            "partition": list(s.partition),
            "priority": list(s.priority),
            "overlap": s.overlap,
            "words": s.words(),
        },
    }


def _title(found: Comparison, turn: Turn | None) -> str:
    s = found.scenario
    size = ", ".join(
        f"{n} {v}" for n, v in vars(s.request).items() if n in ("frames", "height", "width", "batch", "steps")
    )
    what = f"{found.rows['best'].played.schedule.count} {found.pods.members}"
    where = (
        f"on {s.device.title} ({s.device.name}), {s.software.name}, attention {s.software.attention}, level {s.level}"
    )
    imaginary = " - not a product, all values are assumptions" if s.device.imaginary else ""
    return f"{s.name}: {what} of {s.model}, {size}\n{where}{imaginary}\n\nVerdict: {verdict(found, turn)}."


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
            number(p.images_per_s),
            f"{number(whole / p.makespan)}x",
            seconds(p.first),
            percent(p.hbm_mean),
            percent(p.hbm_peak),
        )
        memory = f"{number(p.memory / 1e9)}{' (!)' if p.memory > found.scenario.device.hbm.capacity else ''}"
        yield [
            f"{name}{mode}",
            seconds(p.makespan),
            *rates,
            memory,
            number(float(row.energy.value)) if row.energy else "-",
            _range(row),
            seconds(p.host),
        ]


def _range(row: Row) -> str:
    low, high = seconds(min(row.corners)), seconds(max(row.corners))
    return low if low == high else f"{low.split(' ')[0] if low.split(' ')[-1] == high.split(' ')[-1] else low}–{high}"


def _words(found: Comparison) -> str:
    width = max(map(len, found.rows))
    lines = [f"{name:{width}}  {row.played.schedule.words()}" for name, row in found.rows.items()]
    if found.hardware:
        from sim.vary import numbers

        units = {n.field: n.unit for n in numbers(found.scenario.device)}
        lines.append("on " + ", ".join(f"{path} {show(value, units[path])}" for path, value in found.hardware.items()))
    return "\n".join(lines)


def _bound(found: Comparison) -> str:
    above = found.rows["best"].played.makespan / found.lower_bound - 1
    tried = (
        f"every one of {found.found.tried} was tried" if found.found.enumerated else f"{found.found.tried} were tried"
    )
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in met(found).items())
    each = ", ".join(f"{'+' if g >= 1 else '-'}{by_percent(max(g, 1 / g))}" for g in gains(found))
    lines = [
        f"Lower bound {seconds(found.lower_bound)} ({found.bound}): no schedule of this work takes less; the best is "
        f"{percent(above)} % above it ({tried}).",
        f"In use above half in the best, share of its time: {shares}.",
        f"Best pods against serial and batched if SMs are kept and the L2 split, only kept, only split, "
        f"neither, and with the loss: {each}.",
    ]
    if found.too_large:
        sizes = ", ".join(map(str, found.too_large))
        capacity = number(found.scenario.device.hbm.capacity / 1e9)
        lines.append(f"Not tried: pods of {sizes}, which do not fit into {capacity} GB.")
    return "\n".join(lines)


def _assumed(found: Comparison) -> str:
    return f"{ASSUMED}\n{QUALITY}" if found.pods.members == "steps" else ASSUMED
