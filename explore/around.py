"""What changes around chosen designs: each field 10 % down and up, all priced as one stack; which fields did not matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from explore.objectives import Search
from explore.space import Axis

Floats: TypeAlias = NDArray[np.float64]
STEP = 0.1  # relative change of a field, down and up; a whole number changes by 1 at least, a power of two by 2
NOTHING = 0.005  # relative change of an objective up to which a field is said not to matter
POWERS = "device.tensor.tile."  # fields that are powers of two
SHARES = (
    "device.tensor.sustained",
    "device.tensor.older",
    *(f"device.silicon.{n}_enabled" for n in ("sm", "l2", "memory")),
)
AT_MOST = dict.fromkeys(SHARES, 1.0)


@dataclass(frozen=True)
class Around:
    """changes: (designs, fields, 2, objectives), relative to the design's own objectives, for the field down and up.

    values: (designs, fields, 2), SI units. helps: likewise, whether an objective, or what a constraint limits, gets better by
    more than NOTHING.
    """

    paths: tuple[str, ...]
    objectives: tuple[str, ...]
    changes: Floats
    values: Floats
    helps: NDArray[np.bool_]

    def idle(self, objective: str) -> list[str]:
        """Fields that move an objective of no design by more than NOTHING."""
        most = np.abs(self.changes[..., self.objectives.index(objective)]).max(axis=(0, 2), initial=0.0)
        return [path for path, change in zip(self.paths, most, strict=True) if change <= NOTHING]


def around(search: Search, designs: Sequence[Mapping[str, float]]) -> Around:
    """Each of designs (fields by path, SI units) with each of its fields down and up."""
    paths, objectives = tuple(axis.path for axis in search.axes), tuple(search.objectives)
    own = np.array([[float(design[path]) for path in paths] for design in designs]).reshape(-1, len(paths))
    values = np.array([[_moved(axis, v) for axis, v in zip(search.axes, row, strict=True)] for row in own])
    rows = np.repeat(own[:, None, None, :], len(paths), axis=1).repeat(2, axis=2)
    for i in range(len(paths)):
        rows[:, i, :, i] = values[:, i, :]
    flat = np.vstack([own, rows.reshape(-1, len(paths))])
    found = search.prices({path: flat[:, i] for i, path in enumerate(paths)})
    read = dict.fromkeys([*objectives, *(c.output for c in search.constraints)])
    priced = np.column_stack([np.asarray(found[name], dtype=np.float64) for name in read])
    before, after = priced[: len(own)], priced[len(own) :].reshape(len(own), len(paths), 2, len(read))
    changes = after / before[:, None, None, :] - 1.0
    helps = (_wanted(search, list(read)) * np.sign(before)[:, None, None, :] * changes > NOTHING).any(axis=-1)
    return Around(paths, objectives, changes[..., : len(objectives)], values, np.asarray(helps))


def _wanted(search: Search, read: Sequence[str]) -> Floats:
    """1 for what should rise, -1 for what should fall."""
    up = {c.output: c.at_least for c in search.constraints} | {n: w == "maximize" for n, w in search.objectives.items()}
    return np.array([1.0 if up[name] else -1.0 for name in read])


def _moved(axis: Axis, value: float) -> tuple[float, float]:
    """The value down and up."""
    if axis.path.startswith(POWERS):
        return max(value / 2, 1.0), value * 2
    down, up = value * (1 - STEP), min(value * (1 + STEP), AT_MOST.get(axis.path, np.inf))
    if axis.field.type is int:
        return max(min(round(down), value - 1), 1.0), max(round(up), value + 1)
    return down, up
