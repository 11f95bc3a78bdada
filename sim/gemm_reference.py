"""Matrix products priced alone, as tables of measurements hold them, and what a learned correction may see of a shape.

`price` is `sim.cost` at the physical level for one device, over the whole menu of tiles instead of one menu a shape: for a
hundred thousand shapes, finding their menus would cost more than pricing every tile. `features` are dimensionless, and depend
on the shape and on the device that was fitted, never on the one that is priced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

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
        columns = (self.batch, self.m, self.n, self.k, self.shared, self.distance)
        return Shapes(*(c[rows] for c in columns), self.itemsize, self.dtype)


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


def price(shapes: Shapes, rates: Rates, terms: Terms) -> Priced:
    """Time of every product on one device, without the gap before the next kernel."""
    on = tiles.chip(rates, terms, rates.tensor[shapes.dtype], rates.vector[shapes.dtype])
    hbm_bytes = shapes.reads * traffic.miss(shapes.distance, rates, terms) + shapes.writes
    hbm = hbm_bytes / (np.asarray(rates.hbm_bandwidth) * terms.hbm_tile)
    chosen = [
        _best(shapes.part(slice(i, i + CHUNK)), hbm[i : i + CHUNK], on, terms) for i in range(0, len(shapes), CHUNK)
    ]
    tile = np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.int64)
    t = _terms(shapes, on, terms, tiles.MENU[tile].T)
    time = np.asarray(tiles.combine(t.tensor, t.l2, t.latency, hbm) + t.fixed)
    peak = np.asarray(rates.sm_count * rates.sm_clock * rates.matmul(shapes.dtype))
    lower = np.maximum(shapes.flops / peak, hbm_bytes / np.asarray(rates.hbm_bandwidth))
    largest = np.argmax(np.stack([t.tensor, t.l2, hbm, t.latency + t.fixed]), axis=0)
    return Priced(time, t.tensor, t.l2, hbm, t.latency, t.fixed, t.waves, tile, largest.astype(np.int64), lower)


def _terms(shapes: Shapes, on: formulas.Chip, terms: Terms, menu: Floats) -> formulas.Terms:
    return formulas.gemm(
        on, tiles.tile_terms(terms), shapes.batch, shapes.m, shapes.n, shapes.k, shapes.itemsize, shapes.flops, *menu
    )


def _best(shapes: Shapes, hbm: Floats, on: formulas.Chip, terms: Terms) -> NDArray[np.int64]:
    """The fastest tile of the menu for each shape."""
    t = _terms(shapes, on, terms, tiles.MENU.T[:, :, None])
    return np.asarray(np.argmin(tiles.combine(t.tensor, t.l2, t.latency, hbm) + t.fixed, axis=0), dtype=np.int64)


def features(shapes: Shapes, priced: Priced, time: Floats, sm_count: float) -> dict[str, Floats]:
    """Dimensionless columns (rows,) that a correction may see. `time`: of the row, launch floor included, seconds.

    Logarithms to base 2 of extents (over 1 element) and of the time (over 1 us), shares of the terms in the time, what tiles of
    common sizes pad and leave idle in the last wave, divisibility, and the tile that the physical model takes.
    """
    m, n, k, batch = shapes.m, shapes.n, shapes.k, shapes.batch
    out = {"log m": np.log2(m), "log n": np.log2(n), "log k": np.log2(k), "log batch": np.log2(batch)}
    out |= {
        "log mn": np.log2(batch * m * n),
        "log nk": np.log2(n * k),
        "log mk": np.log2(m * k),
        "log m/n": np.log2(m / n),
    }
    out["log time"] = np.log2(time * 1e6)
    for name in ("tensor", "l2", "hbm", "latency", "fixed"):
        out[f"share {name}"] = np.log2(getattr(priced, name) / time + SMALL)
    for bm, bn in GRIDS:
        out[f"tail {bm}x{bn}"] = quantised(batch * np.ceil(m / bm) * np.ceil(n / bn) / sm_count)
    for name, extent in (("m", m), ("n", n), ("k", k)):
        out |= {f"pad {name} {edge}": np.ceil(extent / edge) * edge / extent for edge in EDGES}
        out |= {f"{name} % {step}": (extent % step == 0).astype(np.float64) for step in ALIGNMENTS}
    rows, columns, split = tiles.MENU[priced.tile].T
    out |= {"tile rows": np.log2(rows), "tile columns": np.log2(columns), "split": np.log2(split)}
    per_sm = batch * np.ceil(m / rows) * np.ceil(n / columns) * split / sm_count
    return out | {"log waves": np.log2(priced.waves), "tail": quantised(per_sm)}


def quantised(per_sm: Floats) -> Floats:
    """log2 of whole waves over waves: how much of the device the last wave leaves idle."""
    return np.asarray(np.log2(np.minimum(np.ceil(per_sm) / per_sm, 128.0)))
