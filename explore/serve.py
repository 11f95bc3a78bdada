"""Requests that arrive over time, served one at a time, in batches, or as pods; latency, and how many are good.

fcfs and batch: a free device takes the next request, or the next batch. pods: requests are dealt to the devices in turn; on
each up to `most` are in flight, each on a stream of its own, in the event loop; who arrives starts as soon as a stream is
free, so that the members of a pod are staggered as the arrivals are.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from explore.serve_spec import Policy, Serve, load
from hwspecs.errors import InfeasibleError
from sim.concurrent import Inference, inference, play
from sim.demand import Floats, Pieces
from sim.engine import Contention, Job, Streams, together
from sim.report import number
from sim.scenario import Scenario, uncorrected
from sim.schedule import serial

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Served:
    """What a policy makes of the arrivals: seconds at which each request was done, and from arrival to that."""

    policy: Policy
    arrive: Floats
    done: Floats

    @property
    def latency(self) -> Floats:
        """Seconds of each request."""
        return self.done - self.arrive

    @property
    def span(self) -> float:
        """Seconds from the first arrival to the last end."""
        return float(self.done.max() - self.arrive.min())

    def percentile(self, percent: float) -> float:
        """Seconds within which that many of the requests are done."""
        return float(np.percentile(self.latency, percent))

    def good(self, deadline: float) -> float:
        """Share of the requests that are done in time."""
        return float((self.latency <= deadline).mean())


@dataclass(frozen=True)
class Service:
    """What `framecast serve` found. under: pods at the optimistic end of contention, where they were asked for."""

    scenario: Scenario
    serve: Serve
    one: Inference
    alone: float
    rows: tuple[Served, ...]
    under: Served | None


def serve(scenario: Scenario) -> Service:
    """Every policy on the same arrivals. SpecError for a wrong section, InfeasibleError where `most` do not fit into memory."""
    from sim.engine import DEFAULT, FLUID

    scenario = uncorrected(scenario)
    spec, arrive = load(scenario)
    one = inference(scenario)
    _check_fits(scenario, one, spec)
    alone = play(one, serial("requests", 1)).makespan
    rows: list[Served] = []
    for policy in dict.fromkeys(spec.policies):
        if policy == "pods":
            done = pods(one, arrive, spec.most, spec.devices, DEFAULT)
        else:
            most = spec.most if policy == "batch" else 1
            done = batches(arrive, _seconds(scenario, alone, most), most, spec.wait if most > 1 else 0.0, spec.devices)
        rows.append(Served(policy, arrive, done))
    under = (
        Served("pods", arrive, pods(one, arrive, spec.most, spec.devices, FLUID)) if "pods" in spec.policies else None
    )
    return Service(scenario, spec, one, alone, tuple(rows), under)


def batches(arrive: Floats, seconds: Callable[[int], float], most: int, wait: float, devices: int) -> Floats:
    """Seconds at which requests are done if a free device takes up to `most` of those that wait.

    A batch starts when it is full, or when its first request has waited for `wait` seconds. arrive: ascending.
    """
    free = [0.0] * devices
    done = np.empty(len(arrive))
    at = 0
    while at < len(arrive):
        full = arrive[at + most - 1] if at + most <= len(arrive) else np.inf
        start = max(heapq.heappop(free), min(float(full), arrive[at] + wait))
        size = min(int(np.searchsorted(arrive, start, side="right")) - at, most)
        done[at : at + size] = start + seconds(size)
        heapq.heappush(free, start + seconds(size))
        at += size
    return done


def pods(one: Inference, arrive: Floats, most: int, devices: int, contention: Contention) -> Floats:
    """Seconds at which requests are done with up to `most` in flight on each device."""
    alone = _paced(one.brief)
    program = np.concatenate([alone.of(s) for s in one.order("whole")])
    done = np.empty(len(arrive))
    for device in range(devices):
        mine = np.arange(device, len(arrive), devices)
        jobs = []
        for i in mine:
            ready = np.zeros(len(program))
            ready[0] = arrive[i]
            jobs.append(Job(program, ready))
        if jobs:
            run = together(alone, jobs, Streams((0,) * most), contention)
            done[mine] = run.end[run.first[1:] - 1]
    return done


def _paced(pieces: Pieces) -> Pieces:
    """With a host thread a stream, which sets the pace of a piece where launching takes longer than running."""
    return replace(pieces, seconds=np.maximum(pieces.seconds, pieces.host))


def _seconds(scenario: Scenario, alone: float, most: int) -> Callable[[int], float]:
    """Seconds of a batch of n: priced at powers of two and at `most`, linear in between."""
    sizes = sorted({n for n in (1, 2, 4, 8, 16, 32, 64) if n <= most} | {most})
    if most > 1 and not hasattr(scenario.request, "batch"):
        return lambda n: n * alone
    each = [alone] + [play(inference(scenario, n), serial("requests", 1)).makespan for n in sizes[1:]]
    return lambda n: float(np.interp(n, sizes, each))


def _check_fits(scenario: Scenario, one: Inference, spec: Serve) -> None:
    have, inside = scenario.device.hbm.capacity, one.largest("whole")
    most = spec.most if set(spec.policies) != {"fcfs"} else 1
    need = one.weights + most * inside
    if need > have:
        fit = int(max(have - one.weights, 0) // inside)
        way = f"use serve.most: {fit}" if fit else "use a smaller request or a larger device"
        what = f"{most} requests at a time do not fit {scenario.device.name}"
        text = f"needs {number(need / 1e9)} GB of {number(have / 1e9)} GB"
        raise InfeasibleError(f"{scenario.path}: serve.most: {what}: {text}; {way}")
