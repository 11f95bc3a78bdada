"""Tiled kernels: the tile menu, occupancy, waves and wave quantization, for matrix products and for fused attention.

The menu does not depend on the device, and every term falls (or stays) when a device field improves; so does the least over
the menu. Form of the product: published ablation over A100 and L40S GEMM times; wave quantization as in LLMCompass (2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.rates import Rate, Rates
from sim.calibration import Terms
from workloads.lower import Kernels

Floats: TypeAlias = NDArray[np.float64]

# (rows, columns) of C that one block computes: the shapes that cuBLAS and CUTLASS ship for tensor cores.
TILES = (
    (256, 128),
    (128, 256),
    (128, 128),
    (128, 64),
    (64, 128),
    (64, 64),
    (64, 32),
    (32, 64),
    (32, 32),
    (16, 64),
    (64, 16),
)
SPLITS = (1, 2, 4, 8, 16, 32)  # parts of k that are computed by different blocks and then added
QUERY_BLOCKS = (128, 64)  # query rows of a block of fused attention (FlashAttention-2 kernels)
KEY_BLOCK = 64.0
K_STEP = 32.0  # k that one main-loop step covers
STAGES = 3.0  # operand tiles in shared memory at a time
ACCUMULATOR = 4.0 * 1.5  # B of registers per element of C: fp32, and half as much again for operands and addresses
HEAD_STEP = 32.0  # fused kernels are compiled for head_dim in steps of 32


@dataclass(frozen=True)
class Tiled:
    """Terms of the best tile, seconds unless said otherwise, (designs, kernels) or (kernels,); zero for untiled kernels."""

    tensor: Floats
    l2: Floats
    latency: Floats  # main loop of one block
    fixed: Floats  # fill, drain, split reduction and write-out: added, not overlapped
    l2_bytes: Floats  # operands through L2
    waves: Floats
    occupancy: Floats  # blocks that fit one SM
    tile: NDArray[np.int64]  # index into the menu: tile * len(SPLITS) + split, or len(all) + query block


def combine(*terms: Rate) -> Floats:
    """Overlapping terms: the fourth root of the sum of fourth powers, a soft maximum (the GEMM fits give 3.7 to 4.6)."""
    total = sum(np.square(np.square(np.asarray(t))) for t in terms)
    return np.asarray(np.sqrt(np.sqrt(total)))


def per_kernel(rates: Rates, dtypes: tuple[str, ...], of: str) -> Floats:
    """A rate by dtype ("matmul" or "vector"), gathered per kernel: (designs, kernels) or (kernels,)."""
    names = sorted(set(dtypes))
    each = [rates.matmul(t) if of == "matmul" else rates.vector[t] for t in names]
    stacked = np.concatenate([np.atleast_1d(np.asarray(rate, dtype=np.float64)) for rate in each], axis=-1)
    return stacked[..., [names.index(t) for t in dtypes]]


def tiled(kernels: Kernels, rates: Rates, terms: Terms, other: Floats) -> Tiled:
    """The best tile of every tiled kernel. `other` (…, kernels) combines its terms that no tile changes (HBM, vector, exp)."""
    shape = np.broadcast_shapes(other.shape, np.shape(rates.sm_count))
    out: dict[str, Any] = {name: np.zeros((*shape[:-1], len(kernels))) for name in Tiled.__annotations__}
    out["tile"] = out["tile"].astype(np.int64)
    for rows, menu in (
        (np.flatnonzero(kernels.gemm[0] > 0), _gemm_menu),
        (np.flatnonzero(kernels.flash[0] > 0), _flash_menu),
    ):
        if len(rows):
            best = menu(kernels, rows, rates, terms, other[..., rows])
            for name, values in best.items():
                out[name][..., rows] = values
    return Tiled(**out)


def _least(candidates: list[dict[str, Floats]], other: Floats) -> dict[str, Floats]:
    """For each design and kernel, the terms of the candidate with the least time."""
    best: dict[str, Floats] = {}
    for index, c in enumerate(candidates):
        time = combine(c["tensor"], c["l2"], c["latency"], other) + c["fixed"]
        columns: dict[str, Any] = {**c, "tile": np.float64(index), "time": time}
        c = {name: np.broadcast_to(v, time.shape) for name, v in columns.items()}
        if not best:
            best = {name: v.copy() for name, v in c.items()}
            continue
        better = c["time"] < best["time"]
        for name, v in c.items():
            np.copyto(best[name], v, where=better)
    del best["time"]
    return best


def _gemm_menu(
    kernels: Kernels, rows: NDArray[np.intp], rates: Rates, terms: Terms, other: Floats
) -> dict[str, Floats]:
    dtypes = tuple(kernels.dtype[i] for i in rows)
    rate = per_kernel(rates, dtypes, "matmul")
    gemm, itemsize, flops = kernels.gemm[:, rows], kernels.itemsize[rows], kernels.flops[rows]
    candidates = [_gemm(gemm, itemsize, flops, rate, tile, split, rates, terms) for tile in TILES for split in SPLITS]
    return _least(candidates, other)


def _gemm(
    gemm: Floats,
    itemsize: Floats,
    flops: Floats,
    rate: Floats,
    tile: tuple[int, int],
    split: int,
    rates: Rates,
    terms: Terms,
) -> dict[str, Floats]:
    """Terms of one tile and split. gemm: (4, kernels); rate: FLOP/cycle/SM."""
    (batch, m, n, k), (bm, bn) = gemm, tile
    blocks = batch * np.ceil(m / bm) * np.ceil(n / bn) * split
    depth = np.ceil(k / split / K_STEP) * K_STEP
    per_sm = blocks / rates.sm_count
    waves = terms.wave_share * np.ceil(per_sm) + (1 - terms.wave_share) * np.maximum(per_sm, 1)
    clock = rates.sm_clock
    delivery = _delivery(rates, terms)
    occupancy = _occupancy(bm * bn, (bm + bn) * K_STEP * itemsize * STAGES, rates)
    operand_bytes = blocks * depth * (bm + bn) * itemsize
    result_bytes = itemsize * batch * m * n + (8.0 * split * batch * m * n if split > 1 else 0.0)
    fixed = terms.fill_drain_tile / clock + terms.write_out * waves * itemsize * bm * bn / (delivery * clock)
    if split > 1:
        spread = np.minimum(blocks, rates.sm_count)
        fixed = fixed + terms.split_reduction / clock + 8.0 * split * batch * m * n / (spread * delivery * clock)
    return {
        "tensor": np.maximum(
            waves * depth * 2 * bm * bn / (rate * clock * terms.tile_issue),
            flops / (rates.sm_count * rate * clock * rates.tensor_sustained),
        ),
        "l2": np.maximum(
            waves * depth * (bm + bn) * itemsize / (delivery * clock),
            (operand_bytes + result_bytes) / (rates.l2_bandwidth * clock),
        ),
        "latency": np.maximum(per_sm / occupancy, 1.0) * depth * terms.loop_latency / clock,
        "fixed": np.asarray(fixed),
        "l2_bytes": np.asarray(operand_bytes + result_bytes),
        "waves": np.ceil(per_sm),
        "occupancy": np.asarray(occupancy),
    }


def _flash_menu(
    kernels: Kernels, rows: NDArray[np.intp], rates: Rates, terms: Terms, other: Floats
) -> dict[str, Floats]:
    rate = per_kernel(rates, tuple(kernels.dtype[i] for i in rows), "matmul")
    flash, itemsize = kernels.flash[:, rows], kernels.itemsize[rows]
    best = _least([_flash(flash, itemsize, rate, block, rates, terms) for block in QUERY_BLOCKS], other)
    best["tile"] = best["tile"] + len(TILES) * len(SPLITS)
    return best


def _flash(flash: Floats, itemsize: Floats, rate: Floats, block: int, rates: Rates, terms: Terms) -> dict[str, Floats]:
    """Terms of one query-block size. Short sequences and odd head dimensions pay for whole tiles."""
    groups, q_len, kv_len, head_dim, causal = flash
    depth = np.ceil(head_dim / HEAD_STEP) * HEAD_STEP
    query_blocks = np.ceil(q_len / block)
    key_blocks = np.ceil(kv_len / KEY_BLOCK)
    # A causal mask skips the key blocks right of the diagonal: on average half of them, and half a block for the diagonal.
    # The last query block still meets them all, and the kernel lasts at least as long as that block.
    mean_blocks = np.where(causal > 0, np.maximum(key_blocks * (1 + 1 / query_blocks) / 2, 1.0), key_blocks)
    blocks = groups * query_blocks
    per_sm = blocks / rates.sm_count
    waves = terms.wave_share * np.ceil(per_sm) + (1 - terms.wave_share) * np.maximum(per_sm, 1)
    clock, delivery = rates.sm_clock, _delivery(rates, terms)
    occupancy = _occupancy(block * (depth + KEY_BLOCK), (block + 2 * KEY_BLOCK) * depth * itemsize, rates)
    longest = np.maximum(waves * mean_blocks, key_blocks)  # key blocks that the busiest SM works through
    resident = np.maximum(per_sm / occupancy * mean_blocks, key_blocks)  # the same, co-resident blocks side by side
    product, exps = 4 * block * KEY_BLOCK * depth, block * KEY_BLOCK
    operands = blocks * (2 * KEY_BLOCK * mean_blocks + 2 * block) * depth * itemsize
    chain = terms.fused_prologue * np.maximum(per_sm / occupancy, 1.0) + terms.fused_iteration * resident
    return {
        # Exponentials and products of a warp follow one another (FlashAttention-3, Shah et al. 2024, section 3.2).
        "tensor": np.maximum(
            longest * (product / (rate * terms.fused_issue) + exps / rates.exp) / clock,
            blocks * mean_blocks * product / (rates.sm_count * rate * clock * rates.tensor_sustained),
        ),
        "l2": np.maximum(
            (2 * KEY_BLOCK * longest + 2 * block * waves) * depth * itemsize / (delivery * clock),
            operands / (rates.l2_bandwidth * clock),
        ),
        "latency": np.asarray(chain / clock),
        "fixed": np.asarray(terms.fill_drain_tile / clock),
        "l2_bytes": operands,
        "waves": np.ceil(per_sm),
        "occupancy": np.asarray(occupancy),
    }


def _delivery(rates: Rates, terms: Terms) -> Rate:
    """Operand bytes that one SM takes from L2 per cycle: grows with its matrix rate, up to its port."""
    return np.minimum(rates.l2_port, terms.operand_delivery * np.asarray(rates.matmul("fp16")))


def _occupancy(elements: Floats | float, shared: Floats | float, rates: Rates) -> Floats:
    """Blocks of a tile that one SM holds, by registers and shared memory; below 1 a tile runs at that share of its speed."""
    fits = np.minimum(rates.registers / (np.asarray(elements) * ACCUMULATOR), rates.shared_memory / np.asarray(shared))
    return np.asarray(np.where(fits >= 1, np.floor(fits), fits))


def describe(tile: int) -> str:
    """'128x64, split 4' or '128 query rows' for an index of Tiled.tile."""
    if tile >= len(TILES) * len(SPLITS):
        return f"{QUERY_BLOCKS[tile - len(TILES) * len(SPLITS)]} query rows"
    (bm, bn), split = TILES[tile // len(SPLITS)], SPLITS[tile % len(SPLITS)]
    return f"{bm}x{bn}" + (f", split {split}" if split > 1 else "")
