"""Training of a learned correction with torch: small networks on the logarithm of measured over predicted time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sim.residual import BOUND, Residual

Floats: TypeAlias = NDArray[np.float64]
MOST_LEVELS = 1e-9  # standard deviation below which a feature is constant and left out


@dataclass(frozen=True)
class Recipe:
    """How networks are trained. `rate` is the peak of a one-cycle schedule.

    `dropped`: share of rows whose software is hidden. `noise`: on the features, in their standard deviations. `relative`: the
    loss is the error in shares of the measured time, not in its logarithm.
    """

    width: int = 96
    depth: int = 3
    epochs: int = 80
    batch: int = 512
    rate: float = 3e-3
    decay: float = 1e-2
    dropped: float = 0.1
    noise: float = 0.0
    relative: bool = False
    least_steps: int = 3000
    ensemble: int = 1
    seed: int = 0


def train(
    features: Mapping[str, Floats], condition: Sequence[str], target: Floats, weight: Floats, recipe: Recipe
) -> Residual:
    """Networks for log(measured / predicted) = `target` (rows,), by the mean size of the error with a weight for each row."""
    blank = _scaled(features, condition)
    inputs, wanted = blank.inputs(features, condition), np.clip(target, -BOUND, BOUND).astype(np.float32)
    layers = tuple(
        _one(inputs, wanted, weight.astype(np.float32), len(blank.names), recipe, recipe.seed + i)
        for i in range(recipe.ensemble)
    )
    return replace(blank, layers=layers)


def _scaled(features: Mapping[str, Floats], condition: Sequence[str]) -> Residual:
    """Names, centre, scale and range of the features that vary; no networks yet."""
    names = tuple(name for name, values in features.items() if np.std(values) > MOST_LEVELS)
    values = np.stack([features[name] for name in names], axis=1)
    return Residual(
        names, values.mean(axis=0), values.std(axis=0), values.min(axis=0), values.max(axis=0),
        tuple(sorted(set(condition) - {""})), (),
    )  # fmt: skip


def _one(
    inputs: NDArray[np.float32],
    target: NDArray[np.float32],
    weight: NDArray[np.float32],
    flags: int,
    recipe: Recipe,
    seed: int,
) -> tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]:
    """One network. Columns from `flags` on are the software's, hidden at random."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    network = _layers(inputs.shape[1], recipe)
    x, y, w = (torch.from_numpy(np.ascontiguousarray(a)) for a in (inputs, target[:, None], weight[:, None]))
    steps = max(recipe.epochs * len(x) // recipe.batch, recipe.least_steps)
    size = min(recipe.batch, len(x))
    optimiser = torch.optim.AdamW(network.parameters(), recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps + 1)
    for _ in range(steps):
        rows = torch.randint(0, len(x), (size,), generator=generator)
        seen = x[rows]
        seen[:, flags:] *= torch.rand(size, 1, generator=generator) >= recipe.dropped
        if recipe.noise:
            seen[:, :flags] += recipe.noise * torch.randn(size, flags, generator=generator)
        error = network(seen) - y[rows]
        loss = ((torch.expm1(error) if recipe.relative else error).abs() * w[rows]).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    return _weights(network)


def _layers(inputs: int, recipe: Recipe) -> Any:
    import torch

    layers: list[Any] = []
    for i in range(recipe.depth):
        layers += [torch.nn.Linear(inputs if i == 0 else recipe.width, recipe.width), torch.nn.SiLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(recipe.width, 1))


def _weights(network: Any) -> tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]:
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
