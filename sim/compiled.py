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
from sim import formulas, packed, tiles
from sim.formulas import Chip, TileTerms, flash, fourth, fourth_root, gemm
from sim.packed import (
    BY_DTYPE,
    CYCLE,
    EXP_OP,
    EXPONENTIAL,
    FILL,
    FLASH,
    HBM_BYTE,
    HBM_LATENCY,
    INDEX_OP,
    L2_BYTE,
    LANE_FLOP,
    LAUNCH_GAP,
    OLDER,
    OPERAND,
    PER_IN_FLIGHT,
    REACH,
    REGISTERS,
    SHARED,
    SM_COUNT,
    STREAM,
    UNIT_K,
    UNIT_M,
    UNIT_N,
    Packed,
    Tables,
    hardware,
)  # fmt: skip
from workloads.cache import folder
from workloads.lower import Kernels
from workloads.trace import Trace

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
BLOCK = 64  # designs that one inner loop covers: what a block needs of all kernels stays in L2
MENU = tiles.MENU
prange = range  # numba's in the compiled loops


class Priced(NamedTuple):
    """(rows, designs): seconds of the kernels of each priced row's fastest way, how many it launches, and its host time over
    that of the cheapest operator; the last two (rows, 1) where no row has a choice of ways."""

    time: Floats
    launches: Floats
    dispatch: Floats


def price(trace: Packed, rates: Rates) -> Priced:
    """Time of every priced row on every design of a stack."""
    terms = trace.calibration.terms
    wide = rates.designs if len(trace.tables.starts) > trace.rows else 1
    out = Priced(*(np.empty((trace.rows, width)) for width in (rates.designs, wide, wide)))
    _loops()["price"](hardware(rates, trace), trace.tables, tiles.tile_terms(terms), terms.fill_drain_stream, out)
    return out


def latency(priced: Priced, kernels: Kernels, trace: Trace, rates: Rates, software: Software) -> Floats:
    """End of one inference (designs,), seconds: `sim.host.serial_makespan` of every design."""
    gap = np.broadcast_to(np.asarray(rates.launch_gap, dtype=np.float64).reshape(-1), (rates.designs,))
    out = np.empty(rates.designs)
    per_launch = 0.0 if software.cuda_graphs else software.host_time_per_launch
    per_pass = software.host_time_per_launch if software.cuda_graphs else 0.0
    _loops()["makespan"](priced, _passes(kernels, trace), np.ascontiguousarray(gap), per_launch, per_pass, out)
    return out


class Passes(NamedTuple):
    """The segments of a trace: the calls of one pass, and how often each priced row occurs in it."""

    call_row: Ints
    segments: Ints  # (segments, 3): first call, the first after it, repeats
    starts: Ints  # (segments + 1,) of the rows of each:
    row: Ints
    times: Floats


def _passes(kernels: Kernels, trace: Trace) -> Passes:
    segments = np.array([(s.start, s.stop, s.repeats) for s in trace.segments], dtype=np.int64).reshape(-1, 3)
    each = [np.unique(kernels.call_row[start:stop], return_counts=True) for start, stop, _ in segments]
    rows, counts = (np.concatenate([np.zeros(0, np.int64), *(pair[i] for pair in each)]) for i in range(2))
    starts = np.cumsum([0, *(len(pair[0]) for pair in each)])
    return Passes(kernels.call_row, segments, starts, rows, counts.astype(np.float64))


COMPILED_FORMULAS = ("fourth_root", "fourth", "occupancy", "paid_waves", "whole", "units", "gemm", "flash")


@cache
def _loops() -> dict[str, Callable[..., None]]:
    """The compiled loops. numba reads its folder of compiled code when a function is decorated."""
    source = b"".join(Path(file).read_bytes() for file in (formulas.__file__, packed.__file__, __file__))
    os.environ.setdefault("NUMBA_CACHE_DIR", str(folder() / f"compiled-{hashlib.sha256(source).hexdigest()[:16]}"))
    import numba

    # Divisions as numpy does them: Python's check for a zero divisor keeps a loop from being vectorised.
    options: dict[str, Any] = {"fastmath": {"nnan", "nsz", "contract"}, "error_model": "numpy"}
    plain: dict[str, Any] = dict(vars(formulas))
    names: dict[str, Any] = {**globals(), "prange": numba.prange}
    for name in COMPILED_FORMULAS:
        plain[name] = names[name] = numba.njit(inline="always", **options)(_rebound(plain[name], plain))
    inner = (
        _chip,
        _alike,
        _misses,
        _overlapped,
        _best_tile,
        _fused,
        _least_way,
        _held,
        _price_block,
        _makespan_block,
    )
    for function in inner:
        inline = "never" if function in (_price_block, _makespan_block) else "always"
        names[function.__name__] = numba.njit(inline=inline, **options)(_rebound(function, names))
    parallel = numba.njit(parallel=True, cache=True, error_model="numpy")
    return {"price": parallel(_rebound(_price, names)), "makespan": parallel(_rebound(_makespan, names))}


def _rebound(function: Any, names: dict[str, Any]) -> Any:
    """The same code with other globals: the compiled formulas instead of the plain ones."""
    return FunctionType(function.__code__, names, function.__name__)


def _price(hw: Floats, kernels: Tables, terms: TileTerms, fill: float, out: Priced) -> None:
    """All blocks of designs, in parallel."""
    designs = hw.shape[1]
    for block in prange((designs + BLOCK - 1) // BLOCK):
        _price_block(block * BLOCK, min((block + 1) * BLOCK, designs), hw, kernels, terms, fill, out)


def _price_block(lo: int, hi: int, hw: Floats, kernels: Tables, terms: TileTerms, fill: float, out: Priced) -> None:
    """Designs lo to hi: each distinct kernel, then the sum over the kernels of each way, and the least over the ways of a row."""
    distinct, size = len(kernels.form), hi - lo
    missing = np.empty((len(kernels.distance), size))
    other, best = np.empty((distinct, size)), np.empty((distinct, size))
    alike, first = np.empty(size, np.int64), np.empty(size, np.int64)
    count = _alike(lo, hw, alike, first)
    chips = np.empty((hw.shape[0], count))
    for row in range(hw.shape[0]):
        for c in range(count):
            chips[row, c] = hw[row, first[c]]
    _misses(lo, hw, kernels.distance, missing)
    for k in range(distinct):
        _overlapped(k, lo, hw, kernels, missing, other[k])
        if kernels.form[k] == FLASH:
            _fused(k, chips, alike, kernels, terms, other[k], best[k])
        elif kernels.form[k] == STREAM:
            alone, fixed = best[k], kernels.launched[k] * fill
            for i in range(size):
                alone[i] = fourth_root(other[k, i]) + fixed * hw[CYCLE, lo + i]
        else:
            best[k, :] = np.inf
    for product in range(len(kernels.choices)):
        _best_tile(product, chips, alike, kernels, terms, other, best)
    _least_way(lo, hi, hw, kernels, best, out)


def _misses(lo: int, hw: Floats, distance: Floats, missing: Floats) -> None:
    """missing[j, i]: share of a read at the j-th distance that misses L2; see `traffic.miss`."""
    for j in range(len(distance)):
        row, near = missing[j], 1.0 / distance[j]
        for i in range(missing.shape[1]):
            row[i] = 1.0 / (1.0 + fourth(hw[REACH, lo + i] * near))


def _overlapped(k: int, lo: int, hw: Floats, kernels: Tables, missing: Floats, other: Floats) -> None:
    """other[i]: fourth powers of the times that no tile changes, summed. See `sim.cost._physical`."""
    other[:] = kernels.hbm_bytes[k]
    for r in range(kernels.read_starts[k], kernels.read_starts[k + 1]):
        size, share = kernels.read_bytes[r], missing[kernels.read_distance[r]]
        for i in range(len(other)):
            other[i] += size * share[i]
    vector, index = kernels.vector_flops[k], kernels.index_ops[k]
    exp, streamed = kernels.exp_ops[k], kernels.l2_bytes[k]
    moved, per_in_flight, wire = kernels.moved[k], kernels.per_in_flight[k], kernels.wire[k]
    for i in range(len(other)):
        d = lo + i
        in_flight = moved * min(max(per_in_flight, hw[PER_IN_FLIGHT, d]), 1.0) * hw[HBM_LATENCY, d]
        other[i] = (
            fourth(other[i] * hw[wire, d]) + fourth(vector * hw[LANE_FLOP, d] + index * hw[INDEX_OP, d])
            + fourth(exp * hw[EXP_OP, d]) + fourth(streamed * hw[L2_BYTE, d]) + fourth(in_flight)
        )  # fmt: skip


def _alike(lo: int, hw: Floats, alike: Ints, first: Ints) -> int:
    """How many of the chips of a block differ in anything that tiles read; alike[i]: which of them design i has; first: the
    design that has each. Designs of a grid often differ in their memory alone."""
    size, count = len(alike), 0
    for i in range(size):
        found = count
        for j in range(count if count <= size // 2 else 0):  # where most differ, the search is not worth it
            same = True
            for row in range(hw.shape[0]):
                if (row < HBM_BYTE or row >= BY_DTYPE) and hw[row, lo + i] != hw[row, first[j]]:
                    same = False
                    break
            if same:
                found = j
                break
        alike[i] = found
        if found == count:
            first[count] = lo + i
            count += 1
    return count


def _chip(d: int, dtype: int, hw: Floats) -> Chip:
    """The fields that the formulas read of one design."""
    own = BY_DTYPE + 4 * dtype
    return Chip(
        hw[SM_COUNT, d], hw[CYCLE, d], hw[own, d], hw[own + 1, d], hw[OLDER, d], hw[own + 2, d], hw[own + 3, d],
        hw[OPERAND, d], hw[L2_BYTE, d],
        hw[EXPONENTIAL, d], hw[REGISTERS, d], hw[SHARED, d], hw[UNIT_M, d], hw[UNIT_N, d], hw[UNIT_K, d], hw[FILL, d],
    )  # fmt: skip


def _best_tile(
    product: int, chips: Floats, alike: Ints, kernels: Tables, p: TileTerms, other: Floats, best: Floats
) -> None:
    """best[k, i] of every kernel of a shape: the least over the menu, whose terms they share, as do designs of one chip."""
    first, last = kernels.product_starts[product], kernels.product_starts[product + 1]
    k, size = kernels.members[first], best.shape[1]
    batch, m, n, depth = kernels.shape[0, k], kernels.shape[1, k], kernels.shape[2, k], kernels.shape[3, k]
    itemsize, flops, dtype = kernels.itemsize[k], kernels.flops[k], kernels.dtype[k]
    count = chips.shape[1]
    own = np.empty((2, count))
    terms = own if count == size else np.empty((2, size))
    for choice in range(kernels.choices[product]):
        row = kernels.menu[product, choice]
        bm, bn, split = MENU[row, 0], MENU[row, 1], MENU[row, 2]
        for c in range(count):
            t = gemm(_chip(c, dtype, chips), p, batch, m, n, depth, itemsize, flops, bm, bn, split)
            own[0, c] = fourth(t.tensor) + fourth(t.l2) + fourth(t.latency)
            own[1, c] = t.fixed
        if count < size:
            for i in range(size):
                terms[0, i] = own[0, alike[i]]
                terms[1, i] = own[1, alike[i]]
        for member in range(first, last):
            least, rest = best[kernels.members[member]], other[kernels.members[member]]
            for i in range(size):
                least[i] = min(least[i], fourth_root(terms[0, i] + rest[i]) + terms[1, i])


def _fused(k: int, chips: Floats, alike: Ints, kernels: Tables, p: TileTerms, other: Floats, best: Floats) -> None:
    """best[i]: fused attention, whose blocks are its kernel's."""
    groups, q_len, kv_len = kernels.shape[0, k], kernels.shape[1, k], kernels.shape[2, k]
    head_dim, causal, rows = kernels.shape[3, k], kernels.shape[4, k], kernels.shape[5, k]
    keys, depth, older = kernels.shape[6, k], kernels.shape[7, k], kernels.shape[8, k]
    itemsize, dtype = kernels.itemsize[k], kernels.dtype[k]
    count = chips.shape[1]
    own = np.empty((2, count))
    for c in range(count):
        t = flash(
            _chip(c, dtype, chips), p, groups, q_len, kv_len, head_dim, causal, rows, keys, depth, older, itemsize
        )
        own[0, c] = fourth(t.tensor) + fourth(t.l2) + fourth(t.latency)
        own[1, c] = t.fixed
    for i in range(len(best)):
        best[i] = fourth_root(own[0, alike[i]] + other[i]) + own[1, alike[i]]


def _least_way(lo: int, hi: int, hw: Floats, kernels: Tables, best: Floats, out: Priced) -> None:
    """The sum over the kernels of each way; of the ways of a row, the one that ends first, the first listed of equals."""
    time, has_choice = np.empty(hi - lo), len(kernels.starts) > out.time.shape[0]
    if has_choice:
        out.time[:, lo:hi] = np.inf
        out.launches[:, lo:hi] = 0.0
        out.dispatch[:, lo:hi] = 0.0
    for way in range(len(kernels.starts)):
        time[:] = 0.0
        launches = 0.0
        for j in range(kernels.starts[way], kernels.ends[way]):
            k = kernels.priced[j]
            one = best[k]
            for i in range(hi - lo):
                time[i] += one[i]
            launches += kernels.launched[k]
        row, dispatch = kernels.start_row[way], min(launches, 1.0) * kernels.dispatch[way]
        if not has_choice:
            out.time[row, lo:hi] = time
            if lo == 0:  # the same on every design
                out.launches[row, 0] = launches
                out.dispatch[row, 0] = dispatch
            continue
        for i in range(hi - lo):
            gap = hw[LAUNCH_GAP, lo + i]
            if time[i] + launches * gap < out.time[row, lo + i] + out.launches[row, lo + i] * gap:
                out.time[row, lo + i] = time[i]
                out.launches[row, lo + i] = launches
                out.dispatch[row, lo + i] = dispatch


def _makespan(priced: Priced, passes: Passes, gap: Floats, per_launch: float, per_pass: float, out: Floats) -> None:
    """All blocks of designs, in parallel."""
    designs = out.shape[0]
    for block in prange((designs + BLOCK - 1) // BLOCK):
        lo, hi = block * BLOCK, min((block + 1) * BLOCK, designs)
        _makespan_block(lo, hi, priced, passes, gap, per_launch, per_pass, out)


def _held(lo: int, priced: Priced, gap: Floats, held: Floats) -> None:
    """held[row, i]: how long a row holds the device, the gap after its kernels included."""
    has_choice = priced.launches.shape[1] > 1
    for row in range(held.shape[0]):
        launched = priced.launches[row, 0]
        if has_choice:
            for i in range(held.shape[1]):
                held[row, i] = priced.time[row, lo + i] + priced.launches[row, lo + i] * gap[lo + i]
        else:
            for i in range(held.shape[1]):
                held[row, i] = priced.time[row, lo + i] + launched * gap[lo + i]


def _makespan_block(
    lo: int, hi: int, priced: Priced, passes: Passes, gap: Floats, per_launch: float, per_pass: float, out: Floats
) -> None:
    """Designs lo to hi; see `sim.host.serial_makespan`."""
    size = hi - lo
    host_clock, host, gpu, first = np.zeros(size), np.zeros(size), np.zeros(size), np.zeros(size)
    held = np.empty((priced.time.shape[0], size))
    has_choice = priced.launches.shape[1] > 1
    _held(lo, priced, gap, held)
    out[lo:hi] = 0.0
    for s in range(passes.segments.shape[0]):
        gpu[:] = 0.0
        for j in range(passes.starts[s], passes.starts[s + 1]):
            one, count = held[passes.row[j]], passes.times[j]
            for i in range(size):
                gpu[i] += count * one[i]
        host[:] = per_pass
        first[:] = 0.0
        if per_launch == 0.0:  # the host is ahead of every kernel but the first
            first[:] = host + gpu
        else:
            for call in range(passes.segments[s, 0], passes.segments[s, 1]):
                row = passes.call_row[call]
                one, away = held[row], lo if has_choice else 0
                for i in range(size):
                    host[i] += priced.dispatch[row, away + i * has_choice] * per_launch
                    first[i] = max(first[i], host[i]) + one[i]
        repeats = passes.segments[s, 2]
        for i in range(size):
            middle = host_clock[i] + first[i] + (repeats - 1) * max(gpu[i], host[i])
            out[lo + i] = max(out[lo + i] + repeats * gpu[i], middle)
            host_clock[i] += repeats * host[i]
