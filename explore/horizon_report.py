"""What a projection says to act on, as text and as JSON (keys: docs/project-json.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from explore.horizon import BETTER, CONVOLUTION, ELSE, LINEAR, OVERTAKEN, SPATIAL, TEMPORAL, Curve, Horizon, Lever, Run
from sim.report import number, percent

SHORT = {SPATIAL: "spatial", CONVOLUTION: "convolution", LINEAR: "linear", ELSE: "all else"}  # in the heads of tables
MATTERS = 1.01  # times as fast, below which a change is not named
UNITS = (("h", 3600.0), ("min", 60.0), ("s", 1.0))


# How long a clip of some of the model's frames lasts, in seconds.
Seconds: TypeAlias = Callable[[float], float]


def text(found: Sequence[Horizon], seconds: Seconds) -> str:
    """For each size: every way to make the longest clip, what each better number of the device moves, and a line on each."""
    return "\n\n".join(part for h in found for part in _size(h, seconds))


def _size(h: Horizon, seconds: Seconds) -> Iterator[str]:
    last, against = h.own.runs[-1].frames, _against(h)
    yield f"{h.height} x {h.width}: clips as the scenario makes them\n{_clips(h.own, seconds)}"
    rows = [_row(c, seconds, against) for c in h.curves]
    heads = (
        "", "device", "longest clip\nthat fits", f"{last} frames:\nlatency", "energy", "peak\nGB", "most time in",
        *(f"overtakes\n{SHORT[name]}" for name in against),
    )  # fmt: skip
    title = f"{h.height} x {h.width}: what to act on; a clip of {last} frames lasts {span(seconds(last))}"
    yield f"{title}\n{_table(rows, heads, 2)}"
    levers = [_lever_row(x, h, seconds, against) for x in h.levers]
    heads = (
        f"{BETTER:g} times the", *(f"overtakes\n{SHORT[name]}" for name in against), "longest clip\nthat fits",
        "latency, of\nthe device's",
    )  # fmt: skip
    what = f"what a better device moves (frames from which {h.own.over_frames} takes longer)"
    yield f"{h.height} x {h.width}: {what}\n{_table(levers, heads, 1)}"
    yield _advice(h)


def _against(h: Horizon) -> list[str]:
    """Of OVERTAKEN, what is there: a model without temporal attention has no spatial attention of its own."""
    return [name for name in OVERTAKEN if name != SPATIAL or h.own.over_frames == TEMPORAL]


def _clips(c: Curve, seconds: Seconds) -> str:
    """A row a frame count: how long the clip lasts, and what it takes."""
    rows = [
        [
            span(seconds(r.frames)), f"{r.frames:,}", span(r.latency), "-" if r.energy is None else _joules(r.energy),
            number(r.peak_bytes / 1e9), "yes" if r.peak_bytes <= c.capacity else "no",
            f"{r.dominant[0]} {percent(r.dominant[1])} %",
        ]
        for r in c.runs
    ]  # fmt: skip
    return _table(rows, ("clip", "frames", "latency", "energy", "peak GB", "fits", "most time in"), 0)


def _row(c: Curve, seconds: Seconds, against: Sequence[str]) -> list[str]:
    run, overtakes = c.runs[-1], c.overtakes()
    name, share = run.dominant
    return [
        c.name, c.device, _longest(c.longest(), c, seconds), span(run.latency),
        "-" if run.energy is None else _joules(run.energy), number(run.peak_bytes / 1e9), f"{name} {percent(share)} %",
        *(_frames(overtakes[n], c) for n in against),
    ]  # fmt: skip


def _lever_row(x: Lever, h: Horizon, seconds: Seconds, against: Sequence[str]) -> list[str]:
    over = (_frames(x.overtakes[n], h.own) for n in against)
    return [x.path, *over, _longest(x.longest, h.own, seconds), number(x.latency)]


def _frames(value: float | None, c: Curve) -> str:
    """'823', 'by 16' where it does at the least count already, '-' where it never does."""
    if value is None:
        return "-"
    return f"by {c.runs[0].frames}" if value <= c.runs[0].frames else f"{value:,.0f}"


def _from(value: float | None, c: Curve) -> str:
    """'823 frames', '16 frames or less', 'none asked for'."""
    if value is None:
        return "none asked for"
    first = c.runs[0].frames
    return f"{first} frames or less" if value <= first else f"{value:,.0f} frames"


def _longest(frames: float, c: Curve, seconds: Seconds) -> str:
    if math.isinf(frames):
        return f"over {c.runs[-1].frames:,}"
    return f"{frames:,.0f} ({span(seconds(frames))})" if frames else f"less than {c.runs[0].frames}"


def span(seconds: float) -> str:
    """'95.6 s', '1.59 min', '74.3 h'."""
    unit, size = next((u for u in UNITS if seconds >= 2 * u[1]), UNITS[-1])
    return f"{number(seconds / size)} {unit}"


def _joules(energy: float) -> str:
    """'237 J', '71.1 MJ'."""
    unit, size = next((u for u in (("MJ", 1e6), ("kJ", 1e3)) if energy >= u[1]), ("J", 1.0))
    return f"{number(energy / size)} {unit}"


def _advice(h: Horizon) -> str:
    """Which change does most, each in one line; nothing where there is nothing to move."""
    lines = []
    own = h.own.overtakes()
    for name in (_against(h)[0], ELSE):
        start = own[name]
        moved = {x.path: x.overtakes[name] for x in h.levers}
        known = {p: abs(math.log(v / start)) for p, v in moved.items() if v is not None and start is not None}
        if known and max(known.values()) > 0:
            path = max(known, key=lambda p: known[p])
            there = f"from {_from(start, h.own)} to {_from(moved[path], h.own)}"
            lines.append(f"The crossover with {name} moves most with {path}: {there}.")
    fastest = min(h.levers, key=lambda x: x.latency)
    gain = 1 / fastest.latency
    lines.append(
        f"The longest clip gains most from {fastest.path}: {number(gain)}x as fast with {BETTER:g} times of it."
        if gain > MATTERS
        else "No better number of the device makes the longest clip more than 1 % faster: the host paces it."
    )
    lines += _ways(h)
    return "\n".join(lines)


def _ways(h: Horizon) -> Iterator[str]:
    """The fastest way to make the longest clip on the scenario's device, and the fastest of those that fit it."""
    ways = [c for c in h.curves if c.device == h.own.device]
    fitting = [c for c in ways if math.isinf(c.longest())]
    best = min(ways, key=lambda c: c.runs[-1].latency)
    if best is not h.own:
        fits = "" if best in fitting else ", but does not fit"
        yield f"Of the ways to make it on {h.own.device}, {best.name} is the fastest: {_gain(h, best)}{fits}."
    if not fitting:
        yield f"It fits {h.own.device} in none of the ways asked for."
    elif h.own not in fitting:
        within = min(fitting, key=lambda c: c.runs[-1].latency)
        yield f"It fits {h.own.device} with {' or '.join(c.name for c in fitting)}, not as it is: {_gain(h, within)}."


def _gain(h: Horizon, way: Curve) -> str:
    own, other = h.own.runs[-1].latency, way.runs[-1].latency
    return f"{span(other)} instead of {span(own)}, {number(own / other)}x as fast"


def _table(rows: Sequence[Sequence[str]], heads: Sequence[str], left: int) -> str:
    from tabulate import tabulate

    sides = ["left"] * left + ["right"] * (len(heads) - left)
    return str(tabulate(rows, heads, tablefmt="simple", colalign=sides, disable_numparse=True))


def to_json(found: Sequence[Horizon]) -> list[dict[str, Any]]:
    """One object a size."""
    return [
        {
            "height": h.height,
            "width": h.width,
            "curves": [_curve(c) for c in h.curves],
            "levers": [_lever(x) for x in h.levers],
        }
        for h in found
    ]


def _curve(c: Curve) -> dict[str, Any]:
    return {
        "way": c.name, "device": c.device, "memory_capacity_bytes": int(c.capacity),
        "over_frames": c.over_frames.replace(" ", "_"), **_reached(c.overtakes(), c.longest()),
        "runs": [_run(r, c) for r in c.runs],
    }  # fmt: skip


def _lever(x: Lever) -> dict[str, Any]:
    return {"field": x.path, "factor": BETTER, **_reached(x.overtakes, x.longest), "latency_ratio": x.latency}


def _reached(overtakes: Any, longest: float) -> dict[str, Any]:
    over = {f"overtakes_{name.replace(' ', '_')}_frames": overtakes[name] for name in OVERTAKEN}
    return {**over, "longest_frames": None if math.isinf(longest) else int(longest)}


def _run(r: Run, c: Curve) -> dict[str, Any]:
    name, share = r.dominant
    return {
        "frames": r.frames, "latency_s": r.latency, "peak_memory_bytes": int(r.peak_bytes),
        "fits_memory": r.peak_bytes <= c.capacity,
        "energy_j": r.energy, "most_time_in": name.replace(" ", "_"), "most_time_share": share,
    }  # fmt: skip
