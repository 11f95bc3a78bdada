"""A trace and a stack of designs as the compiled loops read them: plain arrays, every number that no design changes once."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.rates import Rates
from sim import tiles, traffic
from sim.calibration import Calibration, Terms
from sim.calibration import load as load_calibration
from workloads.lower import Kernels

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
STREAM, GEMM, FLASH = 0, 1, 2


class Tables(NamedTuple):
    """Kernel columns as the compiled loops read them: nothing that a design changes.

    Kernels that agree in every number are priced once. Products of one shape share the terms of their tiles, and reads at one
    distance their share of misses.
    """

    starts: Ints  # (ways,) first kernel of each way of each row, and
    ends: Ints  # the first after it
    dispatch: Floats  # (ways,) host time over that of the cheapest operator
    start_row: Ints
    priced: Ints  # (kernels,) which of the distinct kernels each is
    form: Ints  # (distinct,) STREAM, GEMM or FLASH; as all that follows
    dtype: Ints
    shape: Floats  # (9, distinct): batch, m, n, k and zeros, or the rows of Kernels.flash
    itemsize: Floats
    flops: Floats
    vector_flops: Floats
    index_ops: Floats
    exp_ops: Floats
    wire: Ints  # row of the hardware table with s per byte of HBM
    hbm_bytes: Floats  # that are written, over the share of the bandwidth that the kernel reaches
    l2_bytes: Floats  # of kernels that stream, over the share that these reach
    moved: Floats
    per_in_flight: Floats  # 1 / bytes that its blocks keep in flight
    launched: Floats  # 1, or 0 where the kernel runs inside another
    read_starts: Ints  # (distinct + 1,) of the reads of each:
    read_bytes: Floats  # over the share of the bandwidth
    read_distance: Ints  # which of the distances
    distance: Floats  # (distances,)
    product_starts: Ints  # (products + 1,) of the kernels that are products of one shape:
    members: Ints
    menu: Ints  # (products, choices) of tiles.MENU, padded
    choices: Ints


# Rows of the hardware table (fields, designs), which is one array so that the compiler can see that nothing aliases it.
# What `formulas.Chip` holds comes before HBM_BYTE and from BY_DTYPE on; there, four rows a dtype:
# `formulas.Chip.matrix`, `lanes`, `flop` and `limit`.
(
    SM_COUNT, CYCLE, OPERAND, L2_BYTE, EXPONENTIAL, REGISTERS, SHARED, UNIT_M, UNIT_N, UNIT_K, FILL, OLDER, HBM_BYTE,
    STREAM_BYTE, REACH, LANE_FLOP, INDEX_OP, EXP_OP, PER_IN_FLIGHT, HBM_LATENCY, LAUNCH_GAP, BY_DTYPE,
) = range(22)  # fmt: skip


class Packed(NamedTuple):
    """A trace under a software, ready for any number of designs."""

    tables: Tables
    dtypes: tuple[str, ...]
    rows: int
    calibration: Calibration


def pack(kernels: Kernels, calibration: Calibration | None = None) -> Packed:
    """Everything about the kernels that no design changes."""
    calibration = calibration or load_calibration()
    terms = calibration.terms
    is_gemm, is_flash = kernels.gemm[0] > 0, kernels.flash[0] > 0
    dtypes = tuple(sorted(set(kernels.dtype)))
    read, share = traffic.sum_reads(kernels), traffic.hbm_share(kernels, terms)
    streamed = np.where(
        is_gemm | is_flash, 0.0, (read * traffic.overfetch(kernels) + kernels.write_bytes) / terms.l2_stream
    )
    columns = {
        "form": np.where(is_gemm, GEMM, np.where(is_flash, FLASH, STREAM)),
        "dtype": np.array([dtypes.index(t) for t in kernels.dtype]),
        "shape": np.where(is_gemm, np.vstack([kernels.gemm, 0.0 * kernels.flash[4:]]), kernels.flash),
        "itemsize": kernels.itemsize,
        "flops": kernels.flops,
        "vector_flops": kernels.vector_flops,
        "index_ops": kernels.index_ops,
        "exp_ops": kernels.exp_ops,
        "wire": np.where(traffic.streams(kernels), STREAM_BYTE, HBM_BYTE),
        "hbm_bytes": kernels.write_bytes / share,
        "l2_bytes": streamed,
        "moved": np.where(is_gemm | is_flash, 0.0, read + kernels.write_bytes),
        "per_in_flight": 1.0 / np.maximum(traffic.asked_in_flight(kernels), 1.0),
        "launched": (kernels.launches > 0).astype(np.float64),
    }
    reads, distances = kernels.reads / share, np.maximum(kernels.distances, 1.0)
    key = np.column_stack([*(column.T for column in columns.values()), reads.T, np.where(reads > 0, distances, 0.0).T])
    _, first, priced = np.unique(key, axis=0, return_index=True, return_inverse=True)
    tables = Tables(
        starts=kernels.starts,
        ends=np.append(kernels.starts[1:], len(kernels)),
        dispatch=kernels.dispatch,
        start_row=kernels.start_row,
        priced=priced.reshape(-1),
        **{name: column[..., first] for name, column in columns.items()},
        **_reads(reads[:, first], distances[:, first]),
        **_products(kernels, first[is_gemm[first]], np.flatnonzero(is_gemm[first]), terms),
    )
    whole: Any = [np.ascontiguousarray(t) for t in tables]
    return Packed(Tables(*whole), dtypes, kernels.rows, calibration)


def _reads(reads: Floats, distances: Floats) -> dict[str, Any]:
    """The reads that move anything, kernel by kernel, and the distances that occur."""
    slot, kernel = np.nonzero(reads)
    order = np.argsort(kernel, kind="stable")
    slot, kernel = slot[order], kernel[order]
    distance, which = np.unique(distances[slot, kernel], return_inverse=True)
    return {
        "read_starts": np.searchsorted(kernel, np.arange(reads.shape[1] + 1)),
        "read_bytes": reads[slot, kernel],
        "read_distance": which.reshape(-1),
        "distance": distance,
    }


def _products(kernels: Kernels, rows: Ints, distinct: Ints, terms: Terms) -> dict[str, Any]:
    """Products by shape: `rows` of the kernels, which are the `distinct` ones of those indices."""
    if not len(rows):
        none = np.zeros(0, dtype=np.int64)
        return {"product_starts": np.zeros(1, np.int64), "members": none, "menu": none.reshape(0, 1), "choices": none}
    dtype = np.unique(np.array(kernels.dtype)[rows], return_inverse=True)[1]
    key = np.column_stack([kernels.gemm[:, rows].T, kernels.itemsize[rows], kernels.flops[rows], dtype])
    _, shape = np.unique(key, axis=0, return_inverse=True)
    order = np.argsort(shape.reshape(-1), kind="stable")
    starts = np.searchsorted(shape.reshape(-1)[order], np.arange(shape.max() + 2))
    place = np.cumsum(kernels.gemm[0] > 0) - 1  # of each product among all products
    menu = tiles.menus(kernels, terms)[place[rows[order[starts[:-1]]]]]
    return {
        "product_starts": starts,
        "members": distinct[order],
        "menu": menu,
        "choices": 1 + (menu[:, 1:] != menu[:, :1]).cumprod(axis=1).sum(axis=1),  # the padding repeats the first choice
    }


def hardware(rates: Rates, packed: Packed) -> Floats:
    """The hardware table, rows as the constants above name them."""
    terms, count = packed.calibration.terms, rates.designs
    c = tiles.chip(rates, terms, 0.0, 1.0)
    cycles, left = np.asarray(rates.sm_count * rates.sm_clock), traffic.beside_check_bits(rates, terms)
    by_dtype = (tiles.chip(rates, terms, rates.tensor[t], rates.vector[t]) for t in packed.dtypes)
    rows = (
        c.sm_count, c.cycle, c.operand, c.l2_byte, c.exponential, c.registers, c.shared, c.unit_m, c.unit_n, c.unit_k, c.fill,
        c.older,
        1.0 / np.asarray(rates.hbm_bandwidth), 1.0 / np.asarray(rates.hbm_bandwidth * left), traffic.reach(rates, terms),
        1.0 / (cycles * np.asarray(rates.vector["fp32"])), 1.0 / (cycles * np.asarray(rates.vector["int8"])),
        1.0 / (cycles * np.asarray(rates.exp)), 1.0 / np.maximum(traffic.possible_in_flight(rates), 1.0), rates.hbm_latency,
        rates.launch_gap, *(row for own in by_dtype for row in (own.matrix, own.lanes, own.flop, own.limit)),
    )  # fmt: skip
    return np.stack([np.broadcast_to(np.asarray(row, dtype=np.float64).reshape(-1), (count,)) for row in rows])
