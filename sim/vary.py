"""A device or a software with one number changed: what `sensitivity` and `explain` price beside the scenario's own."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

from hwspecs import spec
from hwspecs.device import Device
from hwspecs.errors import SpecError
from hwspecs.nodes import wrap
from hwspecs.software import Software
from workloads.kind import Ints
from workloads.lower import Kernels

T = TypeVar("T", Device, Software)


@dataclass(frozen=True)
class Number:
    """One number of a device or a software: path below it, unit, value in SI units, whether it only takes whole numbers."""

    part: str
    path: str
    unit: str
    value: float
    whole: bool

    @property
    def field(self) -> str:
        """Its path in a scenario: 'device.hbm.bandwidth'."""
        return f"{self.part}.{self.path}"


def numbers(thing: Device | Software) -> list[Number]:
    """The numbers that a result can depend on, in the order of the file; what it lacks (0, none) is left out."""
    part = "device" if isinstance(thing, Device) else "software"
    return [
        Number(part, field.path, field.unit, float(_value(thing, field.path)), field.type is int)
        for field in spec.fields(type(thing))
        if field.numeric and not field.descriptive and _value(thing, field.path)
    ]


def with_number(thing: T, number: Number, value: float) -> T:
    """The same with that number at `value` (rounded, to at least 1, where it must be whole), unchecked: see `is_possible`."""
    changed: T = _set(thing, number.path.split("."), max(round(value), 1) if number.whole else value)
    return changed


def value_of(thing: Device | Software, number: Number) -> float:
    """What it has for that number, SI units."""
    return float(_value(thing, number.path))


def is_possible(thing: Device | Software) -> bool:
    """Whether every number is in its range."""
    try:
        spec.build(type(thing), wrap(spec.to_data(thing), thing.name))
    except SpecError:
        return False
    return True


def at(thing: T, number: Number, factors: Iterable[float]) -> list[T]:
    """The same at each multiple of one of its numbers, unchecked."""
    return [with_number(thing, number, number.value * factor) for factor in factors]


def row(kernels: Kernels, which: int) -> Kernels:
    """The kernels of one priced row alone, every way of it."""
    keep, starts = kernels.row == which, kernels.start_row == which
    special: dict[str, Any] = {
        "row": np.zeros(int(keep.sum()), np.int64),
        "start": kernels.start[keep] - np.flatnonzero(starts)[0],
        "starts": kernels.starts[starts] - np.flatnonzero(keep)[0],
        "start_row": np.zeros(int(starts.sum()), np.int64),
        "workspace": kernels.workspace[starts],
        "dispatch": kernels.dispatch[starts],
        "call_row": np.zeros(1, np.int64),
        "op": kernels.op[[which]],
    }
    rest = {f.name: _kept(getattr(kernels, f.name), keep) for f in fields(Kernels) if f.name not in special}
    return Kernels(**special, **rest)


def _kept(column: Any, keep: Ints) -> Any:
    if isinstance(column, tuple):
        return tuple(item for item, kept in zip(column, keep, strict=True) if kept)
    return column[..., keep]


def _value(device: Any, path: str) -> Any:
    for step in path.split("."):
        device = getattr(device, step, None)
    return device


def _set(thing: Any, steps: list[str], value: float) -> Any:
    """A copy with one field set, without the checks that make a Device slow to build by the thousand."""
    changed = copy.copy(thing)
    below = value if len(steps) == 1 else _set(getattr(thing, steps[0]), steps[1:], value)
    object.__setattr__(changed, steps[0], below)
    return changed
