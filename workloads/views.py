"""What a trace looks like as a whole: sequence lengths over its attention calls and their period, memory of the similarity
matrices, arithmetic intensity. Golden et al., Generative AI Beyond LLMs (ISPASS 2024), show these of the models that they study.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hwspecs.software import Software
from hwspecs.software import load as load_software
from workloads.by_hand import attention_calls
from workloads.kind import Ints
from workloads.lower import lower
from workloads.ops.attention import DIMS
from workloads.trace import Trace

COVERED = 1 / 3  # share of the calls that a period has to explain: a pipeline may have several parts that repeat
SOFTWARE = "pytorch-eager"  # under which traffic is counted: a kernel an operator
WAYS: tuple[Literal["unfused", "flash-2"], ...] = ("unfused", "flash-2")  # of attention, in the columns of an Intensity


@dataclass(frozen=True)
class Attention:
    """The attention calls of one inference: int64 columns (attention calls of the trace), in program order.

    Attributes:
        components: names that `component` indexes. call: index into the calls of the trace.
        first: place of the first run of each call among all runs of one inference. repeats: runs.
        role: index into ROLES. batch, heads, q_len, kv_len: of the call.
        matrix_bytes: its similarity matrices, heads and batch included, as unfused attention keeps them: 'q_len x kv_len'
            values of the call's dtype each; a causal mask counts as the full rectangle.
    """

    components: tuple[str, ...]
    component: Ints
    call: Ints
    first: Ints
    repeats: Ints
    role: Ints
    batch: Ints
    heads: Ints
    q_len: Ints
    kv_len: Ints
    matrix_bytes: Ints

    def over_inference(self, column: Ints) -> Ints:
        """A column over every run of one inference: a component's calls, as often as it runs, one component after the other."""
        parts = [np.zeros(0, np.int64)]
        for i in range(len(self.components)):
            mine = self.component == i
            parts.append(np.tile(column[mine], int(self.repeats[mine][0]) if mine.any() else 0))
        return np.concatenate(parts)


@dataclass(frozen=True)
class Period:
    """Lengths [start, stop) of a sequence repeat after every `calls`; `times` whole periods fit."""

    calls: int
    start: int
    stop: int

    @property
    def times(self) -> int:
        """Whole periods."""
        return (self.stop - self.start) // self.calls


@dataclass(frozen=True)
class Intensity:
    """Of one component, or of all ('all'). FLOP of matrix products and bytes are of one inference.

    Attributes:
        weight_bytes: the capacity that the weights take.
        traffic_bytes: what the kernels read and write, each operand once a kernel and nothing kept in a cache, by WAYS.
    """

    name: str
    flops: int
    weight_bytes: int
    traffic_bytes: tuple[int, ...]

    @property
    def of_study(self) -> float:
        """FLOP/B, as the study defines it: all FLOPs of an inference over the bytes of the model."""
        return self.flops / self.weight_bytes if self.weight_bytes else 0.0

    @property
    def of_traffic(self) -> tuple[float, ...]:
        """FLOP/B over the traffic, by WAYS."""
        return tuple(self.flops / size if size else 0.0 for size in self.traffic_bytes)


def attention(trace: Trace) -> Attention:
    """The attention calls of a trace, and those that it is written in by hand."""
    calls, dims = attention_calls(trace)
    segment, repeats = trace.call_segment()[calls], trace.call_repeats()[calls]
    counts = np.bincount(segment, minlength=len(trace.segments))
    runs = np.array([s.repeats for s in trace.segments], np.int64)
    before = np.concatenate([[0], np.cumsum(counts * runs)])[:-1]
    within = np.arange(len(calls)) - np.concatenate([[0], np.cumsum(counts)])[:-1][segment]
    ops = trace.call_op[calls]
    sizes = {name: dims[:, DIMS.index(name)] for name in ("role", "batch", "heads", "q_len", "kv_len")}
    return Attention(
        components=tuple(s.name for s in trace.segments),
        component=segment,
        call=calls,
        first=before[segment] + within,
        repeats=repeats,
        matrix_bytes=sizes["batch"] * sizes["heads"] * sizes["q_len"] * sizes["kv_len"] * trace.op_itemsize()[ops],
        **sizes,
    )


def period(lengths: Ints) -> Period | None:
    """The shortest period of a stretch that holds at least a third of a sequence, twice or more; None where there is none.

    `lengths` (runs,). No component and no number of steps is looked at.
    """
    whole = len(lengths)
    for calls in range(1, whole // 2 + 1):
        same = lengths[calls:] == lengths[:-calls]
        if same.sum() < COVERED * whole - calls:
            continue
        edges = np.flatnonzero(np.diff(np.concatenate([[0], same.astype(np.int8), [0]])))
        starts, stops = edges[::2], edges[1::2]
        longest = int(np.argmax(stops - starts)) if len(starts) else -1
        start, stop = (int(starts[longest]), int(stops[longest]) + calls) if longest >= 0 else (0, 0)
        if stop - start >= max(2 * calls, COVERED * whole):
            return Period(calls, start, stop)
    return None


def histogram(found: Attention) -> dict[int, int]:
    """Sequence length (queries) -> attention calls of one inference, shortest first."""
    lengths, where = np.unique(found.q_len, return_inverse=True)
    counts = np.bincount(where.reshape(-1), found.repeats, len(lengths))
    return {int(length): round(count) for length, count in zip(lengths, counts, strict=True)}


def matrix_bytes_per_pass(found: Attention) -> dict[str, int]:
    """Component -> bytes of all similarity matrices of one pass, added over its attention calls; those that have some."""
    sums = {name: int(found.matrix_bytes[found.component == i].sum()) for i, name in enumerate(found.components)}
    return {name: size for name, size in sums.items() if size}


def intensities(trace: Trace) -> list[Intensity]:
    """One row a component, and one of all where there are several; modules that share weights hold them once."""
    software = load_software(SOFTWARE)
    moved = [_moved(trace, replace(software, attention=way)) for way in WAYS]
    flops = trace.op_flops()[trace.call_op]
    rows = []
    for s in trace.segments:
        traffic = tuple(s.repeats * int(column[s.start : s.stop].sum()) for column in moved)
        rows.append(Intensity(s.name, s.repeats * sum(flops[s.start : s.stop].tolist()), s.weight_bytes, traffic))
    if len(rows) < 2:
        return rows
    traffic = tuple(sum(r.traffic_bytes[i] for r in rows) for i in range(len(WAYS)))
    return [*rows, Intensity("all", trace.flops(), trace.weight_bytes, traffic)]


def _moved(trace: Trace, software: Software) -> Ints:
    """Bytes that the kernels of each call read and write, (calls,)."""
    kernels = lower(trace, software)
    per_row = np.bincount(kernels.row, kernels.reads.sum(axis=0) + kernels.write_bytes, kernels.rows)
    return np.rint(per_row[kernels.call_row]).astype(np.int64)
