"""pods of a scenario: search for the schedule, and hold it against serial, batched and lockstep under every contention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, reduce
from typing import TypeAlias

from explore.pods_search import Found, Progress, Setting, named, search
from explore.pods_spec import Pods, hardware, load
from hwspecs.errors import InfeasibleError, SpecError
from hwspecs.estimate import Estimate
from sim.bounds import lower_bound
from sim.concurrent import Inference, Played, inference, joules, play
from sim.engine import DEFAULT, FLUID, LOSSY, Contention
from sim.phases import Part
from sim.report import number
from sim.scenario import Scenario, uncorrected
from sim.schedule import Schedule, podded, serial
from sim.vary import numbers, with_number

SIZES = (1, 2, 4, 8)  # members of a pod, where the scenario does not say
CORNERS = (DEFAULT, Contention(1.0, 0.0), Contention(0.0, 1.0), FLUID, LOSSY)  # of the stated ranges
Larger: TypeAlias = dict[int, Inference]


@dataclass(frozen=True)
class Row:
    """A schedule under the default contention, its makespan at each of CORNERS, and its energy (None: unknown for the device)."""

    played: Played
    corners: tuple[float, ...]
    energy: Estimate | None = None

    def fits(self, found: Comparison) -> bool:
        """Memory holds it."""
        return self.played.memory <= found.scenario.device.hbm.capacity


@dataclass(frozen=True)
class Comparison:
    """What `framecast pods` found.

    Attributes:
        scenario: on the device of the best point, where the device is searched too; `hardware` are its values.
        rows: 'best', 'serial', 'batched', 'lockstep', and 'given' where the scenario gives a schedule; `batched` is
            absent for a model without a batch. side_by_side: the best schedule where any mix of kernels runs side by side.
        one: the inference. larger: that of the batches. lower_bound: seconds that no row can be below, and what sets it.
        too_large: sizes of pods left out because they do not fit into memory. found: what the search says of itself.
    """

    scenario: Scenario
    pods: Pods
    one: Inference
    larger: Larger
    rows: dict[str, Row]
    side_by_side: Row
    lower_bound: float
    bound: str
    too_large: tuple[int, ...]
    found: Found
    hardware: dict[str, float]


def compare(scenario: Scenario, progress: Progress | None = None) -> Comparison:
    """Search, and price the alternatives.

    Raises SpecError for a wrong section, InfeasibleError where one member alone, or the given schedule, does not fit.
    """
    scenario = uncorrected(scenario)
    pods, given = load(scenario, getattr(scenario.request, "steps", None))
    varied = hardware(scenario, pods)
    one = inference(scenario)
    if pods.objective == "energy" and one.drawn is None:
        text = f"energy is not known of {scenario.device.name}, which has no section `silicon`; choose another"
        raise SpecError(
            (scenario.sections["pods"].get("objective") or scenario.sections["pods"]).problem("pods.objective", text)
        )
    count = int(pods.count or one.step_count)
    check_fits(scenario, one, given or serial(pods.members, count))
    sizes = _feasible(scenario, one, pods, count)

    @cache
    def at(values: tuple[float, ...]) -> Inference:
        return one if not values else inference(on(scenario, named(values, varied)))

    @cache
    def rival(values: tuple[float, ...]) -> float:
        return _rival(on(scenario, named(values, varied)), at(values), pods, count)

    setting = Setting(count, sizes, DEFAULT, varied, at, rival)
    result = search(pods, setting, progress)
    fluid = search(pods, replace(setting, contention=FLUID), None).best if not varied else result.best
    values = named(result.best[1], varied)
    alternatives = _Alternatives(fluid[0], given, tuple(s for s in _sizes(pods, count) if s not in sizes))
    return _compared(on(scenario, values), pods, at(result.best[1]), result, alternatives, values)


def on(scenario: Scenario, values: Mapping[str, float]) -> Scenario:
    """The scenario on a device with other values of some numbers."""
    known = {n.field: n for n in numbers(scenario.device)}
    device = reduce(lambda d, path: with_number(d, known[path], values[path]), values, scenario.device)
    return replace(scenario, device=device) if values else scenario


@dataclass(frozen=True)
class _Alternatives:
    fluid: Schedule
    given: Schedule | None
    too_large: tuple[int, ...]


def _compared(
    scenario: Scenario, pods: Pods, one: Inference, result: Found, other: _Alternatives, values: dict[str, float]
) -> Comparison:
    count = result.best[0].count
    full = max(s for s in range(1, most(pods, count) + 1) if _fits(scenario, one, podded(count, s, budget=pods.budget)))
    chosen = {
        "best": result.best[0],
        "serial": serial(pods.members, count),
        "lockstep": podded(count, full, budget=pods.budget),
        **({"given": other.given} if other.given else {}),
    }
    rows = {name: row(one, schedule, record=name == "best") for name, schedule in chosen.items()}
    larger: Larger = {}
    if batch := batched(scenario, one, pods, count):
        larger = batch[1]
        rows["batched"] = row(one, batch[0], larger)
    names = [n for n in ("best", "serial", "batched", "lockstep", "given") if n in rows]
    bound, what = lower_bound(one, result.best[0])
    if "batched" in rows and rows["batched"].played.makespan < bound:
        bound, what = rows["batched"].played.makespan, "the batch"
    return Comparison(
        scenario=scenario, pods=pods, one=one, larger=larger, rows={n: rows[n] for n in names},
        side_by_side=rows["best"] if other.fluid == result.best[0] else row(one, other.fluid),
        lower_bound=bound, bound=what, too_large=other.too_large,
        found=result, hardware=values,
    )  # fmt: skip


def row(one: Inference, schedule: Schedule, larger: Larger | None = None, record: bool = False) -> Row:
    """A schedule in full, at every corner; one stream is the same at all of them."""
    played = play(one, schedule, DEFAULT, larger, record=record)
    alone = all(phase.streams == 1 for phase, _, _ in played.phases)
    rest = (played.makespan if alone else play(one, schedule, c, larger).makespan for c in CORNERS[1:])
    return Row(played, (played.makespan, *rest), joules(one, played, larger))


def batched(scenario: Scenario, one: Inference, pods: Pods, count: int) -> tuple[Schedule, Larger] | None:
    """The members as larger batches of the size, among those that fit into memory, that takes least; None without a batch."""
    if not hasattr(scenario.request, "batch"):
        return None
    large = most(pods, count)
    tried = []
    for size in sorted({1, *(min(s, large) for s in SIZES), large}):
        schedule = podded(count, size, budget=pods.budget, batched=True)
        larger = {n: inference(scenario, n) for n in sorted({len(pod) for pod in schedule.pods}) if n > 1}
        played = play(one, schedule, DEFAULT, larger, brief=True)
        if size > 1 and played.memory > scenario.device.hbm.capacity:
            break
        tried.append((played.makespan, schedule, larger))
    _, schedule, larger = min(tried, key=lambda t: t[0])
    return schedule, larger


def _rival(scenario: Scenario, one: Inference, pods: Pods, count: int) -> float:
    """Seconds of the better of serial and batched."""
    alone = play(one, serial(pods.members, count), DEFAULT, brief=True).makespan
    batch = batched(scenario, one, pods, count)
    return min(alone, play(one, batch[0], DEFAULT, batch[1], brief=True).makespan) if batch else alone


def most(pods: Pods, count: int) -> int:
    """Members that may run together."""
    return min(pods.budget.largest, count) if pods.budget else count


def _feasible(scenario: Scenario, one: Inference, pods: Pods, count: int) -> tuple[int, ...]:
    """Sizes of the search that fit into memory; at least 1."""
    each = ((s, podded(count, min(s, count), budget=pods.budget)) for s in _sizes(pods, count))
    return tuple(s for s, schedule in each if _fits(scenario, one, schedule)) or (1,)


def _sizes(pods: Pods, count: int) -> tuple[int, ...]:
    """Sizes of the search: those of the scenario, else the usual ones as far as that many may run together."""
    return pods.search.size or tuple(sorted({min(size, most(pods, count)) for size in SIZES}))


def _fits(scenario: Scenario, one: Inference, schedule: Schedule) -> bool:
    return all(need <= scenario.device.hbm.capacity for _, need in _needs(one, schedule))


def _needs(one: Inference, schedule: Schedule) -> Iterator[tuple[int, float]]:
    """(pod, from 1; bytes) of every pod."""
    part: Part = "whole" if schedule.members == "requests" else "step"
    rest = max(one.largest("before"), one.largest("after")) if part == "step" else 0.0
    for number_, pod in enumerate(schedule.pods, 1):
        streams = min(schedule.streams or len(pod), len(pod))
        if schedule.overlap:
            inside = streams * one.largest("steps") + one.largest("before") + one.largest("after")
        else:
            inside = max(streams * one.largest(part), rest)
        yield number_, one.weights + inside


def check_fits(scenario: Scenario, one: Inference, schedule: Schedule) -> None:
    """InfeasibleError that names the first pod that is over the capacity."""
    have = scenario.device.hbm.capacity
    for pod, need in _needs(one, schedule):
        if need > have:
            members = schedule.pods[pod - 1]
            part: Part = "whole" if schedule.members == "requests" else "step"
            fit = int(max(have - one.weights, 0) // max(one.largest(part), 1.0))
            parts = f"weights {number(one.weights / 1e9)}, activations {number((need - one.weights) / 1e9)}"
            what = f"needs {number(need / 1e9)} GB of {number(have / 1e9)} GB ({parts})"
            out = (
                f"use pods of at most {fit}" if fit and len(members) > 1 else "use a smaller request or a larger device"
            )
            where = f"pods.schedule: pod {pod} ({len(members)} {schedule.members} at a time)"
            raise InfeasibleError(f"{scenario.path}: {where} does not fit {scenario.device.name}: {what}; {out}")
