"""What a search found: the front, which designs could not be, and the bounds that were hit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from explore.front import pareto, spread
from explore.objectives import MEMORY, RESOURCES, VIOLATION, Search
from explore.space import Axis
from explore.storage import Location
from explore.study import Trials

Ints: TypeAlias = NDArray[np.int64]
ROWS = 15  # of the front that are shown
BEST = 5  # designs that are shown where there is one objective
AT_BOUND = 0.02  # share of a range within which a value counts as its end


@dataclass(frozen=True)
class Answer:
    """A finished search. `front`: indices of the trials on it, each design once, in ascending order of the first objective."""

    search: Search
    trials: Trials
    where: Location
    front: Ints

    def design(self, trial: int) -> dict[str, float]:
        """The fields of a trial by path, SI units."""
        return {path: float(column[trial]) for path, column in self.trials.params.items()}

    def shown(self) -> list[int]:
        """Trials of the front to show, best first in the first objective."""
        first, direction = next(iter(self.search.objectives.items()))
        values = self.trials.outputs[first] * (-1 if direction == "maximize" else 1)
        if len(self.search.objectives) == 1:
            feasible = np.flatnonzero(self.trials.feasible)
            order = feasible[np.argsort(values[feasible], kind="stable")]
            return list({self.search.differences(self.design(i)): int(i) for i in order[:50][::-1]}.values())[::-1][
                :BEST
            ]
        return [int(i) for i in self.front[spread(values[self.front], ROWS)]]

    def best(self, objective: str) -> int | None:
        """The trial that is best in one objective, of those on the front."""
        if not len(self.front):
            return None
        values = self.trials.outputs[objective][self.front]
        return int(
            self.front[np.argmax(values) if self.search.objectives[objective] == "maximize" else np.argmin(values)]
        )

    def infeasible(self) -> dict[str, int]:
        """How many designs miss each constraint that any misses; 'memory' does not hold the workload."""
        missed = {
            name.removeprefix(VIOLATION): int((self.trials.outputs[name] > 0).sum()) for name in self.trials.constraints
        }
        return {name: count for name, count in missed.items() if count}

    def bounds_hit(self) -> dict[str, list[str]]:
        """Objective -> 'the upper bound of device.l2.capacity' of its best design; resources are cheapest at the ends anyway."""
        found = {}
        for objective in self.search.objectives:
            best = self.best(objective)
            if (
                objective != RESOURCES
                and best is not None
                and (hits := list(_hits(self.search.axes, self.design(best))))
            ):
                found[objective] = hits
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain data: `--format json`; keys in docs/json.md."""
        search, own = self.search, self.search.own()
        return {
            "schema_version": 1,
            "name": search.scenario.name,
            "model": search.scenario.model,
            "device": search.scenario.device.name,
            "fields": {axis.path: axis.text() for axis in search.axes},
            "objectives": dict(search.objectives),
            "constraints": [c.text for c in search.constraints],
            "resources": dict(search.resources),
            "seed": search.seed,
            "batch": search.batch,
            "trials": len(self.trials),
            "feasible": int(self.trials.feasible.sum()),
            "infeasible": self.infeasible(),
            "baseline": {"fields": dict(search.baseline), "outputs": _outputs(own)},
            "front": [
                {
                    "trial": int(i),
                    "differences": search.differences(self.design(i)),
                    "fields": self.design(i),
                    "outputs": _outputs({name: float(column[i]) for name, column in self.trials.outputs.items()}),
                }
                for i in self.front
            ],
            "bounds_hit": self.bounds_hit(),
            "study": self.where.shown,
            "dashboard": self.where.dashboard(),
        }


def answer(search: Search, trials: Trials, where: Location) -> Answer:
    """Find the front among the feasible trials."""
    feasible = np.flatnonzero(trials.feasible)
    signs = [
        (-1.0 if direction == "maximize" else 1.0) * trials.outputs[n] for n, direction in search.objectives.items()
    ]
    front = feasible[pareto(np.column_stack(signs)[feasible])]
    designs = np.column_stack([column[front] for column in trials.params.values()])
    _, first = np.unique(designs, axis=0, return_index=True)
    front = front[np.sort(first)]
    return Answer(search, trials, where, front[np.argsort(signs[0][front], kind="stable")])


def _outputs(values: dict[str, float]) -> dict[str, Any]:
    """Without violations; NaN is null, fits a truth value."""
    kept = {name: value for name, value in values.items() if not name.startswith(VIOLATION)}
    return {n: bool(v) if n == "fits" else (None if np.isnan(v) else v) for n, v in kept.items()}


def _hits(axes: tuple[Axis, ...], design: dict[str, float]) -> Iterator[str]:
    for axis in axes:
        values = [float(v) for v in axis.values]
        low, high, value = min(values), max(values), design[axis.path]
        near = AT_BOUND * (high - low) if axis.range else 0.0
        if high > low and value >= high - near:
            yield f"the upper bound of {axis.path}"
        elif high > low and value <= low + near:
            yield f"the lower bound of {axis.path}"


__all__ = ["MEMORY", "ROWS", "Answer", "answer"]
