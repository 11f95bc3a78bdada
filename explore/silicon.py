"""Energy, area, power, price and dollars of a batch of designs: what `sim.energy` gives of one run, for stacks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.device import Device
from hwspecs.power import Activity
from hwspecs.rates import Rates
from sim.energy import DESIGN, of_designs
from sim.parts import CHANGED

Floats: TypeAlias = NDArray[np.float64]


OUTPUTS = dict(DESIGN)  # name -> unit
# Numbers of what a design is made of: no time depends on them; area, power, energy and price do.
VARIED = tuple(f"device.silicon.{name}" for name in
               ("dies", "sm_enabled", "l2_enabled", "memory_unit", "memory_enabled", "link", "fp64"))  # fmt: skip


class Made(NamedTuple):
    """What designs are made of: devices, and for each design (designs,) the index of the one whose silicon it has.

    time, area, power, price: what the latency, the area, energy and power, and the price are multiplied with, to see what an
    error of them does.
    """

    devices: Sequence[Device]
    which: NDArray[np.int64]
    time: float = 1.0
    area: float = 1.0
    power: float = 1.0
    price: float = 1.0

    def part(self, first: int, count: int) -> Made:
        """Of some designs in a row."""
        return self._replace(which=self.which[first : first + count])


def variants(device: Device, columns: Mapping[str, Floats]) -> Made:
    """Designs made of what `device` is made of but for some of VARIED, each (designs,) in SI units."""
    assert device.silicon is not None, "checked where the space is read"
    names = [path.removeprefix("device.silicon.") for path in columns]
    rows, which = np.unique(np.column_stack(list(columns.values())), axis=0, return_inverse=True)
    sources = {**device.sources, **{f"silicon.{name}": CHANGED for name in names}}
    every: list[dict[str, Any]] = [
        {n: int(v) if n == "dies" else float(v) for n, v in zip(names, row, strict=True)} for row in rows
    ]
    made = [replace(device, silicon=replace(device.silicon, **one), sources=sources) for one in every]
    return Made(made, which.reshape(-1).astype(np.int64))


def asked(wanted: Collection[str]) -> bool:
    """Whether any output of this file is wanted."""
    return any(name in OUTPUTS for name in wanted)


def outputs(
    done: Activity, latency: Floats, images: int, on: Rates, made: Made, wanted: Collection[str] = tuple(OUTPUTS)
) -> dict[str, Floats]:
    """By those names in OUTPUTS that are wanted, each (designs,); nan where a design's device does not say what it is made of.

    done: counts of one inference, (designs, 1) or (1, 1) each.
    """
    devices, which = made.devices, made.which
    latency, off = latency * made.time, (made.area, made.power, made.price)
    found = {name: np.full(len(latency), np.nan) for name in OUTPUTS if name in wanted}
    for index in np.unique(which):
        device, some = devices[index], np.flatnonzero(which == index)
        if device.silicon is None:
            continue
        part = of_designs(_rows(done, some), latency[some, None], images, taken(on, some), device, wanted, off)
        for name, values in part.items():
            found[name][some] = np.broadcast_to(values, (len(some), 1))[:, 0]
    return found


def taken(on: Rates, some: NDArray[np.intp]) -> Rates:
    """Some designs of a stack."""
    return replace(on, **{f.name: _taken(getattr(on, f.name), some) for f in fields(Rates)})


def _rows(done: Activity, some: NDArray[np.intp]) -> Activity:
    return Activity(**{f.name: _taken(getattr(done, f.name), some) for f in fields(Activity)})


def _taken(value: Any, some: NDArray[np.intp]) -> Any:
    if isinstance(value, Mapping):
        return {name: _taken(item, some) for name, item in value.items()}
    return value[some] if np.size(value) > 1 else value
