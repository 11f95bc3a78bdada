"""Die area from parts: SMs with their matrix, vector and exponential units, registers and shared memory; L2; PHYs; the rest.

Six coefficients, fitted to public dies (`data/silicon/dies.yaml`, `framecast calib dies`), on top of cited scaling of logic, SRAM
and analogue circuits by node. Areas are in mm2. Array code: floats for one device, (designs, 1) for a stack.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from hwspecs.device import Device, Silicon, device_names, load
from hwspecs.estimate import Estimate, data, of
from hwspecs.rates import Rate, Rates, rates

PARTS = ("tensor", "vector", "graphics", "sram", "phy", "rest")  # the fitted coefficients, in mm2 at N7; see `features`
RETICLE = 858.0  # mm2: the field of a lithography scanner, 26 mm x 33 mm (ASML)
ASPECT = 33 / 26  # long over short edge of a die, as of the reticle: assumption
STACK_EDGE = 10.5  # mm of die edge that an HBM stack takes (JEDEC JESD235, JESD238: 10 to 11 mm wide)
BIT_CELL = 0.027  # um2 at N7, to which `sram` is relative
BITS = 8.0 * 2**20  # of a MiB
PORTS = 2.0  # area of a register file's bit over a cache's: several ports; assumption
DOUBLE = 2.0  # area of a double-precision lane over a single-precision one: assumption
SPECIAL = 2.0  # of a transcendental operation per cycle over one FLOP per cycle on the vector lanes: assumption
CROSSBAR = 4.0  # mm2 of crossbar at N7 for 1024 B/cycle, mean of the L2's side and the SMs': assumption, a few per cent of a die
PORT = 64.0  # B/cycle of an SM's port to L2 on the public dies: the width commonly given
THREADS = 2048  # resident threads of an SM on the public dies, about
THREAD = 1 / 128  # state and scheduling of a thread over one FLOP/cycle of vector lanes: assumption, some 5 % of them
GDDR_PHY = 0.4  # PHY of a 32-bit GDDR channel over that of an HBM stack: assumption, from die photographs
LINK_PHY = 450e9  # B/s of link, both directions, whose PHYs take the area of an HBM stack's: assumption
FORMATS = 8.0  # norm over number formats: a unit has the area of its widest one and a little for each other
# Area of a matrix unit per FLOP/cycle by dtype, over fp16: half for half the bits (peaks of one unit scale so); vector likewise.
MATRIX_COST = {"fp32": 4.0, "tf32": 2.0, "fp16": 1.0, "bf16": 1.0, "int8": 0.5, "fp8": 0.5}
VECTOR_COST = {"fp32": 1.0, "tf32": 0.25, "fp16": 0.25, "bf16": 0.25, "int8": 0.125, "fp8": 0.125}
STATED = 0.02  # relative range of a stated area: rounding and scribe lines
NINETY = 1.645  # standard deviations of a 90 % interval


@dataclass(frozen=True)
class Node:
    """One process node; units in `data/silicon/nodes.yaml`. Ranges are Estimates; `clock` is in Hz."""

    name: str
    logic: float
    sram: float
    analogue: float
    energy: Estimate
    leakage: Estimate
    clock: float
    wafer: Estimate
    defects: Estimate


@dataclass(frozen=True)
class Die:
    """What takes area on one die, whole, spare units included. Floats or arrays; per SM where it says so.

    tensor: FLOP/cycle/SM by dtype; vector: FLOP/cycle/SM, norm over formats; fp64, exp: per SM and cycle; registers, shared: MiB
    per SM; l2: MiB; l2_width: B/cycle; port: B/cycle per SM; threads: per SM; phys: PHYs in units of an HBM stack's; graphics:
    1 or 0; host: dies that have the interface to a host.
    """

    node: str
    sm_count: Rate
    tensor: Mapping[str, Rate]
    vector: Rate
    fp64: Rate
    exp: Rate
    registers: Rate
    shared: Rate
    l2: Rate
    l2_width: Rate
    port: Rate
    threads: Rate
    phys: Rate
    graphics: float
    host: float


@cache
def nodes() -> dict[str, Node]:
    """The process nodes, the oldest first."""
    found = {}
    for row in data("nodes"):
        ranges: dict[str, Any] = {n: of(row[n]) for n in ("energy", "leakage", "wafer", "defects")}
        found[row["node"]] = Node(
            row["node"], row["logic"], row["sram"], row["analogue"], clock=1e6 * row["clock"], **ranges
        )
    return found


def fitted() -> dict[str, float]:
    """The committed coefficients of `PARTS`, mm2, and `error`, the spread of the leave-one-out log errors."""
    read: dict[str, Any] = data("area")
    return {name: float(read[name]) for name in (*PARTS, "error")}


def features(die: Die) -> dict[str, Rate]:
    """What each coefficient multiplies: counts of units, scaled to the die's node; `crossbar` has its area already, mm2."""
    node, n7 = nodes()[die.node], nodes()["N7"]
    logic, sram = n7.logic / node.logic, node.sram / BIT_CELL
    cells = BIT_CELL * 1e-6 * BITS  # mm2 of a MiB of bit cells at N7
    matrix = _norm({t: MATRIX_COST[t] * rate for t, rate in die.tensor.items()})
    lanes = die.vector + DOUBLE * die.fp64 + SPECIAL * die.exp + THREAD * die.threads
    width = (die.l2_width + die.sm_count * die.port) / 2.0
    return {
        "tensor": die.sm_count * matrix / 1024.0 * logic,
        "vector": die.sm_count * lanes / 256.0 * logic,
        "graphics": die.sm_count * die.graphics * logic,
        "sram": (die.sm_count * (PORTS * die.registers + die.shared) + die.l2) * cells * sram,
        "phy": die.phys * node.analogue,
        "rest": die.host * node.analogue,
        "crossbar": CROSSBAR * width / 1024.0 * logic,
    }


def area(die: Die, coefficients: Mapping[str, float]) -> Any:
    """mm2 of a die, or of all dies of a device."""
    found = features(die)
    return found["crossbar"] + sum(coefficients[name] * found[name] for name in PARTS)


def public_dies(bounds: bool = False) -> list[tuple[dict[str, Any], Die]]:
    """The dies of `dies.yaml`: the row (name, node, area_mm2, source, doubt) and what it has.

    bounds: those of which only a bound of the area is public, in place of those whose area is.
    """
    return [(row, _die(row)) for row in data("dies") if bool(row.get("at_most")) == bounds]


def _die(row: Mapping[str, Any]) -> Die:
    phys = row.get("stacks", 0) + GDDR_PHY * row.get("channels", 0) + 1e9 * row.get("link", 0) / LINK_PHY
    return Die(
        row["node"], row["sm_count"], row.get("tensor", {}), row["vector"], row["fp64"], row["exp"],
        row["registers"] / 1024, row["shared"] / 1024, row["l2"], row["l2_width"], PORT, THREADS, phys,
        float(row.get("graphics", False)),
        float(row.get("host", True)),
    )  # fmt: skip


def stacks(on: Rates, silicon: Silicon) -> Rate:
    """HBM stacks or 32-bit GDDR channels that the device's bandwidth needs, enabled ones; not a whole number in a search."""
    return on.hbm_bandwidth / silicon.memory_unit


def is_stacked(silicon: Silicon) -> bool:
    """HBM, which needs an interposer and sits at the die's edge."""
    return silicon.memory.startswith("HBM")


def die_of(on: Rates, silicon: Silicon) -> Die:
    """All dies of a device (or of a stack of designs) as one, spare units included."""
    units = stacks(on, silicon) / silicon.memory_enabled * (1.0 if is_stacked(silicon) else GDDR_PHY)
    return Die(
        node=silicon.node,
        sm_count=on.sm_count / silicon.sm_enabled,
        tensor=on.tensor,
        vector=_norm({t: VECTOR_COST[t] * rate for t, rate in on.vector.items()}),
        fp64=silicon.fp64,
        exp=on.exp,
        registers=on.registers / 2**20,
        shared=on.shared_memory / 2**20,
        l2=on.l2_capacity / 2**20 / silicon.l2_enabled,
        l2_width=on.l2_bandwidth / silicon.l2_enabled,
        port=on.l2_port,
        threads=on.max_threads,
        phys=units + silicon.link / LINK_PHY,
        graphics=float(silicon.graphics),
        host=float(silicon.dies),
    )


def anchor(device: Device) -> float:
    """Stated over modelled area of a device's file, 1 where none is stated: it multiplies the model of changed designs too.

    A device of ours with changed fields is anchored at its file; one of the user's own only while its fields are as stated.
    """
    silicon = device.silicon
    if silicon is None or not silicon.area:
        return 1.0
    changed = [path for path, text in device.sources.items() if text == "override"]
    if changed and "silicon.area" not in changed:
        if device.name not in device_names():
            return 1.0
        device = load(device.name)
    assert device.silicon is not None
    return device.silicon.area / float(area(die_of(rates(device), device.silicon), fitted()))


def die_area(on: Rates, silicon: Silicon, anchored: float = 1.0) -> Estimate:
    """mm2 of all dies together with a 90 % range: of the fit, or that of a stated area where `anchored` is not 1."""
    value = area(die_of(on, silicon), fitted()) * anchored
    if anchored == 1.0:
        return _within(value, NINETY * fitted()["error"])
    moved = np.abs(np.log(value / silicon.area))  # the further from what was stated, the more the model speaks
    return _within(value, STATED + NINETY * fitted()["error"] * np.minimum(moved, 1.0))


def outside(device: Device) -> list[str]:
    """What of a device the public dies do not cover, in words: node, reticle, stacks at the edge."""
    silicon = device.silicon
    if silicon is None:
        return []
    on, known = rates(device), data("area")["nodes"]
    each = float(die_area(on, silicon, anchor(device)).value) / silicon.dies
    found = []
    if silicon.node not in known:
        found.append(f"node {silicon.node}: no public die of it was fitted (known: {', '.join(known)})")
    if each > RETICLE:
        least = math.ceil(each * silicon.dies / RETICLE)
        found.append(
            f"a die of {each:.0f} mm2 is beyond the reticle of {RETICLE:.0f} mm2; at least {least} dies are needed"
        )
    fit, wanted = edge_stacks(each) * silicon.dies, float(stacks(on, silicon)) / silicon.memory_enabled
    if is_stacked(silicon) and wanted > fit + 0.01:
        found.append(f"{wanted:.1f} HBM stacks; {fit} fit along the two long edges of {silicon.dies} x {each:.0f} mm2")
    return found


def edge_stacks(each: float) -> int:
    """HBM stacks along the two long edges of a die of that area, mm2."""
    return 2 * int(math.sqrt(each * ASPECT) / STACK_EDGE)


def full_counts(device: Device) -> dict[str, float]:
    """What the dies of a device have where it enables less: SMs, L2 in B, stacks or channels. {} without `silicon`."""
    s = device.silicon
    if s is None:
        return {}
    units = float(stacks(rates(device), s)) / s.memory_enabled
    return {
        "sm_count": round(device.sm_count / s.sm_enabled),
        "l2_bytes": device.l2.capacity / s.l2_enabled,
        "memory_units": round(units, 1),
    }


def _within(value: Any, spread: Any) -> Estimate:
    return Estimate(value * np.exp(-spread), value, value * np.exp(spread))


def _norm(rates_: Mapping[str, Any]) -> Any:
    """The widest format, and a little for each other."""
    if not rates_:
        return 0.0
    return sum((rate / 1e3) ** FORMATS for rate in rates_.values()) ** (1.0 / FORMATS) * 1e3
