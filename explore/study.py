"""Optuna by ask and tell, a batch at a time, over a journal file (or any Optuna storage) that can be continued.

The sampler works on a copy of the study in memory: a batch is asked, priced in one array call and told there, and then
its finished trials are appended to the storage. So a killed search leaves no trial half done. Each batch has a sampler of
its own, seeded by (seed, number of the batch): a study is a function of (space, seed, batch), also when it is continued in
the middle of a batch, which is then asked again and completed.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from explore.identity import changed, fields_of, way_out
from explore.objectives import VIOLATION, Search
from explore.sample import drawn, halton
from explore.space import Axis
from hwspecs.errors import StudyError

if TYPE_CHECKING:
    import optuna

Floats: TypeAlias = NDArray[np.float64]
SPACE, SCENARIO, DESIGN = "framecast: space", "framecast: scenario", "design"  # attributes: of the study, of each trial
POPULATION = 50  # of NSGA-II, Optuna's own default; a larger batch is one generation
LOCK_WAIT = 1.0  # s that another program (the dashboard) may hold the journal


@dataclass(frozen=True)
class Location:
    """Where a study is kept: a file, or the URL of a database."""

    text: str

    @property
    def is_url(self) -> bool:
        """A storage URL as Optuna takes it, for example postgresql://host/name."""
        return "://" in self.text

    def dashboard(self) -> str:
        """The command that shows it."""
        return f"optuna-dashboard {self.text}"


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
        while len(stored) < search.trials:
            batch = len(stored) // search.batch
            begin = batch * search.batch
            asked = _batch(search, stored[:begin], batch)
            for trial in asked[len(stored) - begin :][: search.trials - len(stored)]:
                _attempt(where, partial(study.add_trial, trial))
                stored.append(trial)
            if progress:
                progress(_trials(search, stored))
        return _trials(search, stored)


def _batch(search: Search, before: Sequence[optuna.trial.FrozenTrial], batch: int) -> list[optuna.trial.FrozenTrial]:
    """All trials of one batch, asked, priced and told in memory after the trials of the batches before it."""
    import optuna

    memory = optuna.create_study(directions=list(search.objectives.values()), sampler=_sampler(search, batch))
    memory.add_trials(before)
    space = {axis.path: _distribution(axis) for axis in search.axes}
    asked = [_ask(search, memory, space, batch * search.batch + i) for i in range(search.batch)]
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
    told: list[optuna.trial.FrozenTrial] = memory.get_trials()[len(before) :]
    return told


def _ask(
    search: Search, study: optuna.Study, space: Mapping[str, optuna.distributions.BaseDistribution], number: int
) -> optuna.Trial:
    """A trial: of the first `spread` ones a point of an even sample, of the rest what the sampler proposes."""
    if number < search.spread:
        u = halton(number, number + 1, len(search.axes), search.seed)[:, 0]
        study.enqueue_trial({axis.path: _drawn(axis, share) for axis, share in zip(search.axes, u, strict=True)})
    return study.ask(dict(space))


def _drawn(axis: Axis, share: float) -> float | str | bool:
    value = float(drawn(axis, np.array(share)))
    return axis.values[int(value)] if axis.range is None else int(value) if axis.field.type is int else value


def _sampler(search: Search, batch: int) -> optuna.samplers.BaseSampler:
    """NSGA-II for several objectives, TPE for one."""
    import optuna

    seed = int(np.random.SeedSequence((search.seed, batch)).generate_state(1)[0])
    if len(search.objectives) > 1:
        return optuna.samplers.NSGAIISampler(population_size=max(POPULATION, search.batch), seed=seed)
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
        raise StudyError(f"{where.text}: {text}")
    scenario = fields_of(search.scenario)
    if changes := changed((stored, now), (study.user_attrs.get(SCENARIO, scenario), scenario)):
        text = way_out(changes, "start with --study NEW")
        raise StudyError(f"{where.text}: space changed since trial {done}: {text}")


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

            storage = _attempt(where, lambda: optuna.storages.get_storage(where.text))
        yield storage
        return
    path = Path(where.text)
    with _held(path):
        _repair(path)
        with _quiet():
            import optuna

            backend = optuna.storages.journal.JournalFileBackend(str(path))
            storage = _attempt(where, lambda: optuna.storages.JournalStorage(backend))
        yield storage


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """An exclusive lock that ends with the process; a lock file of Optuna that a killed search left is removed."""
    import fcntl

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise StudyError(f"{path}: cannot write the study ({(error.strerror or str(error)).lower()})") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StudyError(f"{path}: another search is using it; wait for it, or start with --study NEW") from None
        lock = path.with_name(path.name + ".lock")
        until = time.monotonic() + LOCK_WAIT
        while lock.is_symlink() and time.monotonic() < until:
            time.sleep(0.05)
        lock.unlink(missing_ok=True)
        yield


def _repair(path: Path) -> None:
    """Cut off a last line that a kill left unfinished. StudyError for a file that is no journal."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    for number, line in enumerate(content[:whole].splitlines(), start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or "op_code" not in entry:
            raise StudyError(f"{path}:{number}: not a journal of Optuna, or damaged; start with --study NEW")
    if whole and whole < len(content):
        os.truncate(path, whole)
    elif content and not whole:
        raise StudyError(f"{path}:1: not a journal of Optuna, or damaged; start with --study NEW")


def _attempt(where: Location, do: Callable[[], Any]) -> Any:
    """do(), its failure as one line."""
    try:
        return do()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    except Exception as error:  # whatever a database driver or a damaged file leads to
        reason = f"{type(error).__name__}: {str(error) or 'no reason given'}".splitlines()[0]
    raise StudyError(f"{where.text}: cannot use the study ({reason}); start with --study NEW or mend it")


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
