"""Yield, cost and price of a device, and what running it costs: simple derivations from `data/silicon/prices.yaml`.

Cost is what making one board costs; price is cost / (1 - gross margin). Neither is a list price: those follow the market.
Dollars of about 2023, kg of CO2. Array code: floats, or (designs, 1) for a stack of designs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwspecs.device import Device, Silicon
from hwspecs.estimate import Estimate, data, of, total
from hwspecs.power import full
from hwspecs.rates import Rates, rates
from hwspecs.silicon import anchor, die_area, die_of, features, fitted, is_stacked, nodes, stacks

WAFER = 294.0  # mm: a wafer of 300 mm less 3 mm of edge that makes no good dies (SEMI M1)
STACK_MM2 = 110.0  # of interposer under an HBM stack (JEDEC JESD238: about 10 mm x 11 mm)
ROUTING = 1.2  # interposer over the dies and stacks on it: assumption
LEAST_DIES = 0.05  # dies a wafer of a die that does not fit on one: keeps a cost finite, and far beyond any budget
TERMS = 120  # of a Poisson sum; more defects than that on one die have no chance
CM2 = 100.0  # mm2
KWH = 3.6e6  # J
YEAR = 365.25 * 24 * 3600.0  # s


@dataclass(frozen=True)
class Price:
    """Of one device or a stack: dollars and shares. `whole` is price, the others are cost."""

    dies_per_wafer: Any
    good: Estimate
    dies: Estimate
    memory: Estimate
    package: Estimate
    board: Estimate
    cost: Estimate
    whole: Estimate


def dies_per_wafer(each: Any) -> Any:
    """Whole dies of `each` mm2 on a wafer: its area over theirs, less what the edge cuts (de Vries, IEEE TSM 2005)."""
    return np.maximum(math.pi * WAFER**2 / (4 * each) - math.pi * WAFER / np.sqrt(2 * each), LEAST_DIES)


def harvest(expected: Any, spare: Any) -> Any:
    """Share of dies with at most `spare` defects where `expected` are (Poisson), interpolated between whole numbers."""
    expected, spare = np.broadcast_arrays(np.asarray(expected, dtype=np.float64), np.asarray(spare, dtype=np.float64))
    term, good = np.exp(-expected), np.zeros(expected.shape)
    for count in range(min(TERMS, int(np.ceil(spare.max(initial=0.0))) + 1)):  # beyond, the weight of a term is zero
        good = good + term * np.clip(spare + 1.0 - count, 0.0, 1.0)
        term = term * expected / (count + 1.0)
    return good


def good_share(on: Rates, silicon: Silicon, defects: Any, anchored: float = 1.0) -> Any:
    """Share of dies that can be sold: defects in SMs up to the spare ones, in L2 and PHYs up to a spare stack, none elsewhere.

    defects: per cm2. A die whose device enables all of it must be free of defects (no repair of SRAM is assumed).
    """
    whole = die_of(on, silicon)
    parts, weights = features(whole), fitted()
    mm2 = {name: anchored * parts[name] * weights.get(name, 1.0) / silicon.dies for name in parts}
    in_l2 = whole.l2 / np.maximum(whole.sm_count * (2.0 * whole.registers + whole.shared) + whole.l2, 1e-9)
    sms = mm2["tensor"] + mm2["vector"] + mm2["graphics"] + mm2["sram"] * (1.0 - in_l2)
    blocks = mm2["sram"] * in_l2 + mm2["phy"]
    spare_sms = (whole.sm_count - on.sm_count) / silicon.dies
    units = stacks(on, silicon) / silicon.memory_enabled / silicon.dies
    spare_units = units * (1.0 - np.minimum(silicon.memory_enabled, silicon.l2_enabled))
    fatal = np.exp(-(mm2["rest"] + mm2["crossbar"]) * defects / CM2)
    return fatal * harvest(sms * defects / CM2, spare_sms) * harvest(blocks * defects / CM2, spare_units)


def price(on: Rates, silicon: Silicon, anchored: float = 1.0, watts: Any = None) -> Price:
    """What a device costs to make and to buy. watts: at full load, estimated where not given."""
    numbers, node = data("prices"), nodes()[silicon.node]
    mm2 = die_area(on, silicon, anchored)
    per_wafer = dies_per_wafer(mm2.value / silicon.dies)
    shares = [good_share(on, silicon, d, anchored) for d in (node.defects.high, node.defects.value, node.defects.low)]
    good = Estimate(*(np.maximum(s, 1e-6) for s in shares))
    bigger = Estimate(*(silicon.dies / dies_per_wafer(part / silicon.dies) for part in mm2))
    dies = node.wafer.times_estimate(bigger).over(good)
    memory = of(numbers["memory"][silicon.memory]).times(np.asarray(on.hbm_capacity) / 1e9)
    carrier = ROUTING * (mm2.value + STACK_MM2 * stacks(on, silicon)) if is_stacked(silicon) else mm2.value
    package = of(numbers["interposer" if is_stacked(silicon) else "substrate"]).times(carrier)
    load = full(on, silicon, anchored).value if watts is None else watts
    board = total([of(numbers["board"]), of(numbers["watt"]).times(load)])
    cost = total([dies, memory, package, board])
    margin = of(numbers["margin"])
    factor = Estimate(1 / (1 - margin.low), 1 / (1 - margin.value), 1 / (1 - margin.high))
    return Price(per_wafer, good, dies, memory, package, board, cost, cost.times_estimate(factor))


def of_device(device: Device) -> Price | None:
    """Of one device, plain floats where it is a scalar; None where it does not say what it is made of."""
    silicon = device.silicon
    if silicon is None:
        return None
    return price(rates(device), silicon, anchor(device), silicon.load_power or None)


@dataclass(frozen=True)
class Running:
    """What one run costs: dollars (written-off price, energy) and kg of CO2 (energy, manufacture)."""

    capital: Estimate
    energy: Estimate
    total: Estimate
    carbon: Estimate


def running(
    joules: Estimate, seconds: Any, bought: Price, on: Rates, silicon: Silicon, anchored: float = 1.0
) -> Running:
    """Dollars and CO2 of a run of `seconds` that takes `joules` at the board: the price written off over the hours in which the
    device works; energy and carbon with the facility's overhead. Host, network and staff are not counted."""
    numbers = data("prices")
    life = of(numbers["years"]).times(YEAR).times_estimate(of(numbers["utilisation"]))
    capital = bought.whole.times(seconds).over(life)
    drawn = joules.times_estimate(of(numbers["overhead"])).times(1.0 / KWH)
    energy = drawn.times_estimate(of(numbers["energy_price"]))
    made = total(
        [
            of(numbers["embodied_mm2"]).times_estimate(die_area(on, silicon, anchored)).over(bought.good),
            of(numbers["embodied_gb"]).times(np.asarray(on.hbm_capacity) / 1e9),
        ]
    )
    carbon = total([drawn.times_estimate(of(numbers["carbon"])), made.times(seconds).over(life)])
    return Running(capital, energy, total([capital, energy]), carbon)
