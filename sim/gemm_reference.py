"""Matrix products priced alone, as tables of measurements hold them, and what a learned correction may see of a shape.

`price` is `sim.cost` at the physical level for one device, over the whole menu of tiles instead of one menu a shape: for a
hundred thousand shapes, finding their menus would cost more than pricing every tile. `features` are dimensionless, and depend
on the shape and on the device that was fitted, never on the one that is priced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.rates import Rates
from sim import formulas, tiles, traffic
from sim.calibration import Terms

Floats: TypeAlias = NDArray[np.float64]
CHUNK = 512  # shapes whose whole menu is priced at a time, which keeps the arrays in cache
SMALL = 1e-4  # share below which a term does not matter; keeps logarithms finite
ALIGNMENTS = (8, 16, 32, 64, 128)  # elements; 8 of 2 bytes are one 16-byte load
EDGES = (8, 16, 32, 64, 128, 256)  # tile edges whose padding is a feature
MOST_OFF = 3.0  # log2: how much slower a choice of the menu may be before it does not matter how much
# What each tile, and each split of k, would take over the best of all, as a logarithm to base 2: a library's choice is near it.
LANDSCAPE = (
    *(f"of tile {bm:.0f}x{bn:.0f}" for bm, bn in tiles.TILES), *(f"of split {split:.0f}" for split in tiles.SPLITS),
)  # fmt: skip
LARGE_EDGE = 128.0  # longer edge of a tile from which a library takes it for a usual one
USUAL = (tiles.MENU[:, 2] == 1) & (tiles.MENU[:, :2].max(axis=1) >= LARGE_EDGE)  # choices that it has at no extra cost
GRIDS = ((256, 128), (128, 256), (128, 128), (128, 64), (64, 128), (64, 64), (64, 32), (32, 64), (32, 32))


@dataclass(frozen=True)
class Shapes:
    """Products C[batch,m,n] = A[batch,m,k] B: columns (rows,); `distance` in bytes, since the operands were last touched.

    `shared` is 1 where B is a weight that the batch shares, 0 where each product has its own.
    """

    batch: Floats
    m: Floats
    n: Floats
    k: Floats
    shared: Floats
    distance: Floats
    itemsize: float
    dtype: str

    def __len__(self) -> int:
        return len(self.m)

    @property
    def flops(self) -> Floats:
        """Multiply and add counted as 2."""
        return 2.0 * self.batch * self.m * self.n * self.k

    @property
    def reads(self) -> Floats:
        """Bytes of the operands, each once."""
        weights = np.where(self.shared == 1, 1.0, self.batch) * self.n * self.k
        return self.itemsize * (self.batch * self.m * self.k + weights)

    @property
    def writes(self) -> Floats:
        """Bytes of the product."""
        return self.itemsize * self.batch * self.m * self.n

    def part(self, rows: slice) -> Shapes:
        """Some of the rows."""
        batch, m, n, k = (column[rows] for column in (self.batch, self.m, self.n, self.k))
        return Shapes(batch, m, n, k, self.shared[rows], self.distance[rows], self.itemsize, self.dtype)


@dataclass(frozen=True)
class Priced:
    """Seconds (rows,) of a product and of its terms on one device; `lower` is what no kernel can beat."""

    time: Floats
    tensor: Floats
    l2: Floats
    hbm: Floats
    latency: Floats
    fixed: Floats
    waves: Floats
    tile: NDArray[np.int64]  # index of sim.tiles.MENU
    bound: NDArray[np.int64]  # code into sim.cost.BOUNDS
    lower: Floats
    landscape: Floats  # (len(LANDSCAPE), rows)


def price(
    shapes: Shapes, rates: Rates, terms: Terms, writes_stay: bool = False, least: Floats | None = None,
    from_memory: bool = False, feed: Floats | None = None,
) -> Priced:  # fmt: skip
    """Time of every product on one device, without the gap before the next kernel.

    `writes_stay`: products that are written over and over to the same buffer leave L2 only where its traffic exceeds it.
    `least`: edge (rows,) below which the library has no tile for a product, whose k it does not split either; 0: whole menu.
    `from_memory`: the library chooses as if operands came from memory: it splits k, or takes small tiles, only until reading them
    at the peak bandwidth would bind; so these choices take at least that long, wherever the operands are.
    `feed`: for each choice of the menu, the time on the vector lanes over that at their rate; None: 1.
    """
    on = tiles.chip(rates, terms, rates.tensor[shapes.dtype], rates.vector[shapes.dtype])
    missing = traffic.miss(shapes.distance, rates, terms)
    hbm_bytes = shapes.reads * missing + shapes.writes * (missing if writes_stay else 1.0)
    hbm = hbm_bytes / (np.asarray(rates.hbm_bandwidth) * terms.hbm_tile)
    edge = np.zeros(len(shapes)) if least is None else least
    slower = np.ones(len(tiles.MENU)) if feed is None else feed
    every = on._replace(lanes=on.lanes * slower[:, None])
    cold = _cold(shapes, rates) if from_memory else np.zeros(len(shapes))
    parts = [slice(i, i + CHUNK) for i in range(0, len(shapes), CHUNK)]
    chosen = [_best(shapes.part(some), hbm[some], cold[some], every, terms, edge[some]) for some in parts]
    tile = np.concatenate([c for c, _ in chosen]) if chosen else np.zeros(0, dtype=np.int64)
    landscape = np.concatenate([seen for _, seen in chosen], axis=1) if chosen else np.zeros((len(LANDSCAPE), 0))
    t = _terms(shapes, on._replace(lanes=on.lanes * slower[tile]), terms, tiles.MENU[tile].T)
    time = np.maximum(tiles.combine(t.tensor, t.l2, t.latency, hbm) + t.fixed, np.where(USUAL[tile], 0.0, cold))
    peak = np.asarray(rates.sm_count * rates.sm_clock * rates.matmul(shapes.dtype))
    lower = np.maximum(shapes.flops / peak, hbm_bytes / np.asarray(rates.hbm_bandwidth))
    largest = np.argmax(np.stack([t.tensor, t.l2, hbm, t.latency + t.fixed]), axis=0)
    bound = largest.astype(np.int64)
    return Priced(time, t.tensor, t.l2, hbm, t.latency, t.fixed, t.waves, tile, bound, lower, landscape)


def _cold(shapes: Shapes, rates: Rates) -> Floats:
    """Seconds (rows,) of reading the operands from memory at its peak bandwidth."""
    return np.asarray(shapes.reads / np.asarray(rates.hbm_bandwidth))


def loop(shapes: Shapes, rates: Rates, terms: Terms) -> Floats:
    """Seconds (rows,) of the fastest tile apart from memory, the largest of its overlapping terms standing for all.

    The tile is the best one by this very time, so that it falls (or stays) when a device field improves.
    """
    on = tiles.chip(rates, terms, rates.tensor[shapes.dtype], rates.vector[shapes.dtype])
    found = []
    for i in range(0, len(shapes), CHUNK):
        t = _terms(shapes.part(slice(i, i + CHUNK)), on, terms, tiles.MENU.T[:, :, None])
        found.append((np.maximum(np.maximum(t.tensor, t.l2), t.latency) + t.fixed).min(axis=0))
    return np.concatenate(found) if found else np.zeros(0)


def _terms(shapes: Shapes, on: formulas.Chip, terms: Terms, menu: Floats) -> formulas.Terms:
    return formulas.gemm(
        on, tiles.tile_terms(terms), shapes.batch, shapes.m, shapes.n, shapes.k, shapes.itemsize, shapes.flops, *menu
    )


def _best(
    shapes: Shapes, hbm: Floats, cold: Floats, on: formulas.Chip, terms: Terms, least: Floats
) -> tuple[NDArray[np.int64], Floats]:
    """The fastest tile of the menu for each shape, and the landscape around it."""
    t = _terms(shapes, on, terms, tiles.MENU.T[:, :, None])
    times = np.asarray(tiles.combine(t.tensor, t.l2, t.latency, hbm) + t.fixed)
    if cold.any():
        times = np.where(USUAL[:, None], times, np.maximum(times, cold))
    if least.any():
        edge, split = tiles.MENU[:, :2].min(axis=1)[:, None], tiles.MENU[:, 2:]
        times = np.where((edge >= least) & ((split == 1) | (least == 0)), times, np.inf)
    best = np.argmin(times, axis=0)
    menu = times.reshape(len(tiles.TILES), len(tiles.SPLITS), -1)
    least = np.concatenate([menu.min(axis=1), menu.min(axis=0)])
    seen = np.minimum(np.log2(least / times[best, np.arange(times.shape[1])]), MOST_OFF)
    return best.astype(np.int64), seen


NAMES = (
    "log m", "log n", "log k", "log batch", "log mn", "log nk", "log mk", "log m/n", "log time",
    "share tensor", "share l2", "share hbm", "share latency", "share fixed",
    "tile rows", "tile columns", "split", "log waves", "tail",
    *(f"tail {bm}x{bn}" for bm, bn in GRIDS),
    *(f"pad {extent} {edge}" for edge in EDGES for extent in "mnk"),
    *(f"{extent} % {step}" for step in ALIGNMENTS for extent in "mnk"),
    *LANDSCAPE,
)  # fmt: skip


def features(shapes: Shapes, priced: Priced, time: Floats, sm_count: float) -> dict[str, Floats]:
    """Dimensionless columns (rows,) that a correction may see. `time`: of the row, launch floor included, seconds.

    Logarithms to base 2 of extents (over 1 element) and of the time (over 1 us), shares of the terms in the time, what tiles of
    common sizes pad and leave idle in the last wave, divisibility, the tile that the physical model takes, how near others are.
    """
    s, p, out = shapes, priced, np.empty((len(NAMES), len(shapes)))
    tile = tiles.MENU[p.tile].T
    fill(
        out,
        s.batch,
        s.m,
        s.n,
        s.k,
        time,
        p.tensor,
        p.l2,
        p.hbm,
        p.latency,
        p.fixed,
        p.waves,
        tile[0],
        tile[1],
        tile[2],
        sm_count,
        p.landscape,
    )
    return dict(zip(NAMES, out, strict=True))


def fill(
    out: Any, batch: Any, m: Any, n: Any, k: Any, time: Any, tensor: Any, l2: Any, hbm: Any, latency: Any, fixed: Any,
    waves: Any, rows: Any, columns: Any, split: Any, sm_count: float, landscape: Any,
) -> None:  # fmt: skip
    """The features in the order of NAMES: of arrays into (features, rows), or of one row, compiled, into (features,)."""
    out[0], out[1], out[2], out[3] = np.log2(m), np.log2(n), np.log2(k), np.log2(batch)
    out[4], out[5], out[6], out[7] = np.log2(batch * m * n), np.log2(n * k), np.log2(m * k), np.log2(m / n)
    out[8] = np.log2(time * 1e6)
    out[9], out[10] = np.log2(tensor / time + SMALL), np.log2(l2 / time + SMALL)
    out[11], out[12] = np.log2(hbm / time + SMALL), np.log2(latency / time + SMALL)
    out[13] = np.log2(fixed / time + SMALL)
    out[14], out[15], out[16], out[17] = np.log2(rows), np.log2(columns), np.log2(split), np.log2(waves)
    out[18] = quantised(batch * np.ceil(m / rows) * np.ceil(n / columns) * split / sm_count)
    i = 19
    for bm, bn in GRIDS:
        out[i] = quantised(batch * np.ceil(m / bm) * np.ceil(n / bn) / sm_count)
        i += 1
    for edge in EDGES:
        for extent in (m, n, k):
            out[i] = np.ceil(extent / edge) * edge / extent
            i += 1
    for step in ALIGNMENTS:
        for extent in (m, n, k):
            out[i] = (extent % step == 0) * 1.0
            i += 1
    for j in range(len(landscape)):
        out[i + j] = landscape[j]


def quantised(per_sm: Any) -> Any:
    """log2 of whole waves over waves: how much of the device the last wave leaves idle."""
    return np.log2(np.minimum(np.ceil(per_sm) / per_sm, 128.0))
