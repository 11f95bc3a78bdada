"""Traces at many frame counts: from templates; else from three captures, exact or not at all.

Where no template covers a model, every dimension and tensor size of a call is a whole number that grows by the same amount
with each frame. Two captures give that line, and a third, at the largest count, has to lie on it in every column; else each
count is captured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hwspecs.spec import to_data
from workloads.cache import cached, carried, trace_of
from workloads.kind import Ints
from workloads.model import find
from workloads.trace import Trace, alike, same

SINGLE = 1  # frames at which copies fall away that any larger count needs: always captured
CAPTURES = 3  # of the frame counts above SINGLE, at most, while they lie on a line


def over_frames(model: str, request: Any, counts: Sequence[int]) -> Iterator[Trace]:
    """The trace of a model for a request at each of the given frame counts, in ascending order.

    Raises SpecError as `trace_of`.
    """
    if all(carried(model, replace(request, frames=count)) for count in counts):
        yield from (trace_of(model, replace(request, frames=count)) for count in sorted(counts))
        return
    held = {count: trace_of(model, replace(request, frames=count)) for count in captured(counts)}
    line = _line([trace for count, trace in held.items() if count > SINGLE])
    for count in sorted(counts):
        asked = replace(request, frames=count)
        if count in held:
            yield held[count]
        else:
            yield trace_of(model, asked) if line is None else _asked(line.at(count), asked)


def captured(counts: Sequence[int]) -> list[int]:
    """The frame counts at which a model is captured to have them all: a single frame, the two smallest, the largest."""
    several = sorted(count for count in counts if count > SINGLE)
    return [*(c for c in counts if c == SINGLE), *several[: CAPTURES - 1], *several[CAPTURES - 1 :][-1:]]


def missing(model: str, request: Any, counts: Sequence[int]) -> int:
    """How many captures `over_frames` has still to make."""
    return sum(not cached(model, replace(request, frames=count)) for count in captured(counts))


def _asked(trace: Trace, request: Any) -> Trace:
    """A trace with the repeats that the request asks for."""
    stages = find(trace.model).stages(request)
    segments = tuple(replace(s, repeats=stage.repeats) for s, stage in zip(trace.segments, stages, strict=True))
    return replace(trace, request=to_data(request), segments=segments)


@dataclass(frozen=True)
class _Line:
    """A trace at `frames`, and by how much its calls' dimensions (calls, dims) and tensors' bytes grow with each frame."""

    base: Trace
    frames: int
    dims: Ints
    tensor_bytes: Ints

    def at(self, frames: int) -> Trace:
        """The trace at another frame count, its operators numbered as a capture numbers them. Repeats are the base's."""
        more, base = frames - self.frames, self.base
        columns = [base.op_kind, base.op_dtype, base.op_label]
        calls = np.column_stack([*(c[base.call_op] for c in columns), _dims(base) + more * self.dims])
        _, first, which = np.unique(calls, axis=0, return_index=True, return_inverse=True)
        order = np.argsort(first)
        ops = calls[first[order]]
        return replace(
            base,
            op_kind=ops[:, 0], op_dtype=ops[:, 1], op_label=ops[:, 2], op_dims=ops[:, 3:],
            call_op=np.argsort(order)[which.reshape(-1)],
            tensor_bytes=base.tensor_bytes + more * self.tensor_bytes,
        )  # fmt: skip


def _line(traces: list[Trace]) -> _Line | None:
    """The line through the first two traces if the last lies on it too; None where there are fewer than three, or it does not."""
    if len(traces) < CAPTURES or not all(alike(traces[0], other) for other in traces[1:]):
        return None
    base, second, last = traces
    low, high = int(base.request["frames"]), int(second.request["frames"])
    dims, dims_rest = np.divmod(_dims(second) - _dims(base), high - low)
    size, size_rest = np.divmod(second.tensor_bytes - base.tensor_bytes, high - low)
    line = _Line(base, low, dims, size)
    whole = not dims_rest.any() and not size_rest.any()
    return line if whole and same(line.at(int(last.request["frames"])), last) else None


def _dims(trace: Trace) -> Ints:
    """Dimensions of every call, (calls, widest kind)."""
    return trace.op_dims[trace.call_op]
