"""The terms of a tiled kernel as plain formulas: of arrays (designs × kernels) in `sim.tiles`, of scalars in `sim.compiled`.

Written with operators that numpy broadcasts and numba compiles, so that one design and a million are priced by the same
lines. Every term falls (or stays) when a field of `Chip` improves. Form of the matrix product: published ablation over A100
and L40S GEMM times; wave quantization as in LLMCompass (Zhang et al. 2024); fused attention as in FlashAttention-2 (Dao 2023).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

K_STEP = 32.0  # k that one main-loop step covers
LANE_STEP = 8.0  # the same of 4-byte operands, as SIMT kernels take them (CUTLASS, default blocks of 128 x 128 x 8)
PAIR = 0.5  # of the longer edge of a tile that an L2 read serves for two SMs at once: neighbouring blocks of a wave want the same
# operand, which the L2's request coalescer answers once (Nsight Compute documentation, LRC), as do clusters (H100 whitepaper)
STAGES = 3.0  # operand tiles in shared memory at a time
ACCUMULATOR = 4.0 * 1.5  # B of registers per element of C: fp32, and half as much again for operands and addresses


class Chip(NamedTuple):
    """What the tiled formulas read of a device, for one dtype; made by `chip`. Cycles are of the SM clock.

    Rates are held as costs, so that a million designs are priced by products: a division takes ten times as long.
    """

    sm_count: Any
    cycle: Any  # s
    matrix: Any  # cycles per FLOP of one SM's matrix unit
    lanes: Any  # cycles per FLOP of one SM's vector unit
    older: Any  # how many times longer the matrix unit takes for kernels that use the instructions of the generation before
    flop: Any  # s per FLOP of the whole device at the rate that long kernels keep
    limit: Any  # s per FLOP that a limit on power adds to the peak rate; it overlaps with what tiles leave idle
    operand: Any  # s per operand byte that one SM takes from L2
    l2_byte: Any  # s per byte through the whole L2
    exponential: Any  # cycles per transcendental operation of one SM
    registers: Any  # B per SM
    shared: Any  # B per SM
    unit_m: Any  # the matrix unit's own tile: output rows,
    unit_n: Any  # output columns,
    unit_k: Any  # depth
    fill: Any  # cycles to fill and drain it per pass of a weight tile


def chip(
    sm_count: Any,
    clock: Any,
    tensor: Any,
    vector: Any,
    sustained: Any,
    delivery: Any,
    l2_bandwidth: Any,
    exp: Any,
    registers: Any,
    shared: Any,
    unit_m: Any,
    unit_n: Any,
    unit_k: Any,
    fill: Any,
    older: Any = 1.0,
) -> Chip:
    """A Chip from rates: Hz; FLOP/cycle/SM of the matrix unit (0: none) and the vector unit; the share of the matrix peak that
    long kernels keep; operand B/cycle of an SM; L2 B/cycle of the device; op/cycle/SM; B per SM; see `Chip`; the share
    of the matrix rate that kernels for older instructions reach."""
    tensor = np.maximum(tensor, NONE)
    peak = 1.0 / (sm_count * np.maximum(tensor, vector) * clock)  # s per FLOP
    return Chip(
        sm_count=sm_count,
        cycle=1.0 / clock,
        matrix=1.0 / tensor,
        lanes=1.0 / vector,
        older=1.0 / older,
        flop=peak / sustained,
        limit=peak * fourth_root(np.maximum(fourth(1.0 / sustained) - 1.0, 0.0)),
        operand=1.0 / (delivery * clock),
        l2_byte=1.0 / (l2_bandwidth * clock),
        exponential=1.0 / exp,
        registers=registers,
        shared=shared,
        unit_m=unit_m,
        unit_n=unit_n,
        unit_k=unit_k,
        fill=fill,
    )


NONE = 1e-9  # FLOP/cycle/SM that stands for no unit at all: formulas divide by it


class TileTerms(NamedTuple):
    """Calibrated parameters of the tiled formulas; see `calibrations/physical.yaml`."""

    tile_issue: float
    wave_share: float
    fill_drain_tile: float
    loop_latency: float
    split_reduction: float
    write_out: float
    fused_issue: float
    fused_prologue: float
    fused_iteration: float


class Terms(NamedTuple):
    """Terms of a tiled kernel: seconds; `fixed` is added, the others overlap. Then L2 bytes, waves, blocks per SM."""

    tensor: Any
    l2: Any
    latency: Any
    fixed: Any
    l2_bytes: Any
    waves: Any
    occupancy: Any


def fourth_root(total: Any) -> Any:
    """Of the sum of fourth powers of overlapping times: a soft maximum (the GEMM fits give exponents of 3.7 to 4.6)."""
    return np.sqrt(np.sqrt(total))


def fourth(t: Any) -> Any:
    """t to the fourth."""
    return (t * t) * (t * t)


def occupancy(elements: Any, shared: Any, chip: Chip) -> Any:
    """Blocks of a tile that one SM holds, by registers and shared memory; below 1 a tile runs at that share of its speed."""
    fits = np.minimum(chip.registers / (elements * ACCUMULATOR), chip.shared / shared)
    return np.maximum(np.floor(fits), np.minimum(fits, 1.0))


def paid_waves(per_sm: Any, share: float) -> Any:
    """Waves that are paid: whole ones, or part of the last if `share` is below 1."""
    return share * np.ceil(per_sm) + (1.0 - share) * np.maximum(per_sm, 1.0)


def whole(length: Any, step: Any, unit: Any) -> Any:
    """length up to a whole number of steps and of units; both are powers of two, so of the larger of them."""
    larger = np.maximum(step, unit)
    return np.ceil(length / larger) * larger


def units(length: Any, unit: Any) -> Any:
    """length up to a whole number of units."""
    return np.ceil(length / unit) * unit


def gemm(
    chip: Chip,
    p: TileTerms,
    batch: Any,
    m: Any,
    n: Any,
    k: Any,
    itemsize: Any,
    flops: Any,
    bm: Any,
    bn: Any,
    split: Any,
) -> Terms:
    """C[batch,m,n] = A B with blocks of bm x bn and k in `split` parts. `flops` are the useful ones.

    A block runs on the matrix unit, there in whole unit tiles, or on the vector unit, whichever is faster. A weight-stationary
    array of unit_k x unit_n cells takes one row a cycle and holds one tile of B a pass, so a pass over the rows of a block
    lasts rows + fill cycles (SCALE-Sim, Samajdar et al. 2020: 2 k + n + rows - 2 where nothing overlaps; TPU v1, Jouppi et
    al. 2017, loads the next weights meanwhile). A power limit leaves full waves the sustained rate; SMs that a wave leaves idle
    draw less, which the clock of the others makes up for in part: (tiles^4 + sustained^4 - peak^4)^(1/4) of the times.
    """
    blocks = batch * np.ceil(m / bm) * np.ceil(n / bn) * split
    step = LANE_STEP + (itemsize < 4.0) * (K_STEP - LANE_STEP)
    depth = np.ceil(k / split / step) * step
    rows, columns = np.maximum(bm, chip.unit_m) + chip.fill, np.maximum(bn, chip.unit_n)  # powers of two, all of them
    issued = 2.0 * rows * columns * whole(k / split, K_STEP, chip.unit_k)  # FLOP of a block on the matrix unit
    cycles = np.minimum(issued * chip.matrix, 2.0 * bm * bn * depth * chip.lanes)
    per_sm = blocks / chip.sm_count
    waves = paid_waves(per_sm, p.wave_share)
    fits = occupancy(bm * bn, (bm + bn) * step * itemsize * STAGES, chip)
    parts = (split > 1) * 8.0 * split * batch * m * n  # fp32 partial sums, written and read
    operands = np.maximum(blocks * depth * (bm + bn - PAIR * np.maximum(bm, bn)), batch * k * (m + n))
    moved = itemsize * (operands + batch * m * n) + parts
    reduction = (split > 1) * p.split_reduction * chip.cycle
    added = parts * chip.operand / np.minimum(blocks, chip.sm_count)
    written = p.write_out * itemsize * bm * bn * waves * chip.operand
    return Terms(
        tensor=fourth_root(fourth(waves * cycles * chip.cycle / p.tile_issue) + fourth(flops * chip.limit)),
        l2=np.maximum(depth * (bm + bn) * itemsize * waves * chip.operand, moved * chip.l2_byte),
        latency=np.maximum(per_sm / fits, 1.0) * (depth * p.loop_latency) * chip.cycle,
        fixed=p.fill_drain_tile * chip.cycle + written + reduction + added,
        l2_bytes=moved,
        waves=np.ceil(per_sm),
        occupancy=fits,
    )


def flash(
    chip: Chip,
    p: TileTerms,
    groups: Any,
    q_len: Any,
    kv_len: Any,
    head_dim: Any,
    causal: Any,
    rows: Any,
    keys: Any,
    depth: Any,
    older: Any,
    itemsize: Any,
) -> Terms:
    """Fused attention with blocks of `rows` queries and `keys` keys, head_dim padded to `depth`: see `workloads.kind.Flash`.

    Short sequences and odd head dimensions pay for whole blocks, products and exponentials; copies are predicated, so that only
    what there is crosses L2. A causal mask skips the blocks right of the diagonal: half of them, but for those on it. The last
    query block still meets them all, and the kernel lasts at least as long as that block. Exponentials and products of a warp
    follow one another (FlashAttention-3, Shah et al. 2024, section 3.2, which is what it changes). The matrix unit holds keys,
    then values: its tiles pad the query rows, the head dimension and the keys of a head as a whole. Where `older` is 1 the
    kernel is written for the instructions of the generation before, which on some chips do not reach the full rate.
    """
    query_blocks = np.ceil(q_len / rows)
    key_blocks = np.ceil(kv_len / keys)
    mean = key_blocks - causal * 0.5 * (key_blocks - np.maximum(key_blocks / query_blocks, 1.0))
    blocks = groups * query_blocks
    per_sm = blocks / chip.sm_count
    waves = paid_waves(per_sm, p.wave_share)
    fits = occupancy(rows * (depth + keys), (rows + 2.0 * keys) * depth * itemsize, chip)
    longest = np.maximum(waves * mean, key_blocks)  # key blocks that the busiest SM works through
    resident = np.maximum(per_sm / fits * mean, key_blocks)  # the same, co-resident blocks side by side
    product = 4.0 * rows * keys * depth
    scores = units(depth, chip.unit_k) * units(key_blocks * keys, chip.unit_n)
    values = units(depth, chip.unit_n) * units(key_blocks * keys, chip.unit_k)
    issued = 2.0 * (np.maximum(rows, chip.unit_m) + chip.fill) * (scores + values) / key_blocks
    slower = 1.0 + older * (chip.older - 1.0)
    cycles = np.minimum(issued * chip.matrix * slower, product * chip.lanes)
    row = 2.0 * head_dim * itemsize  # B: of a key and its value, or of a query and its output
    per_step, per_block = (
        row * kv_len / key_blocks,
        row * q_len / query_blocks,
    )  # B that there are in a block, on average
    moved = blocks * (per_step * mean + per_block)
    chain = p.fused_prologue * np.maximum(per_sm / fits, 1.0) + p.fused_iteration * resident
    return Terms(
        tensor=np.maximum(
            longest * (cycles / p.fused_issue + rows * keys * chip.exponential) * chip.cycle,
            blocks * mean * product * chip.flop,
        ),
        l2=np.maximum(
            (per_step * longest + per_block * waves) * chip.operand,
            moved * chip.l2_byte,
        ),
        latency=chain * chip.cycle,
        fixed=p.fill_drain_tile * chip.cycle,
        l2_bytes=moved,
        waves=np.ceil(per_sm),
        occupancy=fits,
    )
