"""When one host thread has issued each kernel of several streams: it goes round the streams, a call at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np

from sim.demand import Floats
from workloads.kind import Ints


def issued(host: Sequence[Floats], lanes: Sequence[int], delays: Sequence[float]) -> list[Floats]:
    """Seconds before which each piece of each job may not start.

    host: of each job, (pieces,) seconds to issue what begins with a piece. lanes: stream of each job, whose jobs are issued
    one after another. delays: seconds before which a job may not start, nor be issued.
    """
    if not any(h.any() for h in host):
        return [np.concatenate([[d], np.zeros(len(h) - 1)]) for h, d in zip(host, delays, strict=True)]
    jobs = np.argsort(lanes, kind="stable")
    first = np.searchsorted(np.asarray(lanes)[jobs], np.arange(max(lanes) + 2))
    at = np.cumsum([0, *(len(host[j]) for j in jobs)])
    before = np.repeat(np.asarray(delays, np.float64)[jobs], np.diff(at))
    ready = _issue(np.concatenate([host[j] for j in jobs]), before, at[first].astype(np.int64))
    ready[at[:-1]] = np.maximum(ready[at[:-1]], np.asarray(delays)[jobs])
    out: list[Floats] = [np.empty(0)] * len(jobs)
    for k, j in enumerate(jobs):
        out[j] = ready[at[k] : at[k + 1]]
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _issue(host: Floats, before: Floats, first: Ints) -> Floats:
    """host, before: (pieces,) of all streams end to end, which start at `first`."""
    streams, now, stuck, s = len(first) - 1, 0.0, 0, 0
    ready, at = np.zeros(len(host)), first[:-1].copy()
    while True:
        while at[s] < first[s + 1] and host[at[s]] == 0.0:
            at[s] += 1
        if at[s] < first[s + 1] and before[at[s]] <= now:
            now += host[at[s]]
            ready[at[s]] = now
            at[s] += 1
            stuck = 0
        else:
            stuck += 1
        if stuck >= streams:  # nothing to issue now: the next that may be, if there is one
            wake = np.inf
            for i in range(streams):
                if at[i] < first[i + 1]:
                    wake = min(wake, before[at[i]])
            if wake == np.inf:
                return ready
            now, stuck = max(now, wake), 0
        s = (s + 1) % streams
