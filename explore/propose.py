"""Designs that a search tries beside those of its sampler: evenly over the space, and next to the front."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from explore.sample import drawn, halton
from explore.space import Axis, Value

Design: TypeAlias = Mapping[str, Value]  # by path, SI units
ATTEMPTS = 20  # moves that are tried to find a design that is new
NEAR = 0.1  # mean length of a move, as a share of a range


def even(axes: Sequence[Axis], number: int, seed: int) -> Design:
    """Point `number` of an even sample of the space."""
    u = halton(number, number + 1, len(axes), seed)[:, 0]
    return {axis.path: _value(axis, share) for axis, share in zip(axes, u, strict=True)}


def neighbours(
    axes: Sequence[Axis], front: Sequence[Design], tried: Sequence[Design], seed: tuple[int, ...]
) -> Iterator[Design]:
    """Designs that differ from one of the front in one or two fields, by some steps, not tried yet; ends where there are none."""
    rng = np.random.default_rng((*seed, 1))
    seen = {_key(axes, design) for design in tried}
    while front:
        for _ in range(ATTEMPTS):
            design = dict(front[int(rng.integers(len(front)))])
            for i in rng.choice(len(axes), size=min(len(axes), int(rng.integers(1, 3))), replace=False):
                design[axes[i].path] = _moved(axes[i], design[axes[i].path], rng)
            if _key(axes, design) not in seen:
                break
        else:
            return
        seen.add(_key(axes, design))
        yield design


def _moved(axis: Axis, value: Value, rng: np.random.Generator) -> Value:
    """A value nearby: of a list the next in order, of a range some steps up or down, one at least."""
    up = bool(rng.integers(2))
    if axis.range is None:
        ordered = sorted(axis.values) if axis.field.numeric else list(axis.values)
        return ordered[int(np.clip(ordered.index(value) + (1 if up else -1), 0, len(ordered) - 1))]
    r = axis.range
    low, high, here = (np.log(x) if r.log else x for x in (r.low, r.high, float(value)))
    away = rng.exponential(NEAR) * (1 if up else -1)
    least = 0.0 if r.log else (r.step or (1.0 if axis.field.type is int else 0.0)) / (high - low)
    share = (here - low) / (high - low) + (away if abs(away) >= least else np.copysign(least, away))
    return _on_grid(axis, float(np.clip(share, 0.0, 1.0)))


def _on_grid(axis: Axis, share: float) -> Value:
    """The value at a share of a range, on its nearest step."""
    r = axis.range
    assert r is not None
    value = r.low * (r.high / r.low) ** share if r.log else r.low + share * (r.high - r.low)
    step = r.step or (1.0 if axis.field.type is int and not r.log else 0.0)
    if step:
        last = np.floor((r.high - r.low) / step * (1 + 1e-12))
        value = r.low + step * min(round((value - r.low) / step), last)
    return round(value) if axis.field.type is int else float(np.clip(value, r.low, r.high))


def _value(axis: Axis, share: float) -> Value:
    value = float(drawn(axis, np.array(share)))
    return axis.values[int(value)] if axis.range is None else int(value) if axis.field.type is int else value


def _key(axes: Sequence[Axis], design: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(design[axis.path] for axis in axes)
