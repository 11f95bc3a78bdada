"""Search for the schedule of pods, and hold it against serial, batched and lockstep.

Optuna proposes (ask and tell, TPE, seeded) the size of the pods and the offset between their members; the event loop of
`sim.engine` prices every proposal exactly. A schedule that does not fit into memory is not tried.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from explore.pods_spec import Pods, load
from hwspecs.errors import InfeasibleError
from sim.concurrent import Inference, Part, Played, inference, lower_bound, play
from sim.report import number
from sim.scenario import Scenario, uncorrected
from sim.schedule import Schedule, podded, serial

if TYPE_CHECKING:
    import optuna

BATCH = 4  # proposals that are asked for together; part of what makes a study repeatable
SIZES = (1, 2, 4, 8)  # members of a pod, where the scenario does not say
TIE = 0.01  # makespans that differ by less are called equal: finer than any of the assumptions
Progress = Callable[[int, int, float], None]  # (trials done, trials in all, least makespan so far)


@dataclass(frozen=True)
class Row:
    """A schedule with engines and bandwidth shared as fluids, and its makespan if kernels hold the SMs that they fill."""

    played: Played
    held: float

    @property
    def at_least(self) -> float:
        """Seconds, counting that one host thread launches everything: what the verdict compares."""
        return max(self.played.makespan, self.played.host)

    def fits(self, found: Comparison) -> bool:
        """Memory holds it."""
        return self.played.memory <= found.scenario.device.hbm.capacity

    @property
    def launch_bound(self) -> bool:
        """The host needs longer to launch the kernels than the device to run them."""
        return self.played.host > self.played.makespan


@dataclass(frozen=True)
class Comparison:
    """What `framecast pods` found.

    Attributes:
        rows: 'best', 'serial', 'batched', 'lockstep', and 'given' where the scenario gives a schedule; `batched` is
            absent for a model without a batch.
        one: the inference. lower_bound: seconds that no row can be below.
        too_large: sizes of pods left out because they do not fit into memory.
    """

    scenario: Scenario
    pods: Pods
    one: Inference
    rows: dict[str, Row]
    lower_bound: float
    too_large: tuple[int, ...]


def compare(scenario: Scenario, progress: Progress | None = None) -> Comparison:
    """Search, and price the alternatives.

    Raises SpecError for a wrong section, InfeasibleError where one member alone, or the given schedule, does not fit.
    """
    scenario = uncorrected(scenario)
    pods, given = load(scenario, getattr(scenario.request, "steps", None))
    one = inference(scenario)
    count = int(pods.count or one.step_count)
    _check_fits(scenario, one, given or serial(pods.members, count))
    sizes = _feasible(scenario, one, pods, count)
    best = search(one, pods, count, sizes, progress)
    full = max(
        s for s in range(1, _most(pods, count) + 1) if _fits(scenario, one, podded(count, s, budget=pods.budget))
    )
    chosen = {"best": best, "serial": serial(pods.members, count), "lockstep": podded(count, full, budget=pods.budget)}
    rows = {name: _row(one, schedule) for name, schedule in (chosen | ({"given": given} if given else {})).items()}
    if batched := _batched(scenario, one, pods, count):
        rows["batched"] = batched
    names = [n for n in ("best", "serial", "batched", "lockstep", "given") if n in rows]
    bounds = [lower_bound(one, best), *(rows[n].played.makespan for n in ("batched",) if n in rows)]
    too_large = tuple(s for s in _sizes(pods, count) if s not in sizes)
    return Comparison(scenario, pods, one, {n: rows[n] for n in names}, min(bounds), too_large)


def search(
    one: Inference, pods: Pods, count: int, sizes: tuple[int, ...], progress: Progress | None = None
) -> Schedule:
    """The schedule of the least makespan among `pods.trials`; a function of the space, the seed and the number of trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=pods.seed))
    for size in sizes:
        study.enqueue_trial({"size": size, "stagger": pods.search.stagger.low})
    done: dict[Schedule, float] = {}
    with ThreadPoolExecutor(min(BATCH, os.cpu_count() or 1)) as pool:
        for first in range(0, pods.trials, BATCH):
            asked = [study.ask() for _ in range(min(BATCH, pods.trials - first))]
            schedules = [_proposal(trial, pods, count, sizes) for trial in asked]
            new = [s for s in dict.fromkeys(schedules) if s not in done]
            done |= dict(zip(new, pool.map(lambda s: play(one, s, "fluid").makespan, new), strict=True))
            for trial, schedule in zip(asked, schedules, strict=True):
                study.tell(trial, done[schedule])
            if progress:
                progress(first + len(asked), pods.trials, min(done.values()))
    return min(done, key=lambda s: done[s])


def verdict(found: Comparison) -> str:
    """One line: which way wins, by how much, and whether that hinges on how kernels share the SMs."""
    if alone := _alone(found):
        return alone
    best = found.rows["best"]
    rivals = {name: found.rows[name].at_least for name in ("batched", "serial") if name in found.rows}
    rival = min(rivals, key=lambda name: rivals[name])
    gain, held = rivals[rival] / best.at_least, rivals[rival] / max(best.held, best.played.host)
    against = "batching" if rival == "batched" else "running one after another"
    pace = "; the host's launches set the pace of the pods (cuda_graphs: true lifts that)" if best.launch_bound else ""
    mode = best.played.schedule.mode
    if gain < 1 - TIE:
        return f"{against} wins here: {_by(1 / gain)} faster than the best pods found{pace}"
    if gain < 1 + TIE or mode == "serial":
        return f"no difference: pods come within {100 * TIE:.0f} % of {against}{pace}"
    if held < 1 + TIE:
        loss = "no faster" if held > 1 - TIE else f"{_by(1 / held)} slower"
        return (
            f"undecided, because it hinges on how kernels share the SMs: {mode} pods are {_by(gain)} faster than "
            f"{against} if any mix of kernels runs side by side, {loss} if a kernel keeps the SMs that it fills{pace}"
        )
    return (
        f"{mode} pods win here: {_by(gain)} faster than {against}, {_by(held)} if a kernel keeps the SMs it fills{pace}"
    )


def _alone(found: Comparison) -> str:
    """Why nothing can run together, '' where something can."""
    pods, count = found.pods, found.rows["serial"].played.schedule.count
    if count == 1:
        field = "pods.count" if pods.members == "requests" else "request.steps"
        return f"there is nothing to run together: {field} is 1"
    if _most(pods, count) == 1:
        return "there is nothing to run together: pods.budget.largest is 1"
    together = [row.played.schedule.largest for name, row in found.rows.items() if name != "serial" and row.fits(found)]
    if max(together, default=1) > 1:
        return ""
    if pods.search.size == (1,):
        return "there is nothing to run together: pods.search.size is 1"
    return f"nothing but serial fits {number(found.scenario.device.hbm.capacity / 1e9)} GB"


def _by(ratio: float) -> str:
    return f"{100 * (ratio - 1):.0f} %"


def _proposal(trial: optuna.Trial, pods: Pods, count: int, sizes: tuple[int, ...]) -> Schedule:
    size = trial.suggest_categorical("size", sizes)
    stagger = trial.suggest_float("stagger", pods.search.stagger.low, pods.search.stagger.high) if size > 1 else 0.0
    return serial(pods.members, count) if size == 1 else podded(count, size, stagger, pods.budget)


def _row(one: Inference, schedule: Schedule, larger: dict[int, Inference] | None = None) -> Row:
    return Row(play(one, schedule, "fluid", larger), play(one, schedule, "held", larger).makespan)


def _batched(scenario: Scenario, one: Inference, pods: Pods, count: int) -> Row | None:
    """The members as one larger batch, or as several where one does not fit into memory."""
    size = _most(pods, count)
    if not hasattr(scenario.request, "batch"):
        return None
    while True:
        schedule = podded(count, size, budget=pods.budget, batched=True)
        row = _row(one, schedule, _larger(scenario, schedule))
        if row.played.memory <= scenario.device.hbm.capacity or size == 1:
            return row
        size = (size + 1) // 2


def _larger(scenario: Scenario, schedule: Schedule) -> dict[int, Inference]:
    """Inferences of the larger batches of a schedule's pods, by size."""
    return {size: inference(scenario, size) for size in sorted({len(pod) for pod in schedule.pods}) if size > 1}


def _most(pods: Pods, count: int) -> int:
    """Members that may run together."""
    return min(pods.budget.largest, count) if pods.budget else count


def _feasible(scenario: Scenario, one: Inference, pods: Pods, count: int) -> tuple[int, ...]:
    """Sizes of the search that fit into memory; at least 1."""
    each = ((s, podded(count, min(s, count), budget=pods.budget)) for s in _sizes(pods, count))
    return tuple(s for s, schedule in each if _fits(scenario, one, schedule)) or (1,)


def _sizes(pods: Pods, count: int) -> tuple[int, ...]:
    """Sizes of the search: those of the scenario, else the usual ones as far as that many may run together."""
    most = _most(pods, count)
    return pods.search.size or tuple(sorted({min(size, most) for size in SIZES}))


def _fits(scenario: Scenario, one: Inference, schedule: Schedule) -> bool:
    return all(need <= scenario.device.hbm.capacity for _, need in _needs(one, schedule))


def _needs(one: Inference, schedule: Schedule) -> Iterator[tuple[int, float]]:
    """(pod, from 1; bytes) of every pod."""
    part: Part = "whole" if schedule.members == "requests" else "step"
    rest = max(one.largest("before"), one.largest("after")) if part == "step" else 0.0
    for number_, pod in enumerate(schedule.pods, 1):
        streams = min(schedule.streams or len(pod), len(pod))
        yield number_, one.weights + max(streams * one.largest(part), rest)


def _check_fits(scenario: Scenario, one: Inference, schedule: Schedule) -> None:
    """InfeasibleError that names the first pod that is over the capacity."""
    have = scenario.device.hbm.capacity
    for pod, need in _needs(one, schedule):
        if need > have:
            members = schedule.pods[pod - 1]
            part: Part = "whole" if schedule.members == "requests" else "step"
            most = int(max(have - one.weights, 0) // max(one.largest(part), 1.0))
            parts = f"weights {number(one.weights / 1e9)}, activations {number((need - one.weights) / 1e9)}"
            what = f"needs {number(need / 1e9)} GB of {number(have / 1e9)} GB ({parts})"
            out = (
                f"use pods of at most {most}"
                if most and len(members) > 1
                else "use a smaller request or a larger device"
            )
            where = f"pods.schedule: pod {pod} ({len(members)} {schedule.members} at a time)"
            raise InfeasibleError(f"{scenario.path}: {where} does not fit {scenario.device.name}: {what}; {out}")
