"""Optuna's samplers by the names that `search.sampler` gives them, and axes as Optuna's distributions."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from explore.space import Axis

if TYPE_CHECKING:
    import optuna

AUTO = "auto"
TITLES = {"nsga2": "NSGA-II", "nsga3": "NSGA-III", "tpe": "TPE", "gp": "GP", "cmaes": "CMA-ES"}
SEVERAL, ONE = ("nsga2", "nsga3"), ("tpe", "gp", "cmaes")  # objectives; the first of each is what auto is
NEEDS = {"gp": ("torch", "scipy"), "cmaes": ("cmaes",)}  # packages of the extra 'samplers'
POPULATION = 50  # of NSGA-II and III, Optuna's own default; a larger batch is one generation


def named(sampler: str, objectives: int) -> str:
    """The sampler that a name means for so many objectives."""
    return (SEVERAL if objectives > 1 else ONE)[0] if sampler == AUTO else sampler


def problem(sampler: str, objectives: int) -> str:
    """What is wrong with a sampler for so many objectives, '' if nothing: it is for another number, or a package is missing."""
    allowed = SEVERAL if objectives > 1 else ONE
    name = named(sampler, objectives)
    if name not in allowed:
        count = "one objective" if objectives == 1 else f"{objectives} objectives"
        return f"found '{sampler}' for {count}, expected {', '.join(allowed)} or {AUTO}"
    missing = [package for package in NEEDS.get(name, ()) if find_spec(package) is None]
    if missing:
        lacking = " and ".join(missing)
        return f"found '{sampler}', which needs {lacking}; install framecast with the extra 'samplers'"
    return ""


def sampler(name: str, seed: int, batch: int) -> optuna.samplers.BaseSampler:
    """A fresh sampler for one batch of so many designs."""
    import optuna

    population = max(POPULATION, batch)
    if name == "nsga2":
        return _ordered(optuna.samplers.NSGAIISampler)(population_size=population, seed=seed)
    if name == "nsga3":
        return _ordered(optuna.samplers.NSGAIIISampler)(population_size=population, seed=seed)
    if name == "gp":
        import torch

        torch.set_num_threads(1)  # matrices of some hundred rows: more threads only wait for each other
        return optuna.samplers.GPSampler(seed=seed, deterministic_objective=True)
    if name == "cmaes":
        return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


def _ordered(base: Any) -> Any:
    """Parents in the order of their trials: Optuna's own order differs between the first and later asks of a generation, so that
    a continued study would differ."""

    class InOrder(base):  # type: ignore[misc]
        def select_parent(self, study: optuna.Study, generation: int) -> list[optuna.trial.FrozenTrial]:
            return sorted(super().select_parent(study, generation), key=lambda trial: trial.number)

    return InOrder


def seed_of(seed: int, batch: int) -> int:
    """Of the sampler of a batch, by the search's seed."""
    return int(np.random.SeedSequence((seed, batch)).generate_state(1)[0])


def distribution(axis: Axis) -> optuna.distributions.BaseDistribution:
    """What Optuna draws an axis from."""
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
