"""A learned correction: a small network, evaluated with numpy, of dimensionless features of a shape and of its software.

Bounded, constant beyond the range that the fit saw, and the same for every device: whether it applies is for
`sim.fitted` to say. Trained by `calib.network`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
BOUND = 1.0  # of the logarithm: a correction is never more than a factor of 2.7 either way
CHUNK = 4096  # rows at a time, which keeps the layers in cache


@dataclass(frozen=True)
class Residual:
    """Features in order, their centre, scale and range in the fit, the softwares known, and the networks of the ensemble.

    `layers` has one list of (weights (inputs, outputs), biases (outputs,)) for each network; SiLU between them.
    """

    names: tuple[str, ...]
    centre: Floats
    scale: Floats
    low: Floats
    high: Floats
    conditions: tuple[str, ...]
    layers: tuple[tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...], ...]

    def __call__(self, features: Mapping[str, Floats], condition: Sequence[Any] | NDArray[np.object_]) -> Floats:
        """Logarithm of the factor on the time, (rows,), within +-BOUND. An unknown condition gives the mean software's."""
        inputs = self.inputs(features, condition)
        parts = [self._evaluated(inputs[i : i + CHUNK]) for i in range(0, len(inputs), CHUNK)]
        return np.clip(np.concatenate(parts), -BOUND, BOUND) if parts else np.zeros(0)

    def inputs(
        self, features: Mapping[str, Floats], condition: Sequence[Any] | NDArray[np.object_]
    ) -> NDArray[np.float32]:
        """What the networks read, (rows, features + conditions): clipped, standardised; one column a known condition."""
        values = np.stack([features[name] for name in self.names], axis=1)
        values = (np.clip(values, self.low, self.high) - self.centre) / self.scale
        known = np.asarray(condition, dtype=object)[:, None] == np.array(self.conditions, dtype=object)[None, :]
        return np.concatenate([values, known], axis=1).astype(np.float32)

    def outside(self, features: Mapping[str, Floats]) -> NDArray[np.bool_]:
        """Rows with a feature beyond the range that the fit saw, where the correction is held constant in it."""
        values = np.stack([features[name] for name in self.names], axis=1)
        slack = 1e-6 * np.maximum(np.abs(self.low), np.abs(self.high))
        return np.asarray(((values < self.low - slack) | (values > self.high + slack)).any(axis=1))

    def _evaluated(self, inputs: NDArray[np.float32]) -> Floats:
        total = np.zeros(len(inputs))
        for network in self.layers:
            x: Any = inputs
            for i, (weights, biases) in enumerate(network):
                x = x @ weights + biases
                if i < len(network) - 1:
                    with np.errstate(over="ignore"):  # of a very negative x, whose SiLU is 0
                        x = x / (1.0 + np.exp(-x))
            total += x[:, 0]
        return total / max(len(self.layers), 1)
