"""The host's side of a run: when launching kernels, not running them, sets the pace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.software import Software
from sim.cost import Cost
from workloads.trace import Trace

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Between:
    """What the host does between two passes of a segment, seconds: a sampler's operators on latents, whose kernels are small.

    Attributes:
        before: of what it issues right after the pass.
        after: of what it issues then, once it has waited.
        waits: it reads a value off the device in between, so that it waits until the device has done all that was issued.
    """

    before: float
    after: float
    waits: bool


NOTHING: Mapping[int, Between] = {}


def host_time(trace: Trace, cost: Cost, software: Software) -> Floats:
    """Seconds that the host spends on each call (…, calls), all kernels of the call launched together.

    A call that runs inside another's kernel costs none; others by the way in which they run. A CUDA graph is launched once a
    segment pass.
    """
    launches = cost.per_call(cost.launches)
    if not software.cuda_graphs:
        return np.minimum(launches, 1.0) * _dispatch(cost) * software.host_time_per_launch
    out = np.zeros_like(launches)
    out[..., [s.start for s in trace.segments]] = software.host_time_per_launch
    return out


def _dispatch(cost: Cost) -> Floats:
    """Host time of each call over that of the cheapest operator, (…, calls): of the chosen way."""
    kernels = cost.kernels
    by_way = cost.chosen[..., kernels.starts] * kernels.dispatch
    first = np.searchsorted(kernels.start_row, np.arange(kernels.rows))
    return np.asarray(np.add.reduceat(by_way, first, axis=-1)[..., kernels.call_row])


def serial_makespan(gpu: Floats, host: Floats, trace: Trace, between: Mapping[int, Between] = NOTHING) -> Floats:
    """End of one inference on one stream, seconds (…,); exact, repeats included.

    gpu, host: seconds per call, shape (…, calls). Call j starts when the host has launched it and call j-1 is done, so one
    pass of a segment ends at max over j of (host up to j + gpu from j on), and r passes in closed form, since both sums
    repeat: the middle passes cost the larger of the two. `between`: what happens after each pass of some segments, by index.
    """
    host_clock, end = np.zeros(gpu.shape[:-1]), np.zeros(gpu.shape[:-1])
    for i, s in enumerate(trace.segments):
        g, h = gpu[..., s.start : s.stop], host[..., s.start : s.stop]
        g_sum, h_sum = g.sum(axis=-1), h.sum(axis=-1)
        from_here = np.cumsum(g[..., ::-1], axis=-1)[..., ::-1]
        first_pass = (np.cumsum(h, axis=-1) + from_here).max(axis=-1)
        if i in between and between[i].waits:
            done = np.maximum(end + g_sum, host_clock + first_pass)
            every = step_time(g, h, between[i])
            end = np.maximum(done, host_clock + h_sum + between[i].before) + between[i].after + (s.repeats - 1) * every
            host_clock = end
            continue
        h_sum = h_sum + (between[i].before + between[i].after if i in between else 0.0)
        end = np.maximum(end + s.repeats * g_sum, host_clock + first_pass + (s.repeats - 1) * np.maximum(g_sum, h_sum))
        host_clock = host_clock + s.repeats * h_sum
    return np.asarray(end)


def step_time(gpu: Floats, host: Floats, between: Between) -> Floats:
    """Seconds (…,) that one more pass of a segment takes. gpu, host: seconds of its calls, (…, calls).

    Where the host waits, each pass begins with an idle device: it ends when the slowest run of launches and kernels has.
    """
    issued = host.sum(axis=-1) + between.before
    if not between.waits:
        return np.asarray(np.maximum(gpu.sum(axis=-1), issued + between.after))
    from_here = np.cumsum(gpu[..., ::-1], axis=-1)[..., ::-1]
    alone = (np.cumsum(host, axis=-1) + from_here).max(axis=-1)
    return np.asarray(np.maximum(alone, issued) + between.after)
