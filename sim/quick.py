"""One matrix product at a time, in microseconds: the calibrated level of `sim.gemm_reference`, compiled.

    predict = predictor("a100-sxm-80gb", "bf16", "vllm 0.14.0")
    predict(4096, 5120, 5120)     # seconds

The same formulas, features and networks as the array code, on scalars. numba is imported when it is called.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwspecs.device import load as load_device
from hwspecs.errors import CalibrationError
from hwspecs.rates import rates
from sim import fitted as fits
from sim import formulas, gemm_reference, residual, tiles, traffic
from sim.compiled import _rebound
from sim.correct import WEIGHT_COPIES
from sim.formulas import Chip, TileTerms, fourth, fourth_root, gemm
from sim.gemm_reference import MOST_OFF, NAMES, USUAL, fill, quantised
from workloads.cache import folder
from workloads.kind import ITEMSIZE

MENU, BOUND = tiles.MENU, residual.BOUND
TILE_COUNT, SPLIT_COUNT, SEEN = len(tiles.TILES), len(tiles.SPLITS), len(NAMES)
COMPILED = ("fourth_root", "fourth", "occupancy", "paid_waves", "whole", "gemm")


class Memory(NamedTuple):
    """What a product reads of the memory system: B, B/s, s, and the peaks that bound it."""

    itemsize: float
    reach: float  # B touched in between at which half of a read misses L2
    achieved: float  # B/s that tiled kernels reach
    peak_bandwidth: float  # B/s
    peak_rate: float  # FLOP/s
    gap: float  # s to the next kernel
    sm_count: float
    copies: float


def predictor(device: str, dtype: str = "bf16", software: str = "") -> Callable[[float, float, float], float]:
    """A function (m, n, k) -> seconds of C[m,n] = A[m,k] B, weights cold, on a device that a fit holds.

    Raises CalibrationError where no fit has 16-bit products of this device.
    """
    fitted = fits.find(device)
    part = fitted.parts.get("gemm/16-bit") if fitted else None
    if part is None or part.residual is None or dtype not in part.dtypes or device not in part.devices:
        raise CalibrationError(f"no fit holds {dtype} matrix products of '{device}'")
    on, terms, r = part.rates(rates(load_device(device))), part.terms(fits.base_terms()), part.residual
    chip = tiles.chip(on, terms, on.tensor[dtype], on.vector[dtype])
    peak = float(np.max(on.sm_count * on.sm_clock * on.matmul(dtype)))
    bandwidth = float(np.max(on.hbm_bandwidth))
    memory = Memory(
        float(ITEMSIZE[dtype]), float(np.max(traffic.reach(on, terms))), bandwidth * terms.hbm_tile, bandwidth, peak,
        float(np.max(on.launch_gap)), float(np.max(on.sm_count)), WEIGHT_COPIES,
    )  # fmt: skip
    wanted = np.array([NAMES.index(name) if name in NAMES else -1 for name in r.names], dtype=np.int64)
    scaling = np.stack([r.centre, 1.0 / r.scale, r.low, r.high])
    networks = r.of(software)
    weights = tuple(tuple(np.ascontiguousarray(w) for w, _ in network) for network in networks)
    biases = tuple(tuple(np.ascontiguousarray(b) for _, b in network) for network in networks)
    weights, biases = (weights, biases) if networks else _none(len(wanted))
    points = _points(r, int(r.columns([software])[0]))
    plain = Chip(*(float(np.max(value)) for value in chip))
    known = plain, tiles.tile_terms(terms), memory, wanted, scaling, weights, biases, points
    one = _compiled()

    def predict(m: float, n: float, k: float) -> float:
        return float(one(float(m), float(n), float(k), *known))

    return predict


def _none(features: int) -> tuple[Any, Any]:
    """Weights and biases of one network that says 0."""
    return ((np.zeros((features, 1), dtype=np.float32),),), ((np.zeros(1, dtype=np.float32),),)


def _points(r: residual.Residual, column: int) -> tuple[Any, ...]:
    """The kernel of a correction: points, weights, scales, variances, the bias of a software; no points where there is none."""
    k = r.kernel
    if k is None:
        one = np.zeros((1, len(r.names)))
        return one[:0].astype(np.float32), np.zeros(0), one, np.zeros(1), 0.0
    return k.at.astype(np.float32), k.weight, k.near, k.variance, float(k.bias[column])


@cache
def _compiled() -> Callable[..., float]:
    """The compiled function, kept in the cache folder under a digest of the code that it is made of."""
    sources = b"".join(Path(str(m.__file__)).read_bytes() for m in (formulas, gemm_reference))
    digest = hashlib.sha256(sources + Path(__file__).read_bytes()).hexdigest()[:16]
    os.environ.setdefault("NUMBA_CACHE_DIR", str(folder() / f"compiled-{digest}"))
    import numba

    fast = {"nnan", "nsz", "arcp", "contract", "reassoc"}
    plain: dict[str, Any] = dict(vars(formulas))
    names: dict[str, Any] = {**vars(gemm_reference), **globals()}
    for name in COMPILED:
        plain[name] = names[name] = numba.njit(fastmath=fast, inline="always")(_rebound(plain[name], plain))
    for function in (quantised, fill, _network, _near, _one):
        names[function.__name__] = numba.njit(fastmath=fast)(_rebound(function, names))
    compiled: Callable[..., float] = names["_one"]
    return compiled


def _one(
    m: float, n: float, k: float, chip: Chip, p: TileTerms, memory: Memory, wanted: NDArray[np.int64],
    scaling: Any, weights: Any, biases: Any, points: Any,
) -> float:  # fmt: skip
    """Seconds of one product: `sim.gemm_reference.price`, its features, the networks."""
    flops, size = 2.0 * m * n * k, memory.itemsize
    reads, writes = size * (m * k + n * k), size * m * n
    distance = size * (m * k + m * n + memory.copies * n * k)
    moved = (reads + writes) / (1.0 + fourth(memory.reach / distance))  # what is written over and over stays too
    hbm, cold = moved / memory.achieved, reads / memory.peak_bandwidth
    best, least = 0, np.inf
    landscape = np.full(TILE_COUNT + SPLIT_COUNT, np.inf)  # the least time of each tile, then of each split
    for i in range(MENU.shape[0]):
        t = gemm(chip, p, 1.0, m, n, k, size, flops, MENU[i, 0], MENU[i, 1], MENU[i, 2])
        time = fourth_root(fourth(t.tensor) + fourth(t.l2) + fourth(t.latency) + fourth(hbm)) + t.fixed
        if not USUAL[i]:
            time = max(time, cold)
        if time < least:
            best, least = i, time
        for j in (i // SPLIT_COUNT, TILE_COUNT + i % SPLIT_COUNT):
            landscape[j] = min(landscape[j], time)
    bm, bn, split = MENU[best, 0], MENU[best, 1], MENU[best, 2]
    t = gemm(chip, p, 1.0, m, n, k, size, flops, bm, bn, split)
    total = least + memory.gap
    for j in range(len(landscape)):
        landscape[j] = min(np.log2(landscape[j] / least), MOST_OFF)
    seen = np.empty(SEEN)
    of_sms = memory.sm_count
    fill(seen, 1.0, m, n, k, total, t.tensor, t.l2, hbm, t.latency, t.fixed, t.waves, bm, bn, split, of_sms, landscape)
    count = len(wanted)
    x = np.zeros(count, dtype=np.float32)
    for i in range(count):
        value = seen[wanted[i]] if wanted[i] >= 0 else 0.0
        x[i] = (min(max(value, scaling[2, i]), scaling[3, i]) - scaling[0, i]) * scaling[1, i]
    away = _near(x, points[0], points[1], points[2], points[3]) + points[4]
    for i in range(len(weights)):
        away += _network(x, weights[i], biases[i]) / len(weights)
    lower = max(flops / memory.peak_rate, moved / memory.peak_bandwidth)
    return float(max(total * np.exp(min(max(away, -BOUND), BOUND)), lower))


def _near(x: Any, at: Any, weight: Any, near: Any, variance: Any) -> float:
    """`sim.residual.Kernel` of one row, without its bias."""
    total = 0.0
    for i in range(at.shape[0]):
        for s in range(near.shape[0]):
            squared = 0.0
            for f in range(at.shape[1]):
                off = (x[f] - at[i, f]) * near[s, f]
                squared += off * off
            d = np.sqrt(3.0 * squared)
            total += weight[i] * variance[s] * (1.0 + d) * np.exp(-d)
    return total


def _network(x: Any, weights: Any, biases: Any) -> float:
    """One network of one row: SiLU between the layers."""
    for i in range(len(weights)):
        y = biases[i].copy()
        w = weights[i]
        for a in range(len(x)):
            for b in range(len(y)):
                y[b] += x[a] * w[a, b]
        if i < len(weights) - 1:
            for b in range(len(y)):
                y[b] = y[b] / (np.float32(1.0) + np.exp(-y[b]))
        x = y
    return float(x[0])
