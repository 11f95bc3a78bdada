"""`sweep:`: every point of a grid, of lists side by side, or of a sample, over any fields of a scenario.

Numbers of the device are priced as one stack of designs for each combination of everything else. Here are the points, and small
sweeps as one tidy table; `explore.walk` prices any number of them in chunks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass as spec_dataclass

from explore.evaluate import COMPILED_CHUNK, OUTPUTS, as_columns, evaluate, prepare
from explore.goals import Wanted
from explore.sample import drawn, halton
from explore.silicon import Made
from explore.space import Axis, Origin, axes, section, settled, tidied, with_section
from hwspecs import spec
from hwspecs.errors import SpecError
from hwspecs.nodes import Node
from hwspecs.spec import CONFIG, Doc, Quantity
from sim.scenario import Scenario

if TYPE_CHECKING:
    import pandas as pd

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
EXAMPLE = "request.height: [512, 768]"
LARGE = 100_000  # points from which a sweep is walked in chunks
MOST = 10_000_000_000  # points of a sweep; a machine of two cores takes a day for them


@spec_dataclass(frozen=True, kw_only=True, config=CONFIG)
class Options(Wanted):
    """What the section says beside the fields that vary."""

    mode: Annotated[Literal["grid", "list"], Doc("every combination, or values side by side")] = "grid"
    sample: Annotated[
        float, Quantity(ge=0, le=MOST, doc="points of an evenly spread sample instead of every combination; 0: none")
    ] = 0
    seed: Annotated[int, Quantity(ge=0, le=999_999, doc="of the sample")] = 0
    outputs: Annotated[tuple[str, ...], Doc("further outputs that a sweep in chunks keeps of each point")] = ()


@dataclass(frozen=True)
class Plan:
    """The points of a sweep, numbered from 0; mode: grid, list or sample."""

    origin: Origin
    axes: tuple[Axis, ...]
    options: Options
    node: Node
    mode: str
    count: int

    @property
    def walked(self) -> bool:
        """Too large for one table, or a sample, or with goals: `explore.walk` prices it."""
        o = self.options
        return (
            self.count > LARGE
            or self.mode == "sample"
            or bool(o.objectives or o.constraints or o.workloads or o.outputs)
        )

    @cached_property
    def index(self) -> Ints:
        """(axes, points): which value of each axis a point of a grid or a list takes."""
        return self.part(np.arange(self.count, dtype=np.int64))

    def part(self, points: Ints) -> Ints:
        """The same of points by number; the last axis varies fastest."""
        if self.mode == "list":
            return np.tile(points, (len(self.axes), 1))
        return np.array(np.unravel_index(points, [len(a.values) for a in self.axes]), dtype=np.int64)

    def values(self, points: Ints) -> list[NDArray[Any]]:
        """Of each axis, at points by number: numbers of stacked axes in SI units, of any other which value it is."""
        if self.mode == "sample":
            u = halton(points, len(self.axes), self.options.seed)
            found = [drawn(axis, row) for axis, row in zip(self.axes, u, strict=True)]
            places = [
                np.asarray(v).astype(np.int64) if a.range is None else v for a, v in zip(self.axes, found, strict=True)
            ]
        else:
            places = list(self.part(points))
        return [
            np.array(axis.values, dtype=np.float64)[place] if axis.stacked and place.dtype == np.int64 else place
            for axis, place in zip(self.axes, places, strict=True)
        ]


@dataclass(frozen=True)
class Swept:
    """What a small sweep found: outputs by name, each (points,), in the order of the plan's points."""

    plan: Plan
    outputs: Mapping[str, Floats]

    def column(self, axis: Axis) -> NDArray[Any]:
        """The axis's value at each point; text and true/false as objects."""
        return taken(axis, self.plan.index[self.plan.axes.index(axis)])

    def frame(self) -> pd.DataFrame:
        """One row a point: the swept fields with their units, then the outputs. Tidy: one observation a row."""
        import pandas as pd

        fields = {axis.heading: self.column(axis) for axis in self.plan.axes}
        return pd.DataFrame(fields | dict(self.outputs))


def taken(axis: Axis, index: Ints) -> NDArray[Any]:
    """Values of an axis; text and true/false as objects."""
    values = np.array(axis.values, dtype=np.float64 if axis.field.numeric else object)
    return np.asarray((values.astype(np.int64) if axis.field.type is int else values)[index])


def plan(origin: Origin) -> Plan:
    """Read the `sweep:` section. SpecError lists every problem of it but those of its goals."""
    names = [f.path for f in spec.fields(Options)]
    node, problems = settled(section(origin, "sweep", EXAMPLE), "sweep", names)
    assert isinstance(node.value, dict)
    fields = replace(node, value={name: child for name, child in node.value.items() if name not in names})
    options = Options()
    try:
        own = {k: v for k, v in node.value.items() if k in names}
        options = spec.build(Options, replace(node, value=own), at="sweep")
    except SpecError as error:
        problems.extend(error.problems)
    if not fields.value:
        problems.append(node.problem("sweep", f"no field varies; expected at least one, for example `{EXAMPLE}`"))
    if options.sample != int(options.sample) and (at := node.get("sample")):
        problems.append(at.problem("sweep.sample", f"found '{at.text}', expected a whole number"))
    found: list[Axis] = []
    try:
        found = axes(origin, fields, "sweep", searched=False, drawn=bool(options.sample), options=names)
    except SpecError as error:
        problems.extend(error.problems)
    if problems:
        raise SpecError(tidied(problems))
    mode = "sample" if options.sample else options.mode
    count = int(options.sample) or (_zipped(node, found) if mode == "list" else math.prod(len(a.values) for a in found))
    if count > MOST:
        sizes = " x ".join(str(len(a.values)) for a in found)
        raise SpecError(node.problem("sweep", f"{sizes} points; expected at most {MOST} in all; use `sample: N`"))
    return Plan(with_section(origin, "sweep", node), tuple(found), options, node, mode, count)


def sweep(plan: Plan, progress: Callable[[int], None] | None = None) -> Swept:
    """Price every point. `progress` is told of points as they are done.

    SpecError where a combination of values cannot be, before anything is priced.
    """
    outer = [i for i, axis in enumerate(plan.axes) if not axis.stacked]
    count = plan.count
    combinations, which = np.zeros((0, 1), dtype=np.int64), np.zeros(count, dtype=np.int64)
    if outer:
        combinations, which = np.unique(plan.index[outer], axis=1, return_inverse=True)
        which = which.reshape(-1)
    scenarios = combined(plan, outer, combinations)
    outputs = {name: np.zeros(count, dtype=bool if name == "fits" else np.float64) for name in OUTPUTS}
    for group in groups(plan, outer, combinations):
        workload = prepare(scenarios[group[0]])
        devices = as_columns([scenarios[i].device for i in group]) if len(group) > 1 else {}
        points = np.flatnonzero(np.isin(which, group))
        for lo in range(0, len(points), COMPILED_CHUNK):
            here = points[lo : lo + COMPILED_CHUNK]
            on = np.searchsorted(group, which[here])
            made = Made([scenarios[i].device for i in group], on)
            columns = {path: each[on] for path, each in devices.items()} | _columns(plan, here)
            priced = evaluate(workload, columns, made=made if columns else None)
            for name, column in outputs.items():
                column[here] = priced[name][: len(here)]
            if progress:
                progress(len(here))
    return Swept(plan, outputs)


def groups(plan: Plan, outer: Sequence[int], combinations: Ints) -> list[Ints]:
    """Combinations that differ in the device alone: it changes no kernel, so each group is lowered once."""
    elsewhere = [row for row, i in enumerate(outer) if not re.match(r"device(\.|$)", plan.axes[i].path)]
    if not elsewhere:
        return [np.arange(combinations.shape[1])]
    _, group = np.unique(combinations[elsewhere], axis=1, return_inverse=True)
    order = np.argsort(group.reshape(-1), kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group.reshape(-1)[order])) + 1)


def _columns(plan: Plan, points: Ints) -> dict[str, Floats]:
    """The stacked fields at some points, SI units. Without any, all points of one combination are the same."""
    return {
        axis.path: np.array(axis.values, dtype=np.float64)[plan.index[i, points]]
        for i, axis in enumerate(plan.axes)
        if axis.stacked
    }


def combined(plan: Plan, outer: Sequence[int], combinations: Ints, before: Sequence[str] = ()) -> list[Scenario]:
    """A scenario for each column of `combinations`, on the settings `before`; problems are placed at the section's values."""
    problems: list[str] = []
    found = []
    for column in combinations.T:
        chosen = [(plan.axes[a], int(v)) for a, v in zip(outer, column, strict=True)]
        try:
            found.append(plan.origin.varied([*before, *(axis.settings[v] for axis, v in chosen)]))
        except SpecError as error:
            problems.extend(_placed(chosen, problem) for problem in error.problems)
    if problems:
        raise SpecError(tidied(problems))
    return found


def _placed(chosen: Sequence[tuple[Axis, int]], problem: str) -> str:
    """At the value of the field that the problem names, else at the first that varies."""
    match = re.match(r"--set (\S+): (.*)", problem)
    axis, value = next((c for c in chosen if match and c[0].path == match[1]), chosen[0])
    items = axis.node.value
    node: Node = items[value] if isinstance(items, list) else axis.node
    settings = ", ".join(a.settings[v] for a, v in chosen)
    return f"{node.problem(f'sweep.{axis.path}', match[2] if match else problem)} (at {settings})"


def _zipped(node: Node, found: Sequence[Axis]) -> int:
    """Points of mode: list: the first values of all fields, then the second ..."""
    lengths = {len(axis.values) for axis in found}
    if len(lengths) > 1:
        sizes = ", ".join(f"{axis.path} {len(axis.values)}" for axis in found)
        raise SpecError(node.problem("sweep.mode", f"a list takes as many values of each field; found {sizes}"))
    return lengths.pop()
