"""A PyTorch Profiler timeline as a workload and a check at once: its trace, and what each call took on the device."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.errors import INSTALL, SpecError
from workloads.capture import CapturedCall
from workloads.formats import events
from workloads.formats.events import Timeline
from workloads.formats.replay import Replayed, replay
from workloads.formats.rows import calls_of, trace_from
from workloads.kind import ITEMSIZE, Ints, kinds
from workloads.trace import Segment, Trace

Floats: TypeAlias = NDArray[np.float64]
GPU, CPU = "kernels on the GPU", "operators on the CPU"  # what was timed


@dataclass(frozen=True)
class Measured:
    """A timeline.

    Attributes:
        trace: what was computed; each step of a profiler with a schedule is a segment, run once.
        seconds: (calls,) time of the kernels of each call, added; on a trace without kernels, time of the operator on the CPU.
        kernels: int64 (calls,) kernels that each call launched.
        clock: GPU or CPU: what was timed.
        unattributed: seconds of kernels that belong to no call, by name, longest first.
        unknown: operators without a model that could not be run again -> how often; their results are taken to be as large
            as their largest operand.
    """

    trace: Trace
    seconds: Floats
    kernels: Ints
    clock: str
    unattributed: Mapping[str, float]
    unknown: Mapping[str, int]


def load(path: Path) -> Measured:
    """Read a timeline. SpecError for a file that is truncated, foreign, or was recorded without shapes; or without torch."""
    return measured_of(path, events.read(path))


def measured_of(path: Path, timeline: Timeline) -> Measured:
    """What the operators of a timeline compute, and what they took. SpecError without torch, or where nothing is computed."""
    launched = frozenset(k.operator for k in timeline.kernels)
    try:
        found = replay(timeline.operators, launched)
    except ModuleNotFoundError as error:
        needs = f"reading operators of PyTorch needs {error.name}: {INSTALL}"
        raise SpecError(f"{path}: {needs}") from None
    if not found.calls:
        raise SpecError(f"{path}: no operator in it computes anything; profile the forward pass of a module")
    steps = [timeline.operators[i].step for i in found.operator]
    order = sorted(range(len(steps)), key=lambda call: list(dict.fromkeys(steps)).index(steps[call]))
    place = {call: position for position, call in enumerate(order)}
    seconds, kernels, unattributed = np.zeros(len(order)), np.zeros(len(order), np.int64), dict[str, float]()
    for kernel in timeline.kernels:
        owner = found.owner[kernel.operator] if kernel.operator >= 0 else -1
        if owner < 0:
            unattributed[kernel.name] = unattributed.get(kernel.name, 0.0) + kernel.seconds
        else:
            seconds[place[owner]] += kernel.seconds
            kernels[place[owner]] += 1
    if not timeline.kernels:
        for call, operator in enumerate(found.operator):
            if found.owner[operator] == call:
                seconds[place[call]] = timeline.operators[operator].seconds
    return Measured(
        trace=_trace(path, found, [found.calls[c] for c in order], [steps[c] for c in order]),
        seconds=seconds,
        kernels=kernels,
        clock=GPU if timeline.kernels else CPU,
        unattributed=dict(sorted(unattributed.items(), key=lambda item: -item[1])),
        unknown=found.unknown,
    )


def notes(measured: Measured) -> list[str]:
    """What was assumed or left over, a line each; [] where nothing was."""
    lines = []
    if measured.unknown:
        names = ", ".join(f"{name} {count}" for name, count in measured.unknown.items())
        lines.append(f"operators without a model, taken as memory traffic: {names}")
    if measured.unattributed:
        most = ", ".join(f"{name} {1e6 * seconds:.1f} us" for name, seconds in list(measured.unattributed.items())[:3])
        lines.append(f"{1e3 * sum(measured.unattributed.values()):.3f} ms of kernels belong to no operator: {most}")
    return lines


def _trace(path: Path, found: Replayed, calls: list[CapturedCall], steps: list[str]) -> Trace:
    """One segment a step; they share the weights, and so the module."""
    name = path.name.removesuffix(".gz").removesuffix(".json")
    weights = sum(size for size, is_weight in zip(found.tensor_bytes, found.tensor_is_weight, strict=True) if is_weight)
    segments = []
    for step in dict.fromkeys(steps):
        start = steps.index(step)
        title = step.replace("ProfilerStep#", "step_") or "timeline"
        segments.append(Segment(title, name, start, start + steps.count(step), 1, found.parameters, weights))
    request = {"source": path.name, "dtype": _dtype(calls)}
    return trace_from(name, request, calls, found.tensor_bytes, found.tensor_is_weight, segments)


def _dtype(calls: list[CapturedCall]) -> str:
    """Of most products, or of most calls where there is none."""
    found = [c.dtype for c in calls if c.kind in ("gemm", "conv", "attention")] or [c.dtype for c in calls]
    return max(ITEMSIZE, key=found.count)


def to_csv(measured: Measured) -> str:
    """One row a call: where it ran, what it is, its dimensions, kernels and measured time."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("call", "segment", "path", "label", "kind", "dtype", "dims", "kernels", "time_s"))
    segment = measured.trace.call_segment()
    for i, call in enumerate(calls_of(measured.trace)):
        dims = " ".join(f"{n}={v}" for n, v in zip(kinds()[call.kind].dims, call.dims, strict=True))
        where = measured.trace.segments[int(segment[i])].name
        time = f"{measured.seconds[i]:.9g}"
        writer.writerow((i, where, call.path, call.label, call.kind, call.dtype, dims, int(measured.kernels[i]), time))
    return out.getvalue()
