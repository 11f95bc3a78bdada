"""Operators without a cost model of their own, by name, with their share of a trace's bytes and FLOPs.

They are priced as memory traffic (the kind `traffic`). Their FLOPs are torch's own count (`torch.utils.flop_counter`), where
it has a formula for the operator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwspecs import software as softwares
from hwspecs.software import Software
from workloads.capture import UNPRICED
from workloads.kind import Dims, Ints, OpKind, Work, kinds
from workloads.trace import Trace

SOFTWARE = "pytorch-eager"  # whose kernels' compulsory bytes are counted; the fewest of all ways to run an operator


@dataclass(frozen=True)
class Unpriced:
    """One operator, over a whole inference; shares are of all bytes and FLOPs of the inference; flops None: not known."""

    label: str
    calls: int
    bytes: int
    byte_share: float
    flops: int | None
    flop_share: float | None


def unpriced(trace: Trace) -> list[Unpriced]:
    """The operators of a trace that have no cost model, those with most bytes first."""
    if UNPRICED not in trace.kinds:
        return []
    repeats, sizes = trace.call_repeats(), compulsory_bytes(trace)[trace.call_op]
    total = float(sizes @ repeats)
    is_unpriced = trace.call_kind() == trace.kinds.index(UNPRICED)
    labels = trace.op_label[trace.call_op]
    runs = {s.name: s.repeats for s in trace.segments}
    counted: dict[str, int] = {}
    for segment, label, flops in trace.unpriced_flops:
        counted[label] = counted.get(label, 0) + flops * runs[segment]
    all_flops = trace.flops() + sum(counted.values())
    found = []
    for index in np.unique(labels[is_unpriced]):
        label = trace.labels[index]
        mine = is_unpriced & (labels == index)
        moved = int(sizes[mine] @ repeats[mine])
        known = counted.get(label)
        share = None if known is None else known / max(all_flops, 1)
        found.append(Unpriced(label, int(repeats[mine].sum()), moved, moved / max(total, 1.0), known, share))
    return sorted(found, key=lambda u: (-u.bytes, u.label))


def compulsory_bytes(trace: Trace) -> Ints:
    """Bytes that each op must read and write once, int64 (ops,): of the way that moves the fewest."""
    software, itemsize = softwares.load(SOFTWARE), trace.op_itemsize()
    found = np.zeros(len(trace.op_kind), dtype=np.int64)
    for name in trace.kinds:
        ops = trace.ops_of(name)
        found[ops] = _least(kinds()[name], trace.dims(name), itemsize[ops], software)
    return found


def _least(kind: OpKind, dims: Dims, itemsize: Ints, software: Software) -> Ints:
    ways = [sum(map(_moved, way.rows(dims, itemsize, software))) + 0 * itemsize for way in kind.ways]
    return np.asarray(np.min(ways, axis=0), dtype=np.int64)


def _moved(work: Work) -> Ints:
    """Bytes of the call's own inputs, weights and outputs that a kernel touches."""
    moved = np.asarray(sum(np.asarray(r.bytes) for r in work.reads if r.source != "previous"))
    return moved + (np.asarray(work.write_bytes) if work.final else 0)
