"""Bytes through L2 and HBM: what is still resident, what strided access fetches beside it, what a kernel reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.rates import Rate, Rates
from sim.calibration import Terms
from workloads.lower import Kernels

Floats: TypeAlias = NDArray[np.float64]
SECTOR = (
    32.0  # B, granule of an L2 access on NVIDIA GPUs since Maxwell (CUDA C++ Best Practices Guide, coalesced access)
)
THREAD_LOAD = 16.0  # B, one vector load of a thread (128 bit)
STREAM_BLOCK = (
    4096.0  # B that one block of a pointwise kernel moves: 128 threads x 2 loads of 16 B (torch's vectorized kernels)
)


@dataclass(frozen=True)
class Traffic:
    """Bytes, shape (designs, kernels) or (kernels,): through HBM, and through L2 apart from the operands of tiles."""

    hbm_bytes: Floats
    l2_bytes: Floats


def miss(distance: Floats, rates: Rates, terms: Terms) -> Floats:
    """Share of a read that misses L2, when `distance` bytes were touched since it was last touched.

    x^4 / (1 + x^4) with x = distance / (l2_reach x capacity / partitions): near 0 below the capacity, 1 far above. A line
    that SMs of both halves read occupies both (A100 whitepaper), hence the partitions.
    """
    inverse = np.asarray(reach(rates, terms) / np.maximum(distance, 1.0)) ** 4
    return np.asarray(1.0 / (1.0 + inverse))


def reach(rates: Rates, terms: Terms) -> Rate:
    """Bytes touched in between at which half of a read misses L2."""
    return terms.l2_reach * rates.l2_capacity / rates.l2_partitions


def traffic(kernels: Kernels, rates: Rates, terms: Terms) -> Traffic:
    """Reads that miss L2, and all writes, go through HBM. Short runs fetch whole sectors, from L2 only: the rest of a sector is
    wanted a few output rows later (some kB), long before it is evicted."""
    missing = sum(kernels.reads[s] * miss(kernels.distances[s], rates, terms) for s in range(len(kernels.reads)))
    return Traffic(
        np.asarray(missing + kernels.write_bytes), sum_reads(kernels) * overfetch(kernels) + kernels.write_bytes
    )


def sum_reads(kernels: Kernels) -> Floats:
    """Bytes that each kernel has to read, each tensor once."""
    return np.asarray(kernels.reads.sum(axis=0))


def overfetch(kernels: Kernels) -> Floats:
    """Bytes of the sectors that a run touches over the bytes of the run; 1 where reads are contiguous."""
    run = np.where(kernels.run_bytes > 0, kernels.run_bytes, SECTOR)
    return np.asarray(np.ceil(run / SECTOR) * SECTOR / run)


def hbm_share(kernels: Kernels, terms: Terms) -> Floats:
    """Share of the HBM bandwidth that each kernel reaches at best, by its pattern; (kernels,). See `beside_check_bits`."""
    share = {"tile": terms.hbm_tile, "stream": terms.hbm_stream, "reduce": terms.hbm_reduce, "gather": terms.hbm_gather}
    return np.array([share[p] for p in kernels.pattern])


def streams(kernels: Kernels) -> NDArray[np.bool_]:
    """Kernels (kernels,) of any pattern but that of tiles, which was fitted on memory with and without inline ECC together."""
    return np.array([p != "tile" for p in kernels.pattern], dtype=bool)


def beside_check_bits(rates: Rates, terms: Terms) -> Rate:
    """Share of the HBM bandwidth that streams keep: 1, or what check bits leave where they lie beside the data."""
    return 1.0 - rates.hbm_inline_ecc * (1.0 - terms.inline_ecc)


def hbm_rate(kernels: Kernels, rates: Rates, terms: Terms) -> Floats:
    """B/s of HBM that each kernel reaches at best, (designs, kernels) or (kernels,)."""
    left = np.where(streams(kernels), beside_check_bits(rates, terms), 1.0)  # (kernels,), unless designs differ in it
    return np.asarray(rates.hbm_bandwidth * (hbm_share(kernels, terms) * left))


def in_flight_time(kernels: Kernels, rates: Rates) -> Rate:
    """Seconds by Little's law: bytes over the bytes in flight, once per memory latency.

    A kernel has at most what its blocks keep in flight, and at most what all resident threads can.
    """
    moved = sum_reads(kernels) + kernels.write_bytes
    in_flight = np.maximum(np.minimum(asked_in_flight(kernels), possible_in_flight(rates)), 1.0)
    return np.asarray(moved / in_flight * rates.hbm_latency)


def asked_in_flight(kernels: Kernels) -> Floats:
    """Bytes that the blocks of each kernel keep in flight together."""
    spread = np.ceil((sum_reads(kernels) + kernels.write_bytes) / STREAM_BLOCK) * STREAM_BLOCK
    return np.where(kernels.blocks > 0, kernels.blocks * kernels.in_flight, spread)


def possible_in_flight(rates: Rates) -> Rate:
    """Bytes that all resident threads of a device can have in flight."""
    return rates.sm_count * rates.max_threads * THREAD_LOAD
