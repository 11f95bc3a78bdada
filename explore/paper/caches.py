"""A small model of caches: L2 misses per thousand instructions and mean memory access time of the kernels of unfused attention.

Counted are the kernels of the attention calculation, which the study profiles with another tool (Nsight Compute) than its
shares of time; and, as one of the variations, all kernels of the modules, projections and the moves of maps too.

What the simulator gives: bytes that each kernel reads, how much was touched since (so what misses L2: `sim.traffic.miss`), bytes
through L2, tiles. What is assumed here, and varied (`LEVERS`), are instructions and latencies:

- a load or store instruction of a warp moves 512 B at best (32 lanes x 16 B); a matrix instruction does 16 x 8 x 16 products;
- a tiled product executes whole tiles, padding included, and beside each matrix instruction others (operands,
  addresses, barriers);
- softmax and elementwise kernels execute a number of instructions an element, 32 elements a warp;
- a read that hits L1 takes L1_CYCLES, L2 L2_CYCLES, else the device's latency; streaming kernels and asynchronous copies find
  nothing in L1 but the rest of a sector that a neighbour fetched: with rows shorter than a sector, less of each is used;
- writes stay in L2 until they are evicted and count neither as miss nor as access.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from explore.paper.suite import UNFUSED, VIDEO, Floats, Member, Suite, module_role
from hwspecs.rates import Rates
from sim.calibration import load as load_calibration
from sim.tiles import MENU
from sim.traffic import SECTOR, THREAD_LOAD, miss, overfetch
from workloads.ops.attention import ROLES

GEMM, SOFTMAX, ELEMENTWISE = KINDS = ("GEMM", "softmax", "elementwise")
OF_KERNEL = {
    **dict.fromkeys(("q k^t", "p v", "gemm"), GEMM), "softmax": SOFTMAX,
    **dict.fromkeys(
        ("scale", "scale q", "scale k", "mask", "q to fp32", "k to fp32", "scores to fp32", "from fp32", "q heads", "k heads",
         "v heads", "output heads", "copy", "elementwise"),
        ELEMENTWISE,
    ),
}  # fmt: skip
WARP = 32  # lanes (CUDA C++ Programming Guide)
MATRIX_FLOPS = 2 * 16 * 8 * 16  # of one warp instruction on 16-bit operands (PTX ISA, mma.sync.m16n8k16)


@dataclass(frozen=True)
class Assumed:
    """What is not measured. Instructions and cycles.

    beside_matrix: other instructions for each matrix instruction. softmax, elementwise: thread instructions an
    element (load, convert,
    two passes of maximum and sum, exponential, store; load, multiply, store, addresses). l1, l2: cycles to a hit in
    each (order of
    what microbenchmarks of the A100 report: 30 to 40, 200 to 260). line_hits: share of reads that find their sector in L1.
    whole_module: all kernels of the attention modules count.
    """

    beside_matrix: float = 1.5
    softmax: float = 14.0
    elementwise: float = 5.0
    l1_cycles: float = 35.0
    l2_cycles: float = 220.0
    line_hits: float = 0.0
    whole_module: bool = False


# What each assumption is varied to, one at a time: half and twice, or the ends of what has been reported.
LEVERS: Mapping[str, tuple[float, float]] = {
    "beside_matrix": (0.75, 3.0), "softmax": (7.0, 28.0), "elementwise": (2.5, 10.0), "l1_cycles": (25.0, 45.0),
    "l2_cycles": (180.0, 300.0), "line_hits": (0.0, 0.5),
}  # fmt: skip


@dataclass(frozen=True)
class Counters:
    """Of the kernels of one kind in one attention, one inference: warp instructions, sectors read through L2,
    sectors that miss it.
    """

    instructions: float
    accesses: float
    misses: float
    cycles: float

    @property
    def per_kilo(self) -> float:
        """L2 misses per thousand warp instructions."""
        return 1000 * self.misses / self.instructions

    @property
    def miss_rate(self) -> float:
        """Of the reads that reach L2."""
        return self.misses / self.accesses


def counters(member: Member, on: Rates, assumed: Assumed | None = None) -> dict[tuple[str, str], Counters]:
    """Role and kind of kernel -> counters of a model's networks that have temporal attention, unfused."""
    assumed = assumed or Assumed()
    trace, cost = member.trace, member.priced[UNFUSED].cost
    kernels = cost.kernels
    own = trace.call_kind() == trace.kinds.index("attention")
    calls = np.flatnonzero(trace.call_in_attention if assumed.whole_module else own)
    role = module_role(trace)[calls]
    segment = trace.call_segment()[calls]
    inside = np.isin(segment, np.unique(segment[role == ROLES.index("temporal")]))
    columns = _columns(member, on, assumed)
    found = {}
    for name in ("self", "temporal"):
        mine = calls[inside & (role == ROLES.index(name))]
        runs = np.bincount(kernels.call_row[mine], trace.call_repeats()[mine], kernels.rows)[kernels.row] * cost.chosen
        for kind in KINDS:
            of = runs * np.array([OF_KERNEL.get(k) == kind for k in kernels.name])
            instructions, accesses, misses = (float(column @ of) for column in columns)
            rate = misses / accesses
            reached = (1 - assumed.line_hits) * (
                assumed.l2_cycles - assumed.l1_cycles + rate * (_far(on) - assumed.l2_cycles)
            )
            found[name, kind] = Counters(instructions, accesses, misses, assumed.l1_cycles + reached)
    return found


def ratios(found: Mapping[tuple[str, str], Counters]) -> dict[str, float]:
    """Misses per thousand instructions, temporal over spatial, by kind."""
    return {kind: found["temporal", kind].per_kilo / found["self", kind].per_kilo for kind in KINDS}


def differences(found: Mapping[tuple[str, str], Counters]) -> dict[str, float]:
    """Cycles of the mean access, temporal minus spatial, by kind."""
    return {kind: found["temporal", kind].cycles - found["self", kind].cycles for kind in KINDS}


def varied() -> Sequence[tuple[str, Assumed]]:
    """The assumptions one at a time at each end, after all of them at their middle."""
    changed: list[tuple[str, dict[str, Any]]] = [(f"{n} {v:g}", {n: v}) for n, both in LEVERS.items() for v in both]
    ends = ((name, replace(Assumed(), **fields)) for name, fields in changed)
    return (("as assumed", Assumed()), *ends, ("all kernels of the modules", Assumed(whole_module=True)))


def spread(suite: Suite) -> list[tuple[str, dict[tuple[str, str], Counters]]]:
    """Make-A-Video's counters under each variation."""
    return [(name, counters(suite.member(VIDEO), suite.rates, a)) for name, a in varied()]


def _far(on: Rates) -> float:
    """Cycles to a read from HBM."""
    return float(on.hbm_latency * on.sm_clock)


def _columns(member: Member, on: Rates, assumed: Assumed) -> tuple[Floats, Floats, Floats]:
    """Warp instructions, sectors that are read through L2, sectors that miss it, of each kernel."""
    cost, kernels = member.priced[UNFUSED].cost, member.priced[UNFUSED].cost.kernels
    terms = load_calibration().terms
    reads = kernels.reads.sum(axis=0)
    missing = sum(kernels.reads[s] * miss(kernels.distances[s], on, terms) for s in range(len(kernels.reads)))
    tiled = kernels.gemm[0] > 0
    through = np.where(tiled, np.maximum(cost.l2_bytes - kernels.write_bytes, reads), reads * overfetch(kernels))
    moved = (reads + kernels.write_bytes) / (WARP * THREAD_LOAD)
    elements = kernels.write_bytes / kernels.itemsize
    each = np.array([{SOFTMAX: assumed.softmax}.get(OF_KERNEL.get(k, ""), assumed.elementwise) for k in kernels.name])
    products = _executed(kernels.gemm, cost.tile) / MATRIX_FLOPS * (1 + assumed.beside_matrix)
    instructions = np.where(tiled, products + moved, elements * each / WARP + moved)
    return instructions, np.asarray(through / SECTOR), np.asarray(missing / SECTOR)


def _executed(gemm: Floats, tile: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Floats:
    """FLOPs of the tiles that cover each product, padding included; 0 for what is none."""
    batch, m, n, k = gemm
    rows, columns = MENU[np.minimum(tile, len(MENU) - 1)][:, :2].T
    return np.asarray(2 * batch * np.ceil(m / rows) * rows * np.ceil(n / columns) * columns * k)
