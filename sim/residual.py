"""A learned correction: small networks, evaluated with numpy, of dimensionless features of a shape; of few rows, a smooth
function through them.

A network has an output that all softwares share, and one for each software that is added to it: what they have in common is
learned from all of them, and an unknown software gets that alone. Bounded, constant beyond the range that the fit saw, and the
same for every device: whether it applies is for `sim.fitted` to say. Trained by `calib.network`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.errors import CalibrationError

Floats: TypeAlias = NDArray[np.float64]
BOUND = 1.0  # of the logarithm: a correction is never more than a factor of 2.7 either way
CHUNK = 4096  # rows at a time, which keeps the layers in cache


@dataclass(frozen=True)
class Kernel:
    """A smooth function of standardised features: a sum over points, each of which counts where a shape is near it.

    Attributes:
        at: (points, features).
        weight: (points,), of the logarithm.
        near: (scales, features): one over the distance in each feature within which a point counts; 0 where it does not matter.
        variance: (scales,): each scale's share in a point's influence.
        bias: (1 + conditions,): of the logarithm, what each software adds; 0 for an unknown one.
    """

    at: NDArray[np.float32]
    weight: Floats
    near: Floats
    variance: Floats
    bias: Floats

    def __call__(self, inputs: NDArray[np.float32], column: NDArray[np.int64]) -> Floats:
        """Values (rows,) at standardised features (rows, features)."""
        return np.asarray(self.likeness(inputs) @ self.weight + self.bias[column])

    def likeness(self, inputs: NDArray[np.float32]) -> Floats:
        """Influence (rows, points) of each point on each row: a Matern function of order 3/2, summed over the scales."""
        return np.asarray(sum(v * matern(inputs, self.at, s) for v, s in zip(self.variance, self.near, strict=True)))


def matern(rows: Any, points: Any, near: Floats) -> Floats:
    """(1 + d) exp(-d) of the distances d (rows, points) over 1/sqrt(3), features counted as `near` says (Rasmussen and Williams
    2006, equation 4.17)."""
    a, b = rows * near, points * near
    squared = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2.0 * a @ b.T
    d = np.sqrt(3.0 * np.maximum(squared, 0.0))
    return np.asarray((1.0 + d) * np.exp(-d))


@dataclass(frozen=True)
class Residual:
    """Features in order, their centre, scale and range in the fit, the softwares known, and the networks of the ensemble.

    `layers` has one list of (weights (inputs, outputs), biases (outputs,)) for each network; SiLU between them. The last has
    1 + len(conditions) outputs: what is shared, then what each software adds. A kernel stands in their place where rows were few.
    `file` is what messages name.
    """

    names: tuple[str, ...]
    centre: Floats
    scale: Floats
    low: Floats
    high: Floats
    conditions: tuple[str, ...]
    layers: tuple[tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...], ...]
    kernel: Kernel | None = None
    file: str = "this calibration"

    def __call__(self, features: Mapping[str, Floats], condition: Sequence[Any] | NDArray[np.object_]) -> Floats:
        """Logarithm of the factor on the time, (rows,), within +-BOUND: the mean of the networks. An unknown condition gets what
        all softwares share."""
        return self.mean(self.inputs(features), condition)

    def mean(self, inputs: NDArray[np.float32], condition: Sequence[Any] | NDArray[np.object_]) -> Floats:
        """The same of what `inputs` gives."""
        return averaged(self.each(inputs, condition))

    def each(self, inputs: NDArray[np.float32], condition: Sequence[Any] | NDArray[np.object_]) -> Floats:
        """What every network, or the kernel alone, makes of what `inputs` gives, (networks, rows), not bounded."""
        column, evaluated = self.columns(condition), self._smooth if self.kernel else self._evaluated
        out = np.zeros((max(len(self.layers), 1), len(inputs)))
        for i in range(0, len(inputs), CHUNK):
            out[:, i : i + CHUNK] = evaluated(inputs[i : i + CHUNK], column[i : i + CHUNK])
        return out

    def columns(self, condition: Sequence[Any] | NDArray[np.object_]) -> NDArray[np.int64]:
        """Output that each row's software adds, (rows,); 0 for an unknown one."""
        known = {name: 1 + i for i, name in enumerate(self.conditions)}
        return np.array([known.get(name, 0) for name in condition], dtype=np.int64)

    def inputs(self, features: Mapping[str, Floats]) -> NDArray[np.float32]:
        """What the networks read, (rows, features): clipped to the range of the fit, standardised."""
        values = self._columns(features)
        return ((np.clip(values, self.low, self.high) - self.centre) / self.scale).astype(np.float32)

    def _columns(self, features: Mapping[str, Floats]) -> Floats:
        """The features that the networks read, (rows, features). Raises CalibrationError where one is not known any more."""
        if missing := [name for name in self.names if name not in features]:
            raise CalibrationError(
                f"{self.file}: a correction reads '{missing[0]}', which this version of framecast does not compute "
                f"(it has {', '.join(sorted(features))}); make the calibration again: `framecast calib fit TABLE...`"
            )
        return np.stack([features[name] for name in self.names], axis=1)

    def outside(self, features: Mapping[str, Floats]) -> NDArray[np.bool_]:
        """Rows with a feature beyond the range that the fit saw, where the correction is held constant in it."""
        values = self._columns(features)
        slack = 1e-6 * np.maximum(np.abs(self.low), np.abs(self.high))
        return np.asarray(((values < self.low - slack) | (values > self.high + slack)).any(axis=1))

    def of(self, condition: str) -> tuple[tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...], ...]:
        """The networks for one software, with a single output."""
        column = int(self.columns([condition])[0])
        out = []
        for network in self.layers:
            weights, biases = network[-1]
            w, b = weights[:, :1].copy(), biases[:1].copy()
            if column:
                w, b = w + weights[:, column : column + 1], b + biases[column : column + 1]
            out.append((*network[:-1], (w, b)))
        return tuple(out)

    def _smooth(self, inputs: NDArray[np.float32], column: NDArray[np.int64]) -> Floats:
        assert self.kernel is not None
        return self.kernel(inputs, column)[None]

    def _evaluated(self, inputs: NDArray[np.float32], column: NDArray[np.int64]) -> Floats:
        """Of each network, (networks, rows)."""
        out, rows = np.zeros((len(self.layers), len(inputs))), np.arange(len(inputs))
        for at, network in enumerate(self.layers):
            x: Any = inputs
            for i, (weights, biases) in enumerate(network):
                x = x @ weights + biases
                if i < len(network) - 1:
                    with np.errstate(over="ignore"):  # of a very negative x, whose SiLU is 0
                        x = x / (1.0 + np.exp(-x))
            out[at] = x[:, 0] + np.where(column > 0, x[rows, column], 0.0)
        return out


def averaged(each: Floats) -> Floats:
    """The mean over networks (networks, rows), (rows,), within +-BOUND; zeros of no network."""
    return np.clip(each.mean(axis=0), -BOUND, BOUND) if len(each) else np.zeros(each.shape[1])
