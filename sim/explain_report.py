"""What `framecast explain` prints: one operator as text and as JSON (keys: docs/json.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from hwspecs import units
from sim.explain import TERMS, Change, Explained, Way, about
from sim.report import number, percent, quantity, seconds, table

SCHEMA_VERSION = 1  # of the JSON
SHOWN, SHOWN_WORSE = 5, 3  # changes that are printed
HEADS = {
    "tensor": "matrix",
    "vector": "vector",
    "exp": "exp",
    "l2": "L2",
    "hbm": "HBM",
    "latency": "latency",
    "fixed": "fixed",
}
KEYS = ", keys in "  # in the name of a way that cuts the keys of a fused kernel
SKIPPED = ("role",)  # dims that are printed as a word


def text(e: Explained) -> str:
    """What it is, how long, the ways, the kernels, their terms and reads, what would move the bound, calibration."""
    parts = (_head, _time, _ways, _kernels, _terms, _reads, _changes, _host, _calibration)
    return "\n\n".join(shown for part in parts if (shown := part(e)))


def to_json(e: Explained) -> dict[str, Any]:
    """Plain data; infinite distances are null."""
    return {
        "schema_version": SCHEMA_VERSION,
        "scenario_hash": e.result.scenario.hash,
        "device": e.result.scenario.device.name,
        "level": e.result.scenario.level,
        **about(e),
        "calls_priced_alike": e.alike,
        "time_s": e.time,
        "gap_s": e.gap,
        "total_time_s": e.total,
        "host_s": e.host,
        "ways": [
            {"name": w.name, "kernels": w.kernels, "time_s": w.time, "allowed": w.allowed, "taken": w.taken} for w in e.ways
        ],
        "kernels": list(_kernel_data(e)),
        "faster_until": [_change_data(c) for c in e.better],
        "slower_until": [_change_data(c) for c in e.worse],
    }  # fmt: skip


def _kernel_data(e: Explained) -> Iterator[dict[str, Any]]:
    for k in e.kernels:
        reads = [
            {"source": r.source, "bytes": r.bytes, "miss_share": r.miss_share,
             "touched_since_bytes": r.distance if math.isfinite(r.distance) else None}
            for r in k.reads
        ]  # fmt: skip
        yield {
            "name": k.name, "time_s": k.time, "gap_s": k.gap, "bound": k.bound,
            **{f"{HEADS[name].lower()}_s": value for name, value in k.terms.items()},
            "tile": k.tile, "filled": k.filled, "waves": k.waves, "blocks_per_sm": k.occupancy, "reads": reads,
            "write_bytes": k.write_bytes, "l2_bytes": k.l2_bytes, "hbm_bytes": k.hbm_bytes, "calibrated": k.covered,
            "correction": k.correction,
        }  # fmt: skip


def _change_data(c: Change) -> dict[str, Any]:
    return {
        "path": c.path,
        "value": c.value,
        "needed": c.needed,
        "factor": c.factor,
        "bound": c.bound,
        "time_s": c.time,
    }


def _head(e: Explained) -> str:
    a, s = about(e), e.result.scenario
    dims = ", ".join(f"{name} {value}" for name, value in a["dims"].items() if name not in SKIPPED)
    others = f"\nalso at this module: {', '.join(e.others)} (--op {a['path']}:{e.others[0]})" if e.others else ""
    return (
        f"{a['path']}: {a['label']}, class {a['class']}\n"
        f"on {s.device.title} ({s.device.name}), {s.software.name}, level {s.level}{others}\n\n"
        f"Shape: {a['kind']} {dims}, {a['dtype']}; {_flops(a['flops'])} of matrix products"
    )


def _flops(value: float) -> str:
    for factor, unit in ((1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP")):
        if value >= factor:
            return f"{number(value / factor)} {unit}"
    return f"{number(value)} FLOP"


def _time(e: Explained) -> str:
    a = about(e)
    share = percent(e.total / e.result.gpu_time)
    alike = f"; {e.alike} calls are priced alike" if e.alike > 1 else ""
    return (
        f"Time: {seconds(e.time)} of kernels, x {a['repeats']} runs of {a['component']} = {seconds(e.total)}, "
        f"{share} % of all kernel time{alike}"
    )


def _ways(e: Explained) -> str:
    ways = [
        way for way in e.ways if way.taken or way.allowed or KEYS not in way.name
    ]  # splits that cannot be taken: no news
    allowed = sum(way.allowed for way in ways)
    why = "the fastest that is allowed" if allowed > 1 else "the only one that the software allows"
    rows = []
    for way in ways:
        note = f"taken: {why}" if way.taken else "" if way.allowed else _why_not(e, way)
        rows.append([way.name, str(way.kernels or ""), _us(way.time) if way.time is not None else "", note])
    return "Ways to run it\n" + table(rows, ("way", "kernels", "us with gaps", ""), "lrrl")


def _why_not(e: Explained, way: Way) -> str:
    """Why a way is none that the software may choose from: the call, or what the scenario says."""
    s, attention = e.result.scenario.software, about(e)["kind"] == "attention"
    if not way.possible:
        other = next(w.name for w in e.ways if w.taken)
        fallback = attention and way.name == "memory-efficient"
        return "not for this call: flash-2 has a kernel" if fallback else f"no kernel for this call: it runs as {other}"
    return f"not allowed: attention: {s.attention} in the scenario" if attention else f"not allowed by {s.name}"


def _kernels(e: Explained) -> str:
    rows = [
        [k.name, _us(k.time), k.bound, k.tile or "-", number(k.waves) if k.tile else "-",
         number(k.occupancy) if k.tile else "-", number(k.l2_bytes / 1e6), number(k.hbm_bytes / 1e6)]
        for k in e.kernels
    ]  # fmt: skip
    heads = ("kernel", "us", "bound", "tile", "waves", "blocks/SM", "L2 MB", "HBM MB")
    padded = "".join(
        f"\n{k.name}: the sequences fill {percent(k.filled)} % of its blocks of scores, each of which is computed whole"
        for k in e.kernels
        if k.filled is not None and k.filled < 1
    )
    return "Its kernels, in launch order\n" + table(rows, heads, "lrllrrrr") + padded


def _terms(e: Explained) -> str:
    rows = [[k.name, *(_us(k.terms[name]) for name in TERMS), _us(k.time), _us(k.gap)] for k in e.kernels]
    rule = "time: the largest of the first six, a little more where two are near, plus fixed; latency and fixed bound as one"
    if e.result.scenario.level == "roofline":
        rule = "at the level roofline the time is the largest"
    heads = ("kernel", *(HEADS[name] for name in TERMS), "time", "gap after")
    return f"Terms in us ({rule})\n" + table(rows, heads, "l" + "r" * (len(heads) - 1))


def _reads(e: Explained) -> str:
    rows = []
    for k in e.kernels:
        for i, r in enumerate(k.reads):
            since = number(r.distance / 1e6) if math.isfinite(r.distance) else "never touched"
            rows.append([k.name if not i else "", r.source, number(r.bytes / 1e6), since, percent(r.miss_share)])
    if not rows:
        return ""
    l2 = e.result.scenario.device.l2
    copies = f", each line in up to {l2.partitions} partitions" if l2.partitions > 1 else ""
    return (
        f"Reads, and what is still in L2 ({units.format(l2.capacity, 'B')}{copies})\n"
        + table(rows, ("kernel", "reads", "MB", "MB touched since", "misses L2, %"), "llrrr")
    )  # fmt: skip


def _changes(e: Explained) -> str:
    longest = max(e.kernels, key=lambda k: k.time)
    name = f" of {longest.name}" if len(e.kernels) > 1 else ""
    if not e.better and not e.worse:
        return f"Bound{name}: {longest.bound}; no single number of the device, changed by up to 16x, changes that."
    rows = [_change(c) for c in e.better[:SHOWN]]
    rows += [_change(c) for c in e.worse[:SHOWN_WORSE]]
    title = f"Bound{name}: {longest.bound}. Another bound takes over when one number of the device becomes"
    return title + "\n" + table(rows, ("field", "now", "then", "factor", "bound then", "us then"), "lrrrlr")


def _change(c: Change) -> list[str]:
    return [c.path, quantity(c.value, c.unit), quantity(c.needed, c.unit), f"{number(c.factor)}x", c.bound, _us(c.time)]


def _host(e: Explained) -> str:
    if not e.host:
        return ""
    device = e.time + e.gap
    paced = "the device waits for it here" if e.host > device else "less than the device needs for it"
    return f"Host: {seconds(e.host)} to issue it, {paced} ({seconds(device)} with gaps)."


def _calibration(e: Explained) -> str:
    missing = [k.name for k in e.kernels if not k.covered]
    corrected = [f"{k.name} by {number(k.correction)}" for k in e.kernels if k.correction != 1.0]
    learned = (
        f"\nThe learned correction of a run (level calibrated) multiplies {', '.join(corrected)}." if corrected else ""
    )
    if not missing:
        return f"Calibrated: a measurement backs its kernels.{learned}"
    names = ", ".join(dict.fromkeys(missing))
    return f"Not calibrated: {names}; constants come from data sheets and general measurements.{learned}"


def _us(value: float) -> str:
    return number(1e6 * value)
