"""A timeline as Chrome trace events, which Perfetto (https://ui.perfetto.dev) opens.

Format: "Trace Event Format" (Google, 2016): X events with ts and dur in microseconds, one tid a stream, M names, C counters.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.result import Result, call_class
from workloads.kind import REPORT_CLASSES

REPEATS = 2  # of each segment that are written; further ones look the same
EVENTS = 20_000  # calls that are written at most, so that a browser opens the file at once
PID = 1


def trace_events(result: Result) -> dict[str, Any]:
    """The JSON object: the first two repeats of every segment, at the times at which they run."""
    timeline = result.timeline
    wanted = np.flatnonzero(timeline.repeat < REPEATS)[:EVENTS]
    events = [_name("process_name", 0, result.scenario.device.title)]
    events += [_name("thread_name", i, name) for i, name in enumerate(timeline.streams)]
    rows = _rows(result)
    flow = [event for i in wanted for event in _call(result, rows, int(i))]
    shown = f"{len(wanted)} of {len(timeline.call)} calls: the first {REPEATS} repeats of each component"
    about = {"scenario": result.scenario.name, "scenario_hash": result.scenario.hash, "shown": shown}
    return {"traceEvents": events + flow, "displayTimeUnit": "ms", "otherData": about}


def _name(kind: str, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": PID, "tid": tid, "args": {"name": name}}


def _rows(result: Result) -> list[dict[str, Any]]:
    """What Perfetto shows of each call of the trace, besides when it runs."""
    trace, cost = result.trace, result.priced.cost
    names, paths, segments = trace.op_label[trace.call_op], trace.call_path, trace.call_segment()
    classes, flops, hbm = call_class(trace), trace.op_flops()[trace.call_op], cost.per_call(cost.hbm_bytes)
    return [
        {
            "name": trace.labels[names[c]],
            "cat": REPORT_CLASSES[classes[c]],
            "args": {
                "component": trace.segments[segments[c]].name,
                "path": trace.paths[paths[c]],
                "flops": int(flops[c]),
                "hbm_bytes": round(float(hbm[c])),
            },
        }
        for c in range(trace.calls)
    ]


def _call(result: Result, rows: list[dict[str, Any]], i: int) -> list[dict[str, Any]]:
    """The X event of one call, and the HBM counter that rises with it and falls after it."""
    timeline = result.timeline
    row, tid = rows[int(timeline.call[i])], int(timeline.stream[i])
    start, end = round(1e6 * float(timeline.start[i]), 3), round(1e6 * float(timeline.end[i]), 3)
    duration = round(end - start, 3)
    args = {**row["args"], "repeat": int(timeline.repeat[i])}
    rate = row["args"]["hbm_bytes"] / (1e3 * duration) if duration else 0.0  # B/us -> GB/s
    where = {"pid": PID, "tid": tid}
    return [
        {"ph": "X", **where, "name": row["name"], "cat": row["cat"], "ts": start, "dur": duration, "args": args},
        {"ph": "C", **where, "name": "HBM GB/s", "ts": start, "args": {"GB/s": round(rate, 1)}},
        {"ph": "C", **where, "name": "HBM GB/s", "ts": end, "args": {"GB/s": 0}},
    ]
