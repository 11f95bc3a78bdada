"""What is wanted of designs: objectives, constraints and resources of a section, and how designs meet them.

Objectives and constraints are outputs or arithmetic over outputs, 'images_per_s / price_usd'; where a mix has several
workloads, 'NAME.latency_s' is an output of one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass as spec_dataclass

from explore import expression
from explore.evaluate import OUTPUTS, RATES, prepare
from explore.mix import Mix, Part, outputs
from explore.space import Origin
from hwspecs import spec, units
from hwspecs.errors import SpecError, nearest
from hwspecs.nodes import Node, shown
from hwspecs.spec import CONFIG, Doc, Quantity
from sim.scenario import Scenario

Floats: TypeAlias = NDArray[np.float64]
RESOURCES = "relative_resources"  # weighted mean of resources relative to the baseline; no price
VIOLATION = "violation: "  # before a constraint's name: how far a design misses it, above 0 where it does
MEMORY = "memory"  # the name of the constraint that is always demanded
LESS_IS_MORE = ("device.hbm.latency", "device.launch.gap")  # fields whose resource is 1 / value
NAME = re.compile(r"[a-z_][a-z0-9_]*")  # of a workload of a mix
OF_A_WORKLOAD = ("name", "weight")  # what an entry of `workloads` says beside fields of the scenario


@spec_dataclass(frozen=True, kw_only=True, config=CONFIG)
class Wanted:
    """What a section says of goals beside the fields that vary."""

    objectives: Annotated[
        dict[str, Literal["minimize", "maximize"]], Doc("output, or arithmetic over outputs -> direction")
    ] = field(default_factory=dict)
    constraints: Annotated[
        tuple[str, ...], Doc("'OUTPUT <= NUMBER' or '>='; arithmetic over outputs too; memory is always demanded")
    ] = ()
    resources: Annotated[
        dict[str, Annotated[float, Quantity(ge=0)]], Doc("device field -> its weight in relative_resources")
    ] = field(default_factory=dict)
    workloads: Annotated[
        tuple[dict[str, Any], ...],
        Field(max_length=64),
        Doc("a mix: 'weight' (share of requests), 'name', and fields that differ, such as model or request.height"),
    ] = ()


@dataclass(frozen=True)
class Constraint:
    """`text` as it was written; output (an expression) <= limit, or >= where `at_least`."""

    text: str
    output: str
    limit: float
    at_least: bool

    def violation(self, values: Floats) -> Floats:
        """How far values miss it, relative to the limit; <= 0 where they do not; inf where they have no value."""
        missed = (self.limit - values if self.at_least else values - self.limit) / (abs(self.limit) or 1.0)
        return np.where(np.isnan(missed), np.inf, missed)


@dataclass(frozen=True)
class Goals:
    """Objectives with directions, constraints, weights of resources by path, the baseline's values (SI) by path."""

    objectives: Mapping[str, str]
    constraints: tuple[Constraint, ...]
    resources: Mapping[str, float]
    baseline: Mapping[str, float]
    hbm_capacity: float

    def reads(self, known: Collection[str]) -> list[str]:
        """Outputs that the goals read, and what memory needs."""
        texts = [*self.objectives, *(c.output for c in self.constraints)]
        found = {name for text in texts for name in expression.names(text, [*known, RESOURCES])}
        return [name for name in known if name in found or name == "peak_memory_bytes"]

    def judged(self, found: Mapping[str, Floats], columns: Mapping[str, Floats], count: int) -> dict[str, Floats]:
        """Outputs of designs with the goals' expressions, relative resources, and how far each constraint is missed."""
        out = dict(found)
        out[RESOURCES] = self.relative_resources(columns, count)
        for text in (*self.objectives, *(c.output for c in self.constraints)):
            if text not in out:
                out[text] = np.broadcast_to(expression.value(text, out), (count,))
        capacity = columns.get("device.hbm.capacity", self.hbm_capacity)
        missed = {MEMORY: found["peak_memory_bytes"] / capacity - 1}
        missed |= {c.text: c.violation(out[c.output]) for c in self.constraints}
        return out | {f"{VIOLATION}{name}": np.asarray(values) for name, values in missed.items()}

    def relative_resources(self, columns: Mapping[str, Floats], count: int) -> Floats:
        """Weighted mean of fields over the baseline's, 1 for the baseline; no price."""
        weights = {path: w for path, w in self.resources.items() if w}
        total = sum(weights.values()) or 1.0
        out = np.zeros(count)
        for path, weight in weights.items():
            share = np.asarray(columns.get(path, self.baseline[path]), dtype=np.float64) / self.baseline[path]
            out += weight / total * (1 / share if path in LESS_IS_MORE else share)
        return out

    def described(self) -> dict[str, str]:
        """In words; equal for equal goals."""
        return {
            **{f"objective {i + 1}": f"{way} {name}" for i, (name, way) in enumerate(self.objectives.items())},
            **{f"constraint {i + 1}": c.text for i, c in enumerate(self.constraints)},
            **{f"weight of {path}": f"{weight:g}" for path, weight in self.resources.items()},
        }

    def losses(self, found: Mapping[str, Floats]) -> Floats:
        """(designs, objectives), less is better in each."""
        signs = {"minimize": 1.0, "maximize": -1.0}
        return np.column_stack([signs[way] * found[name] for name, way in self.objectives.items()])


def workloads(origin: Origin, node: Node, at: str) -> list[tuple[str, float, Scenario, tuple[str, ...]]]:
    """Name, weight, scenario and settings of each workload of a section; without `workloads`, the scenario itself.

    SpecError lists every problem: no list of fields, a name that is none or comes twice, a weight of 0, a field that cannot be.
    """
    listed = node.get("workloads")
    if listed is None or not listed.value:
        return [(_name(origin.scenario.model), 1.0, origin.scenario, ())]
    assert isinstance(listed.value, list)
    problems: list[str] = []
    found: list[tuple[str, float, Scenario, tuple[str, ...]]] = []
    for i, item in enumerate(listed.value):
        path = f"{at}.workloads.{i}"
        try:
            one = _workload(origin, item, path)
            if one[0] in [name for name, *_ in found]:
                raise SpecError(
                    item.problem(f"{path}.name", f"'{one[0]}' is the name of two workloads; give one its own")
                )
            found.append(one)
        except SpecError as error:
            problems.extend(error.problems)
    if problems:
        raise SpecError(problems)
    return found


def prepared(parts: Sequence[tuple[str, float, Scenario, tuple[str, ...]]]) -> Mix:
    """The mix, ready to price. SpecError where a model cannot be captured."""
    return Mix(tuple(Part(name, weight, prepare(scenario)) for name, weight, scenario, _ in parts))


def checked(node: Node, wanted: Wanted, at: str, names: Sequence[str], known: Mapping[str, spec.Field]) -> list[str]:
    """Problems of the goals of a section: objectives and constraints that are no outputs, resources that are no numbers of the
    device. names: of the workloads."""
    return list(_wrong(node, wanted, at, numbers(names), known))


def constraints(node: Node, wanted: Wanted, at: str, names: Sequence[str]) -> tuple[Constraint, ...]:
    """SpecError lists every problem."""
    problems: list[str] = []
    found = []
    for i in range(len(wanted.constraints)):
        try:
            found.append(_constraint(node, i, at, numbers(names)))
        except SpecError as error:
            problems.extend(error.problems)
    if problems:
        raise SpecError(problems)
    return tuple(found)


def numbers(names: Sequence[str]) -> dict[str, str]:
    """Unit of everything that an objective or a constraint may read. names: of the workloads."""
    every = {name: unit for name, unit in outputs(names).items() if not name.endswith("fits")}
    return every | {RESOURCES: ""}


def _workload(origin: Origin, item: Node, at: str) -> tuple[str, float, Scenario, tuple[str, ...]]:
    if not isinstance(item.value, dict):
        wanted = "expected fields, for example {request.height: 1024, weight: 2}"
        raise SpecError(item.problem(at, f"found {shown(item)}, {wanted}"))
    weight = item.value.get("weight")
    share = 1.0 if weight is None else _positive(weight, f"{at}.weight")
    settings = [f"{path}={leaf.text}" for path, leaf in _leaves(item) if path not in OF_A_WORKLOAD]
    for path, leaf in _leaves(item):
        if path not in OF_A_WORKLOAD and not re.match(r"(model|request|software)(\.|$)", path):
            text = "a workload says model, request... and software... beside its name and weight; the device is shared"
            raise SpecError(leaf.at_key().problem(f"{at}.{path}", text))
    ordered = tuple(sorted(settings, key=lambda s: not s.startswith("model=")))
    try:
        scenario = origin.varied(ordered)
    except SpecError as error:
        raise SpecError(item.problem(at, re.sub(r"^--set \S+: ", "", p)) for p in error.problems) from None
    named = item.value.get("name")
    name = named.text if named is not None else _name(scenario.model)
    if not NAME.fullmatch(name) or name in OUTPUTS:
        assert named is not None, "made from a model's id"
        wanted = "expected small letters, digits and _, no output's name, for example 'clip_16'"
        raise SpecError(named.problem(f"{at}.name", f"found '{name}', {wanted}"))
    return name, share, scenario, ordered


def _leaves(node: Node, prefix: str = "") -> Iterator[tuple[str, Node]]:
    assert isinstance(node.value, dict)
    for name, child in node.value.items():
        if isinstance(child.value, dict):
            yield from _leaves(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _positive(node: Node, at: str) -> float:
    value = node.value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise SpecError(node.problem(at, f"found {shown(node)}, expected a number above 0"))
    return float(value)


def _name(model: str) -> str:
    """A model's id as a name: 'stable_diffusion_1_5'."""
    return re.sub(r"\W", "_", model)


def _wrong(
    node: Node, wanted: Wanted, at: str, allowed: Mapping[str, str], known: Mapping[str, spec.Field]
) -> Iterator[str]:
    inside = node.get("objectives") or node
    assert isinstance(inside.value, dict)
    for name in wanted.objectives:
        try:
            expression.names(name, allowed)
        except ValueError as error:
            text = str(error).replace(f"unknown output '{name}'", "unknown output", 1)
            yield inside.value[name].at_key().problem(f"{at}.objectives.{name}", text)
    inside = node.get("resources") or node
    assert isinstance(inside.value, dict)
    for name in wanted.resources:
        if name not in RATES or name not in known:
            text = f"not a number of the device{nearest(name, RATES)}"
            yield inside.value[name].at_key().problem(f"{at}.resources.{name}", text)


def _constraint(node: Node, index: int, at: str, allowed: Mapping[str, str]) -> Constraint:
    """'relative_resources <= 1.5', 'latency_s <= 800 ms', 'energy_per_image_j * images_per_s <= 300'."""
    items = node.get("constraints")
    assert items is not None
    assert isinstance(items.value, list)
    item = items.value[index]
    path = f"{at}.constraints.{index}"
    match = re.fullmatch(r"\s*([^<>=]+?)\s*(<=|>=)\s*([^<>=]+?)\s*", item.text)
    if match is None:
        wanted = "an output, <= or >=, and a number, for example 'latency_s <= 0.8 s'"
        raise SpecError(item.problem(path, f"found '{item.text}', expected {wanted}"))
    left, sign, number = match.groups()
    try:
        expression.names(left, allowed)
        unit = allowed.get(left, "")
        unit = unit if unit in units.UNITS else ""
        limit = float(number) if re.fullmatch(units.NUMBER, number) else units.parse(number, unit)
    except ValueError as error:
        raise SpecError(item.problem(path, str(error))) from None
    return Constraint(item.text.strip(), left, limit, sign == ">=")
