"""The best schedule as Chrome trace events, which Perfetto (https://ui.perfetto.dev) opens: a track a stream, and counters.

Format: "Trace Event Format" (Google, 2016): X events with ts and dur in microseconds, one tid a stream, M names, C counters.
An event is one pass of a component; the counters are means over the bins of the plot.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from explore.pods import Comparison
from explore.pods_plots import curve
from sim.concurrent import passes
from sim.demand import COLUMNS, HBM_BYTES, TENSOR
from sim.trace_event import PID
from sim.words import device_title

COUNTERS = {"HBM bandwidth %": HBM_BYTES, "matrix units %": TENSOR, "SM slots %": COLUMNS}
EVENTS = 20_000  # passes that are written at most, so that a browser opens the file at once


def trace_events(found: Comparison) -> dict[str, Any]:
    """The JSON object."""
    best, s = found.rows["best"].played, found.scenario
    streams = max(phase.streams for phase, _, _ in best.phases)
    names = [_name("process_name", 0, device_title(s))]
    names += [_name("thread_name", i, f"GPU stream {i}") for i in range(streams)]
    every = list(_passes(found))
    kept = sorted(every, key=lambda e: e["ts"])[:EVENTS]
    shown = f"{len(kept)} of {len(every)} passes"
    about = {"scenario": s.name, "scenario_hash": s.hash, "shown": shown, "schedule": best.schedule.words()}
    return {"traceEvents": [*names, *kept, *_counters(found)], "displayTimeUnit": "ms", "otherData": about}


def _passes(found: Comparison) -> Iterator[dict[str, Any]]:
    best, one = found.rows["best"].played, found.one
    for phase, run, begin in best.phases:
        for stream, member, segment, start, end in passes(one, phase, run):
            name = one.trace.segments[segment].name
            ts = round(1e6 * (begin + start), 3)
            duration = round(round(1e6 * (begin + end), 3) - ts, 3)
            args = {best.schedule.members[:-1]: member} | ({"pod": phase.pod} if phase.pod else {})
            yield {
                "ph": "X", "pid": PID, "tid": stream, "name": name, "cat": "pass", "ts": ts, "dur": duration, "args": args,
            }  # fmt: skip


def _counters(found: Comparison) -> Iterator[dict[str, Any]]:
    best = found.rows["best"].played
    for name, column in COUNTERS.items():
        edges, use = curve(best, column=column)
        for edge, value in zip(edges, [*use, 0.0], strict=True):
            ts, percent = round(1e6 * float(edge), 3), round(100 * float(value), 2)
            yield {"ph": "C", "pid": PID, "tid": 0, "name": name, "ts": ts, "args": {"%": percent}}


def _name(kind: str, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": PID, "tid": tid, "args": {"name": name}}
