"""Designs that a search of several objectives tries beside those of its sampler: evenly over the space, and where a model of what
was tried expects the front to grow most.

The model is an interpolation by radial basis functions with a linear tail (Regis and Shoemaker, 2007), of the logarithms of
fields and losses. Its candidates are neighbours of the front (a local search over the front: Paquete et al., 2004)
and some from anywhere; of those, one after the other, the one is taken that lies furthest outside the front and of what is taken
already (the additive epsilon of Zitzler et al., 2003), so that gaps are filled evenly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from explore.front import pareto
from explore.sample import drawn, halton
from explore.space import Axis, Value

Floats: TypeAlias = NDArray[np.float64]
Design: TypeAlias = Mapping[str, Value]  # by path, SI units
LEARNT = 1000  # designs, of those nearest to the front, that the model passes through
CANDIDATES, ANYWHERE = 2000, 200  # neighbours of the front, and designs from anywhere, that it is asked about
NEAR = 0.1  # mean length of a move, as a share of a range
RIDGE = 1e-6  # added to the diagonal, so that designs that nearly coincide do no harm
DIGITS = 6  # of what the model says, so that the order of sums in a linear solver decides nothing


@dataclass(frozen=True)
class Tried:
    """Designs that were priced: fields by path (designs,); losses (designs, objectives), less is better; violations
    (designs, constraints), above 0 where one is missed."""

    fields: Mapping[str, Floats]
    losses: Floats
    violations: Floats

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Designs that miss nothing."""
        return np.asarray((self.violations <= 0).all(axis=1))


def even(axes: Sequence[Axis], number: int, seed: int) -> Design:
    """Point `number` of an even sample of the space."""
    shares = [
        float(drawn(axis, u)[0]) for axis, u in zip(axes, halton(np.array([number]), len(axes), seed), strict=True)
    ]
    values = [a.values[int(s)] if a.range is None else s for a, s in zip(axes, shares, strict=True)]
    return {axis.path: _exact(axis, float(value)) for axis, value in zip(axes, values, strict=True)}


def promising(axes: Sequence[Axis], tried: Tried, count: int, seed: tuple[int, ...]) -> list[Design]:
    """At most `count` designs that were not tried, the most promising first; none while no design is feasible."""
    feasible = np.flatnonzero(tried.feasible)
    if not len(feasible) or not count:
        return []
    known = np.array([tried.fields[axis.path] for axis in axes])
    on = feasible[pareto(tried.losses[feasible])]
    front, own = tried.losses[on], np.array([_places(a, v) for a, v in zip(axes, known, strict=True)])
    values = _candidates(axes, own[:, on], np.random.default_rng((*seed, 1)))
    values = values[:, ~_among(values, known)]
    scale = np.ptp(front, axis=0)
    scale[scale == 0] = 1.0
    usable = np.flatnonzero(np.isfinite(tried.losses).all(axis=1))
    learnt = usable[np.argsort(-_outside(front, tried.losses[usable], scale), kind="stable")[:LEARNT]]
    losses, violations = _model(axes, known[:, learnt], tried, learnt, values)
    gain = np.where((violations <= 0).all(axis=1), _outside(front, losses, scale), -np.inf)
    chosen = []
    for _ in range(min(count, len(gain))):
        best = int(np.argmax(gain))
        chosen.append(best)
        gain = np.minimum(gain, ((losses[best] - losses) / scale).max(axis=1))
        gain[chosen] = -np.inf
    return _designs(axes, values[:, chosen])


def _outside(front: Floats, losses: Floats, scale: Floats) -> Floats:
    """How far each of losses (designs, objectives) lies outside of what the front dominates; below 0 inside."""
    out = np.full(len(losses), np.inf)
    for point in front:
        out = np.minimum(out, ((point - losses) / scale).max(axis=1))
    return out


def _model(
    axes: Sequence[Axis], known: Floats, tried: Tried, learnt: NDArray[np.intp], asked: Floats
) -> tuple[Floats, Floats]:
    """Losses and violations of the designs asked (axes, designs), by what was learnt at the known ones."""
    coordinates = [_coordinates(axis, values) for axis, values in zip(axes, np.hstack([known, asked]), strict=True)]
    u, at = np.split(np.array(coordinates).T, [known.shape[1]])
    losses = tried.losses[learnt]
    sign = np.sign(losses[:1])
    is_log = (np.sign(losses) == sign).all(axis=0) & (sign[0] != 0)  # of one sign
    shown = np.where(is_log, sign * np.log(np.abs(np.where(is_log, losses, 1.0))), losses)
    violations = np.clip(tried.violations[learnt], -1e3, 1e3)
    told = np.hstack([shown, np.sign(violations) * np.log1p(np.abs(violations))])
    predicted = _interpolated(u, told, at)
    low, high = told.min(axis=0), told.max(axis=0)  # no further out than all that was seen spans
    predicted = np.clip(predicted, low - (high - low), high + (high - low)).round(DIGITS)
    found = predicted[:, : losses.shape[1]]
    return np.where(is_log, sign * np.exp(sign * np.where(is_log, found, 0.0)), found), predicted[:, losses.shape[1] :]


def _interpolated(u: Floats, told: Floats, at: Floats) -> Floats:
    """Cubic radial basis functions with a linear tail through told (known, outputs) at u (known, axes); its values at `at`."""
    count, tail = len(u), np.column_stack([np.ones(len(u)), u])
    system = np.zeros((count + tail.shape[1],) * 2)
    system[:count, :count] = _distance(u, u) ** 3 + RIDGE * np.eye(count)
    system[:count, count:], system[count:, :count] = tail, tail.T
    system[count:, count:] = -1e-9 * np.eye(tail.shape[1])  # fields that never differed
    middle = told.mean(axis=0)
    weights = np.linalg.solve(system, np.vstack([told - middle, np.zeros((tail.shape[1], told.shape[1]))]))
    return np.asarray(
        middle + _distance(at, u) ** 3 @ weights[:count] + np.column_stack([np.ones(len(at)), at]) @ weights[count:]
    )


def _distance(a: Floats, b: Floats) -> Floats:
    squared = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2.0 * a @ b.T
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def _coordinates(axis: Axis, values: Floats) -> Floats:
    """0 to 1 over the axis, in the logarithm where that can be."""
    ends = np.array([float(v) for v in axis.values])
    low, high = ends.min(), ends.max()
    if low > 0:
        return np.asarray(np.log(values / low) / np.log(high / low) if high > low else np.zeros(len(values)))
    return np.asarray((values - low) / (high - low) if high > low else np.zeros(len(values)))


def _candidates(axes: Sequence[Axis], front: Floats, rng: np.random.Generator) -> Floats:
    """Values (axes, designs), each design once: one or two fields of a design of the front moved; and any designs at all.

    front: (axes, designs), places on the axes from 0 to 1.
    """
    count = len(axes)
    places = front[:, rng.integers(front.shape[1], size=CANDIDATES)].copy()
    every = np.arange(CANDIDATES)
    second = rng.integers(2, size=CANDIDATES).astype(bool)
    for some in (every, every[second]):
        which = rng.integers(count, size=len(some))
        least = np.array([_step(axis) for axis in axes])[which]
        away = np.maximum(rng.exponential(NEAR, len(some)), least) * rng.choice([-1.0, 1.0], len(some))
        places[which, some] = np.clip(places[which, some] + away, 0.0, 1.0)
    places = np.hstack([places, rng.random((count, ANYWHERE))])
    values = np.array([_values(axis, place) for axis, place in zip(axes, places, strict=True)])
    return np.asarray(np.unique(values, axis=1))


def _among(values: Floats, known: Floats) -> NDArray[np.bool_]:
    """Which designs (axes, designs) are among the known."""
    seen = set(map(tuple, known.T.tolist()))
    return np.array([tuple(design) in seen for design in values.T.tolist()], dtype=bool)


def _step(axis: Axis) -> float:
    """The least move that changes a value, as a share of the range."""
    r = axis.range
    if r is None:
        return 1.0 / max(len(axis.values) - 1, 1)
    return 0.0 if r.log else (r.step or (1.0 if axis.field.type is int else 0.0)) / (r.high - r.low)


def _places(axis: Axis, values: Floats) -> Floats:
    """Where values stand on their axis, 0 to 1: of a list by their order, of a range by their share of it."""
    r = axis.range
    if r is None:
        return np.asarray(np.searchsorted(sorted(axis.values), values) / max(len(axis.values) - 1, 1))
    return np.asarray(np.log(values / r.low) / np.log(r.high / r.low) if r.log else (values - r.low) / (r.high - r.low))


def _values(axis: Axis, places: Floats) -> Floats:
    """The values nearest to places on an axis, on its steps."""
    r = axis.range
    if r is None:
        ordered = np.array([float(v) for v in sorted(axis.values)])
        return np.asarray(ordered[np.rint(places * (len(ordered) - 1)).astype(np.int64)])
    values = r.low * (r.high / r.low) ** places if r.log else r.low + places * (r.high - r.low)
    step = r.step or (1.0 if axis.field.type is int and not r.log else 0.0)
    if step:
        last = np.floor((r.high - r.low) / step * (1 + 1e-12))
        values = r.low + step * np.minimum(np.rint((values - r.low) / step), last)
    return np.asarray(np.rint(values) if axis.field.type is int else np.clip(values, r.low, r.high))


def _designs(axes: Sequence[Axis], values: Floats) -> list[Design]:
    """Columns of values (axes, designs) as designs; of a list the very value that it holds."""
    return [{axis.path: _exact(axis, float(v)) for axis, v in zip(axes, column, strict=True)} for column in values.T]


def _exact(axis: Axis, value: float) -> Value:
    if axis.range is None:
        return next(v for v in axis.values if float(v) == value)
    return int(value) if axis.field.type is int else value
