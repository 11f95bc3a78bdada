"""Timeline: when each call of a serial replay runs, all repeats of all segments written out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from workloads.kind import Ints
from workloads.trace import Segment

Floats: TypeAlias = NDArray[np.float64]
STREAM = "GPU stream 0"
ROUNDING = 1e-9  # relative to the makespan: what cumulative sums of doubles may be off by


@dataclass(frozen=True)
class Timeline:
    """Columns of shape (events,), in order of start within each stream.

    Attributes:
        streams: names. stream: index into them. call: of the trace. repeat: from 0, of the call's segment.
        start, end: seconds from the first thing that the host does.
    """

    streams: tuple[str, ...]
    stream: Ints
    call: Ints
    repeat: Ints
    start: Floats
    end: Floats

    @property
    def makespan(self) -> float:
        """Seconds until the last call has ended."""
        return float(self.end.max(initial=0.0))

    def utilisation(self) -> dict[str, float]:
        """Share of the makespan in which each stream is busy."""
        busy = np.bincount(self.stream, self.end - self.start, len(self.streams))
        return {
            name: float(b / self.makespan) if self.makespan else 0.0 for name, b in zip(self.streams, busy, strict=True)
        }

    def check(self) -> tuple[str, ...]:
        """What is impossible about it, one text each; () for a sound timeline."""
        slack = ROUNDING * self.makespan
        problems = (
            [] if (self.end >= self.start).all() and (self.start >= 0).all() else ["an event ends before it starts"]
        )
        for i, name in enumerate(self.streams):
            mine = self.stream == i
            if (self.start[mine][1:] < self.end[mine][:-1] - slack).any():
                problems.append(f"{name}: two events overlap")
        return tuple(problems)


def serial(segments: Sequence[Segment], gpu: Floats, host: Floats) -> Timeline:
    """One stream, calls in program order: a call starts when the host has issued it and the call before it has ended.

    gpu, host: (calls,) seconds of one run of each call on the device, and of the host to issue it.
    """
    call = np.concatenate([np.tile(np.arange(s.start, s.stop), s.repeats) for s in segments]).astype(np.int64)
    repeat = np.concatenate([np.repeat(np.arange(s.repeats), s.stop - s.start) for s in segments]).astype(np.int64)
    done = np.cumsum(gpu[call])
    issued = np.cumsum(host[call])
    end = done + np.maximum.accumulate(issued - (done - gpu[call]))
    return Timeline((STREAM,), np.zeros(len(call), np.int64), call, repeat, end - gpu[call], end)
