"""What a call inherits from the calls before it: how far back its inputs were touched, and what a compiler fused away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from workloads.kind import Ints, kinds
from workloads.trace import Trace

Floats: TypeAlias = NDArray[np.float64]
INPUTS = 3  # activation inputs that are followed; a fourth counts with the third
HOSTS = (
    "elementwise",
    "layer_norm",
    "group_norm",
)  # generated kernels; library products (cuBLAS, cuDNN) take no epilogue


@dataclass(frozen=True)
class Context:
    """Columns over calls.

    Attributes:
        distances: (INPUTS, calls) bytes touched since the input was last touched; infinite for what nobody touched before.
        weight_distance: (calls,) bytes touched since the weights were last read: one pass of a segment that repeats.
        kept_reads: (INPUTS, calls) 1, or 0 where fusion keeps the operand on chip.
        kept_write: (calls,) 1, or 0 where fusion keeps the result on chip.
        launches: (calls,) 1, or 0 where the call runs inside its producer's kernel.
    """

    distances: Floats
    weight_distance: Floats
    kept_reads: Floats
    kept_write: Floats
    launches: Floats


def context(trace: Trace, footprints: Floats, fuse: bool) -> Context:
    """The context of every call.

    `footprints` (ops, 2 + INPUTS), bytes: what an op touches, and, from the kernel that touches it last to the op's end,
    for each of its inputs and for its output.
    """
    touched = footprints[trace.call_op]
    activations = [_activations(trace, call) for call in range(trace.calls)]
    kept = _fused(trace, activations) if fuse else _unfused(trace)
    return Context(_distances(trace, activations, touched), _weight_distance(trace, touched[:, 0]), *kept)


def _activations(trace: Trace, call: int) -> Ints:
    ids = trace.inputs(call)
    return ids[~trace.tensor_is_weight[ids]]


def _distances(trace: Trace, activations: list[Ints], touched: Floats) -> Floats:
    """From the start of the kernel that touched a tensor last to the start of the call that reads it now.

    Rounded to a power of sqrt(2), so that calls which differ by a few bytes share a priced row.
    """
    distances = np.full((INPUTS, trace.calls), np.inf)
    end = np.cumsum(touched[:, 0])
    last: dict[int, float] = {}  # tensor -> bytes touched until the kernel that touched it last began
    for call, ids in enumerate(activations):
        for slot, tensor in enumerate(ids[:INPUTS]):
            if int(tensor) in last:
                distances[slot, call] = end[call] - touched[call, 0] - last[int(tensor)]
        for slot, tensor in enumerate(ids):
            last[int(tensor)] = end[call] - touched[call, 1 + min(slot, INPUTS - 1)]
        for tensor in trace.outputs(call):
            last[int(tensor)] = end[call] - touched[call, -1]
    return np.asarray(np.exp2(np.round(2 * np.log2(np.maximum(distances, 1.0))) / 2))


def _weight_distance(trace: Trace, touched: Floats) -> Floats:
    out = np.full(trace.calls, np.inf)
    for s in trace.segments:
        if s.repeats > 1:
            out[s.start : s.stop] = touched[s.start : s.stop].sum()
    return out


def _unfused(trace: Trace) -> tuple[Floats, Floats, Floats]:
    return np.ones((INPUTS, trace.calls)), np.ones(trace.calls), np.ones(trace.calls)


def _fused(trace: Trace, activations: list[Ints]) -> tuple[Floats, Floats, Floats]:
    """A pointwise call joins the kernel that produced its largest operand, if that is a host; what stays inside is not moved.

    Of several operands of that size it joins the latest. A smaller operand (a bias, an embedding that is broadcast) comes
    from a kernel over fewer elements, which cannot hold the call.
    """
    kept_reads, kept_write, launches = _unfused(trace)
    pointwise = np.array([kinds()[k].pointwise for k in trace.kinds])[trace.call_kind()]
    host = np.array([k in HOSTS for k in trace.kinds])[trace.call_kind()]
    segment = trace.call_segment()
    group = np.arange(trace.calls)
    writer: dict[int, int] = {}
    readers: dict[int, list[int]] = {}
    for call, ids in enumerate(activations):
        sources = [writer.get(int(t), -1) for t in ids]
        producer = (
            max((sources[slot] for slot in _largest(trace, call, len(ids))), default=-1) if pointwise[call] else -1
        )
        if producer >= 0 and host[producer] and segment[producer] == segment[call]:
            group[call] = group[producer]
            launches[call] = 0.0
        for slot, source in enumerate(sources):
            if source >= 0:
                readers.setdefault(source, []).append(call)
                if slot < INPUTS and launches[call] == 0.0 and group[source] == group[call]:
                    kept_reads[slot, call] = 0.0
        for tensor in trace.outputs(call):
            writer[int(tensor)] = call
    for call, read_by in readers.items():
        if all(launches[r] == 0.0 and group[r] == group[call] for r in read_by):
            kept_write[call] = 0.0
    return kept_reads, kept_write, launches


def _largest(trace: Trace, call: int, operands: int) -> list[int]:
    """Slots of the operands of a pointwise call that have the most bytes."""
    op = trace.call_op[call : call + 1]
    d = trace.dims(trace.kinds[int(trace.op_kind[op[0]])], op)
    sizes = [int(getattr(d, f"read{slot}")[0]) for slot in range(min(operands, INPUTS))]
    return [slot for slot, size in enumerate(sizes) if size == max(sizes)]
