"""Search over schedules, and over numbers of the device with them: Optuna proposes, the event loop prices.

Schedules are ranked in few pieces (`sim.coarse`), scaled by what the full loop says of the first three with the same pods,
streams and partition; the three best are then played in full. A space that is no larger than the trials is enumerated.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from statistics import mean
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from explore.pods_spec import Pods
from explore.space import Range
from sim.concurrent import Inference, Played, joules, play
from sim.engine import Contention
from sim.schedule import Schedule, podded, serial
from sim.vary import Number

if TYPE_CHECKING:
    import optuna

BATCH = 4  # proposals that are asked for together; part of what makes a study repeatable
ANCHORS = 3  # schedules of a kind that are played in full, by whose mean the others are scaled
NEAR = 0.1  # of a step: members this near to each other start much in lockstep, where few pieces miss another share
FINALISTS = 3  # schedules that are played in full at the end
SMALLEST_SHARE = (
    0.2  # of the SMs, of the uneven stream: below a fifth an A100 keeps 21 SMs, fewer than most kernels' blocks
)
Progress: TypeAlias = Callable[[int, int, float], None]  # (trials done, trials in all, best so far)
Point: TypeAlias = tuple[Schedule, tuple[float, ...]]  # and the values of the searched numbers of the device


@dataclass(frozen=True)
class Setting:
    """What a search needs besides its section.

    Attributes:
        count: members in all. sizes: of pods that fit into memory. contention: that schedules are played under.
        hardware: numbers of the device that vary. at: inference on a device with values of these.
        rival: seconds of the better of serial and batched there.
    """

    count: int
    sizes: tuple[int, ...]
    contention: Contention
    hardware: tuple[tuple[Number, Range], ...]
    at: Callable[[tuple[float, ...]], Inference]
    rival: Callable[[tuple[float, ...]], float]


@dataclass(frozen=True)
class Found:
    """The best point, and whether every point of the space was tried; `tried` of them."""

    best: Point
    tried: int
    enumerated: bool


def search(pods: Pods, s: Setting, progress: Progress | None = None) -> Found:
    """The best of `pods.trials` points; a function of the space, the seed and the number of trials."""
    known: dict[Point, float] = {}
    anchors: dict[Any, list[float]] = {}
    with ThreadPoolExecutor(min(BATCH, os.cpu_count() or 1)) as pool:
        every = enumerated(pods, s)
        if every is not None and len(every) <= pods.trials:
            for first in range(0, len(every), BATCH):
                _price(every[first : first + BATCH], pods, s, known, anchors, pool)
                if progress:
                    progress(min(first + BATCH, len(every)), len(every), _sign(pods) * min(known.values()))
        else:
            _sample(pods, s, every or [], known, anchors, pool, progress)
        last = sorted(known, key=lambda p: known[p])[:FINALISTS]
        full = dict(zip(last, pool.map(lambda p: _value(pods, s, p, _full(s, p)), last), strict=True))
    return Found(min(full, key=lambda p: full[p]), len(known), every is not None and len(every) <= pods.trials)


def _sample(
    pods: Pods, s: Setting, every: Sequence[Point], known: dict[Point, float], anchors: dict[Any, list[float]],
    pool: ThreadPoolExecutor, progress: Progress | None,
) -> None:  # fmt: skip
    """TPE; of a finite space, what it proposes again makes room for what it has not met, and for neighbours of the best."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=pods.seed))
    if not s.hardware:
        for size in s.sizes:
            study.enqueue_trial({"size": size} | dict.fromkeys(_names(pods, size), pods.search.stagger.low))
    for first in range(0, pods.trials, BATCH):
        asked = [study.ask() for _ in range(min(BATCH, pods.trials - first))]
        points = [(_proposal(trial, pods, s), _drawn(trial, s.hardware)) for trial in asked]
        new = [p for p in dict.fromkeys(points) if p not in known]
        _price([*new, *_near(every, known, new)[: len(points) - len(new)]], pods, s, known, anchors, pool)
        for trial, point in zip(asked, points, strict=True):
            study.tell(trial, known[point])
        if progress:
            progress(first + len(asked), pods.trials, _sign(pods) * min(known.values()))


def _near(every: Sequence[Point], known: Mapping[Point, float], new: Sequence[Point]) -> list[Point]:
    """Points that are neither known nor new: one of each combination not met yet, then those most like the best known."""
    if not every or not known:
        return []
    best = min(known, key=lambda p: known[p])[0]

    def unlike(point: Point) -> tuple[Any, ...]:
        s = point[0]
        apart = sum(abs(a - b) for a, b in zip(s.offsets, best.offsets, strict=False))
        return (s.pods != best.pods) + (s.streams != best.streams) + (s.partition != best.partition), apart

    rest = sorted((p for p in every if p not in known and p not in new), key=unlike)
    met = {kind(p) for p in [*known, *new]}
    first = {kind(p): p for p in reversed(rest) if kind(p) not in met}
    return [*first.values(), *(p for p in rest if p not in first.values())]


def enumerated(pods: Pods, s: Setting) -> list[Point] | None:
    """Every point of the space, None where it is not finite."""
    r = pods.search
    if s.hardware or "uneven" in r.partition or not (r.stagger.points or r.stagger.low == r.stagger.high):
        return None
    values = np.linspace(r.stagger.low, r.stagger.high, r.stagger.points or 1).tolist()
    points: list[Schedule] = []
    for size in s.sizes:
        if size == 1:
            points.append(serial(pods.members, s.count))
            continue
        free = size - 1 if r.stagger.free else 1
        if len(values) ** free > pods.trials:
            return None
        for offsets, streams, part in itertools.product(
            itertools.product(values, repeat=free), _streams(pods, size), r.partition
        ):
            points.append(_schedule(pods, s.count, size, offsets, streams, _shares(part, streams, None)))
        points += _overlapped(pods, s, size)
    return [(schedule, ()) for schedule in dict.fromkeys(points)]


def _overlapped(pods: Pods, s: Setting, size: int) -> list[Schedule]:
    """The stages of requests on streams of their own, if that may be tried."""
    return [replace(podded(s.count, size), overlap=True)] if pods.search.overlap else []


def _price(
    points: Sequence[Point], pods: Pods, s: Setting, known: dict[Point, float], anchors: dict[Any, list[float]],
    pool: ThreadPoolExecutor,
) -> None:  # fmt: skip
    """Puts the value (less is better) of new points into `known`, and what the few pieces miss into `anchors`."""
    new = [p for p in dict.fromkeys(points) if p not in known]
    first = [p for i, p in enumerate(new) if len(anchors.get(kind(p), ())) + _before(new, i) < ANCHORS]
    exact = dict(zip(first, pool.map(lambda p: _full(s, p), first), strict=True))
    brief = dict(zip(new, pool.map(lambda p: play(s.at(p[1]), p[0], s.contention, brief=True), new), strict=True))
    for p in first:
        anchors.setdefault(kind(p), []).append(exact[p].makespan / brief[p].makespan)
    known |= {p: _value(pods, s, p, exact.get(p) or scaled(brief[p], mean(anchors[kind(p)]))) for p in new}


def _before(points: Sequence[Point], at: int) -> int:
    """Points before this one of the same kind."""
    return sum(kind(p) == kind(points[at]) for p in points[:at])


def kind(point: Point) -> tuple[Any, ...]:
    """Points whose few pieces miss the same share of the full loop's makespan."""
    s = point[0]
    near = max(s.offsets, default=1.0) < NEAR
    return tuple(len(pod) for pod in s.pods), s.mode, near, s.streams, s.partition, s.overlap


def scaled(played: Played, factor: float) -> Played:
    """The same with all times longer by a factor."""
    return replace(
        played, makespan=played.makespan * factor, first=played.first * factor, hbm_mean=played.hbm_mean / factor
    )


def _full(s: Setting, point: Point) -> Played:
    return play(s.at(point[1]), point[0], s.contention)


def _sign(pods: Pods) -> float:
    return -1.0 if pods.objective in ("images_per_s", "hbm_mean", "gain") else 1.0


def _value(pods: Pods, s: Setting, point: Point, played: Played) -> float:
    """Less is better."""
    value = {
        "makespan": lambda: played.makespan,
        "images_per_s": lambda: played.images_per_s,
        "first_image": lambda: played.first,
        "hbm_mean": lambda: played.hbm_mean,
        "hbm_peak": lambda: played.hbm_peak,
        "energy": lambda: _energy(s.at(point[1]), played),
        "gain": lambda: s.rival(point[1]) / played.makespan,
    }[pods.objective]()
    return _sign(pods) * value


def _energy(one: Inference, played: Played) -> float:
    found = joules(one, played)
    assert found is not None, "checked before the search"
    return float(found.value)


def _proposal(trial: optuna.Trial, pods: Pods, s: Setting) -> Schedule:
    r = pods.search
    size = trial.suggest_categorical("size", s.sizes)
    if size == 1:
        return serial(pods.members, s.count)
    if r.overlap and trial.suggest_categorical("overlap", (False, True)):
        return _overlapped(pods, s, size)[0]
    low, high, points = r.stagger.low, r.stagger.high, r.stagger.points
    step = (high - low) / (points - 1) if points and high > low else None
    offsets = tuple(trial.suggest_float(name, low, high, step=step) for name in _names(pods, size))
    streams = trial.suggest_categorical(f"streams of {size}", _streams(pods, size))
    part = trial.suggest_categorical("partition", r.partition)
    share = trial.suggest_float("share", SMALLEST_SHARE, 1 - SMALLEST_SHARE) if part == "uneven" else None
    return _schedule(pods, s.count, size, offsets, streams, _shares(part, streams, share))


def _names(pods: Pods, size: int) -> list[str]:
    """Of the offsets of a pod: one for all, or one for each member after the first."""
    free = size - 1 if pods.search.stagger.free else 1
    return [f"stagger {i + 1}" if free > 1 else "stagger" for i in range(free)] if size > 1 else []


def _streams(pods: Pods, size: int) -> tuple[int, ...]:
    """Streams for pods of a size: those of the scenario that are not more than the members, else one each."""
    return tuple(n for n in pods.search.streams or () if n <= size) or (size,)


def _shares(part: str, streams: int, first: float | None) -> tuple[float, ...]:
    if part == "shared" or streams == 1:
        return ()
    share = first if first is not None else 1 / streams
    return (share, *[(1 - share) / (streams - 1)] * (streams - 1))


def _schedule(
    pods: Pods, count: int, size: int, offsets: Iterable[float], streams: int, partition: tuple[float, ...]
) -> Schedule:
    plain = podded(count, size, 0.0, pods.budget)
    each = tuple(offsets)
    wanted = each * (plain.largest - 1) if len(each) == 1 else each[: plain.largest - 1]
    used = min(streams, plain.largest)
    return replace(
        plain, offsets=wanted if any(wanted) else (), streams=None if used == plain.largest else used,
        partition=partition[:used] if used > 1 else (),
    )  # fmt: skip


def _drawn(trial: optuna.Trial, hardware: Sequence[tuple[Number, Range]]) -> tuple[float, ...]:
    values = []
    for number, r in hardware:
        if number.whole:
            values.append(float(trial.suggest_int(number.field, int(r.low), int(r.high), log=r.log)))
        else:
            values.append(trial.suggest_float(number.field, r.low, r.high, log=r.log))
    return tuple(values)


def named(values: tuple[float, ...], hardware: Sequence[tuple[Number, Range]]) -> dict[str, float]:
    """Values by field path."""
    return {number.field: value for (number, _), value in zip(hardware, values, strict=True)}
