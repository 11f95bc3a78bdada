"""Bytes that must be resident over one inference: weights, activations by tensor lifetime, and workspace inside calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sim.cost import Cost
from workloads.trace import Trace

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Memory:
    """Bytes. The peak is the sum of its parts at the call where it occurs.

    Attributes:
        weights: of all modules, resident throughout.
        activations: tensors alive at the peak.
        scores: attention scores of the peak's call, where they go through memory.
        workspace: other intermediates inside the peak's call (layout copies).
        at: module path of the peak's call.
        profile: (calls,) bytes in use during each call.
    """

    weights: float
    activations: float
    scores: float
    workspace: float
    at: str
    profile: Floats

    @property
    def peak(self) -> float:
        """Bytes."""
        return self.weights + self.activations + self.scores + self.workspace


def memory(trace: Trace, cost: Cost) -> Memory:
    """Memory of a trace run in the ways that `cost` (of one device) chose. Assumes an allocator without fragmentation."""
    alive = _alive(trace)
    starts = cost.kernels.starts
    chosen = cost.chosen[starts]
    inside_row = np.zeros(cost.kernels.rows)
    np.add.at(inside_row, cost.kernels.start_row, np.where(chosen, cost.kernels.workspace, 0.0))
    inside = inside_row[cost.kernels.call_row]
    attention = np.array([k == "attention" for k in trace.kinds])[trace.call_kind()]
    profile = trace.weight_bytes + alive + inside
    peak = int(np.argmax(profile))
    return Memory(
        weights=float(trace.weight_bytes),
        activations=float(alive[peak]),
        scores=float(inside[peak]) if attention[peak] else 0.0,
        workspace=0.0 if attention[peak] else float(inside[peak]),
        at=trace.paths[int(trace.call_path[peak])],
        profile=profile,
    )


def _alive(trace: Trace) -> Floats:
    """Bytes of the activations alive at each call: from a tensor's first use to its last, within the trace.

    What one segment of a module leaves to another (features that later steps reuse) is there throughout both.
    """
    call_of_input = np.repeat(np.arange(trace.calls), np.diff(trace.input_offsets))
    call_of_output = np.repeat(np.arange(trace.calls), np.diff(trace.output_offsets))
    ids = np.concatenate([trace.input_ids, trace.output_ids])
    calls = np.concatenate([call_of_input, call_of_output])
    first, last = np.full(len(trace.tensor_bytes), trace.calls), np.full(len(trace.tensor_bytes), -1)
    np.minimum.at(first, ids, calls)
    np.maximum.at(last, ids, calls)
    state = np.zeros(len(first), dtype=bool)  # at rest, but written in place: a KV cache, there for its whole segment
    state[trace.output_ids] = True
    state &= trace.tensor_is_weight
    segment = trace.call_segment()[first[state]]
    first[state] = np.array([s.start for s in trace.segments])[segment]
    last[state] = np.array([s.stop - 1 for s in trace.segments])[segment]
    used = (last >= 0) & (~trace.tensor_is_weight | state)
    begin, end = (trace.call_segment()[np.where(used, call, 0)] for call in (first, last))
    module = np.unique([s.module for s in trace.segments], return_inverse=True)[1]
    shared = used & (begin != end) & (module[begin] == module[end])
    first[shared] = np.array([s.start for s in trace.segments])[begin[shared]]
    last[shared] = np.array([s.stop - 1 for s in trace.segments])[end[shared]]
    change = np.zeros(trace.calls + 1)
    np.add.at(change, first[used], trace.tensor_bytes[used])
    np.subtract.at(change, last[used] + 1, trace.tensor_bytes[used])
    return np.cumsum(change)[: trace.calls]
