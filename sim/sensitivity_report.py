"""What `framecast sensitivity` prints: a table of fields and as JSON (keys: docs/json.md)."""

from __future__ import annotations

import math
from typing import Any

from sim.report import gigabytes, number, percent, quantity, seconds, table, time_unit
from sim.sensitivity import NOTHING, Field, Sensitivity

SCHEMA_VERSION = 1  # of the JSON


def text(s: Sensitivity) -> str:
    """Latency, every live field, what must double to halve it, what changes nothing, memory."""
    return "\n\n".join((_head(s), _fields(s), _halving(s), _dead(s), _memory(s), _silicon(s)))


def to_json(s: Sensitivity) -> dict[str, Any]:
    """Plain data."""
    return {
        "schema_version": SCHEMA_VERSION,
        "scenario_hash": s.scenario.hash,
        "model": s.scenario.model,
        "device": s.scenario.device.name,
        "level": s.scenario.level,
        "step": s.step,
        "latency_s": s.latency,
        "peak_memory_bytes": s.peak_memory,
        "fields": [_data(f) for f in s.fields],
        "halving": {
            "paths": list(s.halving.paths), "latencies_s": list(s.halving.latencies), "reached": s.halving.reached,
        },
    }  # fmt: skip


def _data(f: Field) -> dict[str, Any]:
    return {
        "path": f.path, "unit": f.unit, "value": f.value, "low": f.low, "high": f.high, "low_latency_s": f.low_latency,
        "high_latency_s": f.high_latency, "elasticity": f.elasticity, "memory_elasticity": f.memory_elasticity,
        "better": f.doubled, "better_latency_s": f.doubled_latency if math.isfinite(f.doubled_latency) else None,
        "live": f.is_live, "silicon_elasticities": dict(f.silicon),
    }  # fmt: skip


def _head(s: Sensitivity) -> str:
    c = s.scenario
    return (
        f"{c.name}: {c.model} on {c.device.title} ({c.device.name}), {c.software.name}, level {c.level}\n"
        f"Latency {seconds(s.latency)}, peak memory {gigabytes(s.peak_memory)}"
    )


def _fields(s: Sensitivity) -> str:
    rows = [_row(f, s) for f in s.fields if f.is_live]
    wide = f"{percent(s.step).removesuffix('.0')} %"
    heads = ("field", "value", "elasticity", f"at - {wide}", f"at + {wide}", "doubled or halved", "then faster")
    about = "elasticity: % of latency per % of the field; whole numbers change by the nearest possible step"
    return f"What moves the latency, % ({about})\n" + table(rows, heads, "lrrrrrr")


def _row(f: Field, s: Sensitivity) -> list[str]:
    ends = (
        _change(t, s.latency) if v is not None else "" for v, t in ((f.low, f.low_latency), (f.high, f.high_latency))
    )
    helps = f.doubled is not None and f.doubled_latency < s.latency
    better = [quantity(f.doubled or 0.0, f.unit), f"{s.latency / f.doubled_latency:.2f}x"] if helps else ["", ""]
    return [f.path, quantity(f.value, f.unit), _elasticity(f.elasticity), *ends, *better]


def _change(time: float, latency: float) -> str:
    """In percent of the latency, with its sign."""
    change = 100 * (time / latency - 1)
    return f"{change:+.2f}" if abs(change) >= 0.005 else "0"


def _elasticity(value: float) -> str:
    """Three decimals, with its sign, and no zero that is not one."""
    return f"{value:+.3f}" if abs(value) >= 5e-4 else f"{value:+.0e}"


def _halving(s: Sensitivity) -> str:
    h = s.halving
    if not h.paths:
        return (
            "To halve the latency: no number of the device or the software, doubled or halved, shortens it noticeably."
        )
    better = {f.path: f for f in s.fields}
    factor, unit = time_unit(s.latency)
    rows = [
        [f"{i}. {p}", quantity(better[p].value, better[p].unit), quantity(better[p].doubled or 0.0, better[p].unit),
         number(factor * t), f"{number(s.latency / t)}x"]
        for i, (p, t) in enumerate(zip(h.paths, h.latencies, strict=True), 1)
    ]  # fmt: skip
    one = len(h.paths) == 1 and h.reached
    what = (
        f"doubling {h.paths[0]} alone halves it"
        if one
        else f"these {len(h.paths)}, one after the other, each the most helpful left"
    )
    verdict = what if h.reached else f"not reached: after {what} nothing else helps"
    return f"To halve the latency: {verdict}\n" + table(
        rows, ("field", "from", "to", f"latency {unit}", "faster"), "lrrrr"
    )


def _dead(s: Sensitivity) -> str:
    dead = [f.path for f in s.fields if not f.is_live]
    if not dead:
        return "Every number of the device moves it."
    why = " (it decides only whether the model fits)" if "device.hbm.capacity" in dead else ""
    names = [f"{path}{why}" if path == "device.hbm.capacity" else path for path in dead]
    return f"These change neither latency nor memory here: {', '.join(names)}."


def _memory(s: Sensitivity) -> str:
    moving = [f for f in s.fields if abs(f.memory_elasticity) > NOTHING]
    if not moving:
        return "Peak memory: no number of the device changes it; the model, the request and the way attention runs do."
    return "Peak memory: elasticity " + ", ".join(f"{f.path} {_elasticity(f.memory_elasticity)}" for f in moving)


def _silicon(s: Sensitivity) -> str:
    """Elasticities of energy, power, area and price, of the fields that move any of them."""
    moving = [f for f in s.fields if any(abs(value) > NOTHING for value in f.silicon.values())]
    if not moving:
        return f"Energy, area and price: unknown, since {s.scenario.device.name} does not say what it is made of."
    rows = [[f.path, *(_elasticity(v) if abs(v) > NOTHING else "0" for v in f.silicon.values())] for f in moving]
    heads = ("field", "energy", "average power", "full power", "area", "price", "USD per image")
    return "Energy and silicon: elasticity, % per % of the field (docs/silicon.md)\n" + table(rows, heads, "lrrrrrr")
