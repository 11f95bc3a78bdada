"""A sweep of any size in chunks of bounded memory: the exact front and totals are kept, every point goes to Parquet where asked.

A chunk is a function of (plan, its number): it may be priced anywhere, in any order, again after a kill, and gives the same.
With a folder, finished chunks stand in it as whole files (`points/part-000012.parquet`), so that a sweep goes on after a kill; a
folder of another space is refused with what changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from explore import goals as wishes
from explore import walk_files
from explore.evaluate import RATES, as_columns
from explore.front import pareto
from explore.goals import MEMORY, RESOURCES, VIOLATION, Goals
from explore.identity import fields_of
from explore.mix import Mix, outputs
from explore.objectives import baseline, baseline_values, check_outputs, check_resources, described
from explore.silicon import Made
from explore.space import fields
from explore.sweep import Plan, combined, groups, taken
from hwspecs.errors import SpecError, nearest

Floats: TypeAlias = NDArray[np.float64]
Columns: TypeAlias = dict[str, NDArray[Any]]
CHUNK = 65_536  # points priced together: some 50 MB of columns; a kill costs at most two of them
KEPT = ("latency_s", "images_per_s", "peak_memory_bytes", "fits")  # outputs of each point that are always kept
MISSES = "misses "  # before a constraint's name: whether a point misses it
POINT = "point"  # number of a point in the sweep


@dataclass(frozen=True)
class Group:
    """Combinations of everything that is not stacked, which differ in the device alone. numbers: which combinations."""

    numbers: NDArray[np.int64]
    mix: Mix
    made: Made
    columns: Mapping[str, Floats]


@dataclass(frozen=True)
class Walk:
    """A sweep that is ready to be priced. own: outputs of the baseline. space, scenario: what it depends on, in words."""

    plan: Plan
    goals: Goals
    groups: tuple[Group, ...]
    priced: tuple[str, ...]
    own: Mapping[str, float]
    space: Mapping[str, str]
    scenario: Mapping[str, str]

    @property
    def chunks(self) -> int:
        """How many chunks of points there are."""
        return -(-self.plan.count // CHUNK)

    @property
    def shown(self) -> list[str]:
        """Columns of a point beside its fields: outputs that are kept, and expressions of the goals."""
        return list(dict.fromkeys([*self.priced, *self.goals.objectives, *(c.output for c in self.goals.constraints)]))


@dataclass(frozen=True)
class Found:
    """What is kept of the chunks so far.

    Attributes:
        missed: how many points miss each constraint; 'memory' does not hold the workload.
        least, greatest: of each output over the feasible points, and the sums of each chunk by its number.
        front: columns of the feasible points that no other dominates; of equal ones the first.
    """

    points: int = 0
    feasible: int = 0
    missed: Mapping[str, int] = field(default_factory=dict)
    least: Mapping[str, float] = field(default_factory=dict)
    greatest: Mapping[str, float] = field(default_factory=dict)
    sums: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    front: Columns = field(default_factory=dict)

    def mean(self, name: str) -> float:
        """Of an output over the feasible points; the same for any order of chunks."""
        return math.fsum(sums[name] for sums in self.sums.values()) / self.feasible


Progress: TypeAlias = Callable[[int, Found], None] | None
Elsewhere: TypeAlias = Callable[[Walk, list[int]], Iterator[tuple[int, Columns]]] | None


def walk(plan: Plan) -> Walk:
    """Read the goals of a sweep, load its combinations, capture its models. SpecError lists every problem."""
    at, o, node = plan.origin, plan.options, plan.node
    parts = wishes.workloads(at, node, "sweep")
    names = [name for name, *_ in parts]
    problems = wishes.checked(node, o, "sweep", names, fields(at.scenario))
    known = outputs(names)
    items = node.get("outputs")
    for i, name in enumerate(o.outputs):
        if name not in known and items is not None and isinstance(items.value, list):
            text = f"unknown output '{name}'{nearest(name, known)} (allowed: {', '.join(known)})"
            problems.append(items.value[i].problem(f"sweep.outputs.{i}", text))
    shared = [
        axis for axis in plan.axes if len(parts) > 1 and not axis.path.startswith(("device", "software", "level"))
    ]
    problems += [
        axis.node.at_key().problem(f"sweep.{axis.path}", "varies beside `workloads`, which say it") for axis in shared
    ]
    if problems:
        raise SpecError(problems)
    numeric = [axis.path for axis in plan.axes if axis.field.numeric and axis.path.startswith("device.")]
    resources = o.resources or {path: 1.0 for path in numeric if path in RATES}
    paths = [*resources, *numeric]
    goals = Goals(o.objectives, wishes.constraints(node, o, "sweep", names), resources, baseline(at.scenario, paths),
                  at.scenario.device.hbm.capacity)  # fmt: skip
    if o.resources:
        check_resources(node, goals, at.scenario, "sweep")
    priced = tuple(n for n in known if n in {*KEPT, *o.outputs, *goals.reads(list(known))})
    mix = wishes.prepared(parts)
    own = (
        {n: float(v[0]) for n, v in goals.judged(mix.evaluate({}, priced), {}, 1).items()}
        if resources_known(goals)
        else {}
    )
    check_outputs(node, goals, own, at.scenario, "sweep")
    found = Walk(plan, goals, tuple(_groups(plan, parts, mix)), priced, own, {}, fields_of(at.scenario))
    return replace(found, space=_space(found, mix, tuple(s for *_, s in parts)))


def resources_known(goals: Goals) -> bool:
    """Whether the baseline has all that `relative_resources` counts."""
    return all(goals.baseline[path] for path in goals.resources)


def price(w: Walk, chunk: int) -> Columns:
    """Columns of a chunk's points: number, fields by heading, outputs, expressions, what each misses, feasible."""
    return priced(w, np.arange(chunk * CHUNK, min((chunk + 1) * CHUNK, w.plan.count)))


def priced(w: Walk, points: NDArray[np.int64]) -> Columns:
    """The same of any points by number."""
    values, count = w.plan.values(points), len(points)
    stacked = {a.path: np.asarray(v, np.float64) for a, v in zip(w.plan.axes, values, strict=True) if a.stacked}
    combination = _combination(w.plan, values, count)
    out: Columns = {}
    for group in w.groups:
        some = np.flatnonzero(np.isin(combination, group.numbers))
        if not len(some):
            continue
        on = np.searchsorted(group.numbers, combination[some])
        columns = {path: each[on] for path, each in group.columns.items()} | {p: v[some] for p, v in stacked.items()}
        made = Made(group.made.devices, on)
        priced = group.mix.evaluate(columns, w.priced, made if columns else None, compiled=True)
        whole = {name: np.broadcast_to(v, (len(some),)) for name, v in priced.items()}
        for name, column in w.goals.judged(whole, columns, len(some)).items():
            out.setdefault(name, np.empty(count, dtype=column.dtype))[some] = column
    named = {a.heading: v if a.stacked else taken(a, v) for a, v in zip(w.plan.axes, values, strict=True)}
    whole_numbers = {a.heading: named[a.heading].astype(np.int64) for a in w.plan.axes if a.field.type is int}
    misses = {f"{MISSES}{n.removeprefix(VIOLATION)}": v > 0 for n, v in out.items() if n.startswith(VIOLATION)}
    feasible = ~np.any(list(misses.values()), axis=0)
    kept = {name: out[name] for name in w.shown}
    return {POINT: points, **named, **whole_numbers, **kept, **misses, "feasible": feasible}


def merged(w: Walk, found: Found, chunk: int, columns: Columns) -> Found:
    """With one more chunk; the same for any order of chunks."""
    feasible = np.asarray(columns["feasible"])
    count = int(feasible.sum())
    missed = {n.removeprefix(MISSES): int(c.sum()) for n, c in columns.items() if n.startswith(MISSES)}
    of = {n: np.asarray(columns[n], np.float64)[feasible] for n in w.shown if n != "fits"}
    least = {n: min(found.least.get(n, math.inf), float(v.min())) for n, v in of.items()} if count else found.least
    most = (
        {n: max(found.greatest.get(n, -math.inf), float(v.max())) for n, v in of.items()} if count else found.greatest
    )
    return Found(
        points=found.points + len(feasible),
        feasible=found.feasible + count,
        missed={n: found.missed.get(n, 0) + missed[n] for n in missed},
        least=least,
        greatest=most,
        sums={**found.sums, chunk: {n: float(v.sum()) for n, v in of.items()}},
        front=_front(w, found.front, {n: c[feasible] for n, c in columns.items()}) if w.goals.objectives else {},
    )


def run(
    w: Walk,
    folder: Path | None = None,
    progress: Progress = None,
    elsewhere: Elsewhere = None,
) -> Found:
    """Price every chunk that `folder` does not hold yet. `elsewhere` prices chunks on other machines, in any order.

    `progress` is told of each chunk's points. SpecError: the folder cannot be written. StudyError: it holds another sweep, or
    one is writing to it.
    """
    if folder is None:
        return _priced_all(w, Found(), set(), None, progress, elsewhere)
    now = {
        "schema_version": 1,
        "chunk": CHUNK,
        "points": w.plan.count,
        "space": dict(w.space),
        "scenario": dict(w.scenario),
    }
    with walk_files.held(folder):
        found, done = Found(), set()
        for chunk in sorted(c for c in walk_files.opened(folder, now) if c < w.chunks):
            rows = min(CHUNK, w.plan.count - chunk * CHUNK)
            columns = walk_files.read(folder, chunk, rows, {POINT, "feasible", *w.shown})
            if columns is None:  # damaged: priced again
                continue
            done.add(chunk)
            found = merged(w, found, chunk, columns)
            if progress:
                progress(len(columns[POINT]), found)
        return _priced_all(w, found, done, folder, progress, elsewhere)


def _priced_all(
    w: Walk, found: Found, done: set[int], folder: Path | None, progress: Progress, elsewhere: Elsewhere
) -> Found:
    """With every chunk that is not done, each written to `folder` before it counts."""
    todo = [chunk for chunk in range(w.chunks) if chunk not in done]
    priced = elsewhere(w, todo) if elsewhere else ((chunk, price(w, chunk)) for chunk in todo)
    for chunk, columns in walk_files.written(priced, folder) if folder else priced:
        found = merged(w, found, chunk, columns)
        if progress:
            progress(len(columns[POINT]), found)
    return found


def _front(w: Walk, before: Columns, after: Columns) -> Columns:
    """The front of what was kept and what is new; of equal points the first."""
    both = {n: np.concatenate([before[n], after[n]]) for n in after} if before else after
    losses = w.goals.losses(both)
    on = np.flatnonzero(pareto(losses))
    on = on[np.argsort(both[POINT][on], kind="stable")]
    _, first = np.unique(losses[on], axis=0, return_index=True)
    kept = on[np.sort(first)]
    return {n: c[kept] for n, c in both.items()}


def _groups(plan: Plan, parts: list[Any], mix: Mix) -> Iterator[Group]:
    """Combinations of the axes that are not stacked; those that differ in the device alone are priced as one stack."""
    outer = [i for i, axis in enumerate(plan.axes) if not axis.stacked]
    if not outer:
        yield Group(np.zeros(1, np.int64), mix, Made((plan.origin.scenario.device,), np.zeros(1, np.int64)), {})
        return
    sizes = [len(plan.axes[i].values) for i in outer]
    numbers = np.arange(sizes[0] if plan.mode == "list" else math.prod(sizes))
    combinations = np.array([numbers] * len(outer) if plan.mode == "list" else np.unravel_index(numbers, sizes))
    each = [combined(plan, outer, combinations, settings) for *_, settings in parts]
    for some in groups(plan, outer, combinations):
        devices = [each[0][i].device for i in some]
        alike = [(name, weight, own[some[0]], ()) for (name, weight, *_), own in zip(parts, each, strict=True)]
        yield Group(some, wishes.prepared(alike), Made(devices, np.arange(len(some))), as_columns(devices))


def _combination(plan: Plan, values: list[NDArray[Any]], count: int) -> NDArray[np.int64]:
    """Number of the combination at each point, as `_groups` counts them."""
    outer = [i for i, axis in enumerate(plan.axes) if not axis.stacked]
    if not outer:
        return np.zeros(count, dtype=np.int64)
    if plan.mode == "list":
        return np.asarray(values[outer[0]], np.int64)
    sizes = [len(plan.axes[i].values) for i in outer]
    return np.asarray(np.ravel_multi_index([values[i] for i in outer], sizes), np.int64)


def _space(w: Walk, mix: Mix, settings: tuple[tuple[str, ...], ...]) -> dict[str, str]:
    """What the points and their prices depend on, in words."""
    o = w.plan.options
    return {
        **{axis.path: axis.text() for axis in w.plan.axes},
        "mode": w.plan.mode,
        **({"sample": str(w.plan.count), "seed": str(o.seed)} if w.plan.mode == "sample" else {}),
        **w.goals.described(),
        **described(mix, settings),
        "outputs": ", ".join(w.priced),
        "scenario": replace(w.plan.origin.scenario, sections={}).hash,
        **baseline_values(mix, w.goals),
    }


__all__ = ["MEMORY", "RESOURCES", "Found", "Walk", "merged", "price", "run", "walk"]
