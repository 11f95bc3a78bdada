"""Training of a learned correction with torch: small networks on the logarithm of measured over predicted time.

Units (pairs of n and k, channels, ...) are dealt into folds, and each network is trained without two of them. The mean of the
networks is the correction; what the two that did not see a fold make of it says how far the correction is off, and how much they
differ there, where it is unsure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sim.residual import BOUND, Residual

Floats: TypeAlias = NDArray[np.float64]
Inputs: TypeAlias = NDArray[np.float32]
Network: TypeAlias = tuple[tuple[Inputs, Inputs], ...]
MOST_LEVELS = 1e-9  # standard deviation below which a feature is constant and left out


@dataclass(frozen=True)
class Recipe:
    """How networks are trained. `rate` is the peak of a one-cycle schedule; an epoch is one look at every distinct shape.

    `folds`: networks, and shares of the units; each does not see `spared` of those, next to each other in a circle, so that as
    many networks are blind to every row: their mean says how far off it is, and how they differ, how unsure. `shared`: weight, in
    the loss, of the error that is left where the software is not told. `noise`: on the features, in their standard deviations.
    `relative`: the loss is the error in shares of the measured time, not in its logarithm.
    """

    width: int = 96
    depth: int = 3
    epochs: int = 80
    batch: int = 256
    rate: float = 3e-3
    decay: float = 1e-2
    shared: float = 0.1
    noise: float = 0.0
    relative: bool = False
    least_steps: int = 2000
    folds: int = 8
    spared: int = 2
    seed: int = 0


@dataclass(frozen=True)
class Task:
    """One network to train: what it reads (rows, features), the output of each row's software, the logarithm that is wanted."""

    inputs: Inputs
    column: NDArray[np.int64]
    target: Inputs
    outputs: int
    recipe: Recipe
    seed: int


def folds(unit: NDArray[np.int64], recipe: Recipe) -> NDArray[np.int64]:
    """The fold of each row, (rows,): whole units, dealt at random."""
    units, at = np.unique(unit, return_inverse=True)
    dealt = np.random.default_rng(recipe.seed).permutation(len(units)) % recipe.folds
    return np.asarray(dealt[at], dtype=np.int64)


def blind_to(fold: int, recipe: Recipe) -> tuple[int, ...]:
    """The networks that see no row of a fold."""
    return tuple(sorted({(fold - i) % recipe.folds for i in range(recipe.spared)}))


def spares(fold: NDArray[np.int64], network: int, recipe: Recipe) -> NDArray[np.bool_]:
    """Rows (rows,) of the folds that a network does not see; fold -1 is of rows that all see."""
    return np.isin(fold, [(network + i) % recipe.folds for i in range(recipe.spared)])


def scaled(features: Mapping[str, Floats], condition: Sequence[str]) -> Residual:
    """Names, centre, scale and range of the features that vary; no networks yet."""
    names = tuple(name for name, values in features.items() if np.std(values) > MOST_LEVELS)
    values = np.stack([features[name] for name in names], axis=1)
    return Residual(
        names, values.mean(axis=0), values.std(axis=0), values.min(axis=0), values.max(axis=0),
        tuple(sorted(set(condition) - {""})), (),
    )  # fmt: skip


def tasks(
    blank: Residual, inputs: Inputs, condition: Sequence[str], target: Floats, fold: NDArray[np.int64], recipe: Recipe
) -> list[Task]:
    """A network for each fold, blind to it and to the next, for log(measured / predicted) = `target` (rows,)."""
    column, wanted = blank.columns(condition), np.clip(target, -BOUND, BOUND).astype(np.float32)
    outputs = 1 + len(blank.conditions)
    seen = [~spares(fold, i, recipe) for i in range(recipe.folds)]
    return [
        Task(inputs[rows], column[rows], wanted[rows], outputs, recipe, recipe.seed + i) for i, rows in enumerate(seen)
    ]


def train(task: Task) -> Network:
    """Weights and biases of one network, by the mean size of the error."""
    import torch

    torch.set_num_threads(1)  # layers are so small that threads would only wait for each other
    torch.manual_seed(task.seed)
    generator, recipe = torch.Generator().manual_seed(task.seed), task.recipe
    shapes, wanted, known = _table(task)
    network = _layers(shapes.shape[1], task.outputs, recipe)
    x, y, w = (torch.from_numpy(a) for a in (shapes, wanted, known))
    steps = max(recipe.epochs * len(x) // recipe.batch, recipe.least_steps)
    size = min(recipe.batch, len(x))
    optimiser = torch.optim.AdamW(network.parameters(), recipe.rate, weight_decay=recipe.decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps + 1)
    for _ in range(steps):
        rows = torch.randint(0, len(x), (size,), generator=generator)
        seen = x[rows]
        if recipe.noise:
            seen = seen + recipe.noise * torch.randn(seen.shape, generator=generator)
        loss = _loss(network(seen), y[rows], w[rows], recipe)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    return _weights(network)


def _table(task: Task) -> tuple[Inputs, Inputs, Inputs]:
    """Distinct shapes (shapes, features), what each software should add up to (shapes, outputs), and how many rows say so.

    The first output is of rows without a software. Of several rows of one shape and software, the mean counts.
    """
    packed = np.ascontiguousarray(task.inputs).view(np.dtype((np.void, task.inputs.shape[1] * 4))).ravel()
    _, first, at = np.unique(packed, return_index=True, return_inverse=True)
    total, count = (np.zeros((len(first), task.outputs), dtype=np.float32) for _ in range(2))
    np.add.at(total, (at, task.column), task.target)
    np.add.at(count, (at, task.column), 1.0)
    mean: Inputs = (total / np.maximum(count, 1.0)).astype(np.float32)
    return task.inputs[first], mean, count.astype(np.float32)


def _loss(out: Any, wanted: Any, known: Any, recipe: Recipe) -> Any:
    """Mean size of the error of every software's output, and with a small weight of the one that they share."""
    import torch

    shared, own = out[:, :1], torch.cat([out[:, :1], out[:, :1] + out[:, 1:]], dim=1)
    error, alone = own - wanted, shared - wanted
    if recipe.relative:
        error, alone = torch.expm1(error), torch.expm1(alone)
    each = (1.0 - recipe.shared) * error.abs() + recipe.shared * alone.abs()
    return (each * known).sum() / known.sum()


def _layers(inputs: int, outputs: int, recipe: Recipe) -> Any:
    import torch

    layers: list[Any] = []
    for i in range(recipe.depth):
        layers += [torch.nn.Linear(inputs if i == 0 else recipe.width, recipe.width), torch.nn.SiLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(recipe.width, outputs))


def _weights(network: Any) -> Network:
    """(weights, biases) of each layer, rounded to half precision, as they are stored."""
    import torch

    return tuple(
        (
            layer.weight.detach().numpy().T.astype(np.float16).astype(np.float32),
            layer.bias.detach().numpy().astype(np.float16).astype(np.float32),
        )
        for layer in network
        if isinstance(layer, torch.nn.Linear)
    )
