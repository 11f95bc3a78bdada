"""Optuna by ask and tell, a batch at a time, over a journal file (or any Optuna storage) that can be continued.

The sampler works on a copy of the study in memory: a batch is asked, priced in one array call and told there, and then
its finished trials are appended to the storage. So a killed search leaves no trial half done. Each batch has a sampler of
its own, seeded by (seed, number of the batch), that knows the batches up to `machines` before it: a study is a function of
(space, seed, batch, machines), also when it is continued in the middle of a batch, which is then asked again and completed, and
when several searches work on it at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from explore import samplers
from explore.identity import changed, fields_of, way_out
from explore.objectives import VIOLATION, Search
from explore.propose import Design, Tried, even, promising
from explore.storage import PLACE, Claims, Location, append, finished, opened, patiently, quiet
from hwspecs.errors import StudyError

if TYPE_CHECKING:
    import optuna

Floats: TypeAlias = NDArray[np.float64]
Stored: TypeAlias = "dict[int, optuna.trial.FrozenTrial]"  # finished trials by place
SPACE, SCENARIO, DESIGN = "framecast: space", "framecast: scenario", "design"  # attributes: of the study, of each trial
OWN = 8  # of several objectives one design in so many is the sampler's own; the others are where a model expects most
POLL = 0.2  # s between looks at what other searches have done


@dataclass(frozen=True)
class Trials:
    """Finished trials in order: fields by path and outputs by name, each (trials,)."""

    params: Mapping[str, Floats]
    outputs: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(next(iter(self.params.values())))

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Designs that miss no constraint."""
        return np.asarray(np.all([self.outputs[name] <= 0 for name in self.constraints], axis=0))

    @property
    def constraints(self) -> list[str]:
        """Outputs that hold violations."""
        return [name for name in self.outputs if name.startswith(VIOLATION)]


def joined(each: list[Trials]) -> Trials:
    """Trials of several studies one after the other."""
    names = list(dict.fromkeys(n for t in each for n in t.outputs))
    return Trials(
        {path: np.concatenate([t.params[path] for t in each]) for path in each[0].params},
        {n: np.concatenate([t.outputs.get(n, np.full(len(t), np.nan)) for t in each]) for n in names},
    )


Prices: TypeAlias = Callable[
    [Mapping[str, Floats]], dict[str, Floats]
]  # fields by path -> outputs by name, each (designs,)


def run(
    search: Search,
    where: Location,
    progress: Callable[[Trials], None] | None = None,
    prices: Prices | None = None,
) -> Trials:
    """Complete the study of the search to `search.trials` trials in all, and return those.

    `progress` is told of the trials after each batch. prices: what prices a batch instead of `search.prices`.
    StudyError: the storage cannot be read or written, is damaged or in use, or holds a study of another space.
    """
    if search.machines > 1 and not where.is_shared:
        text = "several machines share a study in PostgreSQL only; give one by --study postgresql://... or leave out"
        raise StudyError(f"{where.shown}: {text} search.machines")
    with quiet(), opened(where, lambda storage: _study(search, storage)) as (study, claims):
        stored = patiently(where, partial(finished, study))
        _check_space(search, study, where, len(stored))
        if progress and stored:
            progress(_trials(search, stored))
        memory = None
        while (todo := _todo(search, stored)) is not None:
            batch = patiently(where, partial(_taken, search, claims, stored))
            if batch is not None:
                stored = patiently(where, partial(finished, study)) if where.is_shared else stored
                memory = _memory(search, stored, batch, memory)
                asked = batch_of(search, memory, batch, prices)
                new = {p: t for p, t in enumerate(asked, batch * search.batch) if p < search.trials and p not in stored}
                append(where, study, claims, batch, new)
                patiently(where, partial(claims.release, batch))
                stored |= new
            else:
                time.sleep(POLL)
            if where.is_shared:
                stored = patiently(where, partial(finished, study))
            if progress and (batch is not None or _todo(search, stored) != todo):
                progress(_trials(search, stored))
        return _trials(search, stored)


def _todo(search: Search, stored: Stored) -> int | None:
    """The first batch that is not done; None where all are."""
    missing = next((place for place in range(search.trials) if place not in stored), None)
    return None if missing is None else missing // search.batch


def _taken(search: Search, claims: Claims, stored: Stored) -> int | None:
    """A batch for this search: of those that are not done and whose sampler's trials are all there, the first that no other
    search holds."""
    first = _todo(search, stored)
    assert first is not None
    last = -(-search.trials // search.batch)
    for batch in range(first, min(first + search.machines, last)):
        places = range(batch * search.batch, min((batch + 1) * search.batch, search.trials))
        if any(place not in stored for place in places) and claims.take(batch):
            return batch
    return None


def _memory(search: Search, stored: Stored, batch: int, before: optuna.Study | None) -> optuna.Study:
    """A study in memory with the trials that the sampler of a batch knows: of all batches up to `machines` before it."""
    import optuna

    known = max(batch - search.machines + 1, 0) * search.batch
    if before is not None and len(before.get_trials(deepcopy=False)) == known and search.machines == 1:
        return before
    memory = optuna.create_study(directions=list(search.objectives.values()))
    memory.add_trials([stored[place] for place in range(known)])
    return memory


def batch_of(
    search: Search, memory: optuna.Study, batch: int, prices: Prices | None = None
) -> list[optuna.trial.FrozenTrial]:
    """All trials of one batch, asked, priced and told in memory, which holds what the sampler knows."""
    memory.sampler = samplers.sampler(search.sampler, samplers.seed_of(search.seed, batch), search.batch)
    space = {axis.path: samplers.distribution(axis) for axis in search.axes}
    known = len(memory.get_trials(deepcopy=False))
    asked = []
    for design in _given(search, memory, batch):
        if design is not None:
            memory.enqueue_trial(dict(design))
        asked.append(memory.ask(space))
    designs = [{path: float(value) for path, value in trial.params.items()} for trial in asked]
    outputs = (prices or search.prices)({path: np.array([design[path] for design in designs]) for path in space})
    for i, (trial, design) in enumerate(zip(asked, designs, strict=True)):
        trial.set_user_attr(DESIGN, search.differences(design))
        trial.set_user_attr(PLACE, batch * search.batch + i)
        for name, column in outputs.items():
            value = float(column[i])
            if name.startswith(VIOLATION):
                trial.set_constraint(name.removeprefix(VIOLATION), value)
            if np.isfinite(value):
                trial.set_user_attr(name, value)
        memory.tell(trial, [float(outputs[name][i]) for name in search.objectives])
    told: list[optuna.trial.FrozenTrial] = memory.get_trials(deepcopy=False)[known:]
    return told


def timed(search: Search) -> tuple[float, float]:
    """Seconds of the first batch of a search and of each later one, tried in memory."""
    import optuna

    with quiet():
        memory = optuna.create_study(directions=list(search.objectives.values()))
        clock = [time.perf_counter()]
        for batch in range(2):
            batch_of(search, memory, batch)
            clock.append(time.perf_counter())
    return clock[1] - clock[0], clock[2] - clock[1]


def _given(search: Search, memory: optuna.Study, batch: int) -> list[Design | None]:
    """What each trial of a batch is given: a point of an even sample, a design where the model expects most, or nothing (the
    sampler's)."""
    first = batch * search.batch
    evenly: list[Design | None] = [
        even(search.axes, place, search.seed) for place in range(first, min(first + search.batch, search.spread))
    ]
    left = search.batch - len(evenly)
    done = memory.get_trials(deepcopy=False)
    if len(search.objectives) == 1 or not done or not left:
        return [*evenly, *[None] * left]
    near = promising(search.axes, _tried(search, done), left - left // OWN, (search.seed, batch))
    return [*evenly, *near, *[None] * (left - len(near))]


def _tried(search: Search, done: list[optuna.trial.FrozenTrial]) -> Tried:
    signs = np.array([1.0 if way == "minimize" else -1.0 for way in search.objectives.values()])
    missed = sorted(done[0].constraints)  # a database gives them in any order
    return Tried(
        {axis.path: np.array([float(t.params[axis.path]) for t in done]) for axis in search.axes},
        signs * np.array([t.values for t in done]),
        np.array([[t.constraints[name] for name in missed] for t in done]),
    )


def _study(search: Search, storage: Any) -> optuna.Study:
    import optuna

    names = [s.study_name for s in optuna.get_all_study_summaries(storage)]
    if search.study in names:
        return optuna.load_study(study_name=search.study, storage=storage)
    directions = list(search.objectives.values())
    study = optuna.create_study(study_name=search.study, storage=storage, directions=directions)
    _note_space(search, study)
    return study


def _note_space(search: Search, study: optuna.Study) -> None:
    """What the study depends on: in words, and the scenario in full, to say later what changed in it."""
    study.set_metric_names(list(search.objectives))
    study.set_user_attr(SCENARIO, fields_of(search.scenario))
    study.set_user_attr(SPACE, search.identity())


def _check_space(search: Search, study: optuna.Study, where: Location, done: int) -> None:
    """StudyError that says what changed, where the study is of another space."""
    stored, now = study.user_attrs.get(SPACE), search.identity()
    if stored is None and not study.get_trials(deepcopy=False):  # killed while it was being made
        _note_space(search, study)
        return
    if not isinstance(stored, dict):
        text = f"the study '{study.study_name}' in it is none of framecast's; start with --study NEW"
        raise StudyError(f"{where.shown}: {text}")
    scenario = fields_of(search.scenario)
    if changes := changed((stored, now), (study.user_attrs.get(SCENARIO, scenario), scenario)):
        text = way_out(changes, "start with --study NEW")
        raise StudyError(f"{where.shown}: space changed since trial {done}: {text}")


def _trials(search: Search, stored: Stored) -> Trials:
    kept = [stored[place] for place in sorted(stored) if place < search.trials]
    there = {n for t in kept for n in t.user_attrs}  # in any order, where a database gives them
    names = [n for n in search.outputs if n in there]
    return Trials(
        {a.path: np.array([t.params[a.path] for t in kept], dtype=np.float64) for a in search.axes},
        {n: np.array([t.user_attrs.get(n, np.nan) for t in kept], dtype=np.float64) for n in names},
    )
