"""Rates: what a cost model may read of hardware, for one device or a stack of designs.

Every field is a float or an array of shape (designs, 1), so that it broadcasts against kernel
columns of shape (kernels,). Nothing is validated here: a Device is valid, a Rates is only numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.device import DTYPES, Device

Floats: TypeAlias = NDArray[np.float64]
Rate: TypeAlias = float | Floats


@dataclass(frozen=True)
class Rates:
    """Floats, or arrays of shape (designs, 1). SI units; cycles are of the SM clock."""

    sm_count: Rate
    sm_clock: Rate  # Hz
    tensor: Mapping[str, Rate]  # FLOP/cycle/SM of the matrix units by dtype; 0 where the device has none
    tensor_sustained: Rate  # sustained / peak matrix rate of long kernels, <= 1
    tensor_older: (
        Rate  # share of the matrix rate that kernels for the instructions of the generation before reach, <= 1
    )
    tile_m: Rate  # the matrix unit's own tile: output rows,
    tile_n: Rate  # output columns,
    tile_k: Rate  # depth
    tensor_fill: Rate  # cycles to fill and drain the matrix unit per pass of a weight tile
    vector: Mapping[str, Rate]  # FLOP/cycle/SM of the vector units by dtype
    exp: Rate  # transcendental op/cycle/SM
    shared_memory: Rate  # B per SM that blocks can use
    registers: Rate  # B per SM
    max_threads: Rate  # resident threads per SM
    shared_bandwidth: Rate  # B/cycle that one SM reads of its shared memory
    l2_capacity: Rate  # B
    l2_partitions: Rate  # copies that a line read by all SMs may occupy (2 on A100 and H100)
    l2_bandwidth: Rate  # B/cycle, whole device
    l2_port: Rate  # B/cycle that one SM can take from L2
    hbm_bandwidth: Rate  # B/s
    hbm_capacity: Rate  # B
    hbm_latency: Rate  # s, load to use
    hbm_inline_ecc: Rate  # 1 where check bits lie beside the data, else 0
    launch_gap: Rate  # s between two dependent kernels of one stream

    @property
    def designs(self) -> int:
        """How many designs are stacked; 1 for floats."""
        return int(np.size(self.sm_count))

    def matmul(self, dtype: str) -> Rate:
        """FLOP/cycle/SM for a matrix product: of the matrix unit, or of the vector unit where that is faster."""
        return np.asarray(np.maximum(self.tensor[dtype], self.vector[dtype]))


def rates(device: Device | Sequence[Device]) -> Rates:
    """One device -> floats; a sequence of devices -> arrays of shape (designs, 1)."""
    if isinstance(device, Device):
        return _one(device)
    each = [_one(d) for d in device]
    stacked: dict[str, Any] = {f.name: _stack([getattr(r, f.name) for r in each]) for f in fields(Rates)}
    return Rates(**stacked)


def _one(d: Device) -> Rates:
    return Rates(
        sm_count=float(d.sm_count),
        sm_clock=d.sm_clock,
        tensor={t: getattr(d.tensor, t) for t in DTYPES},
        tensor_sustained=d.tensor.sustained,
        tensor_older=d.tensor.older,
        tile_m=float(d.tensor.tile.m),
        tile_n=float(d.tensor.tile.n),
        tile_k=float(d.tensor.tile.k),
        tensor_fill=d.tensor.fill,
        vector={t: getattr(d.vector, t) for t in DTYPES},
        exp=d.exp,
        shared_memory=d.sm.shared_memory,
        registers=d.sm.registers,
        max_threads=float(d.sm.max_threads),
        shared_bandwidth=d.sm.shared_bandwidth,
        l2_capacity=d.l2.capacity,
        l2_partitions=float(d.l2.partitions),
        l2_bandwidth=d.l2.bandwidth,
        l2_port=d.l2.port,
        hbm_bandwidth=d.hbm.bandwidth,
        hbm_capacity=d.hbm.capacity,
        hbm_latency=d.hbm.latency,
        hbm_inline_ecc=float(d.hbm.inline_ecc),
        launch_gap=d.launch.gap,
    )


def _stack(values: list[object]) -> object:
    if isinstance(values[0], Mapping):
        maps: list[Mapping[str, float]] = values  # type: ignore[assignment]
        return {key: _stack([m[key] for m in maps]) for key in maps[0]}
    return np.asarray(values, dtype=np.float64)[:, None]
