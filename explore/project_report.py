"""A projection as text for people, as JSON (keys: docs/project-json.md) and as CSV: one row a size, frame count and group."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from explore import horizon_report
from explore.project import CROSS, GROUPS, JOINT, REST, SPATIAL, TEMPORAL, Crossover, Point, Projection
from sim.report import number, percent
from sim.words import request_words
from workloads.kind import REPORT_CLASSES

SCHEMA_VERSION = 1  # of the JSON; raised when a key changes its meaning or goes away
SHORT = {
    SPATIAL: "spatial", TEMPORAL: "temporal", JOINT: "joint", CROSS: "cross",
}  # of the attentions, in the heads of tables  # fmt: skip
SHORT_CLIP = 128  # frames: the blocks of FlashAttention-2 up to a head_dim of 64 (workloads/attention_blocks.py)
NOT_REST = ("Attention", "Convolution", "Linear")


def text(found: Projection) -> str:
    """Times and memory, FLOPs and bytes of every size, then where temporal attention overtakes spatial attention."""
    parts = [_title(found)]
    for c in found.crossovers:
        points = found.of(c.height, c.width)
        parts += [_times(c, points) + _padding(found, points), _flops(c, points)]
    acted = horizon_report.text(found.horizons, found.seconds)
    return "\n\n".join([*parts, _overtaken(found), _memory(found), _calibration(found), acted])


def to_json(found: Projection) -> dict[str, Any]:
    """Plain data; every key is described in docs/project-json.md."""
    from importlib.metadata import version

    s = found.scenario
    return {
        "schema_version": SCHEMA_VERSION,
        "name": s.name,
        "scenario_hash": s.hash,
        "model": s.model,
        "device": s.device.name,
        "software": s.software.name,
        "attention": s.software.attention,
        "level": s.level,
        "changed": list(s.changed()),
        "memory_capacity_bytes": int(s.device.hbm.capacity),
        "points": [_point(p) for p in found.points],
        "crossovers": [_crossover(found, c) for c in found.crossovers],
        "frames_per_second": found.frames_per_second,
        "horizons": horizon_report.to_json(found.horizons),
        "framecast_version": version("framecast"),
    }


def rows_csv(found: Projection) -> str:
    """One row for each size, frame count and group; what belongs to the whole point is repeated."""
    rows = [
        {
            **{k: v for k, v in _point(p).items() if k != "groups"},
            "group": name,
            **{f"group_{k}": v for k, v in _group(p, name).items()},
        }
        for p in found.points
        for name in GROUPS
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def counted(frames: float) -> str:
    """'1 frame', '14.2 frames'."""
    return f"{frames if isinstance(frames, int) else number(frames)} frame{'' if frames == 1 else 's'}"


def _title(found: Projection) -> str:
    s = found.scenario
    changed = f"\nchanged from {s.device.name} and {s.software.name}: {', '.join(s.changed())}" if s.changed() else ""
    request = request_words(s.request, skip=("height", "width", "frames"))
    rate = f"clips of {found.frames_per_second:g} frames a second"
    return (
        f"{s.name}: {s.model}, {request}; {rate}\n"
        f"on {s.device.title} ({s.device.name}), {s.software.name}, attention {s.software.attention}, level {s.level}{changed}"
    )


def _times(c: Crossover, points: Sequence[Point]) -> str:
    shown, both = _shown(points), _both(points)
    ratio = ("temporal\n/ spatial",) if both else ()
    heads = ("frames", *(SHORT.get(n, n) for n in shown), "all", *ratio, "latency s", "peak GB", "fits")
    rows = [
        [
            str(p.frames), *(number(p.groups[n].time) for n in shown), number(p.gpu_time),
            *(_ratio(p.groups[a].time, p.groups[b].time) for a, b in both), number(p.latency), number(p.peak_bytes / 1e9),
            "yes" if p.fits else "no",
        ]
        for p in points
    ]  # fmt: skip
    return f"{c.height} x {c.width}: kernel time of one inference in seconds; latency; memory\n{_table(rows, heads)}"


def _padding(found: Projection, points: Sequence[Point]) -> str:
    """Why few frames are hardly faster; '' where nothing is padded: no fused attention over frames, or only longer clips."""
    attention = found.scenario.software.attention
    if attention == "unfused" or TEMPORAL not in _shown(points) or points[0].frames >= SHORT_CLIP:
        return ""
    return (
        f"\nFused attention (here {attention}) computes whole blocks, of up to 128 frames by 128 with flash-2: over fewer frames "
        "it moves less,\nbut computes as much. `framecast explain` names a call's block, and says how much of it is filled."
    )


def _flops(c: Crossover, points: Sequence[Point]) -> str:
    groups, both = [n for n in _shown(points) if n != REST], _both(points)
    own = [n for n in (SPATIAL, TEMPORAL, JOINT) if n in groups]
    heads = (
        "frames", *(f"{SHORT.get(n, n)}\nTFLOP" for n in groups), *(("temporal\n/ spatial",) if both else ()),
        *(f"{SHORT[n]}\n{what}" for what in ("HBM GB", "scores GB") for n in own),
    )  # fmt: skip
    rows = [
        [
            str(p.frames), *(number(p.groups[n].flops / 1e12) for n in groups),
            *(_ratio(p.groups[a].flops, p.groups[b].flops) for a, b in both),
            *(number(p.groups[n].hbm_bytes / 1e9) for n in own), *(number(p.groups[n].scores_bytes / 1e9) for n in own),
        ]
        for p in points
    ]  # fmt: skip
    what = "matrix FLOPs; HBM traffic; largest score matrix, which unfused attention keeps in memory"
    return f"{c.height} x {c.width}: {what}\n{_table(rows, heads)}"


def _shown(points: Sequence[Point]) -> list[str]:
    """Groups that take any time at some point, in order."""
    return [name for name in GROUPS if any(p.groups[name].time for p in points)]


def _both(points: Sequence[Point]) -> list[tuple[str, str]]:
    """The two attentions that are set against each other, where there are both."""
    return [(TEMPORAL, SPATIAL)] if {TEMPORAL, SPATIAL} <= set(_shown(points)) else []


def _overtaken(found: Projection) -> str:
    if not any(_both(found.of(c.height, c.width)) for c in found.crossovers):
        return "No temporal attention: attention is over space and time jointly, and stands for it below."
    rows = [
        [f"{c.height} x {c.width}", number(float(c.flops)) if c.flops else "-", _when(found, c), note(found, c)]
        for c in found.crossovers
    ]
    table = _table(rows, ("size", "in FLOPs, frames", "in time, frames", "note"), ("left", "right", "right", "left"))
    return f"Where temporal attention overtakes spatial attention\n{table}"


def _when(found: Projection, c: Crossover) -> str:
    """The frame count, or the side of the counts asked for on which it is."""
    least, most = _ends(found, c)
    if c.time is not None:
        return number(c.time)
    return f"up to {least}" if c.first_above and not c.times else f"not up to {most}"


def note(found: Projection, c: Crossover) -> str:
    """What the frame count of a crossover in time does not say; '' where there is nothing."""
    least, _ = _ends(found, c)
    notes = [f"temporal attention takes longer already at {counted(least)}"] if c.first_above else []
    if len(c.times) > 1:
        notes.append(f"the times cross more than once: at {', '.join(map(number, c.times))} frames")
    elif c.first_above and c.times:
        notes.append(f"and less time from {counted(c.times[0])} on")
    return "; ".join(notes)


def _ends(found: Projection, c: Crossover) -> tuple[int, int]:
    points = found.of(c.height, c.width)
    return points[0].frames, points[-1].frames


def _memory(found: Projection) -> str:
    s = found.scenario
    capacity = number(s.device.hbm.capacity / 1e9)
    lines = []
    for c in found.crossovers:
        inside = [p.frames for p in found.of(c.height, c.width) if p.fits]
        what = f"up to {counted(max(inside))}" if inside else "at none of them"
        lines.append(f"{c.height} x {c.width} {what}")
    beyond = "" if all(p.fits for p in found.points) else "; times beyond are those of a device with enough memory"
    return f"Fits {capacity} GB, of the frame counts asked for: {', '.join(lines)}{beyond}."


def _calibration(found: Projection) -> str:
    shares = [p.not_calibrated for p in found.points]
    ends = " to ".join(dict.fromkeys(percent(share) for share in (min(shares), max(shares))))
    rest = ", ".join(name for name in REPORT_CLASSES if name not in (*NOT_REST, "Communication"))
    return f"Not calibrated: {ends} % of kernel time.\nRest: {rest}, and attention of the text encoder and the decoder."


def _ratio(value: float, to: float) -> str:
    return f"{number(value / to)}x" if to else "-"


def _table(rows: Iterable[Sequence[str]], heads: Sequence[str], align: Sequence[str] = ()) -> str:
    from tabulate import tabulate

    sides = align or ("right",) * len(heads)
    return str(tabulate(list(rows), heads, tablefmt="simple", colalign=sides, disable_numparse=True))


def _point(p: Point) -> dict[str, Any]:
    return {
        "height": p.height,
        "width": p.width,
        "frames": p.frames,
        "latency_s": p.latency,
        "gpu_time_s": p.gpu_time,
        "flops": sum(g.flops for g in p.groups.values()),
        "hbm_bytes": sum(g.hbm_bytes for g in p.groups.values()),
        "peak_memory_bytes": int(p.peak_bytes),
        "peak_memory_at": p.at,
        "fits_memory": p.fits,
        "not_calibrated_share": p.not_calibrated,
        "groups": {name.replace(" ", "_"): _group(p, name) for name in GROUPS},
    }


def _group(p: Point, name: str) -> dict[str, Any]:
    g = p.groups[name]
    return {
        "time_s": g.time,
        "flops": g.flops,
        "hbm_bytes": g.hbm_bytes,
        "calls": g.calls,
        "peak_memory_bytes": int(g.peak_bytes),
        "scores_bytes": int(g.scores_bytes),
    }


def _crossover(found: Projection, c: Crossover) -> dict[str, Any]:
    return {
        "height": c.height,
        "width": c.width,
        "flops_frames": float(c.flops) if c.flops else None,
        "time_frames": c.time,
        "time_crossings": list(c.times),
        "temporal_longer_at_first": c.first_above,
        "note": note(found, c),
    }
