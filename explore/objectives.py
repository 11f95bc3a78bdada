"""`search:`: what varies, what is wanted, what must hold, and what resources count for.

search:
  device.sm_count: 64..256 step 4
  device.hbm.bandwidth: 1..8 TB/s log
  workloads: [{weight: 3}, {name: wide, request.height: 1024}]   # a mix; without it the scenario alone
  objectives: {images_per_s / price_usd: maximize, latency_s: minimize}
  constraints: [area_mm2 <= 858, wide.latency_s <= 2 s]          # that memory holds the workload is always demanded
  resources: {device.sm_count: 2, device.hbm.bandwidth: 1}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass as spec_dataclass

from explore import goals as wishes
from explore import samplers
from explore.evaluate import RATES
from explore.front import differences
from explore.goals import MEMORY, RESOURCES, VIOLATION, Constraint, Goals, Wanted
from explore.mix import Mix
from explore.silicon import OUTPUTS as SILICON
from explore.space import Axis, Origin, axes, fields, section, settled, show, tidied, with_section
from hwspecs import spec
from hwspecs.errors import SpecError
from hwspecs.nodes import Node
from hwspecs.spec import CONFIG, Doc, Quantity
from sim.scenario import Scenario

Floats: TypeAlias = NDArray[np.float64]
EXAMPLE = "device.hbm.bandwidth: 1..8 TB/s"
DIGITS = 9  # of the baseline's latency, which tells whether prices changed under a stored study


@spec_dataclass(frozen=True, kw_only=True, config=CONFIG)
class Options(Wanted):
    """What the section says beside the fields that vary."""

    trials: Annotated[int, Quantity(ge=1, doc="designs to try, in all")] = 500
    seed: Annotated[int, Quantity(ge=0, le=999_999, doc="of the sampler")] = 0
    batch: Annotated[int, Quantity(ge=1, le=100_000, doc="designs that are asked and priced together")] = 64
    spread: Annotated[
        int, Quantity(ge=0, doc="of the trials, the first: evenly over the space, before the sampler proposes any")
    ] = 32
    sampler: Annotated[
        Literal["auto", "nsga2", "nsga3", "tpe", "gp", "cmaes"],
        Doc("Optuna's; auto is nsga2 for several objectives, tpe for one"),
    ] = "auto"
    machines: Annotated[
        int,
        Quantity(ge=1, le=1000, doc="searches that may work on the study at once, each on a batch; needs PostgreSQL"),
    ] = 1


@dataclass(frozen=True)
class Search:
    """A search, read and checked. `settings` of each workload tell it from the scenario. repeat: number of the seed, from 0."""

    scenario: Scenario
    axes: tuple[Axis, ...]
    goals: Goals
    trials: int
    seed: int
    batch: int
    spread: int
    sampler: str
    machines: int
    mix: Mix
    settings: tuple[tuple[str, ...], ...]
    repeat: int = 0

    @property
    def study(self) -> str:
        """The name of its study in a storage."""
        return f"{self.scenario.name}, seed {self.seed}" if self.repeat else self.scenario.name

    @property
    def objectives(self) -> Mapping[str, str]:
        """Expression -> direction."""
        return self.goals.objectives

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """Beside memory."""
        return self.goals.constraints

    @property
    def resources(self) -> Mapping[str, float]:
        """Weights by path."""
        return self.goals.resources

    @property
    def baseline(self) -> Mapping[str, float]:
        """The scenario's own device: fields that vary or count as resources, SI units."""
        return self.goals.baseline

    def identity(self) -> dict[str, str]:
        """What a stored study depends on, in words; trials may grow."""
        return {
            **{axis.path: axis.text() for axis in self.axes},
            **self.goals.described(),
            **described(self.mix, self.settings),
            "seed": str(self.seed),
            "batch": str(self.batch),
            "spread": str(self.spread),
            "sampler": self.sampler,
            **({"machines": str(self.machines)} if self.machines > 1 else {}),
            "scenario": replace(self.scenario, sections={}).hash,
            **baseline_values(self.mix, self.goals),
        }

    def prices(self, columns: Mapping[str, Floats]) -> dict[str, Floats]:
        """Outputs of designs, relative resources and how far each constraint is missed, each (designs,)."""
        return self.goals.judged(self.mix.evaluate(columns), columns, len(next(iter(columns.values()))))

    @property
    def outputs(self) -> list[str]:
        """Names of what `prices` gives, in its order."""
        asked = [*self.objectives, *(c.output for c in self.constraints)]
        missed = [f"{VIOLATION}{name}" for name in (MEMORY, *(c.text for c in self.constraints))]
        return list(dict.fromkeys([*self.mix.outputs, RESOURCES, *asked, *missed]))

    def own(self) -> dict[str, float]:
        """Outputs of the baseline."""
        columns = {axis.path: np.array([self.baseline[axis.path]]) for axis in self.axes}
        return {name: float(values[0]) for name, values in self.prices(columns).items()}

    def differences(self, design: Mapping[str, float]) -> str:
        """A design in words, as what it changes of the baseline."""
        return differences(design, {path: self.baseline[path] for path in design})


def repeated(search: Search, count: int) -> list[Search]:
    """The same search with so many seeds, from its own on; each has a study of its own."""
    return [replace(search, seed=search.seed + i, repeat=i) for i in range(count)]


def described(mix: Mix, settings: tuple[tuple[str, ...], ...]) -> dict[str, str]:
    """The workloads of a mix in words; nothing where there is one."""
    if len(mix.parts) == 1:
        return {}
    pairs = zip(mix.parts, settings, strict=True)
    return {f"workload {part.name}": ", ".join([*own, f"weight {part.weight:g}"]) for part, own in pairs}


def baseline_values(mix: Mix, goals: Goals) -> dict[str, str]:
    """Latency, and what silicon decides of the goals: they tell whether prices changed since something was stored."""
    names = ["latency_s", *(n for n in goals.reads(list(mix.outputs)) if n.rpartition(".")[2] in SILICON)]
    own = mix.evaluate({}, names)
    return {f"{name} of the baseline": f"{float(own[name][0]):.{DIGITS}g}" for name in names}


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
    parts = (_attempt(problems, wishes.workloads, origin, node, "search") if options else None) or []
    constraints: tuple[Constraint, ...] = ()
    if parts:
        called = [name for name, *_ in parts]
        problems.extend(wishes.checked(node, options, "search", called, fields(origin.scenario)))
        constraints = _attempt(problems, wishes.constraints, node, options, "search", called) or ()
    if options and (wrong := samplers.problem(options.sampler, len(options.objectives))):
        problems.append((node.get("sampler") or node).problem("search.sampler", wrong))
    if problems or not options:
        raise SpecError(tidied(problems))
    resources = options.resources or {axis.path: 1.0 for axis in found if axis.path in RATES}
    goals = Goals(
        options.objectives, constraints, resources, baseline(origin.scenario, [*resources, *(a.path for a in found)]),
        origin.scenario.device.hbm.capacity,
    )  # fmt: skip
    check_resources(node, goals, origin.scenario, "search")
    search = Search(
        origin.scenario, tuple(found), goals, options.trials, options.seed, options.batch, options.spread,
        samplers.named(options.sampler, len(options.objectives)), options.machines,
        wishes.prepared(parts), tuple(settings for *_, settings in parts),
    )  # fmt: skip
    check_outputs(node, goals, search.own(), origin.scenario, "search")
    return search


def baseline(scenario: Scenario, paths: list[str]) -> dict[str, float]:
    """Values of the scenario's own device by path."""
    return {path: float(reduce(getattr, path.split("."), scenario)) for path in sorted(set(paths))}  # type: ignore[arg-type]


def check_resources(node: Node, goals: Goals, scenario: Scenario, at: str) -> None:
    """SpecError for a resource of which the baseline has none."""
    for path in goals.resources:
        if not goals.baseline[path]:
            place = node.get("resources") or node
            text = f"the baseline has none of it ({show(0.0, fields(scenario)[path].unit)}); leave it out"
            raise SpecError(place.problem(f"{at}.resources.{path}", text))


def check_outputs(node: Node, goals: Goals, own: Mapping[str, float], scenario: Scenario, at: str) -> None:
    """SpecError for goals that have no value for the baseline."""
    asked = (*goals.objectives, *(c.output for c in goals.constraints))
    if missing := [name for name in asked if not np.isfinite(own[name])]:
        device, lacking = scenario.device, ", ".join(dict.fromkeys(missing))
        bare = device.silicon is None and any(name in text for text in missing for name in SILICON)
        who = f"{device.name} does not say what it is made of (silicon), so it" if bare else scenario.model
        raise SpecError(node.problem(at, f"{who} has no {lacking}"))


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
    options = spec.build(Options, node, at="search")
    if not options.objectives:
        raise SpecError((node.get("objectives") or node).problem("search.objectives", "empty; expected at least one"))
    return options


__all__ = ["MEMORY", "RESOURCES", "VIOLATION", "Goals", "Options", "Search", "read"]
