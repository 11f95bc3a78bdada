"""play: a schedule of denoising steps or requests -> phases of streams -> the event loop -> makespan, HBM use, memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from hwspecs import power
from hwspecs.device import Silicon
from hwspecs.errors import SpecError
from hwspecs.estimate import Estimate
from hwspecs.rates import rates
from hwspecs.silicon import anchor
from sim.coarse import coarse
from sim.demand import HBM_BYTES, L2_SHARES, Floats, Pieces, pieces
from sim.energy import activity, summed
from sim.engine import DEFAULT, Contention, Job, Run, Streams, together
from sim.issue import issued
from sim.memory import memory
from sim.phases import Part, Phase, order_of, phases
from sim.result import Priced
from sim.scenario import Scenario, check_trace, uncorrected
from sim.schedule import Schedule
from sim.simulate import price
from workloads.cache import trace_of
from workloads.fields import images_of
from workloads.model import denoising, find
from workloads.trace import Trace

LAUNCH_HEAVY = 0.1  # host time over GPU time of one inference above which traces are not coarsened


@dataclass(frozen=True)
class Drawn:
    """Energy of one inference: J by term, without idle power; W that are drawn at all times; what the device is made of."""

    work: Mapping[str, Estimate]
    idle: Estimate
    silicon: Silicon


@dataclass(frozen=True)
class Inference:
    """One inference of a request, priced alone.

    Attributes:
        trace: what is computed. pieces: its kernels. brief: the same in few pieces, for searches.
        steps: segments of one denoising step; () for a model without such steps. step_count: steps, or 0.
        weights: bytes. inside: (segments,) largest bytes beside the weights in each segment.
        images: that it makes. drawn: the energy that it takes, None for a device that does not say what it is made of.
    """

    trace: Trace
    pieces: Pieces
    brief: Pieces
    steps: tuple[int, ...]
    step_count: int
    weights: float
    inside: Floats
    images: int
    drawn: Drawn | None = None

    def order(self, part: Part) -> tuple[int, ...]:
        """Segments that a part runs, in order, repeats included."""
        return order_of(self.trace.segments, self.steps, self.step_count, part)

    def seconds(self, part: Part) -> float:
        """Of a part alone on the device; GPU time."""
        return sum(self.pieces.pass_seconds(s) for s in self.order(part))

    def work(self, part: Part) -> Floats:
        """(6,) seconds of each column of work at full capacity, alone on the device."""
        return np.asarray(
            sum((self.pieces.pass_work(s) for s in self.order(part)), np.zeros(self.pieces.work.shape[-1]))
        )

    def host(self, part: Part) -> float:
        """Seconds that one host thread needs to launch a part."""
        return float(sum(self.pieces.host[self.pieces.of(s)].sum() for s in self.order(part)))

    @property
    def step_seconds(self) -> float:
        """One denoising step alone, or the inference where there are none: what offsets are fractions of."""
        return self.seconds("step" if self.steps else "whole")

    @property
    def launch_heavy(self) -> bool:
        """The host matters so much that few pieces, issued whole, would not do."""
        return self.host("whole") > LAUNCH_HEAVY * self.seconds("whole")

    def largest(self, part: Part) -> float:
        """Bytes beside the weights that a part needs at most."""
        return float(max((self.inside[s] for s in self.order(part)), default=0.0))


@dataclass(frozen=True)
class Played:
    """What a schedule comes to.

    Attributes:
        makespan: seconds, launches by one host thread included. first: seconds until the first image.
        images: made in it. hbm_mean, hbm_peak: use of the peak bandwidth, over the makespan and at most.
        memory: bytes at the peak, as if the peaks of all members in flight coincided. host: seconds to launch everything.
        phases: with the run of each and the second at which it starts.
    """

    schedule: Schedule
    makespan: float
    first: float
    images: int
    hbm_mean: float
    hbm_peak: float
    memory: float
    host: float
    phases: tuple[tuple[Phase, Run, float], ...]

    @property
    def images_per_s(self) -> float:
        """Images over the makespan."""
        return self.images / self.makespan if self.makespan else 0.0


def inference(scenario: Scenario, batch: int = 1) -> Inference:
    """One inference of a scenario, priced with `batch` times its batch, without the correction of a fitted device: schedules
    are compared over other hardware too.

    SpecError where that cannot be captured, or a field of the request leaves no single kind of step to arrange.
    """
    for field, instead in {"cache": "leave it out", "images": "use pods.count, of members: requests"}.items():
        if getattr(scenario.request, field, None) is not None:
            text = f"request.{field}: a schedule takes inferences of one batch, whose steps are all alike; {instead}"
            raise SpecError(f"{scenario.path}: {text}")
    request = scenario.request if batch == 1 else replace(scenario.request, batch=scenario.request.batch * batch)
    trace, on = trace_of(scenario.model, request), rates(scenario.device)
    check_trace(scenario, trace)
    level = uncorrected(scenario).level  # a learned correction is of one device, run alone
    priced = [
        price(trace, scenario.software, replace(on, l2_capacity=share * on.l2_capacity), level) for share in L2_SHARES
    ]
    need = memory(trace, priced[0].cost)
    steps = step_segments(scenario.model, request)
    full = pieces(trace, [p.cost for p in priced], on, priced[0].host)
    return Inference(
        trace=trace,
        pieces=full,
        brief=coarse(full),
        steps=steps,
        step_count=int(request.steps) if steps else 0,
        weights=need.weights,
        inside=np.array([need.profile[s.start : s.stop].max(initial=need.weights) for s in trace.segments])
        - need.weights,
        images=images_of(request),
        drawn=_drawn(scenario, priced[0], trace),
    )


def _drawn(scenario: Scenario, priced: Priced, trace: Trace) -> Drawn | None:
    silicon = scenario.device.silicon
    if silicon is None:
        return None
    on, cost = rates(scenario.device), priced.cost
    done = summed(activity(cost.kernels, cost.hbm_bytes), priced.runs(trace.call_repeats()))
    return Drawn(power.work(done, on, silicon), power.idle(on, silicon, anchor(scenario.device)), silicon)


def joules(one: Inference, played: Played, larger: Mapping[int, Inference] | None = None) -> Estimate | None:
    """Energy of a schedule at the board's input, with its range: work, idle power over the makespan, the board's losses.

    A part of an inference has the share of its energy that it has of its time; the energy of HBM grows with what streams that
    share the L2 move in addition. None for a device that does not say what it is made of.
    """
    if one.drawn is None:
        return None
    terms: dict[str, Estimate] = {}
    alone = 0.0
    for phase, _, _ in played.phases:
        of = larger[phase.batch] if larger and phase.batch > 1 else one
        assert of.drawn is not None, "of the same device"
        order = [s for job in phase.jobs for s in job.order]
        share = sum(of.pieces.pass_seconds(s) for s in order) / of.seconds("whole")
        alone += sum(float(of.pieces.pass_work(s)[HBM_BYTES]) for s in order)
        for name, energy in of.drawn.work.items():
            before = terms.get(name, Estimate(0.0, 0.0, 0.0))
            terms[name] = Estimate(*(a + share * b for a, b in zip(before, energy, strict=True)))
    if "hbm" in terms and alone > 0:
        terms["hbm"] = terms["hbm"].times(played.hbm_mean * played.makespan / alone)
    return power.at_board(terms | {"idle": one.drawn.idle.times(played.makespan)}, one.drawn.silicon).floats()


def step_segments(model: str, request: Any) -> tuple[int, ...]:
    """Segments of one denoising step, each as often as the step runs it; () for a model without such steps."""
    return denoising(find(model), request)


def play(
    one: Inference,
    schedule: Schedule,
    contention: Contention = DEFAULT,
    larger: Mapping[int, Inference] | None = None,
    *,
    brief: bool = False,
    record: bool = False,
) -> Played:
    """Run a schedule. `larger`: for a batched one, the inference of every size of pod above 1, as one batch.

    `brief`: in few pieces, for searches. `record`: keep what is in use at every event.
    """
    known: dict[Any, Run] = {}
    placed: list[tuple[Phase, Run, float]] = []
    now, moved, host, need, first = 0.0, 0.0, 0.0, 0.0, np.inf
    for phase in phases(schedule, one.trace.segments, one.steps, one.step_count, one.step_seconds):
        of = larger[phase.batch] if larger and phase.batch > 1 else one
        key = (phase.batch, phase.jobs, phase.partition, phase.priority)
        if key not in known:
            known[key] = run_phase(of, phase, contention, brief, record)
        run = known[key]
        placed.append((phase, run, now))
        ends = [run.end[run.first[i + 1] - 1] for i, job in enumerate(phase.jobs) if job.last]
        first = min([first, *(now + e for e in ends)])
        now += run.makespan
        moved += run.hbm_seconds
        host += sum(float(of.pieces.host[of.pieces.of(s)].sum()) for job in phase.jobs for s in job.order)
        need = max(need, of.weights + in_flight(of, phase))
    return Played(
        schedule=schedule,
        makespan=now,
        first=float(first) if np.isfinite(first) else now,
        images=one.images * (schedule.count if schedule.members == "requests" else 1),
        hbm_mean=float(moved / now) if now else 0.0,
        hbm_peak=max((run.hbm_peak for _, run, _ in placed), default=0.0),
        memory=need,
        host=host,
        phases=tuple(placed),
    )


def in_flight(of: Inference, phase: Phase) -> float:
    """Bytes beside the weights, as if the peaks of all streams coincided."""
    lanes = [(job.lane, max((of.inside[s] for s in job.order), default=0.0)) for job in phase.jobs]
    return float(sum(max(need for _, need in group) for _, group in groupby(sorted(lanes), key=lambda x: x[0])))


def run_phase(of: Inference, phase: Phase, contention: Contention, brief: bool = False, record: bool = False) -> Run:
    """Streams of a phase from its start."""
    alone = of.brief if brief and not of.launch_heavy else of.pieces
    programs = [np.concatenate([alone.of(s) for s in job.order]) for job in phase.jobs]
    ready = issued([alone.host[p] for p in programs], [j.lane for j in phase.jobs], [j.delay for j in phase.jobs])
    jobs = [Job(p, r, j.after, j.lane) for p, r, j in zip(programs, ready, phase.jobs, strict=True)]
    streams = Streams(tuple(range(phase.streams)), phase.partition, phase.priority)
    return together(alone, jobs, streams, contention, record)


def passes(of: Inference, phase: Phase, run: Run) -> Iterator[tuple[int, int, int, float, float]]:
    """(stream, member, segment, start, end) of every pass, seconds from the phase's start; of a run in all pieces."""
    for number, job in enumerate(phase.jobs):
        at = int(run.first[number])
        for segment in job.order:
            size = int(of.pieces.starts[segment + 1] - of.pieces.starts[segment])
            yield int(run.stream[number]), job.member, segment, float(run.start[at]), float(run.end[at + size - 1])
            at += size
