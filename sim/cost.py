"""cost(kernels, rates): the time of every kernel on one device or a stack of designs, and the terms that it is made of.

Array code over (designs, kernels). `roofline` is the larger of FLOPs over peak and bytes over bandwidth; `physical` adds
tiles, waves, occupancy, L2, latency and what kernels reach of each. Reads columns of `Kernels`; knows no operator by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.rates import Rates
from sim import tiles, traffic
from sim.calibration import Calibration
from sim.calibration import load as load_calibration
from workloads.lower import Kernels

Floats: TypeAlias = NDArray[np.float64]
LEVELS = ("roofline", "physical", "calibrated")
BOUNDS = ("compute", "l2", "hbm", "latency", "launch", "link")


@dataclass(frozen=True)
class Cost:
    """Columns (designs, kernels) for a stack of designs, (kernels,) for one device. Seconds, bytes, FLOPs.

    `time` is the kernel's own duration; `gap` is the idle time before the next kernel of the stream can start.
    """

    kernels: Kernels
    time: Floats
    tensor: Floats
    vector: Floats
    exp: Floats
    l2: Floats
    hbm: Floats
    latency: Floats  # `fixed` included
    fixed: Floats  # not overlapped with the others: fill and drain, write-out, adding of split parts
    gap: Floats
    flops: Floats
    l2_bytes: Floats
    hbm_bytes: Floats
    launches: Floats
    waves: Floats
    occupancy: Floats
    tile: NDArray[np.int64]
    bound: NDArray[np.int64]  # codes into BOUNDS
    chosen: NDArray[np.bool_]
    covered: NDArray[np.bool_]  # (kernels,)

    def per_row(self, column: Floats) -> Floats:
        """Sum of a kernel column over the chosen kernels of each priced row: (designs, rows) or (rows,)."""
        by_way = np.add.reduceat(column * self.chosen, self.kernels.starts, axis=-1)
        first = np.searchsorted(self.kernels.start_row, np.arange(self.kernels.rows))
        return np.asarray(np.add.reduceat(by_way, first, axis=-1))

    def per_call(self, column: Floats) -> Floats:
        """The same for every call of the trace: (designs, calls) or (calls,)."""
        return np.asarray(self.per_row(column)[..., self.kernels.call_row])


def cost(
    kernels: Kernels, rates: Rates, level: str = "physical", calibration: Calibration | None = None, factor: Any = 1.0
) -> Cost:
    """Price every kernel, and choose for each call the fastest of the ways that the software allows.

    `factor` (kernels,) is a learned correction of the calibrated level (`sim.correct`); without one that level is the physical.
    Raises ValueError for a level that does not exist.
    """
    if level not in LEVELS:
        raise ValueError(f"level: found '{level}', expected one of {', '.join(LEVELS)}")
    calibration = calibration or load_calibration()
    columns = (_roofline if level == "roofline" else _physical)(kernels, rates, calibration)
    if level == "calibrated":
        columns["time"] = np.maximum(columns["time"] * factor, _least(columns, kernels, rates))
    busy = kernels.launches > 0
    columns["gap"] = np.broadcast_to(np.asarray(rates.launch_gap) * busy, columns["time"].shape)
    columns["launches"] = np.broadcast_to(kernels.launches, columns["time"].shape)
    columns["flops"] = np.broadcast_to(kernels.flops, columns["time"].shape)
    return Cost(
        kernels=kernels,
        bound=_bound(columns),
        chosen=_choose(kernels, columns["time"] + columns["gap"]),
        covered=calibration.covered(kernels) if level != "roofline" else np.zeros(len(kernels), dtype=bool),
        **columns,
    )


def _roofline(kernels: Kernels, rates: Rates, _: Calibration) -> dict[str, Any]:
    """Peak rates, compulsory bytes; no latency, no waves."""
    matmul, vector = tiles.per_kernel(rates, kernels.dtype, "matmul"), _vector_rate(rates)
    chip = np.asarray(rates.sm_count * rates.sm_clock)
    tensor = kernels.flops / (chip * matmul)
    on_vector = kernels.vector_flops / (chip * vector) + kernels.index_ops / (chip * _integer_rate(rates))
    exp = kernels.exp_ops / (chip * np.asarray(rates.exp))
    hbm_bytes = traffic.sum_reads(kernels) + kernels.write_bytes
    hbm = hbm_bytes / np.asarray(rates.hbm_bandwidth)
    time = np.maximum(np.maximum(tensor, on_vector), np.maximum(exp, hbm))
    none = np.zeros_like(time)
    return _columns(
        time,
        tensor,
        on_vector,
        exp,
        none,
        hbm,
        none,
        none,
        none + hbm_bytes,
        none + hbm_bytes,
        none,
        none,
        none.astype(np.int64),
    )


def _physical(kernels: Kernels, rates: Rates, calibration: Calibration) -> dict[str, Any]:
    terms = calibration.terms
    chip = np.asarray(rates.sm_count * rates.sm_clock)
    moved = traffic.traffic(kernels, rates, terms)
    hbm = np.asarray(moved.hbm_bytes / traffic.hbm_rate(kernels, rates, terms))
    is_tiled = (kernels.gemm[0] > 0) | (kernels.flash[0] > 0)
    launched = kernels.launches > 0
    streamed = moved.l2_bytes / (np.asarray(rates.l2_bandwidth * rates.sm_clock) * terms.l2_stream)
    vector = kernels.vector_flops / (chip * _vector_rate(rates)) + kernels.index_ops / (chip * _integer_rate(rates))
    exp = kernels.exp_ops / (chip * np.asarray(rates.exp))
    tiled = tiles.tiled(kernels, rates, terms, tiles.combine(hbm, vector, exp))
    l2 = np.where(is_tiled, tiled.l2, streamed)
    in_flight = np.where(is_tiled, 0.0, traffic.in_flight_time(kernels, rates))
    fixed = np.where(
        is_tiled, tiled.fixed, np.where(launched, terms.fill_drain_stream / np.asarray(rates.sm_clock), 0.0)
    )
    overlapped = tiles.combine(tiled.tensor, vector, exp, l2, hbm, tiled.latency, in_flight)
    l2_bytes = np.where(is_tiled, tiled.l2_bytes, moved.l2_bytes)
    return _columns(
        overlapped + fixed, tiled.tensor, vector, exp, l2, hbm, tiled.latency + in_flight + fixed, fixed,
        l2_bytes, moved.hbm_bytes, tiled.waves, tiled.occupancy, tiled.tile,
    )  # fmt: skip


def _least(c: dict[str, Any], kernels: Kernels, rates: Rates) -> Floats:
    """Seconds that no correction may go below: FLOPs over peak, bytes over the peak bandwidths of HBM and L2.

    Through L2 at least every operand once; a tile's own traffic would make the floor jump where better hardware prefers
    another tile.
    """
    chip = np.asarray(rates.sm_count * rates.sm_clock)
    flops = kernels.flops / (chip * tiles.per_kernel(rates, kernels.dtype, "matmul"))
    l2 = (traffic.sum_reads(kernels) + kernels.write_bytes) / np.asarray(rates.l2_bandwidth * rates.sm_clock)
    return np.asarray(np.maximum(np.maximum(flops, l2), c["hbm_bytes"] / np.asarray(rates.hbm_bandwidth)))


def _vector_rate(rates: Rates) -> Floats:
    """FLOP/cycle/SM of the arithmetic around matrix products, which torch does in fp32 whatever the storage."""
    return np.asarray(rates.vector["fp32"])


def _integer_rate(rates: Rates) -> Floats:
    """Operations per cycle and SM of address arithmetic, which runs on the 32-bit integer lanes."""
    return np.asarray(rates.vector["int8"])


def _columns(time: Floats, *rest: NDArray[Any]) -> dict[str, Any]:
    names = (
        "tensor", "vector", "exp", "l2", "hbm", "latency", "fixed", "l2_bytes", "hbm_bytes", "waves", "occupancy", "tile",
    )  # fmt: skip
    return {"time": time} | {n: np.broadcast_to(v, time.shape) for n, v in zip(names, rest, strict=True)}


def _bound(c: dict[str, Floats]) -> NDArray[np.int64]:
    """The largest term names what bounds a kernel; `launch` when the gap before the next one is larger than all of them."""
    compute = np.maximum(np.maximum(c["tensor"], c["vector"]), c["exp"])
    return np.asarray(np.argmax(np.stack([compute, c["l2"], c["hbm"], c["latency"], c["gap"]]), axis=0), dtype=np.int64)


def _choose(kernels: Kernels, time: Floats) -> NDArray[np.bool_]:
    """Kernels of the fastest way of each priced row; the first listed where two are equal."""
    by_way = np.add.reduceat(time, kernels.starts, axis=-1)
    first = np.searchsorted(kernels.start_row, np.arange(kernels.rows))
    least = np.minimum.reduceat(by_way, first, axis=-1)[..., kernels.start_row]
    index = np.where(by_way == least, np.arange(len(kernels.starts)), len(kernels.starts))
    winner = np.minimum.reduceat(index, first, axis=-1)[..., kernels.start_row]
    return np.asarray((np.arange(len(kernels.starts)) == winner)[..., kernels.start])
