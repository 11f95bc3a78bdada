"""What a call inherits from the calls before it: how far back its inputs were touched, and what a compiler fused away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

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
    "permute",
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
        parts: (calls,) 1 where a pointwise call reads a part of a tensor with gaps, in code that is not fused; else 0.
    """

    distances: Floats
    weight_distance: Floats
    kept_reads: Floats
    kept_write: Floats
    launches: Floats
    parts: Floats


def context(trace: Trace, footprints: Floats, fuse: bool) -> Context:
    """The context of every call.

    `footprints` (ops, 2 + INPUTS), bytes: what an op touches, and, from the kernel that touches it last to the op's end,
    for each of its inputs and for its output.
    """
    touched = footprints[trace.call_op]
    reads = _activations(trace)
    kept = _fused(trace, reads) if fuse else _unfused(trace)
    parts = np.zeros(trace.calls) if fuse else _parts(trace, reads)
    return Context(_distances(trace, reads, touched), _weight_distance(trace, touched[:, 0]), *kept, parts)


class _Reads(NamedTuple):
    """Activations that calls read: the call, which of its activations, and the tensor, each (reads,), in program order."""

    call: Ints
    slot: Ints
    tensor: Ints


def _activations(trace: Trace) -> _Reads:
    call = np.repeat(np.arange(trace.calls), np.diff(trace.input_offsets))
    own = ~trace.tensor_is_weight[trace.input_ids]
    call = call[own]
    first = np.searchsorted(call, np.arange(trace.calls))
    return _Reads(call, np.arange(len(call)) - first[call], trace.input_ids[own])


def _distances(trace: Trace, reads: _Reads, touched: Floats) -> Floats:
    """From the start of the kernel that touched a tensor last to the start of the call that reads it now.

    Rounded to a power of sqrt(2), so that calls which differ by a few bytes share a priced row.
    """
    end = np.cumsum(touched[:, 0])
    writes = np.repeat(np.arange(trace.calls), np.diff(trace.output_offsets))
    # Every touch: the bytes touched until its kernel began. A call's last touch of a tensor is the one that counts.
    key = np.concatenate([reads.tensor, trace.output_ids]) * trace.calls + np.concatenate([reads.call, writes])
    began = end - touched[:, 1:].T  # (INPUTS + 1, calls)
    value = np.concatenate([began[np.minimum(reads.slot, INPUTS - 1), reads.call], began[-1, writes]])
    order = np.argsort(key, kind="stable")
    key, value = key[order], value[order]
    here = reads.slot < INPUTS
    call, slot, tensor = reads.call[here], reads.slot[here], reads.tensor[here]
    before = np.searchsorted(key, tensor * trace.calls + call) - 1
    known = (before >= 0) & (key[before] // max(trace.calls, 1) == tensor)
    distances = np.full((INPUTS, trace.calls), np.inf)
    since = end[call] - touched[call, 0] - value[before]
    distances[slot[known], call[known]] = since[known]
    return np.asarray(np.exp2(np.round(2 * np.log2(np.maximum(distances, 1.0))) / 2))


def _weight_distance(trace: Trace, touched: Floats) -> Floats:
    out = np.full(trace.calls, np.inf)
    for s in trace.segments:
        if s.repeats > 1:
            out[s.start : s.stop] = touched[s.start : s.stop].sum()
    return out


def _parts(trace: Trace, reads: _Reads) -> Floats:
    """1 for each pointwise call (calls,) with an operand that is one of several equal parts of its tensor.

    Traces hold no strides. A tensor that is cut in equal parts is cut along its channels (halves of a gated projection or of a
    rotary embedding, scales and shifts of a modulation), so that a part lies in memory with gaps. A cut along the first axis
    would leave none; pipelines make one of the network's output, for guidance, which is not captured.
    """
    sizes = _operands(trace)
    few = np.diff(trace.input_offsets) <= INPUTS  # a further operand counts with the third
    here = (reads.slot < INPUTS) & few[reads.call]
    call, size = reads.call[here], sizes[reads.call[here], reads.slot[here]]
    whole = trace.tensor_bytes[reads.tensor[here]]
    is_part = (size > 0) & (whole >= 2 * size) & (whole % np.maximum(size, 1) == 0)
    return np.asarray(np.bincount(call, is_part, trace.calls) > 0, dtype=np.float64)


def _unfused(trace: Trace) -> tuple[Floats, Floats, Floats]:
    return np.ones((INPUTS, trace.calls)), np.ones(trace.calls), np.ones(trace.calls)


def _fused(trace: Trace, reads: _Reads) -> tuple[Floats, Floats, Floats]:
    """A pointwise call joins the kernel that produced its largest operand, if that is a host; what stays inside is not moved.

    Copies (concatenations, transposes made contiguous) are pointwise to a compiler (torch/_inductor/lowering.py), but for those
    between channels first and channels last, which a software may do without. Of several operands of that size it joins the
    latest. A smaller operand (a bias, an embedding that is broadcast) comes from a kernel over fewer elements, which cannot
    hold the call.
    """
    kept_reads, kept_write, launches = _unfused(trace)
    layout = _changes_layout(trace)
    pointwise = np.array([kinds()[k].pointwise for k in trace.kinds])[trace.call_kind()] & ~layout
    host = np.array([k in HOSTS for k in trace.kinds])[trace.call_kind()] & ~layout
    segment = trace.call_segment()
    group = np.arange(trace.calls)
    sizes = _operands(trace).tolist()
    producer = _producers(trace, reads)
    begin = np.searchsorted(reads.call, np.arange(trace.calls + 1))
    shared: dict[int, bool] = {}  # producing call -> every reader so far runs inside its kernel
    for call in range(trace.calls):
        sources = producer[begin[call] : begin[call + 1]]
        if pointwise[call]:
            size = sizes[call][: len(sources)]
            joined = max((s for s, bytes_ in zip(sources, size, strict=False) if bytes_ == max(size)), default=-1)
            if joined >= 0 and host[joined] and segment[joined] == segment[call]:
                group[call], launches[call] = group[joined], 0.0
        for slot, source in enumerate(sources):
            if source >= 0:
                inside = launches[call] == 0.0 and group[source] == group[call]
                shared[source] = shared.get(source, True) and inside
                if slot < INPUTS and inside:
                    kept_reads[slot, call] = 0.0
    for call, inside in shared.items():
        if inside:
            kept_write[call] = 0.0
    return kept_reads, kept_write, launches


def _changes_layout(trace: Trace) -> Any:
    """Which calls (calls,) copy between channels first and channels last."""
    found = np.zeros(len(trace.op_kind), dtype=bool)
    if "permute" in trace.kinds:
        found[trace.ops_of("permute")] = trace.dims("permute").layout == 1
    return found[trace.call_op]


def _producers(trace: Trace, reads: _Reads) -> list[int]:
    """The call before it that wrote each read's tensor last; -1 where none did."""
    writes = np.repeat(np.arange(trace.calls), np.diff(trace.output_offsets))
    key = np.sort(trace.output_ids * trace.calls + writes)
    before = np.searchsorted(key, reads.tensor * trace.calls + reads.call) - 1
    known = (before >= 0) & (key[before] // max(trace.calls, 1) == reads.tensor)
    return np.where(known, key[before] % max(trace.calls, 1), -1).tolist()  # type: ignore[no-any-return]


def _operands(trace: Trace) -> Ints:
    """Bytes of the operands of each pointwise call, (calls, INPUTS); zeros for other calls."""
    sizes = np.zeros((len(trace.op_kind), INPUTS), dtype=np.int64)
    for name in trace.kinds:
        if kinds()[name].pointwise:
            d = trace.dims(name)
            sizes[trace.ops_of(name)] = np.stack([getattr(d, f"read{slot}") for slot in range(INPUTS)], axis=1)
    return np.asarray(sizes[trace.call_op])
