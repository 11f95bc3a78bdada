"""play: a schedule of denoising steps or requests -> phases of streams -> the event loop -> makespan, HBM use, memory.

GPU time only: the host's launch pace is left out of every schedule alike, serial and batched included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import numpy as np

from hwspecs.errors import SpecError
from hwspecs.rates import rates
from sim.cost import cost
from sim.demand import HBM_BYTES, SHARED, Floats, Pieces, Sharing, pieces
from sim.engine import Run, together
from sim.host import host_time
from sim.memory import memory
from sim.scenario import Scenario, check_trace
from sim.schedule import Schedule
from workloads.cache import trace_of
from workloads.fields import images_of
from workloads.kind import Ints
from workloads.lower import lower
from workloads.model import denoising, find
from workloads.trace import Trace

Part: TypeAlias = Literal[
    "before", "step", "after", "whole"
]  # of an inference: around the denoising steps, or all of it


@dataclass(frozen=True)
class Inference:
    """One inference of a request, priced alone.

    Attributes:
        trace: what is computed. pieces: its kernels, by how streams share the device.
        steps: segments of one denoising step; () for a model without such steps. step_count: steps, or 0.
        weights: bytes. inside: (segments,) largest bytes beside the weights in each segment.
        host: seconds that the host needs to launch it. images: that it makes.
    """

    trace: Trace
    pieces: Mapping[Sharing, Pieces]
    steps: tuple[int, ...]
    step_count: int
    weights: float
    inside: Floats
    host: float
    images: int

    def program(self, part: Part) -> Ints:
        """Indices of the pieces of a part in the order in which one stream runs them."""
        passes = [self.pieces["fluid"].of(s) for s in self._order(part)]
        return np.concatenate(passes) if passes else np.empty(0, dtype=np.int64)

    def seconds(self, part: Part) -> float:
        """Of a part alone on the device."""
        return sum(self.pieces["fluid"].pass_seconds(s) for s in self._order(part))

    @property
    def step_seconds(self) -> float:
        """One denoising step alone, or the inference where there are none: what offsets are fractions of."""
        return self.seconds("step" if self.steps else "whole")

    def largest(self, part: Part) -> float:
        """Bytes beside the weights that a part needs at most."""
        return float(max((self.inside[s] for s in self._order(part)), default=0.0))

    def _order(self, part: Part) -> tuple[int, ...]:
        segments = self.trace.segments
        if part == "step":
            return self.steps
        if part == "whole":
            return (*self._order("before"), *self.steps * self.step_count, *self._order("after"))
        first = self.steps[0] if self.steps else len(segments)
        chosen = range(first) if part == "before" else range(first, len(segments))
        return tuple(s for s in chosen if s not in self.steps for _ in range(segments[s].repeats))


@dataclass(frozen=True)
class Phase:
    """Streams that start together, after the phase before has ended.

    Attributes:
        part: of an inference, that each member runs. members: numbered from 1; () where none is meant.
        batched: they run as one larger batch. streams: each a tuple of positions in `members`. delays: seconds, a stream.
    """

    part: Part
    members: tuple[int, ...]
    batched: bool
    streams: tuple[tuple[int, ...], ...]
    delays: tuple[float, ...]


@dataclass(frozen=True)
class Played:
    """What a schedule comes to.

    Attributes:
        makespan: seconds. images: made in it. hbm_mean, hbm_peak: use of the peak bandwidth, over the makespan and at most.
        work: (3,) seconds for which compute, L2 and HBM would be needed at full capacity.
        memory: bytes at the peak, as if the peaks of all members in flight coincided. host: seconds to launch everything.
        phases: with the run of each and the second at which it starts.
    """

    schedule: Schedule
    makespan: float
    images: int
    hbm_mean: float
    hbm_peak: float
    work: Floats
    memory: float
    host: float
    phases: tuple[tuple[Phase, Run, float], ...]


def inference(scenario: Scenario, batch: int = 1) -> Inference:
    """One inference of a scenario, priced with `batch` times its batch.

    SpecError where that cannot be captured, or a field of the request leaves no single kind of step to arrange.
    """
    for field, instead in {"cache": "leave it out", "images": "use pods.count, of members: requests"}.items():
        if getattr(scenario.request, field, None) is not None:
            text = f"request.{field}: a schedule takes inferences of one batch, whose steps are all alike; {instead}"
            raise SpecError(f"{scenario.path}: {text}")
    request = scenario.request if batch == 1 else replace(scenario.request, batch=scenario.request.batch * batch)
    trace, on = trace_of(scenario.model, request), rates(scenario.device)
    check_trace(scenario, trace)
    priced = cost(lower(trace, scenario.software), on, scenario.level)
    need = memory(trace, priced)
    steps = step_segments(scenario.model, request)
    return Inference(
        trace=trace,
        pieces={how: pieces(trace, priced, on, how) for how in ("fluid", "held")},
        steps=steps,
        step_count=int(request.steps) if steps else 0,
        weights=need.weights,
        inside=np.array([need.profile[s.start : s.stop].max(initial=need.weights) for s in trace.segments])
        - need.weights,
        host=float(host_time(trace, priced, scenario.software) @ trace.call_repeats()),
        images=images_of(request),
    )


def step_segments(model: str, request: Any) -> tuple[int, ...]:
    """Segments of one denoising step, each as often as the step runs it; () for a model without such steps."""
    return denoising(find(model), request)


def play(one: Inference, schedule: Schedule, sharing: Sharing, larger: Mapping[int, Inference] | None = None) -> Played:
    """Run a schedule. `larger`: for a batched one, the inference of every size of pod above 1, as one batch."""
    known: dict[tuple[Any, ...], Run] = {}
    placed, now = [], 0.0
    moved, work, host, need = 0.0, np.zeros(3), 0.0, 0.0
    for phase in phases(one, schedule):
        of = larger[len(phase.members)] if larger and phase.batched and len(phase.members) > 1 else one
        key = (phase.part, len(phase.members) if phase.batched else 0, phase.streams, phase.delays)
        if key not in known:
            known[key] = _run(of, phase, sharing)
        placed.append((phase, known[key], now))
        now += known[key].makespan
        times = sum(len(s) for s in phase.streams)
        work, moved = work + times * _work(of, phase.part)[:3], moved + times * _work(of, phase.part)[HBM_BYTES]
        host += times * of.host * of.seconds(phase.part) / of.seconds("whole")
        need = max(need, of.weights + len(phase.streams) * of.largest(phase.part))
    return Played(
        schedule=schedule,
        makespan=now,
        images=one.images * (schedule.count if schedule.members == "requests" else 1),
        hbm_mean=float(moved / now) if now else 0.0,
        hbm_peak=max((run.hbm_peak for _, run, _ in placed), default=0.0),
        work=work,
        memory=need,
        host=host,
        phases=tuple(placed),
    )


def phases(one: Inference, schedule: Schedule) -> Iterator[Phase]:
    """Requests run whole; steps between what comes before the first and after the last."""
    part: Part = "whole" if schedule.members == "requests" else "step"
    if part == "step":
        yield Phase("before", (), False, ((0,),), (0.0,))
    for pod in schedule.pods:
        yield _pod(one, schedule, part, pod)
    if part == "step":
        yield Phase("after", (), False, ((0,),), (0.0,))


def lower_bound(one: Inference, schedule: Schedule) -> float:
    """Seconds below which no schedule of the same kernels can be, whatever its pods, within the same budget.

    The larger of each resource's work, all of it at full capacity, and the longest chain, each kernel at full speed. What
    must run alone (before and after the steps, and the budget's serial steps) adds its own time to those of the rest.
    """
    b = schedule.budget
    if schedule.members == "requests" or b is None:
        return max(schedule.count * _busiest(one, "whole"), one.seconds("whole"))
    alone = min(b.serial_first + b.serial_last, schedule.count)
    rest = schedule.count - alone
    together_at_best = max(rest * _busiest(one, "step"), -(-rest // b.largest) * one.seconds("step"))
    return one.seconds("before") + alone * one.seconds("step") + together_at_best + one.seconds("after")


def _busiest(one: Inference, part: Part) -> float:
    """Seconds of work of the resource that has the most."""
    return float(_work(one, part)[: len(SHARED)].max())


def _pod(one: Inference, schedule: Schedule, part: Part, pod: tuple[int, ...]) -> Phase:
    if schedule.batched:
        return Phase(part, pod, True, ((0,),), (0.0,))
    count = min(schedule.streams or len(pod), len(pod))
    streams = tuple(tuple(range(first, len(pod), count)) for first in range(count))
    starts = np.concatenate([[0.0], np.cumsum(schedule.offsets[: count - 1])]) if schedule.offsets else np.zeros(count)
    return Phase(part, pod, False, streams, tuple((starts * one.step_seconds).tolist()))


def _run(of: Inference, phase: Phase, sharing: Sharing) -> Run:
    """A stream begins with its delay, a piece that demands nothing, and then runs its members one after another."""
    alone, program = of.pieces[sharing], of.program(phase.part)
    first = len(alone.seconds)
    programs = [
        np.concatenate([[first + s], *([program] * len(stream))]).astype(np.int64)
        for s, stream in enumerate(phase.streams)
    ]
    seconds = np.concatenate([alone.seconds, phase.delays])
    return together(programs, seconds, np.vstack([alone.demand, np.zeros((len(phase.streams), 4))]))


def _work(of: Inference, part: Part) -> Floats:
    """(4,) seconds of each column of demand at full capacity."""
    alone, total = of.pieces["fluid"], np.zeros(4)
    for s in of._order(part):
        here = slice(alone.starts[s], alone.starts[s + 1])
        total += alone.seconds[here] @ alone.demand[here]
    return total


def passes(of: Inference, phase: Phase, run: Run) -> Iterator[tuple[int, int, int, float, float]]:
    """(stream, position in the phase's members, segment, start, end) of every pass, seconds from the phase's start."""
    alone, order = of.pieces["fluid"], of._order(phase.part)
    sizes = [int(alone.starts[s + 1] - alone.starts[s]) for s in order]
    at = 0
    for stream, members in enumerate(phase.streams):
        at += 1  # the delay
        for member in members:
            ends = np.cumsum([at, *sizes])
            for segment, (a, b) in zip(order, pairwise(ends), strict=True):
                yield stream, member, segment, float(run.end[a - 1]), float(run.end[b - 1])
            at = int(ends[-1])
