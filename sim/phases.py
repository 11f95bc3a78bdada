"""Phases of a schedule: what starts together after what came before has ended, as jobs on streams; holds no kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal, TypeAlias

from sim.schedule import Schedule
from workloads.trace import Segment

Part: TypeAlias = Literal["before", "step", "steps", "after", "whole"]  # of an inference, around its denoising steps


@dataclass(frozen=True)
class Stint:
    """What one member does on one stream.

    Attributes:
        lane: stream. member: numbered from 1; 0 for what belongs to none. order: segments, in order.
        delay: seconds from the phase's start. after: number of a stint of the phase whose end it waits for, or -1.
        last: an image is done at its end.
    """

    lane: int
    member: int
    order: tuple[int, ...]
    delay: float = 0.0
    after: int = -1
    last: bool = False


@dataclass(frozen=True)
class Phase:
    """Stints on streams. batch: members that run as one larger batch, else 1. pod: number from 1, 0 for none."""

    jobs: tuple[Stint, ...]
    pod: int = 0
    batch: int = 1
    partition: tuple[float, ...] = ()
    priority: tuple[int, ...] = ()

    @property
    def streams(self) -> int:
        """In use."""
        return 1 + max(job.lane for job in self.jobs)


def order_of(segments: Sequence[Segment], steps: tuple[int, ...], count: int, part: Part) -> tuple[int, ...]:
    """Segments that a part of an inference runs, repeats included; `steps` are the segments of a step, of which are `count`."""
    if part in ("step", "steps"):
        return steps * (1 if part == "step" else count)
    whole = range(len(segments))
    if part == "whole":
        return tuple(x for p in ("before", "steps", "after") for x in order_of(segments, steps, count, p))
    first = steps[0] if steps else len(segments)
    chosen = whole[:first] if part == "before" else whole[first:]
    return tuple(s for s in chosen if s not in steps for _ in range(segments[s].repeats))


def phases(
    schedule: Schedule, segments: Sequence[Segment], steps: tuple[int, ...], count: int, step_seconds: float
) -> Iterator[Phase]:
    """Requests run whole; steps between what comes before the first and after the last. What one stream does is one phase."""

    def order(part: Part) -> tuple[int, ...]:
        return order_of(segments, steps, count, part)

    if schedule.overlap:
        yield _overlapped(schedule, order("before"), order("steps"), order("after"))
        return
    pods = [_pod(schedule, number, order, step_seconds) for number in range(1, len(schedule.pods) + 1)]
    if schedule.members == "steps":
        before, after = ([Phase((Stint(0, 0, own),))] if own else [] for own in (order("before"), order("after")))
        pods = [*before, *pods, *after]
    yield from _joined(pods)


def _pod(s: Schedule, number: int, order: Callable[[Part], tuple[int, ...]], step_seconds: float) -> Phase:
    pod = s.pods[number - 1]
    requests = s.members == "requests"
    what = order("whole" if requests else "step")
    if s.batched:
        return Phase((Stint(0, pod[0], what, last=requests),), number, len(pod))
    lanes = min(s.streams or len(pod), len(pod))
    starts = [0.0, *accumulate(s.offsets[: lanes - 1])] if s.offsets else [0.0] * lanes
    jobs = tuple(
        Stint(i % lanes, m, what, step_seconds * starts[i] if i < lanes else 0.0, last=requests)
        for i, m in enumerate(pod)
    )
    alone = lanes == 1
    return Phase(jobs, number, 1, () if alone else s.partition[:lanes], () if alone else s.priority[:lanes])


def _joined(given: list[Phase]) -> Iterator[Phase]:
    """Neighbours that each have one stream and no batch are one phase, so that the host runs ahead through them."""
    last: Phase | None = None
    for phase in given:
        plain = phase.streams == 1 and phase.batch == 1
        if last and plain and last.streams == 1 and last.batch == 1:
            last = replace(last, jobs=last.jobs + phase.jobs, pod=0)
        else:
            if last:
                yield last
            last = phase
    if last:
        yield last


def _overlapped(s: Schedule, before: tuple[int, ...], steps: tuple[int, ...], after: tuple[int, ...]) -> Phase:
    """Text encoders on one stream, decoders on another, denoising on the rest: each stage of a request after the one before."""
    lanes = min(s.streams or s.largest, s.largest)
    jobs: list[Stint] = []
    last: dict[int, int] = {}
    for stage, order in enumerate((before, steps, after)):
        if not order:
            continue
        for i, member in enumerate(m for pod in s.pods for m in pod):
            lane = (lanes, i % lanes, lanes + 1)[stage]
            jobs.append(Stint(lane, member, order, 0.0, last.get(member, -1)))
            last[member] = len(jobs) - 1
    used = sorted({job.lane for job in jobs})
    done = set(last.values())
    return Phase(tuple(replace(j, lane=used.index(j.lane), last=n in done) for n, j in enumerate(jobs)))
