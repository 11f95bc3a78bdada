"""A smooth correction of few rows: the mean of a Gaussian process through what the physical terms leave of them.

Terms of one chip miss shapes on another by 14 % (calibrations/spread.yaml): half of the variance is taken to change with any
feature, half with extents and shares of the terms, over shorter distances. A row is off by 6 % on its own (the same file,
'measured on the device'), some by far more (errors as Student's t, four degrees).
Distances were chosen with an A100 as the new device, and hold on an L40S (docs/accuracy.md). It takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calib.network import scaled
from sim.residual import BOUND, Kernel, Residual

Floats = NDArray[np.float64]
MISSED = 0.14  # standard deviation of the logarithm between shapes: terms of one chip on another
NOISE = 0.06  # of a row; between libraries on one device it is 0.05
SOFTWARE = 0.05  # of what all rows of a software share
COARSE, FINE = 1.0, 0.35  # distances, over the standard deviation of each feature times the root of how many there are
# Names of features that also count over short distances, extents and shares of the terms: how they begin; whole, of streams.
FINELY, EXTENTS = ("log ", "share ", "share_"), ("rows", "cols", "size")
DEGREES = 4.0  # of Student's t: errors several times NOISE hardly count
ROUNDS = 8  # of weights and values, one after the other


def smooth(features: Mapping[str, Floats], condition: Sequence[str], target: Floats) -> Residual:
    """The correction for log(measured / predicted) = `target` (rows,)."""
    blank = scaled(features, condition)
    inputs, column = blank.inputs(features), blank.columns(condition)
    near = _near(blank.names)
    variance = np.full(len(near), MISSED**2 / len(near))
    kernel = Kernel(inputs, np.zeros(len(target)), near, variance, np.zeros(1 + len(blank.conditions)))
    alike = (column[:, None] == column) & (column > 0)
    weight = _weights(kernel.likeness(inputs) + SOFTWARE**2 * alike, np.clip(target, -BOUND, BOUND))
    bias: Floats = SOFTWARE**2 * np.bincount(column, weight, 1 + len(blank.conditions)).astype(np.float64)
    bias[0] = 0.0  # of an unknown software
    return replace(blank, kernel=replace(kernel, weight=weight, bias=bias))


def _near(names: Sequence[str]) -> Floats:
    """(scales, features): every feature over long distances, some over short ones, if there are any."""
    coarse = np.full(len(names), 1.0 / (COARSE * np.sqrt(len(names))))
    finely = np.array([name.startswith(FINELY) or name in EXTENTS for name in names])
    if not finely.any():
        return coarse[None]
    return np.stack([coarse, finely / (FINE * np.sqrt(finely.sum()))])


def _weights(likeness: Floats, target: Floats) -> Floats:
    """Of the points: those of the posterior mean, with the noise of each row widened by how far off it is."""
    trust: Floats = np.ones(len(target))
    weight: Floats = np.zeros(len(target))
    for _ in range(ROUNDS):
        weight = np.asarray(np.linalg.solve(likeness + np.diag(NOISE**2 / trust), target), dtype=np.float64)
        off = (target - likeness @ weight) / NOISE
        trust = (DEGREES + 1.0) / (DEGREES + off**2)
    return weight
