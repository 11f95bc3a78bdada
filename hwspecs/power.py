"""Energy per FLOP and byte, voltage, idle and full power, the clock that a power cap leaves; sources: `data/silicon/energy.yaml`.

Joules of work = counts x energy at N7 x the node's scale x (V / nominal V)^2; device memory has its own. Idle power is leakage
of the dies and standby of the memory; the board loses a share of all. Array code: floats, or (designs, 1) for a stack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hwspecs.device import Device, Silicon
from hwspecs.estimate import Estimate, data, exactly, of, total
from hwspecs.rates import Rates, rates
from hwspecs.silicon import anchor, die_area, nodes

BYTES = {"fp32": 4.0, "tf32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.0, "fp8": 1.0}
TERMS = (
    "matrix",
    "vector",
    "exp",
    "registers",
    "shared",
    "l2",
    "hbm",
)  # of the energy of work, beside `idle` and `board`
UNTHROTTLED = (
    0.9  # sustained / peak matrix rate where no power limit binds: V100 0.90, P100 0.92, A100 SXM 0.87 (their files)
)
LANES = (
    0.95  # the same of the vector lanes: fp32 products of A100 and V100 in public tables reach 0.93 to 0.96 of the peak
)
MMA = (384.0, 1024.0, 4096.0)  # mma m16n8k16: elements of A and B, bytes of C read and written in fp32, FLOPs (PTX ISA)
MMA_RATE = (
    2048.0  # fp16 FLOP/cycle/SM of the unit that MMA describes (A100); operand reuse grows with the side of the unit
)
FMA_BYTES = 8.0  # register bytes per vector FLOP: three reads and a write of 4 B per multiply-add
WARP_TILE = (
    64.0  # rows and columns of C whose operands are read from shared memory together (CUTLASS, default warp tile)
)
BLOCK_TILE = (
    128.0,
    256.0,
)  # of C, whose operands come from L2 together, at full activity (CUTLASS, largest block tile)
BISECTIONS = 30  # of a clock: to one part in a billion
NO_WATT = 1e-9  # W that stands for nothing left: formulas divide by it


@dataclass(frozen=True)
class Activity:
    """Counts that broadcast with a stack of designs: per kernel (kernels,), of a run, or per second."""

    flops: Mapping[str, Any]  # of matrix products, by dtype
    vector_flops: Any  # fp32, as torch does the arithmetic around products
    exp_ops: Any
    l2_bytes: Any
    hbm_bytes: Any


def voltage(on: Rates, silicon: Silicon, part: int = 1) -> Any:
    """Voltage over nominal at the clock that long matrix products sustain: proportional to the clock, with a floor.

    part: 0, 1 or 2 for the low, typical or high floor. The sustained share below `UNTHROTTLED` is read as a lower clock.
    """
    return _volts(_loaded_clock(on), silicon, part)


def _loaded_clock(on: Rates) -> Any:
    return on.sm_clock * np.minimum(1.0, np.asarray(on.tensor_sustained) / UNTHROTTLED)


def _volts(clock: Any, silicon: Silicon, part: int = 1) -> Any:
    return np.maximum(clock / nodes()[silicon.node].clock, of(data("energy")["floor"])[part])


def work(done: Activity, on: Rates, silicon: Silicon, volts: Any = None) -> dict[str, Estimate]:
    """Joules by `TERMS`; watts where `done` is per second. `at_board` adds losses and the range of the node's scale."""
    coefficients, node = data("energy"), nodes()[silicon.node]
    v = voltage(on, silicon) if volts is None else volts
    scale = np.asarray(v) ** 2 * node.energy.value * 1e-12

    def core(name: str, count: Any, numbers: Any = None) -> Estimate:
        return of(numbers or coefficients[name]).times(scale * count)

    on_matrix = {t: np.asarray(on.tensor[t]) >= np.asarray(on.vector[t]) for t in done.flops}
    vector = done.vector_flops + sum(f * ~on_matrix[t] * BYTES[t] / 4.0 for t, f in done.flops.items())
    registers = vector * FMA_BYTES + sum(f * on_matrix[t] * _operand_bytes(on, t) for t, f in done.flops.items())
    shared = done.l2_bytes + sum(f * BYTES[t] / WARP_TILE for t, f in done.flops.items())
    arithmetic = coefficients["arithmetic"]
    return {
        "matrix": _added([core("", f * on_matrix[t], arithmetic[t]) for t, f in done.flops.items()]),
        "vector": core("", vector, arithmetic["fp32"]),
        "exp": core("exp", done.exp_ops),
        "registers": core("registers", registers),
        "shared": core("shared", shared),
        "l2": core("l2", done.l2_bytes),
        "hbm": of(coefficients["memory"][silicon.memory]).times(1e-12 * np.asarray(done.hbm_bytes)),
    }


def at_board(terms: Mapping[str, Estimate], silicon: Silicon) -> Estimate:
    """The sum of terms of `work` and `idle`, at the board's input: the node's scale is common to all that scales with it.

    The range also holds what the model leaves out, from the power limits of known devices.
    """
    energy = nodes()[silicon.node].energy
    scale = energy.times(1.0 / energy.value)
    core = total([e for name, e in terms.items() if name in TERMS and name != "hbm"]).times_estimate(scale)
    parts = total([core, *(e for name, e in terms.items() if name not in TERMS or name == "hbm")])
    return with_board(parts).times_estimate(of(data("energy")["model"]))


def _operand_bytes(on: Rates, dtype: str) -> Any:
    """Register bytes per matrix FLOP: those of an mma, less where a larger unit reuses its operands more."""
    operands, accumulators, flops = MMA
    wide = np.maximum(np.asarray(on.tensor[dtype]) * BYTES[dtype] / 2.0, 1.0)
    return (operands * BYTES[dtype] + accumulators) / flops * np.sqrt(MMA_RATE / wide)


def _added(parts: list[Estimate]) -> Estimate:
    """A sum of estimates that share one cause: ranges add."""
    low, value, high = (sum(p[i] for p in parts) for i in range(3))
    return Estimate(low, value, high) if parts else exactly(0.0)


def idle(on: Rates, silicon: Silicon, anchored: float = 1.0) -> Estimate:
    """W at rest but powered: leakage of the dies at the present voltage, standby of the memory, without the board's losses."""
    return _idle(on, silicon, anchored, voltage(on, silicon))


def _idle(on: Rates, silicon: Silicon, anchored: float, volts: Any) -> Estimate:
    leak = nodes()[silicon.node].leakage.times_estimate(die_area(on, silicon, anchored)).times(np.asarray(volts) ** 2)
    return total([leak, of(data("energy")["standby"]).times(np.asarray(on.hbm_capacity) / 1e9)])


def with_board(parts: Estimate) -> Estimate:
    """The same at the board's input: regulators and fans take a share."""
    loss = of(data("energy")["board"])
    return total(
        [
            parts,
            parts.times(loss.value),
            Estimate((loss.low - loss.value) * parts.value, 0.0, (loss.high - loss.value) * parts.value),
        ]
    )


def full(on: Rates, silicon: Silicon, anchored: float = 1.0) -> Estimate:
    """W with everything at work: 16-bit matrix products at their sustained rate, their L2 traffic, all memory bandwidth."""
    return _at(on, silicon, anchored, on.tensor_sustained, on.sm_clock, voltage(on, silicon))


def _at(on: Rates, silicon: Silicon, anchored: float, share: Any, clock: Any, volts: Any) -> Estimate:
    """W of 16-bit matrix products, in the format that draws more, at a share of their peak at a clock."""
    rest = _idle(on, silicon, anchored, volts)
    half, brain = (
        at_board(work(_products(on, t, share, clock), on, silicon, volts) | {"idle": rest}, silicon)
        for t in ("fp16", "bf16")
    )
    more = np.asarray(half.value) >= np.asarray(brain.value)
    return Estimate(*(np.where(more, a, b) for a, b in zip(half, brain, strict=True)))


def _products(on: Rates, dtype: str, share: Any, clock: Any) -> Activity:
    """What matrix products do in a second."""
    rows, columns = BLOCK_TILE
    flops = np.asarray(on.sm_count) * clock * share * on.matmul(dtype)
    operands = flops * BYTES[dtype] * (rows + columns) / (2.0 * rows * columns)
    return Activity({dtype: flops}, 0.0, 0.0, np.minimum(operands, on.l2_bandwidth * clock), on.hbm_bandwidth)


def sustained_clock(on: Rates, silicon: Silicon, cap: Any, anchored: float = 1.0) -> Any:
    """Hz at which matrix products at `UNTHROTTLED` of the peak and all of the memory bandwidth draw `cap` W: at most the boost
    clock; 0 where the memory alone draws more."""

    def draws(clock: Any) -> Any:
        return _at(on, silicon, anchored, UNTHROTTLED, clock, _volts(clock, silicon)).value

    return _fastest(on, draws, cap)


def lane_clock(on: Rates, silicon: Silicon, cap: Any, anchored: float = 1.0, busy: float = LANES) -> Any:
    """Hz at which long fp32 products on the vector lanes draw `cap` W: at most the boost clock. Their operands come from L2, and
    keep the lanes `busy` for that share of the time; what memory draws is apart (`memory_energy`)."""

    def draws(clock: Any) -> Any:
        volts = _volts(clock, silicon)
        done = replace(_products(on, "fp32", busy, clock), hbm_bytes=0.0)
        terms = work(done, on, silicon, volts) | {"idle": _idle(on, silicon, anchored, volts)}
        return at_board(terms, silicon).value

    return _fastest(on, draws, cap)


def memory_energy(on: Rates, silicon: Silicon, cap: Any, anchored: float = 1.0) -> Any:
    """s that a byte of device memory takes out of the energy that `cap` W leave for work, at the lowest voltage, where a limit
    that binds drives a chip: joules of the byte over watts above those of a device at rest. Without end where `cap` is no more
    than a device at rest draws."""
    lowest = of(data("energy")["floor"])[1]
    done = Activity({}, 0.0, 0.0, 0.0, 1.0)
    byte = at_board(work(done, on, silicon, lowest), silicon).value
    return byte / np.maximum(cap - with_board(_idle(on, silicon, anchored, lowest)).value, NO_WATT)


def _fastest(on: Rates, draws: Callable[[Any], Any], cap: Any) -> Any:
    """Hz up to the boost clock at which a load draws `cap` W."""
    low, high = np.zeros(np.shape(on.sm_clock)), np.asarray(on.sm_clock, dtype=np.float64)
    for step in range(BISECTIONS):
        middle = high if step == 0 else (low + high) / 2.0  # the boost clock itself is tried first
        fits = draws(middle) <= cap
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    return low


@dataclass(frozen=True)
class Power:
    """Of one device, W and Hz: at rest, at full activity, whether that was stated, and the clock that its limit leaves."""

    idle: Estimate
    full: Estimate
    stated: bool
    clock: float


def of_device(device: Device) -> Power | None:
    """None where the device does not say what it is made of."""
    silicon = device.silicon
    if silicon is None:
        return None
    on, anchored = rates(device), anchor(device)
    stated = bool(silicon.load_power)
    load = exactly(silicon.load_power) if silicon.load_power else full(on, silicon, anchored).floats()
    clock = float(sustained_clock(on, silicon, device.power.tdp, anchored))
    return Power(with_board(idle(on, silicon, anchored)).floats(), load, stated, clock)
