"""Area, power and price of a device as figures with ranges, for `hardware show` and comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hwspecs import power, price, silicon
from hwspecs.device import Device
from hwspecs.estimate import Estimate, exactly
from hwspecs.rates import rates

NAMES = ("die area", "idle power", "power at full activity", "cost to make", "price")


@dataclass(frozen=True)
class Figure:
    """One figure of a device; `stated`: the device's file says it, and no model."""

    value: Estimate
    unit: str
    stated: bool = False

    def words(self) -> str:
        """'826 mm2 (stated)', '562 W (494 to 671)'."""
        if self.stated:
            return f"{float(self.value.value):g} {self.unit} (stated)"
        low, value, high = (_digits(float(x)) for x in self.value)
        return f"{value} {self.unit} ({low} to {high})"


def figures(device: Device) -> dict[str, Figure]:
    """By the names in NAMES; {} where the device does not say what it is made of."""
    drawn, bought, made_of = power.of_device(device), price.of_device(device), device.silicon
    if drawn is None or bought is None or made_of is None:
        return {}
    anchored = silicon.anchor(device)
    mm2 = silicon.die_area(rates(device), made_of, anchored).floats()
    stated = bool(made_of.area) and abs(float(mm2.value) / made_of.area - 1) < 1e-9
    found = {
        "die area": Figure(exactly(made_of.area) if stated else mm2, "mm2", stated),
        "idle power": Figure(drawn.idle, "W"),
        "power at full activity": Figure(drawn.full, "W", drawn.stated),
        "cost to make": Figure(bought.cost.floats(), "USD"),
        "price": Figure(bought.whole.floats(), "USD"),
    }
    assert tuple(found) == NAMES
    return found


def details(device: Device) -> list[tuple[str, str]]:
    """(name, text) of what the figures are made of: full-die counts, yield, parts of the cost, clock under the power limit."""
    drawn, bought, counts = power.of_device(device), price.of_device(device), silicon.full_counts(device)
    if drawn is None or bought is None or device.silicon is None:
        return []
    kind = f"{'stacks' if silicon.is_stacked(device.silicon) else 'channels'} of {device.silicon.memory}"
    on_die = (
        f"{counts['sm_count']:g} SMs, {counts['l2_bytes'] / 2**20:.4g} MiB of L2, {counts['memory_units']:g} {kind}"
    )
    shares = [f"{100 * part:.0f}" for part in bought.good.floats()]
    parts = {"dies": bought.dies, "memory": bought.memory, "package": bought.package, "board": bought.board}
    costs = ", ".join(f"{name} {_digits(float(e.floats().value))}" for name, e in parts.items())
    clock = f"{drawn.clock / 1e6:.0f} of {device.sm_clock / 1e6:.0f} MHz"
    return [
        ("on the dies", f"{on_die}; {device.silicon.dies} x {device.silicon.node}"),
        ("dies per wafer", f"{float(bought.dies_per_wafer):.0f}, {shares[1]} % good ({shares[0]} to {shares[2]})"),
        ("cost by part", f"{costs} USD"),
        ("clock at the power limit", f"{clock} in long matrix products with all of the memory bandwidth"),
    ]  # fmt: skip


def to_json(device: Device) -> dict[str, Any] | None:
    """Keys with units, intervals as [low, high]; None where the device does not say what it is made of."""
    found = figures(device)
    if not found:
        return None
    data: dict[str, Any] = {}
    for name, figure in found.items():
        key = f"{name.replace(' ', '_')}_{figure.unit.lower()}"
        data |= {
            key: float(figure.value.value),
            f"{key}_interval": figure.value.as_list(),
            f"{key}_stated": figure.stated,
        }
    return data | {"outside_known_dies": silicon.outside(device)}


def _digits(value: float) -> str:
    """Three significant digits, in full."""
    return f"{float(f'{value:.3g}'):g}" if value < 1e6 else f"{value:.3g}"
