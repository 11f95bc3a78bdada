"""What each kernel of a replay asks of its device while it runs: pieces of solo time with shares of what streams share.

A piece is a kernel, or the idle gap before the next one (which other streams can fill). Its demands are fractions of
capacity at full speed, means over its duration. What a kernel asks of compute has two readings, between which real GPUs lie:
'fluid': the engine time that it uses, so that any mix of kernels fits the SMs side by side (the optimistic end);
'held': also the SM slots that its blocks fill, so that a kernel that fills the device keeps all others out until it ends,
as a block scheduler does that places the next kernel's blocks after the last of this one (the pessimistic end).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.rates import Rates
from sim.calibration import load as load_calibration
from sim.cost import Cost
from sim.formulas import paid_waves
from sim.tiles import MENU, QUERY_BLOCKS, per_kernel
from sim.traffic import asked_in_flight, possible_in_flight
from workloads.kind import Ints
from workloads.trace import Segment, Trace

Floats: TypeAlias = NDArray[np.float64]
Sharing: TypeAlias = Literal["fluid", "held"]
COMPUTE, L2, HBM, HBM_BYTES = range(4)  # columns of demand; the last is reported, the others are shared
SHARED = ("compute", "l2", "hbm")  # HBM as the time that the traffic takes at the rate its pattern reaches


@dataclass(frozen=True)
class Pieces:
    """One pass of every segment of a trace, alone on the device.

    Attributes:
        seconds: (pieces,) duration at full speed, greater than 0.
        demand: (pieces, 4) fractions of capacity at full speed, 0 to 1: compute, L2, HBM, and bytes over peak HBM rate.
        call: (pieces,) call of the trace that a piece belongs to.
        segments: of the trace. starts: (segments + 1,) first piece of each segment, and the end.
    """

    seconds: Floats
    demand: Floats
    call: Ints
    segments: tuple[Segment, ...]
    starts: Ints

    def of(self, segment: int) -> Ints:
        """Indices of the pieces of one pass of a segment."""
        return np.arange(self.starts[segment], self.starts[segment + 1])

    def pass_seconds(self, segment: int) -> float:
        """One pass of a segment, alone."""
        return float(self.seconds[self.starts[segment] : self.starts[segment + 1]].sum())


def pieces(trace: Trace, cost: Cost, rates: Rates, sharing: Sharing = "fluid") -> Pieces:
    """The chosen kernels of every call of a trace in launch order, each followed by its gap. `cost` is of one device."""
    kernel, call = _launched(cost, trace.calls)
    seconds = np.column_stack([cost.time[kernel], cost.gap[kernel]]).reshape(-1)
    demand = np.zeros((len(kernel), 2, 4))
    demand[:, 0] = _demand(cost, rates, sharing)[kernel]
    kept = seconds > 0
    calls = np.repeat(call, 2)[kept]
    starts = np.searchsorted(calls, [*(s.start for s in trace.segments), trace.calls])
    return Pieces(seconds[kept], demand.reshape(-1, 4)[kept], calls, trace.segments, starts)


def _launched(cost: Cost, calls: int) -> tuple[Ints, Ints]:
    """Chosen kernels in program order, repeated for every call that runs them, and the call of each."""
    chosen = np.flatnonzero(cost.chosen)
    rows = cost.kernels.row[chosen]
    first, count = np.searchsorted(rows, np.arange(cost.kernels.rows)), np.bincount(rows, minlength=cost.kernels.rows)
    row = cost.kernels.call_row
    call = np.repeat(np.arange(calls), count[row])
    within = np.arange(len(call)) - np.repeat(np.cumsum(count[row]) - count[row], count[row])
    return chosen[first[row][call] + within], call


def _demand(cost: Cost, rates: Rates, sharing: Sharing) -> Floats:
    """(kernels, 4), as in Pieces. What a tiled kernel's idle SMs would do is left to others; power and L2 are the chip's."""
    k, chip = cost.kernels, np.asarray(rates.sm_count * rates.sm_clock)
    per_sm = _blocks(cost) / rates.sm_count
    waves = paid_waves(per_sm, load_calibration().terms.wave_share)  # as the tiles are priced
    fill = np.where(cost.occupancy > 0, np.minimum(per_sm / np.maximum(waves, 1.0), 1.0), 1.0)
    sustained = k.flops / (chip * per_kernel(rates, k.dtype, "matmul") * rates.tensor_sustained)
    tensor = np.maximum(cost.tensor * fill, np.minimum(sustained, cost.tensor))
    l2 = np.maximum(cost.l2 * fill, np.minimum(cost.l2_bytes / (rates.l2_bandwidth * rates.sm_clock), cost.l2))
    compute = np.maximum(tensor, np.maximum(cost.vector, cost.exp))
    columns = np.column_stack([compute, l2, cost.hbm, cost.hbm_bytes / rates.hbm_bandwidth])
    shares = np.minimum(columns / np.maximum(cost.time, 1e-30)[:, None], 1.0)
    if sharing == "held":
        shares[:, COMPUTE] = np.maximum(shares[:, COMPUTE], _slots(cost, rates, per_sm))
    return np.asarray(shares)


def _blocks(cost: Cost) -> Floats:
    """Blocks of each tiled kernel, (kernels,); of no meaning where there are no tiles."""
    k = cost.kernels
    rows, columns, splits = MENU[np.minimum(cost.tile, len(MENU) - 1)].T
    batch, m, n, _ = k.gemm
    query = np.array(QUERY_BLOCKS)[np.clip(cost.tile - len(MENU), 0, len(QUERY_BLOCKS) - 1)]
    products = batch * np.ceil(m / rows) * np.ceil(n / columns) * splits
    return np.asarray(np.where(k.flash[0] > 0, k.flash[0] * np.ceil(k.flash[1] / query), products))


def _slots(cost: Cost, rates: Rates, per_sm: Floats) -> Floats:
    """Share of what can be resident (blocks of a tiled kernel, else threads) that a kernel fills in its first wave."""
    threads = asked_in_flight(cost.kernels) / possible_in_flight(rates)
    blocks = per_sm / np.maximum(cost.occupancy, 1e-30)
    return np.asarray(np.minimum(np.where(cost.occupancy > 0, blocks, threads), 1.0))
