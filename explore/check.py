"""What `framecast check` says of `sweep:` and `search:`: the space and its size, what of it cannot be, the time it will take."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from explore import objectives, study, walk
from explore import sweep as sweeps
from explore.goals import MEMORY, VIOLATION
from explore.propose import even
from explore.space import Axis, Origin, origin

SAMPLE = 512  # designs of an even sample, that tell how many cannot be
POINTS = 1024  # of a sweep that are priced first, so that compilation is not timed
GOLDEN = 0.6180339887498949  # a step, in sweeps of the points, that meets no period of the axes


def checked(path: str, overrides: Sequence[str], sections: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Of each of the sections that are `sweep` or `search`: fields, size, infeasible share by reason, seconds."""
    at = origin(path, overrides)
    makers = {"sweep": _sweep, "search": _search}
    return {name: make(at) for name, make in makers.items() if name in sections}


def text(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A paragraph for each section."""
    from tabulate import tabulate

    for name, one in found.items():
        rows = [[path, words] for path, words in one["fields"].items()]
        fields = tabulate(rows, tablefmt="plain", disable_numparse=True)
        size = f"{one['size']:,} designs" if one["size"] is not None else "a continuum of designs"
        lines = [f"{name}: {size}; {one['points']:,} to price, about {_duration(one['seconds'])}", fields]
        for reason, share in one["infeasible"].items():
            what = "do not fit into memory" if reason == MEMORY else f"miss {reason}"
            lines.append(f"{100 * share:.0f} % of an even sample of {one['sample']} {what}")
        if one["infeasible"] and one["feasible"] == 0:
            lines.append("none of that sample is feasible: relax a constraint, or widen the ranges")
        elif len(one["infeasible"]) > 1:
            lines.append(f"{100 * one['feasible']:.0f} % of it are feasible")
        yield "\n".join(lines)


def _search(at: Origin) -> dict[str, Any]:
    search = objectives.read(at)
    designs = [even(search.axes, i, search.seed) for i in range(SAMPLE)]
    columns = {axis.path: np.array([float(d[axis.path]) for d in designs]) for axis in search.axes}
    found = search.prices(columns)
    missed = {n.removeprefix(VIOLATION): v > 0 for n, v in found.items() if n.startswith(VIOLATION)}
    batches = -(-search.trials // search.batch)
    first, each = study.timed(search)
    return {
        "fields": {axis.path: axis.text() for axis in search.axes},
        "size": _size(search.axes),
        "points": search.trials,
        "sample": SAMPLE,
        **_shares(missed, SAMPLE),
        "seconds": first + each * (batches - 1),
    }


def _sweep(at: Origin) -> dict[str, Any]:
    plan = sweeps.plan(at)
    found: dict[str, Any] = {
        "fields": {axis.path: axis.text() for axis in plan.axes},
        "size": None if plan.mode == "sample" else plan.count,
        "points": plan.count,
        "sample": 0,
        "infeasible": {},
        "feasible": None,
    }
    if not plan.walked:
        start = time.perf_counter()
        sweeps.sweep(plan)
        return found | {"seconds": time.perf_counter() - start}
    ready = walk.walk(plan)
    even_points = np.unique((np.arange(SAMPLE) * GOLDEN % 1.0 * plan.count).astype(np.int64))
    some = walk.priced(ready, even_points)
    missed = {n.removeprefix(walk.MISSES): v for n, v in some.items() if n.startswith(walk.MISSES)}
    many = np.arange(min(plan.count, walk.CHUNK))
    walk.priced(ready, many[:POINTS])  # compiles, or loads what was compiled
    start = time.perf_counter()
    walk.priced(ready, many)
    seconds = (time.perf_counter() - start) * plan.count / len(many)
    return found | {"sample": len(some["feasible"]), **_shares(missed, len(some["feasible"])), "seconds": seconds}


def _shares(missed: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Shares of a sample that miss each constraint that any misses, and that miss none."""
    shares = {name: float(np.sum(misses)) / count for name, misses in missed.items()}
    fine = ~np.any(list(missed.values()), axis=0) if missed else np.ones(count, bool)
    return {"infeasible": {name: share for name, share in shares.items() if share}, "feasible": float(fine.mean())}


def _size(axes: Sequence[Axis]) -> int | None:
    """Designs of a space; None where a field takes any value of a range."""
    return math.prod(counts) if None not in (counts := [_count(axis) for axis in axes]) else None  # type: ignore[arg-type]


def _count(axis: Axis) -> int | None:
    r = axis.range
    if r is None:
        return len(axis.values)
    step = r.step or (1.0 if axis.field.type is int else None)
    return None if step is None else int((r.high - r.low) / step * (1 + 1e-12)) + 1


def _duration(seconds: float) -> str:
    """'20 s', '3 min', '2.5 h'."""
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
