"""`sweep:`: every point of a grid, or of lists side by side, over any fields of a scenario, as one tidy table.

Numbers of the device are priced as one stack of designs for each combination of everything else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from explore.evaluate import COMPILED_CHUNK, OUTPUTS, as_columns, evaluate, prepare
from explore.silicon import Made
from explore.space import MOST, Axis, Origin, axes, product, section, settled, tidied, with_section
from hwspecs.errors import SpecError, nearest
from hwspecs.nodes import Node, shown
from sim.scenario import Scenario

if TYPE_CHECKING:
    import pandas as pd

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
MODES = ("grid", "list")
EXAMPLE = "request.height: [512, 768]"


@dataclass(frozen=True)
class Plan:
    """The points of a sweep. index: (axes, points), which value of each axis a point takes."""

    origin: Origin
    axes: tuple[Axis, ...]
    index: Ints


@dataclass(frozen=True)
class Swept:
    """What a sweep found: outputs by name, each (points,), in the order of the plan's points."""

    plan: Plan
    outputs: Mapping[str, Floats]

    def column(self, axis: Axis) -> NDArray[Any]:
        """The axis's value at each point; text and true/false as objects."""
        values = np.array(axis.values, dtype=np.float64 if axis.field.numeric else object)
        whole = axis.field.type is int
        at = self.plan.axes.index(axis)
        return np.asarray((values.astype(np.int64) if whole else values)[self.plan.index[at]])

    def frame(self) -> pd.DataFrame:
        """One row a point: the swept fields with their units, then the outputs. Tidy: one observation a row."""
        import pandas as pd

        fields = {axis.heading: self.column(axis) for axis in self.plan.axes}
        return pd.DataFrame(fields | dict(self.outputs))


def plan(origin: Origin) -> Plan:
    """Read the `sweep:` section. SpecError lists every problem of it."""
    node = section(origin, "sweep", EXAMPLE)
    node, problems = settled(node, "sweep", ["mode"])
    assert isinstance(node.value, dict)
    fields = replace(node, value={name: child for name, child in node.value.items() if name != "mode"})
    mode = node.value.get("mode")
    if mode is not None and mode.value not in MODES:
        text = f"found {shown(mode)}, expected one of {', '.join(MODES)}{nearest(mode.text, MODES)}"
        problems.append(mode.problem("sweep.mode", text))
    if not fields.value:
        problems.append(node.problem("sweep", f"no field varies; expected at least one, for example `{EXAMPLE}`"))
    found: list[Axis] = []
    try:
        found = axes(origin, fields, "sweep", searched=False, options=["mode"])
    except SpecError as error:
        problems.extend(error.problems)
    if problems:
        raise SpecError(tidied(problems))
    index = _zipped(node, found) if mode and mode.value == "list" else product(found)
    if index is None:
        sizes = " x ".join(str(len(a.values)) for a in found)
        raise SpecError(node.problem("sweep", f"{sizes} points; expected at most {MOST} in all"))
    return Plan(with_section(origin, "sweep", node), tuple(found), index)


def sweep(plan: Plan, progress: Callable[[int], None] | None = None) -> Swept:
    """Price every point. `progress` is told of points as they are done.

    SpecError where a combination of values cannot be, before anything is priced.
    """
    outer = [i for i, axis in enumerate(plan.axes) if not axis.stacked]
    count = plan.index.shape[1]
    combinations, which = np.zeros((0, 1), dtype=np.int64), np.zeros(count, dtype=np.int64)
    if outer:
        combinations, which = np.unique(plan.index[outer], axis=1, return_inverse=True)
        which = which.reshape(-1)
    scenarios = _scenarios(plan, outer, combinations)
    outputs = {name: np.zeros(count, dtype=bool if name == "fits" else np.float64) for name in OUTPUTS}
    for group in _groups(plan, outer, combinations):
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


def _groups(plan: Plan, outer: Sequence[int], combinations: Ints) -> list[Ints]:
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


def _scenarios(plan: Plan, outer: Sequence[int], combinations: Ints) -> list[Scenario]:
    """A scenario for each column of `combinations`; problems are placed at the section's values."""
    problems: list[str] = []
    found = []
    for column in combinations.T:
        chosen = [(plan.axes[a], int(v)) for a, v in zip(outer, column, strict=True)]
        try:
            found.append(plan.origin.varied([axis.settings[v] for axis, v in chosen]))
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


def _zipped(node: Node, found: Sequence[Axis]) -> Ints:
    """mode: list: the first values of all fields, then the second ..."""
    lengths = {len(axis.values) for axis in found}
    if len(lengths) > 1:
        sizes = ", ".join(f"{axis.path} {len(axis.values)}" for axis in found)
        raise SpecError(node.problem("sweep.mode", f"a list takes as many values of each field; found {sizes}"))
    return np.tile(np.arange(lengths.pop()), (len(found), 1))
