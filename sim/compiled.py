"""The physical level for many designs at once: the formulas of `sim.cost`, compiled, without numpy's temporaries.

`price` and `latency` return what `cost` and `serial_makespan` would for every design, to rounding. The inner loops run over a
block of designs, so that the compiler vectorises the same scalar formulas. numba is imported when it is called; compiled
code is kept in the cache folder under a digest of the formulas, so that a change of a formula never meets old code.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.rates import Rates
from hwspecs.software import Software
from sim import formulas, tiles, traffic
from sim.calibration import Calibration
from sim.calibration import load as load_calibration
from sim.formulas import Chip, TileTerms, flash, fourth, fourth_root, gemm
from workloads.cache import folder
from workloads.lower import Kernels
from workloads.trace import Trace

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
BLOCK = 128  # designs that one inner loop covers: a few arrays of them stay in L1
STREAM, GEMM, FLASH = 0, 1, 2
MENU, QUERY_BLOCKS = tiles.MENU, tiles.QUERY_BLOCKS
prange = range  # numba's in the compiled loops


class Tables(NamedTuple):
    """Kernel columns as the compiled loops read them: nothing that a design changes. Shapes end in (kernels,)."""

    starts: Ints  # (ways,) first kernel of each way of each row, and
    ends: Ints  # the first after it
    dispatch: Floats  # (ways,) host time over that of the cheapest operator
    start_row: Ints
    form: Ints  # STREAM, GEMM or FLASH
    dtype: Ints
    shape: Floats  # (5, kernels): batch, m, n, k, - or groups, q_len, kv_len, head_dim, causal
    menu: Ints  # (kernels, choices) of tiles.MENU, padded
    choices: Ints
    reads: Floats  # (3, kernels)
    distances: Floats
    itemsize: Floats
    flops: Floats
    vector_flops: Floats
    exp_ops: Floats
    written: Floats
    read: Floats
    overfetch: Floats
    hbm_share: Floats
    launched: Floats  # 1, or 0 where the kernel runs inside another
    in_flight: Floats


# Rows of the hardware table (fields, designs), which is one array so that the compiler can see that nothing aliases it.
# From BY_DTYPE on, two rows a dtype: FLOP/cycle/SM of the matrix unit (never 0) and of the vector unit.
(
    SM_COUNT, CLOCK, SUSTAINED, DELIVERY, L2_BANDWIDTH, EXP, REGISTERS, SHARED, HBM_BANDWIDTH, REACH, VECTOR, IN_FLIGHT,
    HBM_LATENCY, LAUNCH_GAP, UNIT_M, UNIT_N, UNIT_K, FILL, BY_DTYPE,
) = range(19)  # fmt: skip


class Packed(NamedTuple):
    """A trace under a software, ready for any number of designs."""

    tables: Tables
    dtypes: tuple[str, ...]
    rows: int
    calibration: Calibration


class Priced(NamedTuple):
    """(rows, designs): seconds of the kernels of each priced row's fastest way, how many it launches, and its host time over
    that of the cheapest operator."""

    time: Floats
    launches: Floats
    dispatch: Floats


def pack(kernels: Kernels, calibration: Calibration | None = None) -> Packed:
    """Everything about the kernels that no design changes."""
    calibration = calibration or load_calibration()
    is_gemm, is_flash = kernels.gemm[0] > 0, kernels.flash[0] > 0
    menu = np.zeros((len(kernels), 1), dtype=np.int64)
    if is_gemm.any():
        chosen = tiles.menus(kernels, calibration.terms)
        menu = np.zeros((len(kernels), chosen.shape[1]), dtype=np.int64)
        menu[is_gemm] = chosen
    read = traffic.sum_reads(kernels)
    dtypes = tuple(sorted(set(kernels.dtype)))
    tables = Tables(
        starts=kernels.starts,
        ends=np.append(kernels.starts[1:], len(kernels)),
        dispatch=kernels.dispatch,
        start_row=kernels.start_row,
        form=np.where(is_gemm, GEMM, np.where(is_flash, FLASH, STREAM)),
        dtype=np.array([dtypes.index(t) for t in kernels.dtype]),
        shape=np.where(is_gemm, np.vstack([kernels.gemm, np.zeros(len(kernels))]), kernels.flash),
        menu=menu,
        choices=1 + (menu[:, 1:] != menu[:, :1]).cumprod(axis=1).sum(axis=1),  # the padding repeats the first choice
        reads=kernels.reads,
        distances=np.maximum(kernels.distances, 1.0),
        itemsize=kernels.itemsize,
        flops=kernels.flops,
        vector_flops=kernels.vector_flops,
        exp_ops=kernels.exp_ops,
        written=kernels.write_bytes,
        read=read,
        overfetch=traffic.overfetch(kernels),
        hbm_share=traffic.hbm_share(kernels, calibration.terms),
        launched=(kernels.launches > 0).astype(np.float64),
        in_flight=traffic.asked_in_flight(kernels),
    )
    whole: Any = [np.ascontiguousarray(t) for t in tables]
    return Packed(Tables(*whole), dtypes, kernels.rows, calibration)


def _hardware(rates: Rates, packed: Packed) -> Floats:
    """The hardware table, rows as the constants above name them."""
    terms, count = packed.calibration.terms, rates.designs
    chip = tiles.chip(rates, terms, 0.0, 0.0)
    by_dtype = (tiles.chip(rates, terms, rates.tensor[t], rates.vector[t]) for t in packed.dtypes)
    rows = (
        chip.sm_count, chip.clock, chip.sustained, chip.delivery, chip.l2_bandwidth, chip.exp, chip.registers, chip.shared,
        rates.hbm_bandwidth, traffic.reach(rates, terms), rates.vector["fp32"], traffic.possible_in_flight(rates),
        rates.hbm_latency, rates.launch_gap, chip.unit_m, chip.unit_n, chip.unit_k, chip.fill,
        *(row for own in by_dtype for row in (own.tensor, own.vector)),
    )  # fmt: skip
    return np.stack([np.broadcast_to(np.asarray(row, dtype=np.float64).reshape(-1), (count,)) for row in rows])


def price(packed: Packed, rates: Rates) -> Priced:
    """Time of every priced row on every design of a stack."""
    terms = packed.calibration.terms
    out = Priced(*(np.empty((packed.rows, rates.designs)) for _ in Priced._fields))
    fixed = (terms.l2_stream, terms.fill_drain_stream)
    _loops()["price"](_hardware(rates, packed), packed.tables, tiles.tile_terms(terms), fixed, out)
    return out


def latency(priced: Priced, kernels: Kernels, trace: Trace, rates: Rates, software: Software) -> Floats:
    """End of one inference (designs,), seconds: `sim.host.serial_makespan` of every design."""
    segments = np.array([(s.start, s.stop, s.repeats) for s in trace.segments], dtype=np.int64)
    gap = np.broadcast_to(np.asarray(rates.launch_gap, dtype=np.float64).reshape(-1), (rates.designs,))
    out = np.empty(rates.designs)
    per_launch = 0.0 if software.cuda_graphs else software.host_time_per_launch
    per_pass = software.host_time_per_launch if software.cuda_graphs else 0.0
    _loops()["makespan"](priced, kernels.call_row, segments, np.ascontiguousarray(gap), per_launch, per_pass, out)
    return out


COMPILED_FORMULAS = ("fourth_root", "fourth", "occupancy", "paid_waves", "whole", "gemm", "flash")


@cache
def _loops() -> dict[str, Callable[..., None]]:
    """The compiled loops. numba reads its folder of compiled code when a function is decorated."""
    source = Path(formulas.__file__).read_bytes() + Path(__file__).read_bytes()
    os.environ.setdefault("NUMBA_CACHE_DIR", str(folder() / f"compiled-{hashlib.sha256(source).hexdigest()[:16]}"))
    import numba

    fast = {"nnan", "nsz", "arcp", "contract"}
    plain: dict[str, Any] = dict(vars(formulas))
    names: dict[str, Any] = {**globals(), "prange": numba.prange}
    for name in COMPILED_FORMULAS:
        plain[name] = names[name] = numba.njit(fastmath=fast, error_model="numpy", inline="always")(_rebound(plain[name], plain))
    for function in (_chip, _overlapped, _best_tile, _best_block, _price_block, _makespan_block):
        inline = "never" if function in (_price_block, _makespan_block) else "always"
        names[function.__name__] = numba.njit(fastmath=fast, error_model="numpy", inline=inline)(_rebound(function, names))
    parallel = numba.njit(parallel=True, cache=True, error_model="numpy")
    return {"price": parallel(_rebound(_price, names)), "makespan": parallel(_rebound(_makespan, names))}


def _rebound(function: Any, names: dict[str, Any]) -> Any:
    """The same code with other globals: the compiled formulas instead of the plain ones."""
    return FunctionType(function.__code__, names, function.__name__)


def _price(hw: Floats, kernels: Tables, terms: TileTerms, fixed: tuple[float, float], out: Priced) -> None:
    """All blocks of designs, in parallel."""
    designs = hw.shape[1]
    for block in prange((designs + BLOCK - 1) // BLOCK):
        _price_block(block * BLOCK, min((block + 1) * BLOCK, designs), hw, kernels, terms, fixed, out)


def _price_block(
    lo: int, hi: int, hw: Floats, kernels: Tables, terms: TileTerms, fixed: tuple[float, float], out: Priced
) -> None:
    """Designs lo to hi: the sum over the kernels of each way, and the least over the ways of each row."""
    other, best = np.empty(hi - lo), np.empty(hi - lo)
    time, launches = np.empty(hi - lo), 0.0
    out.time[:, lo:hi] = np.inf
    out.launches[:, lo:hi] = 0.0
    out.dispatch[:, lo:hi] = 0.0
    for way in range(len(kernels.starts)):
        time[:] = 0.0
        launches = 0.0
        for k in range(kernels.starts[way], kernels.ends[way]):
            _overlapped(k, lo, hw, kernels, fixed[0], other)
            if kernels.form[k] == GEMM:
                _best_tile(k, lo, hw, kernels, terms, other, best)
            elif kernels.form[k] == FLASH:
                _best_block(k, lo, hw, kernels, terms, other, best)
            else:
                for d in range(hi - lo):
                    best[d] = fourth_root(other[d]) + kernels.launched[k] * fixed[1] / hw[CLOCK, lo + d]
            time += best
            launches += kernels.launched[k]
        row = kernels.start_row[way]
        for d in range(lo, hi):
            gap = hw[LAUNCH_GAP, d]
            if time[d - lo] + launches * gap < out.time[row, d] + out.launches[row, d] * gap:
                out.time[row, d] = time[d - lo]
                out.launches[row, d] = launches
                out.dispatch[row, d] = min(launches, 1.0) * kernels.dispatch[way]


def _overlapped(k: int, lo: int, hw: Floats, kernels: Tables, l2_stream: float, other: Floats) -> None:
    """other[d]: fourth powers of the times that no tile changes, summed. See `sim.cost._physical`."""
    over, read, written = kernels.overfetch[k], kernels.read[k], kernels.written[k]
    untiled = kernels.form[k] == STREAM
    for i in range(len(other)):
        d = lo + i
        missing = 0.0
        for r in range(3):
            missing += kernels.reads[r, k] / (1.0 + fourth(hw[REACH, d] / kernels.distances[r, k]))
        cycles = hw[SM_COUNT, d] * hw[CLOCK, d]
        total = fourth((missing + written) / (hw[HBM_BANDWIDTH, d] * kernels.hbm_share[k]))
        total += fourth(kernels.vector_flops[k] / (cycles * hw[VECTOR, d])) + fourth(
            kernels.exp_ops[k] / (cycles * hw[EXP, d])
        )
        if untiled:
            total += fourth((read * over + written) / (hw[L2_BANDWIDTH, d] * hw[CLOCK, d] * l2_stream))
            in_flight = max(min(kernels.in_flight[k], hw[IN_FLIGHT, d]), 1.0)
            total += fourth((read + written) / in_flight * hw[HBM_LATENCY, d])
        other[i] = total


def _chip(d: int, dtype: int, hw: Floats) -> Chip:
    """The fields that the formulas read of one design."""
    own = BY_DTYPE + 2 * dtype
    return Chip(
        hw[SM_COUNT, d], hw[CLOCK, d], hw[own, d], hw[own + 1, d], hw[SUSTAINED, d], hw[DELIVERY, d], hw[L2_BANDWIDTH, d],
        hw[EXP, d], hw[REGISTERS, d], hw[SHARED, d], hw[UNIT_M, d], hw[UNIT_N, d], hw[UNIT_K, d], hw[FILL, d],
    )  # fmt: skip


def _best_tile(k: int, lo: int, hw: Floats, kernels: Tables, p: TileTerms, other: Floats, best: Floats) -> None:
    """best[d]: the least over the kernel's menu."""
    batch, m, n, depth = kernels.shape[0, k], kernels.shape[1, k], kernels.shape[2, k], kernels.shape[3, k]
    itemsize, flops, dtype = kernels.itemsize[k], kernels.flops[k], kernels.dtype[k]
    best[:] = np.inf
    for choice in range(kernels.choices[k]):
        bm, bn, split = (
            MENU[kernels.menu[k, choice], 0],
            MENU[kernels.menu[k, choice], 1],
            MENU[kernels.menu[k, choice], 2],
        )
        for d in range(len(best)):
            t = gemm(_chip(lo + d, dtype, hw), p, batch, m, n, depth, itemsize, flops, bm, bn, split)
            best[d] = min(
                best[d], fourth_root(fourth(t.tensor) + fourth(t.l2) + fourth(t.latency) + other[d]) + t.fixed
            )


def _best_block(k: int, lo: int, hw: Floats, kernels: Tables, p: TileTerms, other: Floats, best: Floats) -> None:
    """best[d]: the least over the query blocks of fused attention."""
    groups, q_len, kv_len = kernels.shape[0, k], kernels.shape[1, k], kernels.shape[2, k]
    head_dim, causal, itemsize = kernels.shape[3, k], kernels.shape[4, k], kernels.itemsize[k]
    dtype = kernels.dtype[k]
    best[:] = np.inf
    for block in QUERY_BLOCKS:
        for d in range(len(best)):
            t = flash(_chip(lo + d, dtype, hw), p, groups, q_len, kv_len, head_dim, causal, itemsize, block)
            best[d] = min(
                best[d], fourth_root(fourth(t.tensor) + fourth(t.l2) + fourth(t.latency) + other[d]) + t.fixed
            )


def _makespan(
    priced: Priced, call_row: Ints, segments: Ints, gap: Floats, per_launch: float, per_pass: float, out: Floats
) -> None:
    """All blocks of designs, in parallel."""
    designs = out.shape[0]
    for block in prange((designs + BLOCK - 1) // BLOCK):
        lo, hi = block * BLOCK, min((block + 1) * BLOCK, designs)
        _makespan_block(lo, hi, priced, call_row, segments, gap, per_launch, per_pass, out)


def _makespan_block(
    lo: int,
    hi: int,
    priced: Priced,
    call_row: Ints,
    segments: Ints,
    gap: Floats,
    per_launch: float,
    per_pass: float,
    out: Floats,
) -> None:
    """Designs lo to hi; see `sim.host.serial_makespan`."""
    size = hi - lo
    host_clock, host, gpu, first = np.zeros(size), np.zeros(size), np.zeros(size), np.zeros(size)
    out[lo:hi] = 0.0
    for s in range(segments.shape[0]):
        host[:] = per_pass
        gpu[:] = 0.0
        first[:] = 0.0
        for call in range(segments[s, 0], segments[s, 1]):
            row = call_row[call]
            for d in range(size):
                host[d] += priced.dispatch[row, lo + d] * per_launch
                g = priced.time[row, lo + d] + priced.launches[row, lo + d] * gap[lo + d]
                gpu[d] += g
                first[d] = max(first[d], host[d]) + g
        repeats = segments[s, 2]
        for d in range(size):
            middle = host_clock[d] + first[d] + (repeats - 1) * max(gpu[d], host[d])
            out[lo + d] = max(out[lo + d] + repeats * gpu[d], middle)
            host_clock[d] += repeats * host[d]
