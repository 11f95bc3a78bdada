"""The physical stage of a fit: robust nonlinear least squares on the logarithm of the time.

Parameters are positive and move in their logarithm, pulled towards where they start by a prior (Levenberg-Marquardt; Cauchy
weights, so that a row that nothing explains does not steer). Standard errors allow for rows of one held-out unit
sharing what no parameter explains, which would otherwise count as independent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Predict: TypeAlias = Callable[[Mapping[str, float]], Floats]

STEPS = 25  # of Levenberg-Marquardt, at most
STEP = 1e-3  # in the logarithm of a parameter, for differences
CONVERGED = 1e-5  # relative fall of the loss below which the fit ends
SCALE = 2.385  # times the spread: Cauchy weights that keep 95 % efficiency on normal errors (Holland and Welsch, 1977)
OUTLIER = 6.0  # spreads from the fit at which a row is named as an outlier


@dataclass(frozen=True)
class Start:
    """Where a parameter starts, how far it may be from there (standard deviation of the logarithm), and its largest value."""

    value: float
    spread: float
    most: float = np.inf


@dataclass(frozen=True)
class Fitted:
    """Values and standard errors by name, the spread of the log errors, and rows that lie far outside it."""

    values: Mapping[str, float]
    errors: Mapping[str, float]
    spread: float
    outliers: NDArray[np.bool_]


def least_squares(
    predict: Predict, measured: Floats, start: Mapping[str, Start], groups: NDArray[np.int64], least: float = 1e-4
) -> Fitted:
    """Fit the parameters in `start` so that predict(values), seconds (rows,), meets `measured`; `groups` numbers the units.

    `least` is the smallest standard deviation of log errors that is believed: few rows can agree by chance.
    """
    names = list(start)
    first = np.log([s.value for s in start.values()])
    most = np.log([s.most for s in start.values()])
    prior = 1.0 / np.array([s.spread for s in start.values()])
    target = np.log(measured)

    def errors(theta: Floats) -> Floats:
        return np.asarray(np.log(predict(dict(zip(names, np.exp(theta).tolist(), strict=True)))) - target)

    theta, damping = first.copy(), 1e-2
    r = errors(theta)
    spread = _spread(r, least)
    loss = _loss(r, spread, (theta - first) * prior)
    for _ in range(STEPS):
        jacobian = _jacobian(errors, theta, r, most)
        weight = 1.0 / (1.0 + (r / (SCALE * spread)) ** 2) / spread**2
        normal = jacobian.T @ (weight[:, None] * jacobian) + np.diag(prior**2)
        gradient = jacobian.T @ (weight * r) + prior**2 * (theta - first)
        gain = 0.0
        for _ in range(6):
            new = np.minimum(theta - np.linalg.solve(normal + damping * np.diag(np.diag(normal)), gradient), most)
            new_r = errors(new)
            new_loss = _loss(new_r, spread, (new - first) * prior)
            if new_loss < loss:
                gain, theta, r, loss = (loss - new_loss) / loss, new, new_r, new_loss
                damping = max(damping / 5.0, 1e-6)
                break
            damping *= 5.0
        if gain < CONVERGED:
            break
        spread = _spread(r, least)
        loss = _loss(r, spread, (theta - first) * prior)
    variance = _variance(_jacobian(errors, theta, r, most), r, spread, prior, groups)
    values = np.exp(theta)
    error = values * np.sqrt(variance)
    return Fitted(
        dict(zip(names, values.tolist(), strict=True)), dict(zip(names, error.tolist(), strict=True)), spread,
        np.abs(r - np.median(r)) > OUTLIER * spread,
    )  # fmt: skip


def _spread(r: Floats, least: float) -> float:
    """Standard deviation of normal errors with this median absolute error; never so small that one exact row decides."""
    return float(max(1.4826 * np.median(np.abs(r)), least))


def _loss(r: Floats, spread: float, away: Floats) -> float:
    """Cauchy loss of the errors and the prior's half squares."""
    return float(np.sum(0.5 * SCALE**2 * np.log1p((r / (SCALE * spread)) ** 2)) + 0.5 * np.sum(away**2))


def _jacobian(errors: Callable[[Floats], Floats], theta: Floats, r: Floats, most: Floats) -> Floats:
    """Differences (rows, parameters), backward where a parameter is at its largest value."""
    columns = []
    for i in range(len(theta)):
        step = -STEP if theta[i] + STEP > most[i] else STEP
        moved = theta.copy()
        moved[i] += step
        columns.append((errors(moved) - r) / step)
    return np.stack(columns, axis=1)


def _variance(jacobian: Floats, r: Floats, spread: float, prior: Floats, groups: NDArray[np.int64]) -> Floats:
    """Of the logarithms: the larger of the usual one, and of the sandwich with scores summed by group (Liang and Zeger, 1986),
    which is too small where a few groups decide. The prior counts as one more observation."""
    weight = 1.0 / (1.0 + (r / (SCALE * spread)) ** 2) / spread**2
    bread = np.linalg.inv(jacobian.T @ (weight[:, None] * jacobian) + np.diag(prior**2))
    scores = np.zeros((int(groups.max()) + 1, jacobian.shape[1]))
    np.add.at(scores, groups, jacobian * (weight * r)[:, None])
    sandwich = bread @ (scores.T @ scores + np.diag(prior**2)) @ bread
    return np.asarray(np.maximum(np.diag(bread), np.diag(sandwich)))
