"""`search:`: what varies, what is wanted, what must hold, and what resources count for.

search:
  device.sm_count: 64..256 step 4
  device.hbm.bandwidth: 1..8 TB/s log
  objectives: {images_per_s: maximize, relative_resources: minimize}
  constraints: [relative_resources <= 1.5]      # that memory holds the workload is always demanded
  resources: {device.sm_count: 2, device.hbm.bandwidth: 1}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass as spec_dataclass

from explore.evaluate import OUTPUTS, RATES, Workload, evaluate, prepare
from explore.front import differences
from explore.silicon import OUTPUTS as SILICON
from explore.space import Axis, Origin, axes, fields, section, settled, show, tidied, with_section
from hwspecs import spec, units
from hwspecs.errors import SpecError, nearest
from hwspecs.nodes import Node
from hwspecs.spec import CONFIG, Doc, Quantity
from sim.scenario import Scenario

Floats: TypeAlias = NDArray[np.float64]
EXAMPLE = "device.hbm.bandwidth: 1..8 TB/s"
RESOURCES = "relative_resources"  # weighted mean of resources relative to the baseline; no price
VIOLATION = "violation: "  # before a constraint's name: how far a design misses it, above 0 where it does
MEMORY = "memory"  # the name of the constraint that every search has
LESS_IS_MORE = ("device.hbm.latency", "device.launch.gap")  # fields whose resource is 1 / value
DIGITS = 9  # of the baseline's latency, which tells whether prices changed under a stored study
NUMBERS = {name: unit for name, unit in OUTPUTS.items() if name != "fits"} | {RESOURCES: ""}


@spec_dataclass(frozen=True, kw_only=True, config=CONFIG)
class Options:
    """What the section says beside the fields that vary."""

    objectives: Annotated[dict[str, Literal["minimize", "maximize"]], Field(min_length=1), Doc("output -> direction")]
    constraints: Annotated[tuple[str, ...], Doc("'OUTPUT <= NUMBER' or '>='; memory is always demanded")] = ()
    resources: Annotated[
        dict[str, Annotated[float, Quantity(ge=0)]], Doc("device field -> its weight in relative_resources")
    ] = field(default_factory=dict)
    trials: Annotated[int, Quantity(ge=1, doc="designs to try, in all")] = 500
    seed: Annotated[int, Quantity(ge=0, le=999_999, doc="of the sampler")] = 0
    batch: Annotated[int, Quantity(ge=1, le=100_000, doc="designs that are asked and priced together")] = 64


@dataclass(frozen=True)
class Constraint:
    """`text` as it was written; output <= limit, or >= where `at_least`."""

    text: str
    output: str
    limit: float
    at_least: bool

    def violation(self, values: Floats) -> Floats:
        """How far values miss it, relative to the limit; <= 0 where they do not."""
        return (self.limit - values if self.at_least else values - self.limit) / (abs(self.limit) or 1.0)


@dataclass(frozen=True)
class Search:
    """A search, read and checked. Weights of `resources` are by path, `baseline` (SI units) is the scenario's own device."""

    scenario: Scenario
    axes: tuple[Axis, ...]
    objectives: Mapping[str, str]
    constraints: tuple[Constraint, ...]
    resources: Mapping[str, float]
    trials: int
    seed: int
    batch: int
    baseline: Mapping[str, float]
    workload: Workload

    def identity(self) -> dict[str, str]:
        """What a stored study depends on, in words; trials may grow."""
        used = {*self.objectives, *(c.output for c in self.constraints)} & set(SILICON)
        own = evaluate(self.workload, {}, ["latency_s", *sorted(used)])
        return {
            **{axis.path: axis.text() for axis in self.axes},
            **{f"objective {i + 1}": f"{way} {name}" for i, (name, way) in enumerate(self.objectives.items())},
            **{f"constraint {i + 1}": c.text for i, c in enumerate(self.constraints)},
            **{f"weight of {path}": f"{weight:g}" for path, weight in self.resources.items()},
            "seed": str(self.seed),
            "batch": str(self.batch),
            "scenario": replace(self.scenario, sections={}).hash,
            **{f"{name} of the baseline": f"{float(own[name][0]):.{DIGITS}g}" for name in ("latency_s", *sorted(used))},
        }

    def prices(self, columns: Mapping[str, Floats]) -> dict[str, Floats]:
        """Outputs of designs, relative resources and how far each constraint is missed, each (designs,)."""
        found = evaluate(self.workload, columns)
        found[RESOURCES] = self.relative_resources(columns)
        capacity = columns.get("device.hbm.capacity", self.scenario.device.hbm.capacity)
        missed = {MEMORY: found["peak_memory_bytes"] / capacity - 1}
        missed |= {c.text: c.violation(found[c.output]) for c in self.constraints}
        return found | {f"{VIOLATION}{name}": np.asarray(values) for name, values in missed.items()}

    def relative_resources(self, columns: Mapping[str, Floats]) -> Floats:
        """Weighted mean of fields over the baseline's, 1 for the baseline; no price."""
        weights = {path: w for path, w in self.resources.items() if w}
        total = sum(weights.values()) or 1.0
        size = len(next(iter(columns.values())))
        out = np.zeros(size)
        for path, weight in weights.items():
            share = np.asarray(columns.get(path, self.baseline[path]), dtype=np.float64) / self.baseline[path]
            out += weight / total * (1 / share if path in LESS_IS_MORE else share)
        return out

    def own(self) -> dict[str, float]:
        """Outputs of the baseline."""
        columns = {axis.path: np.array([self.baseline[axis.path]]) for axis in self.axes}
        return {name: float(values[0]) for name, values in self.prices(columns).items()}

    def differences(self, design: Mapping[str, float]) -> str:
        """A design in words, as what it changes of the baseline."""
        return differences(design, {path: self.baseline[path] for path in design})


def read(origin: Origin) -> Search:
    """The `search:` section. SpecError lists every problem of it; also where the model cannot be captured."""
    names = [f.path for f in spec.fields(Options)]
    node, problems = settled(section(origin, "search", EXAMPLE), "search", names)
    assert isinstance(node.value, dict)
    origin = with_section(origin, "search", node)
    options = _attempt(problems, _options, replace(node, value={k: v for k, v in node.value.items() if k in names}))
    varied = replace(node, value={k: v for k, v in node.value.items() if k not in names})
    found: list[Axis] = _attempt(problems, lambda: axes(origin, varied, "search", searched=True, options=names)) or []
    if not varied.value:
        problems.append(node.problem("search", f"no field varies; expected at least one, for example `{EXAMPLE}`"))
    constraints: list[Constraint] = []
    if options:
        problems.extend(_wrong_names(node, options, fields(origin.scenario)))
        constraints = [c for i in range(len(options.constraints)) if (c := _attempt(problems, _constraint, node, i))]
    if problems or not options:
        raise SpecError(tidied(problems))
    resources = options.resources or {axis.path: 1.0 for axis in found}
    paths = {*resources, *(axis.path for axis in found)}
    baseline = {path: float(reduce(getattr, path.split("."), origin.scenario)) for path in sorted(paths)}  # type: ignore[arg-type]
    for path in resources:
        if not baseline[path]:
            at = node.get("resources") or node
            text = f"the baseline has none of it ({show(0.0, fields(origin.scenario)[path].unit)}); leave it out"
            raise SpecError(at.problem(f"search.resources.{path}", text))
    search = Search(
        origin.scenario, tuple(found), options.objectives, tuple(constraints), resources, options.trials, options.seed,
        options.batch, baseline, prepare(origin.scenario),
    )  # fmt: skip
    own = search.own()
    if missing := [name for name in (*search.objectives, *(c.output for c in constraints)) if np.isnan(own[name])]:
        device, lacking = origin.scenario.device, ", ".join(dict.fromkeys(missing))
        bare = device.silicon is None and all(name in SILICON for name in missing)
        who = f"{device.name} does not say what it is made of (silicon), so it" if bare else origin.scenario.model
        raise SpecError(node.problem("search", f"{who} has no {lacking}"))
    return search


def _attempt(problems: list[str], make: Any, *args: Any) -> Any:
    """make(...), or None with its problems noted."""
    try:
        return make(*args)
    except SpecError as error:
        problems.extend(error.problems)
        return None


def _options(node: Node) -> Options:
    if node.get("objectives") is None:
        example = "`objectives: {latency_s: minimize}`"
        raise SpecError(
            node.problem("search.objectives", f"missing; expected outputs and directions, for example {example}")
        )
    return spec.build(Options, node, at="search")


def _wrong_names(node: Node, options: Options, known: Mapping[str, spec.Field]) -> Iterator[str]:
    """Objectives that are no outputs, resources that are no numbers of the device."""
    for part, names, allowed in (("objectives", options.objectives, NUMBERS), ("resources", options.resources, RATES)):
        inside = node.get(part) or node
        assert isinstance(inside.value, dict)
        for name in names:
            if name not in allowed or (part == "resources" and name not in known):
                what = "unknown output" if part == "objectives" else "not a number of the device"
                more = f" (allowed: {', '.join(allowed)})" if part == "objectives" else ""
                text = f"{what}{nearest(name, allowed)}{more}"
                yield inside.value[name].at_key().problem(f"search.{part}.{name}", text)


def _constraint(node: Node, index: int) -> Constraint:
    """'relative_resources <= 1.5', 'latency_s <= 800 ms'."""
    items = node.get("constraints")
    assert items is not None
    assert isinstance(items.value, list)
    item = items.value[index]
    match = re.fullmatch(r"\s*(\w+)\s*(<=|>=)\s*(.+?)\s*", item.text)
    if match is None:
        wanted = "an output, <= or >=, and a number, for example 'latency_s <= 0.8 s'"
        raise SpecError(item.problem(f"search.constraints.{index}", f"found '{item.text}', expected {wanted}"))
    name, sign, number = match.groups()
    if name not in NUMBERS:
        text = f"unknown output '{name}'{nearest(name, NUMBERS)} (allowed: {', '.join(NUMBERS)})"
        raise SpecError(item.problem(f"search.constraints.{index}", text))
    try:
        limit = float(number) if re.fullmatch(units.NUMBER, number) else units.parse(number, _unit(name))
    except ValueError as error:
        raise SpecError(item.problem(f"search.constraints.{index}", str(error))) from None
    return Constraint(item.text.strip(), name, limit, sign == ">=")


def _unit(name: str) -> str:
    return NUMBERS[name] if NUMBERS[name] in units.UNITS else ""
