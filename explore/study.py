"""Optuna by ask and tell, a batch at a time, over a journal file (or any Optuna storage) that can be continued.

The sampler works on a copy of the study in memory: a batch is asked, priced in one array call and told there, and then
its finished trials are appended to the storage. So a killed search leaves no trial half done. Each batch has a sampler of
its own, seeded by (seed, number of the batch): a study is a function of (space, seed, batch), also when it is continued in
the middle of a batch, which is then asked again and completed.
"""

from __future__ import annotations

import contextlib
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from explore.front import pareto
from explore.identity import changed, fields_of, way_out
from explore.journal import Journal, held, repair
from explore.objectives import VIOLATION, Search
from explore.propose import Design, even, neighbours
from explore.space import Axis
from hwspecs.errors import StudyError

if TYPE_CHECKING:
    import optuna

Floats: TypeAlias = NDArray[np.float64]
SPACE, SCENARIO, DESIGN = "framecast: space", "framecast: scenario", "design"  # attributes: of the study, of each trial
POPULATION = 50  # of NSGA-II, Optuna's own default; a larger batch is one generation
WAIT, RETRY = 60.0, 1.0  # s that a database may be away, and between attempts to reach it


@dataclass(frozen=True)
class Location:
    """Where a study is kept: a file, or the URL of a database."""

    text: str

    @property
    def is_url(self) -> bool:
        """A storage URL as Optuna takes it, for example postgresql://host/name."""
        return "://" in self.text

    @property
    def shown(self) -> str:
        """Without a password."""
        return re.sub(r"(://[^:/@]+):[^@/]*@", r"\1:***@", self.text)

    def dashboard(self) -> str:
        """The command that shows it."""
        return f"optuna-dashboard {self.shown}"


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


def run(search: Search, where: Location, progress: Callable[[Trials], None] | None = None) -> Trials:
    """Complete the study that is called as the scenario to `search.trials` trials in all, and return those.

    `progress` is told of the trials after each batch. StudyError: the storage cannot be read or written, is damaged or in
    use, or holds a study of another space.
    """
    with _opened(where) as storage, _quiet():
        study = _attempt(where, lambda: _study(search, storage))
        stored = _finished(study)
        _check_space(search, study, where, len(stored))
        if progress and stored:
            progress(_trials(search, stored))
        memory = _memory(search, stored[: len(stored) // search.batch * search.batch])
        while len(stored) < search.trials:
            asked = _batch(search, memory, len(stored) // search.batch)
            new = asked[len(stored) % search.batch :][: search.trials - len(stored)]
            _append(where, study, len(stored), new)
            stored.extend(new)
            if progress:
                progress(_trials(search, stored))
        return _trials(search, stored)


def _memory(search: Search, before: Sequence[optuna.trial.FrozenTrial]) -> optuna.Study:
    """A study in memory with the trials of finished batches, on which the samplers work."""
    import optuna

    memory = optuna.create_study(directions=list(search.objectives.values()))
    memory.add_trials(before)
    return memory


def _append(where: Location, study: optuna.Study, before: int, new: Sequence[optuna.trial.FrozenTrial]) -> None:
    """Append trials to the storage, which has `before`: to a journal in one write, to a database one by one.

    A database that is away is waited for; then what it has of the trials is read, so that none is lost and none is there twice.
    StudyError when it stays away.
    """
    from hwspecs.notes import say

    backend = getattr(study._storage, "_backend", None)
    if isinstance(backend, Journal):
        with backend.together():
            for trial in new:
                study.add_trial(trial)
        _attempt(where, backend.flush)
        return
    until, told = 0.0, False
    while True:
        try:
            for trial in new[len(_finished(study)) - before if told else 0 :]:
                study.add_trial(trial)
            return
        except Exception as error:  # of whatever driver: a database that is away, or anything else
            until = until or time.monotonic() + WAIT
            if time.monotonic() >= until or not _is_away(error):
                _attempt(where, partial(_fail, error))
            if not told:
                say(f"warning: {where.shown}: the database does not answer; waiting up to {WAIT:.0f} s for it")
            told = True
            time.sleep(RETRY)


def _is_away(error: BaseException | None) -> bool:
    """The connection is the fault: SQLAlchemy's name for it, here or in what it was caused by."""
    names = {"OperationalError", "InterfaceError", "DisconnectionError"}
    return error is not None and (type(error).__name__ in names or _is_away(error.__cause__ or error.__context__))


def _fail(error: Exception) -> None:
    raise error


def _batch(search: Search, memory: optuna.Study, batch: int) -> list[optuna.trial.FrozenTrial]:
    """All trials of one batch, asked, priced and told in memory, which holds the trials of the batches before it."""
    memory.sampler = _sampler(search, batch)
    space = {axis.path: _distribution(axis) for axis in search.axes}
    asked = []
    for design in list(_given(search, memory, batch)):
        if design is not None:
            memory.enqueue_trial(dict(design))
        asked.append(memory.ask(space))
    designs = [{path: float(value) for path, value in trial.params.items()} for trial in asked]
    outputs = search.prices({path: np.array([design[path] for design in designs]) for path in space})
    for i, (trial, design) in enumerate(zip(asked, designs, strict=True)):
        trial.set_user_attr(DESIGN, search.differences(design))
        for name, column in outputs.items():
            value = float(column[i])
            if name.startswith(VIOLATION):
                trial.set_constraint(name.removeprefix(VIOLATION), value)
            if np.isfinite(value):
                trial.set_user_attr(name, value)
        memory.tell(trial, [float(outputs[name][i]) for name in search.objectives])
    told: list[optuna.trial.FrozenTrial] = memory.get_trials(deepcopy=False)[batch * search.batch :]
    return told


def _given(search: Search, memory: optuna.Study, batch: int) -> Iterator[Design | None]:
    """What each trial of a batch is given: a point of an even sample, a neighbour of the front, or nothing (the sampler's)."""
    first = batch * search.batch
    near: Iterator[Design] = iter(())
    if len(search.objectives) > 1 and first:
        done = memory.get_trials(deepcopy=False)
        feasible = [t for t in done if all(v <= 0 for v in t.constraints.values())]
        signs = np.array([1.0 if way == "minimize" else -1.0 for way in search.objectives.values()])
        losses = signs * np.array([t.values for t in feasible]).reshape(len(feasible), len(signs))
        front = [feasible[i].params for i in np.flatnonzero(pareto(losses))]
        near = neighbours(search.axes, front, [t.params for t in done], (search.seed, batch))
    for i in range(search.batch):
        if first + i < search.spread:
            yield even(search.axes, first + i, search.seed)
        else:
            yield next(near, None) if i % 2 else None


def _sampler(search: Search, batch: int) -> optuna.samplers.BaseSampler:
    """NSGA-II for several objectives, TPE for one."""
    import optuna

    seed = int(np.random.SeedSequence((search.seed, batch)).generate_state(1)[0])
    if len(search.objectives) > 1:

        class InOrder(optuna.samplers.NSGAIISampler):  # type: ignore[misc]
            """Parents in the order of their trials: Optuna's own order differs between the first and later asks of a generation,
            so that a continued study would differ."""

            def select_parent(self, study: optuna.Study, generation: int) -> list[optuna.trial.FrozenTrial]:
                return sorted(super().select_parent(study, generation), key=lambda trial: trial.number)

        return InOrder(population_size=max(POPULATION, search.batch), seed=seed)
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


def _distribution(axis: Axis) -> optuna.distributions.BaseDistribution:
    import optuna

    r = axis.range
    if r is None:
        return optuna.distributions.CategoricalDistribution(axis.values)
    if axis.field.type is int:
        step = int(r.step or 1)
        last = int(r.high) - int(r.high - r.low) % step
        return optuna.distributions.IntDistribution(int(r.low), last, log=r.log, step=step)
    high = r.low + r.step * int((r.high - r.low) / r.step * (1 + 1e-12)) if r.step else r.high
    return optuna.distributions.FloatDistribution(r.low, high, log=r.log, step=r.step)


def _study(search: Search, storage: Any) -> optuna.Study:
    import optuna

    name = search.scenario.name
    directions = list(search.objectives.values())
    names = [s.study_name for s in optuna.get_all_study_summaries(storage)]
    if name in names:
        return optuna.load_study(study_name=name, storage=storage)
    study = optuna.create_study(study_name=name, storage=storage, directions=directions)
    study.set_metric_names(list(search.objectives))
    _note_space(search, study)
    return study


def _note_space(search: Search, study: optuna.Study) -> None:
    """What the study depends on: in words, and the scenario in full, to say later what changed in it."""
    study.set_user_attr(SCENARIO, fields_of(search.scenario))
    study.set_user_attr(SPACE, search.identity())


def _check_space(search: Search, study: optuna.Study, where: Location, done: int) -> None:
    """StudyError that says what changed, where the study is of another space."""
    stored, now = study.user_attrs.get(SPACE), search.identity()
    if stored is None and not done:  # killed while it was being made
        _note_space(search, study)
        return
    if not isinstance(stored, dict):
        text = f"the study '{study.study_name}' in it is none of framecast's; start with --study NEW"
        raise StudyError(f"{where.shown}: {text}")
    scenario = fields_of(search.scenario)
    if changes := changed((stored, now), (study.user_attrs.get(SCENARIO, scenario), scenario)):
        text = way_out(changes, "start with --study NEW")
        raise StudyError(f"{where.shown}: space changed since trial {done}: {text}")


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Complete trials in order; any other was left by another program and does not count."""
    import optuna

    complete: list[optuna.trial.FrozenTrial] = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    return complete


def _trials(search: Search, stored: Sequence[optuna.trial.FrozenTrial]) -> Trials:
    stored = stored[: search.trials]
    names = [name for name in dict.fromkeys(n for t in stored for n in t.user_attrs) if name != DESIGN]
    return Trials(
        {a.path: np.array([t.params[a.path] for t in stored], dtype=np.float64) for a in search.axes},
        {n: np.array([t.user_attrs.get(n, np.nan) for t in stored], dtype=np.float64) for n in names},
    )


@contextlib.contextmanager
def _opened(where: Location) -> Iterator[Any]:
    """The storage; a journal is held for us alone while it is open."""
    if where.is_url:
        with _quiet():
            import optuna

            storage = _attempt(where, lambda: _database(where.text))
        yield storage
        return
    path = Path(where.text)
    with held(path):
        repair(path)
        with _quiet():
            import optuna

            file = optuna.storages.journal.JournalFileBackend(str(path))
            storage = _attempt(where, lambda: optuna.storages.JournalStorage(Journal(path, file)))
        yield storage


def _database(url: str) -> Any:
    """A storage by URL; a connection that died is noticed before it is used. PostgreSQL by the driver of the extra 'postgres'."""
    import optuna

    url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", url)
    return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})


def _attempt(where: Location, do: Callable[[], Any]) -> Any:
    """do(), its failure as one line."""
    try:
        return do()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    except Exception as error:  # whatever a database driver or a damaged file leads to
        reason = f"{type(error).__name__}: {str(error) or 'no reason given'}".splitlines()[0]
    raise StudyError(f"{where.shown}: cannot use the study ({reason}); start with --study NEW or mend it")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what Optuna says about experimental features and each trial."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)
