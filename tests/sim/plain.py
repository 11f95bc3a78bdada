"""Pieces by hand for tests of the event loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.demand import COLUMNS, Pieces
from sim.engine import FLUID, Contention, Job, Run, Streams, together
from workloads.trace import Segment


def plain(seconds: Any, demand: Any, slots: Any = 0.0, elastic: Any = 1.0, fixed: Any = 0.0) -> Pieces:
    """Pieces that the share of the L2 does not change. demand: (pieces, 5), shares of tensor, vector, exp, l2 and hbm."""
    seconds = np.asarray(seconds, dtype=np.float64)
    count = len(seconds)
    full = np.zeros((count, COLUMNS))
    full[:, :-1] = np.asarray(demand, dtype=np.float64).reshape(count, -1)
    full[:, -1] = full[:, -2]

    def column(value: Any) -> Any:
        return np.broadcast_to(np.asarray(value, dtype=np.float64), (count,)).copy()

    return Pieces(
        np.stack([seconds] * 4), np.stack([full * seconds[:, None]] * 4), column(slots), column(elastic), column(fixed),
        np.ones(count, bool), np.zeros(count), (Segment("all", "all", 0, 1, 1, 0, 0),), np.array([0, count]),
    )  # fmt: skip


def run(pieces: Pieces, programs: Sequence[Any], contention: Contention = FLUID, delays: Any = None, **of: Any) -> Run:
    """A job a stream, recorded."""
    jobs = []
    for i, program in enumerate(p for p in programs):
        ready = np.zeros(len(program))
        ready[0] = delays[i] if delays else 0.0
        jobs.append(Job(np.asarray(program, np.int64), ready, lane=i))
    return together(pieces, jobs, Streams(tuple(range(len(jobs))), **of), contention, record=True)
