"""Devices side by side: every number of their files and what follows or is estimated from them, with ratios to the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hwspecs import spec
from hwspecs.device import DTYPES, Device
from hwspecs.figures import NAMES as FIGURES
from hwspecs.figures import Figure, figures

VECTOR = ("fp32", "fp16", "bf16")  # dtypes whose vector peak is shown
DERIVED = (
    *(f"matrix {t}" for t in DTYPES),
    *(f"vector {t}" for t in VECTOR),
    *("exp rate", "L2 reads"),
    *(f"ridge point {t}" for t in DTYPES),
)  # every name that `derived` can give, in the order of tables


@dataclass(frozen=True)
class Row:
    """One quantity of all devices. `values`: SI base unit or a count, None where a device has none; `ratios`: to the first.

    A switch has the values true and false, and no ratios. `marks` are those of `Device.doubts`; empty where a source backs the
    value, and for what is derived. `figures` are those of an estimate, with their ranges; () for anything else.
    """

    field: str
    unit: str
    values: tuple[float | None, ...]
    ratios: tuple[float | None, ...]
    marks: tuple[str, ...]
    figures: tuple[Figure | None, ...] = ()

    @property
    def same(self) -> bool:
        """Whether all devices agree."""
        return len(set(self.values)) == 1


def derived(device: Device) -> dict[str, tuple[float, str]]:
    """Peaks at boost clock and ridge points: name -> (value, unit). Only arithmetic that the device has."""
    matrix = [t for t in DTYPES if getattr(device.tensor, t)]
    own = [t for t in DTYPES if t in matrix or t == "fp32" or getattr(device.vector, t) > device.vector.fp32]
    return {
        **{f"matrix {t}": (device.flop_rate("tensor", t), "FLOP/s") for t in matrix},
        **{f"vector {t}": (device.flop_rate("vector", t), "FLOP/s") for t in VECTOR},
        "exp rate": (device.exp_rate, "op/s"),
        "L2 reads": (device.l2_rate, "B/s"),
        **{f"ridge point {t}": (device.ridge(t), "FLOP/B") for t in own},
    }


def rows(devices: Sequence[Device]) -> list[Row]:
    """Every numeric field in the order of the file, then what is derived. Raises ValueError for fewer than two devices."""
    if len(devices) < 2:
        raise ValueError(f"found {len(devices)} device, expected at least 2")
    doubts = [device.doubts() for device in devices]
    stated = [
        _row(f.path, f.unit, [_value(d, f.path) for d in devices], [found.get(f.path, "") for found in doubts])
        for f in spec.fields(Device)
        if (f.numeric or f.switch) and not (f.path.startswith("silicon.") and all(d.silicon is None for d in devices))
    ]
    each = [derived(device) for device in devices]
    units = {name: unit for found in each for name, (_, unit) in found.items()}
    values = {name: [found.get(name, (None, ""))[0] for found in each] for name in DERIVED if name in units}
    return [
        *stated,
        *(_row(name, units[name], values[name], [""] * len(each)) for name in values),
        *_estimated(devices),
    ]


def _estimated(devices: Sequence[Device]) -> Iterator[Row]:
    """Area, power and price, where any device says what it is made of."""
    each = [figures(device) for device in devices]
    for name in FIGURES if any(each) else ():
        found = tuple(one.get(name) for one in each)
        unit = next(figure.unit for figure in found if figure)
        row = _row(name, unit, [float(f.value.value) if f else None for f in found], [""] * len(found))
        yield replace(row, figures=found)


def _row(field: str, unit: str, values: Sequence[float | None], marks: Sequence[str]) -> Row:
    first = values[0]
    is_number = not isinstance(first, bool)
    ratios = tuple(v / first if is_number and v is not None and first else None for v in values)
    return Row(field, unit, tuple(values), ratios, tuple(marks))


def _value(device: Any, path: str) -> float | None:
    """The number or switch where the path ends, None in a part that the device lacks."""
    found: Any = device
    for step in path.split("."):
        found = getattr(found, step, None)
    return None if found is None else found if isinstance(found, bool | float) else int(found)
