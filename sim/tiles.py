"""Tiled kernels: the menu of tiles that each kernel may take, and the best of them on a device or a stack of designs.

The menu of a kernel depends on its shape alone, never on the device that is priced, so that the least over it falls (or
stays) when a device field improves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.rates import Rate, Rates
from sim import formulas
from sim.calibration import Terms
from sim.formulas import Chip, TileTerms
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
MENU = np.array([(bm, bn, split) for bm, bn in TILES for split in SPLITS], dtype=np.float64)  # (choices, 3)
SHAPES = 2000  # whose menus are found at a time, which bounds the memory


@dataclass(frozen=True)
class Tiled:
    """Terms of the best tile, (designs, kernels) or (kernels,); zero for untiled kernels. See `formulas.Terms`.

    `tile` indexes MENU for products; it is len(MENU) for fused attention, whose blocks are its kernel's.
    """

    tensor: Floats
    l2: Floats
    latency: Floats
    fixed: Floats
    l2_bytes: Floats
    waves: Floats
    occupancy: Floats
    tile: NDArray[np.int64]


def combine(*times: Rate) -> Floats:
    """Overlapping times: the fourth root of the sum of their fourth powers."""
    return np.asarray(formulas.fourth_root(sum(formulas.fourth(np.asarray(t)) for t in times)))


def per_kernel(rates: Rates, dtypes: tuple[str, ...], of: str) -> Floats:
    """A rate by dtype ("matmul", "tensor" or "vector"), gathered per kernel: (designs, kernels) or (kernels,)."""
    names = sorted(set(dtypes))
    each = [rates.matmul(t) if of == "matmul" else getattr(rates, of)[t] for t in names]
    stacked = np.concatenate([np.atleast_1d(np.asarray(rate, dtype=np.float64)) for rate in each], axis=-1)
    return stacked[..., [names.index(t) for t in dtypes]]


def chip(rates: Rates, terms: Terms, tensor: Rate, vector: Rate) -> Chip:
    """The fields that the formulas read. Operand delivery grows with the SM's 16-bit matrix rate, up to its L2 port."""
    return formulas.chip(
        sm_count=rates.sm_count,
        clock=rates.sm_clock,
        tensor=tensor,
        vector=vector,
        sustained=rates.tensor_sustained,
        delivery=np.minimum(rates.l2_port, terms.operand_delivery * np.asarray(rates.matmul("fp16"))),
        l2_bandwidth=rates.l2_bandwidth,
        exp=rates.exp,
        registers=rates.registers,
        shared=rates.shared_memory,
        unit_m=rates.tile_m,
        unit_n=rates.tile_n,
        unit_k=rates.tile_k,
        fill=rates.tensor_fill,
        older=rates.tensor_older,
    )


def tile_terms(terms: Terms) -> TileTerms:
    """The parameters that the tiled formulas read."""
    return TileTerms(**{name: getattr(terms, name) for name in TileTerms._fields})


def menus(kernels: Kernels, terms: Terms) -> NDArray[np.int64]:
    """For each tiled product, a few choices of MENU among which one is best, or within 1 % of it, on any chip of a sample.

    Returns (products, widest menu); rows are padded by repeating the first choice. The sample spans what can be built and
    is fixed, so that a menu depends on the shape alone; on the chips that the terms were fitted to, the best is kept exactly.
    """
    rows = np.flatnonzero(kernels.gemm[0] > 0)
    keys = np.column_stack([kernels.gemm[:, rows].T, kernels.itemsize[rows], kernels.flops[rows]])
    shapes, inverse = np.unique(keys, axis=0, return_inverse=True)
    known, names = _known(terms), [shape.tobytes() for shape in shapes]
    new = np.flatnonzero([name not in known for name in names])
    for some in np.array_split(new, max(1, -(-len(new) // SHAPES))):
        for i, menu in zip(some, _cover(shapes[some], terms) if len(some) else (), strict=True):
            known[names[i]] = menu
    width = max(len(known[name]) for name in names)
    padded = np.array([np.concatenate([m, np.repeat(m[:1], width - len(m))]) for m in (known[name] for name in names)])
    return np.asarray(padded[inverse.reshape(-1)])


@lru_cache(maxsize=4)
def _known(_: Terms) -> dict[bytes, NDArray[np.int64]]:
    """Menus found so far with these terms, by shape: many traces share shapes, and every pricing of a trace its own."""
    return {}


def _cover(shapes: Floats, terms: Terms) -> NDArray[np.int64]:
    """Menus (shapes, widest) by greedy cover: again and again the choice that serves most of the chips not yet served."""
    batch, m, n, k, itemsize, flops = shapes.T
    sample, hbm_bandwidth, tolerance = _sample_chips()
    streamed = itemsize * batch * (m * k + k * n + m * n) / hbm_bandwidth
    p = tile_terms(terms)
    times = np.stack([_time(formulas.gemm(sample, p, batch, m, n, k, itemsize, flops, *t), streamed) for t in MENU])
    serves = (times <= times.min(axis=0) * (1 + tolerance)).transpose(2, 0, 1)  # (shapes, choices, chips)
    open_ = np.ones((len(shapes), serves.shape[2]), dtype=bool)
    chosen: list[NDArray[np.int64]] = []
    while open_.any():
        best = np.argmax((serves & open_[:, None, :]).sum(axis=2), axis=1)
        chosen.append(np.where(open_.any(axis=1), best, chosen[0] if chosen else best))
        open_ &= ~serves[np.arange(len(shapes)), best]
    return np.stack(chosen, axis=1)


def _time(t: formulas.Terms, other: Floats) -> Floats:
    return np.asarray(combine(t.tensor, t.l2, t.latency, other) + t.fixed)


def _sample_chips() -> tuple[Chip, Floats, Floats]:
    """Chips (chips, 1), their HBM bandwidth, and how far from the best a menu may be: A100 and H100, then a Halton sequence."""
    low = np.array([8.0, 0.6e9, 64.0, 4.0, 1e3, 1e11])  # SMs, Hz, FLOP/cycle/SM, operand B/cycle, L2 B/cycle, HBM B/s
    high = np.array([4096.0, 3e9, 65536.0, 250.0, 4e4, 2e13])
    known = np.array(
        [[108, 1.41e9, rate, 31, 5120, 2.0e12] for rate in (128, 1024, 2048)] + [[132, 1.83e9, 4096, 62, 5120, 3.35e12]]
    )
    unit = np.stack([_halton(40, base) for base in (2, 3, 5, 7, 11, 13)], axis=1)
    values = np.concatenate([known, low * (high / low) ** unit])
    sms, clock, rate, delivery, l2, hbm = (values[:, i : i + 1] for i in range(6))
    one = np.ones_like(sms)
    shape = (one, one, one, 0 * one)  # of the matrix unit: none, as a menu must not depend on the one that is priced
    return (
        formulas.chip(sms, clock, rate, one, 0.8 * one, delivery, l2, 16 * one, 262144 * one, 167936 * one, *shape),
        hbm,
        np.where(np.arange(len(sms)) < len(known), 0.0, 0.01)[:, None],
    )


def _halton(count: int, base: int) -> Floats:
    """The van der Corput sequence in a base, from its first element."""
    out = np.zeros(count)
    for i in range(count):
        fraction, rest = 1.0, i + 1
        while rest:
            fraction /= base
            out[i] += fraction * (rest % base)
            rest //= base
    return out


def tiled(kernels: Kernels, rates: Rates, terms: Terms, other: Floats) -> Tiled:
    """The best tile of every tiled kernel. `other` (…, kernels) combines its times that no tile changes (HBM, vector, exp)."""
    shape = np.broadcast_shapes(other.shape, np.shape(rates.sm_count))
    out: dict[str, Any] = {name: np.zeros((*shape[:-1], len(kernels))) for name in Tiled.__annotations__}
    out["tile"] = out["tile"].astype(np.int64)
    tensor, vector = (per_kernel(rates, kernels.dtype, of) for of in ("tensor", "vector"))
    for rows, candidates in (
        (np.flatnonzero(kernels.gemm[0] > 0), _gemm_candidates),
        (np.flatnonzero(kernels.flash[0] > 0), _flash_candidates),
    ):
        if len(rows):
            on = chip(rates, terms, tensor[..., rows], vector[..., rows])
            best = _least(candidates(kernels, rows, on, terms), other[..., rows])
            for name, values in best.items():
                out[name][..., rows] = values
    return Tiled(**out)


Candidates: TypeAlias = list[tuple[formulas.Terms, Any]]


def _gemm_candidates(kernels: Kernels, rows: NDArray[np.intp], on: Chip, terms: Terms) -> Candidates:
    """One candidate per column of the menus; each kernel has its own tile in it."""
    shape: list[Any] = [*kernels.gemm[:, rows], kernels.itemsize[rows], kernels.flops[rows]]
    return [
        (formulas.gemm(on, tile_terms(terms), *shape, *MENU[choice].T), choice) for choice in menus(kernels, terms).T
    ]


def _flash_candidates(kernels: Kernels, rows: NDArray[np.intp], on: Chip, terms: Terms) -> Candidates:
    shape: list[Any] = [*kernels.flash[:, rows], kernels.itemsize[rows]]
    return [(formulas.flash(on, tile_terms(terms), *shape), np.int64(len(MENU)))]


def _least(candidates: Candidates, other: Floats) -> dict[str, Any]:
    """For each design and kernel, the terms of the candidate with the least time."""
    best: dict[str, Any] = {}
    for terms, choice in candidates:
        time = _time(terms, other)
        columns = {
            n: np.broadcast_to(v, time.shape) for n, v in {**terms._asdict(), "tile": choice, "time": time}.items()
        }
        if not best:
            best = {name: v.copy() for name, v in columns.items()}
            continue
        better = columns["time"] < best["time"]
        for name, v in columns.items():
            np.copyto(best[name], v, where=better)
    del best["time"]
    return best


def filled(tile: int, fused: Floats) -> float | None:
    """Share of the scores of a fused attention's blocks that its sequences fill, the rest being padding; None for a menu's tile.

    Arguments as of `describe`. A causal mask counts as filled.
    """
    if tile < len(MENU):
        return None
    q_len, kv_len, rows, keys = (float(fused[i]) for i in (1, 2, 5, 6))
    return float(q_len * kv_len / (np.ceil(q_len / rows) * rows * np.ceil(kv_len / keys) * keys))


def describe(tile: int, fused: Floats) -> str:
    """'128x64, split 4', or '128x64 of scores' for fused attention: an index of Tiled.tile and a column of Kernels.flash."""
    if tile >= len(MENU):
        return f"{fused[5]:.0f}x{fused[6]:.0f} of scores"
    bm, bn, split = (int(v) for v in MENU[tile])
    return f"{bm}x{bn}" + (f", split {split}" if split > 1 else "")
