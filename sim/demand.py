"""What each kernel of a replay asks of its device while it runs: pieces of solo time, and the work that each brings.

A piece is a kernel up to its last wave of blocks, that last wave (its tail, which leaves SM slots idle), or the idle gap before
the next kernel, which asks for nothing. Work is seconds of a resource at full capacity. All of it is priced with the whole
L2 and with 1/2, 1/4 and 1/8 of it, between which the event loop interpolates by how many streams share the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.rates import Rates
from sim.calibration import load as load_calibration
from sim.cost import Cost
from sim.formulas import paid_waves
from sim.tiles import MENU, per_kernel
from sim.traffic import asked_in_flight, possible_in_flight
from workloads.kind import Ints
from workloads.trace import Segment, Trace

Floats: TypeAlias = NDArray[np.float64]
L2_SHARES = (1.0, 1 / 2, 1 / 4, 1 / 8)  # of the L2's capacity at which kernels are priced
TENSOR, VECTOR, EXP, L2, HBM, HBM_BYTES = range(6)  # columns of work; the last is reported, the others are shared
SHARED = (
    "tensor",
    "vector",
    "exp",
    "l2",
    "hbm",
)  # HBM as the time that the traffic takes at the rate its pattern reaches
RESOURCES = len(SHARED)
COLUMNS = RESOURCES + 1


@dataclass(frozen=True)
class Pieces:
    """One pass of every segment of a trace, alone on the device.

    Attributes:
        seconds: (4, pieces) duration at full speed with each share of the L2, greater than 0.
        work: (4, pieces, 6) seconds of each column at full capacity; at most `seconds`.
        slots: (pieces,) share of the SMs' slots that its blocks fill, 0 to 1.
        elastic: (pieces,) share of the fourth power of the time that lasts longer on fewer SMs: 1 for a compute-bound piece.
        fixed: (pieces,) share of the time that no sharing changes (fill and drain).
        begins: (pieces,) whether its blocks queue anew for the SMs; a tail belongs to blocks that have queued before.
        host: (pieces,) seconds of the host to issue what begins with this piece.
        segments: of the trace. starts: (segments + 1,) first piece of each segment, and the end.
    """

    seconds: Floats
    work: Floats
    slots: Floats
    elastic: Floats
    fixed: Floats
    begins: NDArray[np.bool_]
    host: Floats
    segments: tuple[Segment, ...]
    starts: Ints

    def of(self, segment: int) -> Ints:
        """Indices of the pieces of one pass of a segment."""
        return np.arange(self.starts[segment], self.starts[segment + 1])

    def pass_seconds(self, segment: int) -> float:
        """One pass of a segment, alone."""
        return float(self.seconds[0, self.starts[segment] : self.starts[segment + 1]].sum())

    def pass_work(self, segment: int) -> Floats:
        """(6,) seconds at full capacity of one pass of a segment, alone."""
        return np.asarray(self.work[0, self.starts[segment] : self.starts[segment + 1]].sum(axis=0))


def pieces(trace: Trace, costs: Sequence[Cost], rates: Rates, host: Floats) -> Pieces:
    """The chosen kernels of every call of a trace in launch order, each followed by its gap.

    costs: of one device with each of L2_SHARES of its cache; the first chooses the ways. host: (calls,) seconds.
    """
    kernel, call = _launched(costs[0], trace.calls)
    waves, blocks_fill = _waves(costs[0], rates)
    first = np.concatenate([[True], call[1:] != call[:-1]]) if len(call) else np.empty(0, bool)
    parts = _parts(costs[0], kernel, waves)  # (kernels, 3) shares of the time: main, tail, and whether there is a gap
    which, part = np.nonzero(parts > 0)
    kernels = kernel[which]
    seconds = np.stack([np.where(part == 2, c.gap[kernels], c.time[kernels] * parts[which, part]) for c in costs])
    work = np.stack([_work(c, rates, blocks_fill)[kernels] * (part < 2)[:, None] for c in costs])
    work *= parts[which, part][:, None]
    elastic, fixed = _stretch(costs[0])
    begins = np.concatenate([[True], which[1:] != which[:-1]]) | (part == 2)
    return Pieces(
        seconds=seconds,
        work=np.minimum(work, seconds[..., None]),
        slots=np.select([part == 0, part == 1], [np.minimum(waves[kernels], 1.0), waves[kernels] % 1.0], 0.0),
        elastic=np.where(part < 2, elastic[kernels], 0.0),
        fixed=np.where(part < 2, fixed[kernels], 0.0),
        begins=begins,
        host=np.where(begins & (part < 2) & first[which], host[call[which]], 0.0),
        segments=trace.segments,
        starts=np.searchsorted(call[which], [*(s.start for s in trace.segments), trace.calls]),
    )


def _launched(cost: Cost, calls: int) -> tuple[Ints, Ints]:
    """Chosen kernels in program order, repeated for every call that runs them, and the call of each."""
    chosen = np.flatnonzero(cost.chosen)
    rows = cost.kernels.row[chosen]
    first, count = np.searchsorted(rows, np.arange(cost.kernels.rows)), np.bincount(rows, minlength=cost.kernels.rows)
    row = cost.kernels.call_row
    call = np.repeat(np.arange(calls), count[row])
    within = np.arange(len(call)) - np.repeat(np.cumsum(count[row]) - count[row], count[row])
    return chosen[first[row][call] + within], call


def _parts(cost: Cost, kernel: Ints, waves: Floats) -> Floats:
    """(kernels, 3): share of the time before the tail, of the tail, and 1 where a gap follows; a wave takes what others take."""
    w = waves[kernel]
    whole, last = np.floor(w), w % 1.0
    tail = np.where((whole >= 1) & (last > 0), 1.0 / (whole + 1.0), 0.0)
    busy = cost.time[kernel] > 0
    return np.column_stack([busy * (1.0 - tail), busy * tail, cost.gap[kernel] > 0])


def _work(cost: Cost, rates: Rates, fill: Floats) -> Floats:
    """(kernels, 6), as in Pieces. What a tiled kernel's idle SMs would do is left to others; power and L2 are the chip's."""
    k, chip = cost.kernels, np.asarray(rates.sm_count * rates.sm_clock)
    sustained = k.flops / (chip * per_kernel(rates, k.dtype, "matmul") * rates.tensor_sustained)
    tensor = np.maximum(cost.tensor * fill, np.minimum(sustained, cost.tensor))
    l2 = np.maximum(cost.l2 * fill, np.minimum(cost.l2_bytes / (rates.l2_bandwidth * rates.sm_clock), cost.l2))
    columns = np.column_stack([tensor, cost.vector, cost.exp, l2, cost.hbm, cost.hbm_bytes / rates.hbm_bandwidth])
    return np.asarray(np.minimum(columns, cost.time[:, None]))


def _stretch(cost: Cost) -> tuple[Floats, Floats]:
    """(elastic, fixed) of every kernel. What overlaps combines by the fourth root of the sum of fourth powers, as in `cost`."""
    on_sms = sum(t**4 for t in (cost.tensor, cost.vector, cost.exp, np.maximum(cost.latency - cost.fixed, 0.0)))
    in_all = np.maximum(on_sms + cost.l2**4 + cost.hbm**4, 1e-300)
    return np.asarray(on_sms / in_all), np.minimum(cost.fixed / np.maximum(cost.time, 1e-30), 1.0)


def _waves(cost: Cost, rates: Rates) -> tuple[Floats, Floats]:
    """Waves of blocks of each kernel, and the share of its SMs' matrix units that its blocks keep busy on average.

    Of a tiled kernel by its blocks and how many are resident; of another by the bytes that its threads keep in flight.
    """
    per_sm = _blocks(cost) / rates.sm_count
    paid = paid_waves(per_sm, load_calibration().terms.wave_share)  # as the tiles are priced
    tiled = cost.occupancy > 0
    threads = asked_in_flight(cost.kernels) / possible_in_flight(rates)
    waves = np.where(tiled, per_sm / np.maximum(cost.occupancy, 1e-30), threads)
    return np.asarray(waves), np.where(tiled, np.minimum(per_sm / np.maximum(paid, 1.0), 1.0), 1.0)


def _blocks(cost: Cost) -> Floats:
    """Blocks of each tiled kernel, (kernels,); of no meaning where there are no tiles."""
    k = cost.kernels
    rows, columns, splits = MENU[np.minimum(cost.tile, len(MENU) - 1)].T
    batch, m, n, _ = k.gemm
    groups, q_len, query = k.flash[0], k.flash[1], np.maximum(k.flash[5], 1.0)
    products = batch * np.ceil(m / rows) * np.ceil(n / columns) * splits
    return np.asarray(np.where(groups > 0, groups * np.ceil(q_len / query), products))
