"""A timeline as Chrome trace events, which Perfetto (https://ui.perfetto.dev) opens.

Format: "Trace Event Format" (Google, 2016): X events with ts and dur in microseconds, one tid a stream, M names, C counters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sim.result import Result, call_class
from sim.words import device_title
from workloads.kind import REPORT_CLASSES, Ints

REPEATS = 2  # of each segment that are written; further ones look the same
EVENTS = 20_000  # calls that are written at most, so that a browser opens the file at once
PID = 1


def trace_events(result: Result) -> dict[str, Any]:
    """The JSON object: the first two repeats of every segment, at the times at which they run, and what is left out.

    Below the streams, a track of the host shows when it issues each call.
    """
    timeline = result.timeline
    wanted = np.flatnonzero(timeline.repeat < REPEATS)[:EVENTS]
    host = len(timeline.streams)
    events = [_name("process_name", 0, device_title(result.scenario))]
    events += [_name("thread_name", i, name) for i, name in enumerate((*timeline.streams, "host"))]
    rows = _rows(result)
    flow = [event for i in wanted for event in _call(result, rows, int(i))]
    flow += [*_left_out(result), *_issues(result, rows, wanted, host)]
    shown = f"{len(wanted)} of {len(timeline.call)} calls: the first {REPEATS} repeats of each component"
    about = {"scenario": result.scenario.name, "scenario_hash": result.scenario.hash, "shown": shown}
    return {"traceEvents": events + flow, "displayTimeUnit": "ms", "otherData": about}


def _left_out(result: Result) -> Iterator[dict[str, Any]]:
    """One event for the repeats of each segment that are not written, as long as they last: the device is not idle there."""
    timeline = result.timeline
    segment = result.trace.call_segment()[timeline.call]
    for i, s in enumerate(result.trace.segments):
        if s.repeats > REPEATS:
            mine = np.flatnonzero(segment == i)
            start, end = timeline.end[mine[timeline.repeat[mine] < REPEATS][-1]], timeline.end[mine[-1]]
            name = f"{s.repeats - REPEATS} repeat{'s' if s.repeats > REPEATS + 1 else ''} not shown"
            yield _span(0, name, "not shown", float(start), float(end), {"component": s.name})


def _issues(result: Result, rows: list[dict[str, Any]], wanted: Ints, tid: int) -> Iterator[dict[str, Any]]:
    """The host's side of the calls that are written; a call that costs the host nothing has none."""
    timeline = result.timeline
    host = result.priced.host[timeline.call]
    issued = np.cumsum(host)
    for i in wanted[host[wanted] > 0]:
        name = f"issue {rows[int(timeline.call[i])]['name']}"
        yield _span(
            tid, name, "host", float(issued[i] - host[i]), float(issued[i]), {"repeat": int(timeline.repeat[i])}
        )


def _span(tid: int, name: str, category: str, start: float, end: float, args: dict[str, Any]) -> dict[str, Any]:
    """An X event from `start` to `end`, seconds."""
    ts = round(1e6 * start, 3)
    duration = round(round(1e6 * end, 3) - ts, 3)
    return {"ph": "X", "pid": PID, "tid": tid, "name": name, "cat": category, "ts": ts, "dur": duration, "args": args}


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
    args = {**row["args"], "repeat": int(timeline.repeat[i])}
    span = _span(tid, row["name"], row["cat"], float(timeline.start[i]), float(timeline.end[i]), args)
    rate = row["args"]["hbm_bytes"] / (1e3 * span["dur"]) if span["dur"] else 0.0  # B/us -> GB/s
    counter = {"ph": "C", "pid": PID, "tid": tid, "name": "HBM GB/s"}
    return [
        span,
        {**counter, "ts": span["ts"], "args": {"GB/s": round(rate, 1)}},
        {**counter, "ts": round(span["ts"] + span["dur"], 3), "args": {"GB/s": 0}},
    ]
