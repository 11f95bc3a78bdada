"""The event loop: streams that run at the same time on one device share its engines and bandwidth as fluids.

Each stream runs its pieces one after another. A piece has a duration alone and demands, fractions of each shared resource
at full speed. The speeds of the pieces in flight follow max-min fairness by progressive filling: all rise together to at
most 1, and when a resource is full its users stop rising (Bertsekas and Gallager, Data Networks, 1992, section 6.5.2). The
next event is the first piece to end. Assumed: sharing costs nothing itself, launches keep up,
and streams do not evict each other's data from L2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np

from sim.demand import HBM_BYTES, SHARED, Floats
from workloads.kind import Ints

TOGETHER = 1e-12  # share of a piece left over at which it ends with the event: rounding of sums of doubles


@dataclass(frozen=True)
class Run:
    """What the loop found.

    Attributes:
        end: (positions,) seconds at which each position of the programs, laid end to end, was done.
        when: (events,) seconds at which each event was. used: (events, 4) mean use, up to it, of each column of demand.
    """

    end: Floats
    when: Floats
    used: Floats

    @property
    def makespan(self) -> float:
        """Seconds until the last stream is done."""
        return float(self.when[-1]) if len(self.when) else 0.0

    @property
    def hbm_peak(self) -> float:
        """Largest use of the peak HBM bandwidth at any instant, 0 to 1."""
        return float(self.used[:, HBM_BYTES].max(initial=0.0))


def together(programs: Sequence[Ints], seconds: Floats, demand: Floats) -> Run:
    """Streams that start together, each a program of indices into pieces; seconds (pieces,), demand (pieces, 4).

    A stream that starts late begins with a piece that demands nothing. ValueError for a demand outside 0 to 1 or a
    duration below 0.
    """
    if (demand < 0).any() or (demand > 1).any() or not (seconds >= 0).all():
        raise ValueError("demands must lie between 0 and 1, and durations must not be negative")
    first = np.concatenate([[0], np.cumsum([len(p) for p in programs])]).astype(np.int64)
    program = np.concatenate([np.asarray(p, dtype=np.int64) for p in programs] or [np.empty(0, np.int64)])
    end, when, used = np.empty(len(program)), np.empty(len(program)), np.empty((len(program), demand.shape[1]))
    events = _loop(program, first, seconds.astype(np.float64), np.ascontiguousarray(demand), end, when, used)
    return Run(end, when[:events], used[:events])


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _loop(program: Ints, first: Ints, seconds: Floats, demand: Floats, end: Floats, when: Floats, used: Floats) -> int:
    """Run every program to its end; fills end, when and used, and returns the number of events."""
    streams, columns, now, events = len(first) - 1, demand.shape[1], 0.0, 0
    at, left, speed = first[:-1].copy(), np.empty(streams), np.empty(streams)
    piece, taken = np.full(streams, -1), np.empty(len(SHARED))
    for s in range(streams):
        if at[s] < first[s + 1]:
            piece[s] = program[at[s]]
            left[s] = seconds[piece[s]]
    while piece.max() >= 0:
        _share(piece, demand, speed, taken)
        step = np.inf
        for s in range(streams):
            if piece[s] >= 0:
                step = min(step, left[s] / speed[s])
        now += step
        when[events] = now
        used[events] = 0.0
        for s in range(streams):
            if piece[s] < 0:
                continue
            for r in range(columns):
                used[events, r] += speed[s] * demand[piece[s], r]
            left[s] -= speed[s] * step
            if left[s] <= TOGETHER * seconds[piece[s]]:
                end[at[s]] = now
                at[s] += 1
                piece[s] = program[at[s]] if at[s] < first[s + 1] else -1
                left[s] = seconds[piece[s]] if piece[s] >= 0 else 0.0
        events += 1
    return events


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _share(piece: Ints, demand: Floats, speed: Floats, taken: Floats) -> None:
    """Max-min fair speeds of the pieces in flight (-1: none); `taken` is scratch for what fixed streams use."""
    taken[:] = 0.0
    speed[:] = -1.0  # still rising
    level = 0.0
    while True:
        top, full = 1.0, -1
        for r in range(len(taken)):
            asked = 0.0
            for s in range(len(piece)):
                if piece[s] >= 0 and speed[s] < 0:
                    asked += demand[piece[s], r]
            if asked > 0.0 and 1.0 - taken[r] < top * asked:
                top, full = (1.0 - taken[r]) / asked, r
        level = max(top, level)
        for s in range(len(piece)):
            if piece[s] >= 0 and speed[s] < 0 and (full < 0 or demand[piece[s], full] > 0.0):
                speed[s] = level
                for r in range(len(taken)):
                    taken[r] += level * demand[piece[s], r]
        if full < 0:
            return
