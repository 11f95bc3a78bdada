"""What a search found: the front, which designs could not be, and the bounds that were hit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from explore.around import Around, around
from explore.front import hypervolume, pareto, spread
from explore.objectives import MEMORY, RESOURCES, VIOLATION, Search
from explore.ranking import Ranking, rank
from explore.space import Axis
from explore.storage import Location
from explore.study import Trials, joined
from explore.sure import Sure, sure
from sim.cost import BOUNDS

if TYPE_CHECKING:
    import pandas as pd

Ints: TypeAlias = NDArray[np.int64]
ROWS = 15  # of the front that are shown
BEST = 5  # designs that are shown where there is one objective
AT_BOUND = 0.02  # share of a range within which a value counts as its end


@dataclass(frozen=True)
class Answer:
    """A finished search.

    Attributes:
        trials: of all seeds, one seed after the other.
        front: indices of the trials on it, each design once, in ascending order of the first objective.
        runs: the trials of each seed; one where it was not repeated.
    """

    search: Search
    trials: Trials
    where: Location
    front: Ints
    runs: tuple[Trials, ...]

    @cached_property
    def own(self) -> dict[str, float]:
        """Outputs of the baseline."""
        return self.search.own()

    @cached_property
    def ranking(self) -> Ranking:
        """The baseline, then the designs that are shown."""
        baseline, *designs = self._shown_designs()
        return rank(self.search.mix, baseline, designs)

    @cached_property
    def sure(self) -> Sure:
        """How sure the goals of those designs are."""
        return sure(self.search, self.ranking, self._shown_designs())

    @cached_property
    def chosen(self) -> dict[int, list[str]]:
        """The best trial of each objective -> the objectives that it is best in."""
        found: dict[int, list[str]] = {}
        for objective in self.search.objectives:
            if (trial := self.best(objective)) is not None:
                found.setdefault(trial, []).append(objective)
        return found

    @cached_property
    def around(self) -> Around:
        """Each field 10 % down and up around the chosen designs. ValueError where no design is feasible."""
        if not self.chosen:
            raise ValueError("no design is feasible")
        return around(self.search, [self.design(trial) for trial in self.chosen])

    def spread(self) -> dict[str, list[float]]:
        """Best value of each objective by seed; 'hypervolume', as a share of that of all seeds together (to 3 objectives)."""
        ways, found = self.search.objectives, {}
        for name, way in ways.items():
            kept = [run.outputs[name][run.feasible] for run in self.runs]
            found[name] = [float((v.max() if way == "maximize" else v.min()) if len(v) else np.nan) for v in kept]
        if 1 < len(ways) <= 3 and len(self.front):
            losses = [self.search.goals.losses(run.outputs)[run.feasible] for run in self.runs]
            every = np.vstack(losses)
            reference = every.max(axis=0)
            if whole := hypervolume(every, reference):
                found["hypervolume"] = [hypervolume(each, reference) / whole for each in losses]
        return found

    def frame(self) -> pd.DataFrame:
        """One row a trial: seed, fields with units, outputs, feasibility, what it misses, whether it is on the front."""
        from explore.report import trials_frame

        return trials_frame(self)

    def front_frame(self) -> pd.DataFrame:
        """The front, one row a design, best in the first objective first, with its difference from the baseline in words."""
        table = self.frame().iloc[self.front].reset_index(drop=True)
        table.insert(1, "differences", [self.search.differences(self.design(i)) for i in self.front])
        return table.drop(columns=["feasible", "misses", "on_front"])

    def ranking_frame(self) -> pd.DataFrame:
        """Of shown designs, how many times as fast as the baseline each is, and the probability to be faster than the next.

        Then each objective over the baseline's, with 80 %, that it is better than the next's, and that each constraint is met.
        """
        import pandas as pd

        rows = []
        for row, trial in enumerate(self.shown(), start=1):
            ratio, low, high = self.ranking.speed(row)
            after = self.ranking.faster(row, row + 1) if row < len(self.ranking.latency) - 1 else np.nan
            rows.append({"trial": trial, "speed": ratio, "speed_low": low, "speed_high": high,
                         "faster_than_baseline": self.ranking.faster(row, 0), "faster_than_next": after,
                         **self._of_goals(row)})  # fmt: skip
        return pd.DataFrame(rows)

    def _of_goals(self, row: int) -> dict[str, float]:
        """Of a shown design by row: each objective over the baseline's and against the next, each constraint."""
        found: dict[str, float] = {}
        last = row == len(self.ranking.latency) - 1
        for name, way in self.search.objectives.items():
            ratio, low, high = self.sure.ratio(name, row)
            over = f"{name} over baseline"
            found |= {over: ratio, f"{over} low": low, f"{over} high": high}
            found[f"{name} better than next"] = np.nan if last else self.sure.better(name, way, row, row + 1)
        return found | {f"meets {c.text}": self.sure.meets(c, row) for c in self.search.constraints}

    def bounds_frame(self) -> pd.DataFrame:
        """Shares of kernel time by what bounds the kernel: of each workload, on the baseline (trial -1) and each shown design."""
        import pandas as pd

        trials = [-1, *self.shown()]
        return pd.DataFrame([
            {"workload": name, "trial": trial, **{b: float(x) for b, x in zip(BOUNDS, shares[i], strict=True)}}
            for name, shares in self.ranking.bounds.items() for i, trial in enumerate(trials)
        ])  # fmt: skip

    def sensitivity_frame(self) -> pd.DataFrame:
        """Relative change of each objective with each field 10 % down and up, around the best design of each objective."""
        import pandas as pd

        a = self.around
        return pd.DataFrame([
            {"trial": trial, "field": path, "objective": name, "down": float(a.changes[d, f, 0, o]),
             "up": float(a.changes[d, f, 1, o]), "low": float(a.values[d, f, 0]), "high": float(a.values[d, f, 1])}
            for d, trial in enumerate(self.chosen) for f, path in enumerate(a.paths) for o, name in enumerate(a.objectives)
        ])  # fmt: skip

    def design(self, trial: int) -> dict[str, float]:
        """The fields of a trial by path, SI units."""
        return {path: float(column[trial]) for path, column in self.trials.params.items()}

    def _shown_designs(self) -> list[dict[str, float]]:
        """The baseline, then the designs that are shown."""
        baseline = {axis.path: self.search.baseline[axis.path] for axis in self.search.axes}
        return [baseline, *(self.design(i) for i in self.shown())]

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
        """Objective -> 'the upper bound of device.l2.capacity' of its best design; resources are cheapest at the ends anyway.

        A bound beyond which neither an objective nor what a constraint limits gets better is left out."""
        found = {}
        for objective in self.search.objectives:
            best = self.best(objective)
            if (
                objective != RESOURCES
                and best is not None
                and (
                    hits := list(
                        _hits(self.search.axes, self.design(best), self.around.helps[[*self.chosen].index(best)])
                    )
                )
            ):
                found[objective] = hits
        return found


def answer(search: Search, found: Trials | Sequence[Trials], where: Location) -> Answer:
    """Find the front among the feasible trials, of one study or of one for each seed."""
    runs = (found,) if isinstance(found, Trials) else tuple(found)
    trials = joined(list(runs))
    feasible = np.flatnonzero(trials.feasible)
    signs = [
        (-1.0 if direction == "maximize" else 1.0) * trials.outputs[n] for n, direction in search.objectives.items()
    ]
    front = feasible[pareto(np.column_stack(signs)[feasible])]
    designs = np.column_stack([column[front] for column in trials.params.values()])
    _, first = np.unique(designs, axis=0, return_index=True)
    front = front[np.sort(first)]
    return Answer(search, trials, where, front[np.argsort(signs[0][front], kind="stable")], runs)


def _hits(axes: tuple[Axis, ...], design: dict[str, float], helps: NDArray[np.bool_]) -> Iterator[str]:
    """helps: (axes, 2), whether less and more of each would better anything."""
    for axis, (less, more) in zip(axes, helps, strict=True):
        values = [float(v) for v in axis.values]
        low, high, value = min(values), max(values), design[axis.path]
        near = AT_BOUND * (high - low) if axis.range else 0.0
        if high > low and value >= high - near and more:
            yield f"the upper bound of {axis.path}"
        elif high > low and value <= low + near and less:
            yield f"the lower bound of {axis.path}"


__all__ = ["MEMORY", "ROWS", "Answer", "answer"]
