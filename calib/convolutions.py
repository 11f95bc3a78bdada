"""Time of a convolution on the fp32 lanes by the algorithms that cuDNN picks from: implicit GEMM, Winograd, FFT.

Winograd (Lavin and Gray 2015): F(4x4, 3x3) in kernels of its own (transform of the input and of the filters to 36 planes, as
many products, transform back) multiplies four times less; F(2x2, 3x3) in one fused kernel, 2.25 times. FFT (Mathieu et al. 2013):
tiles of 16 or 32, a complex product for each frequency. Each is priced over a few tiles, in whole waves; the fastest counts.

The kernels of F(4x4, 3x3) take images by 16: public times of an A100, a V100 and a T4 alike jump from 16 images to 17, from 32 to
33 and from 48 to 49, and are flat between. No time shows k split among blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from calib.families.base import Floats, floats
from calib.shapes import AXES, EXTENTS
from hwspecs.rates import Rates

if TYPE_CHECKING:
    import pandas as pd

ALGORITHMS = ("implicit_gemm", "winograd", "fft")
K_STEP = 8.0  # input channels of one step of the main loop (cuDNN's fp32 kernels unroll by 8)
ITEM = 4.0  # B
# Time over that at peak of a tile's main loop (M x N of a block), and of a transform over its bytes at the bandwidth of streams:
# ratios. `python -m calib.conv_lanes TABLES`: robust least squares on public fp32 times of an A100 of 300 us and more, without
# the channel pairs that docs/accuracy.md scores. Standard errors: loops up to 0.04 (FFT 0.09), transforms 0.1 to 0.2, stream 0.3.
# Small tiles reload operands; transforms move short runs.
COST: Mapping[str, float] = {
    "fused": 1.52, "planes": 1.34, "implicit 256x64": 1.47, "implicit 128x32": 2.03, "fft 64x64": 1.22, "fft 32x32": 2.10,
    "input": 1.54, "filter": 2.01, "output": 1.64, "stream": 1.38,
}  # fmt: skip
FUSED = (8.0, 16.0, 32.0)  # rows and columns of output, and output channels, of a block of fused Winograd
PLANES = (128.0, 128.0)  # tiles and output channels of a block of the products of F(4x4, 3x3)
IMAGES = 16.0  # taken together by the kernels of F(4x4, 3x3)


@dataclass(frozen=True)
class Shape:
    """Columns (rows,): images, input and output channels of a group, groups, extents, what a kernel covers."""

    n: Floats
    c: Floats
    k: Floats
    groups: Floats
    into: Floats  # product of the input's extents
    out: tuple[Floats, Floats, Floats]  # depth, height, width of the positions at which the taps apply
    written: Floats  # product of the output's extents
    taps: Floats
    winograd: Floats  # 1 where the kernel is 3x3, of stride and dilation 1, in two dimensions
    plain: Floats  # 1 where stride and dilation are 1

    @property
    def positions(self) -> Floats:
        """Positions of an image at which the taps apply."""
        return np.asarray(self.out[0] * self.out[1] * self.out[2])

    @property
    def flops(self) -> Floats:
        """Multiply and add counted as 2."""
        return 2.0 * self.n * self.groups * self.c * self.k * self.positions * self.taps

    @property
    def x(self) -> Floats:
        """Elements of the input that are read; a strided 1x1 skips some."""
        return np.asarray(self.n * self.groups * self.c * np.minimum(self.into, self.positions * self.taps))

    @property
    def w(self) -> Floats:
        """Elements of the filters."""
        return self.groups * self.c * self.k * self.taps

    @property
    def y(self) -> Floats:
        """Elements of the output."""
        return self.n * self.groups * self.k * self.written


def shape(frame: pd.DataFrame) -> Shape:
    """The rows of a frame. A transposed convolution applies its taps at every position of the input, not of the output."""

    def column(name: str, default: float = 1.0) -> Floats:
        values = frame[name].to_numpy(dtype=np.float64) if name in frame else np.full(len(frame), default)
        return np.asarray(np.where(np.isfinite(values), values, default))

    transposed = frame["op"].astype(str).str.contains("transpose").to_numpy()
    n, c, k = floats(frame, "batch", "in_channels", "out_channels")
    groups, into = column("groups"), [column(e) for e in EXTENTS]
    taps = [column(f"kernel_{a}") for a in AXES]
    stated = [column(f"out_{e}", np.nan) for e in EXTENTS]
    strides, dilations = ([column(f"{w}_{a}") for a in AXES] for w in ("stride", "dilation"))
    own = [
        _written(
            transposed,
            into[i],
            strides[i],
            (dilations[i] * (taps[i] - 1.0) + 1.0) - 2.0 * column(f"padding_{axis}", 0.0),
        )
        for i, axis in enumerate(AXES)
    ]
    written = [np.maximum(np.where(np.isfinite(s), s, o), 1.0) for s, o in zip(stated, own, strict=True)]
    out = [np.where(transposed, i, w) for i, w in zip(into, written, strict=True)]
    plain = np.prod([extent == 1 for extent in (*strides, *dilations)], axis=0)
    square = plain * (taps[0] == 1) * (taps[1] == 3) * (taps[2] == 3) * (groups == 1) * ~transposed
    return Shape(
        n, c / groups, k / groups, groups, np.prod(into, axis=0), (out[0], out[1], out[2]), np.prod(written, axis=0),
        np.prod(taps, axis=0), square.astype(np.float64), plain.astype(np.float64),
    )  # fmt: skip


def _written(transposed: Any, into: Floats, stride: Floats, reach: Floats) -> Floats:
    """Output extent of an axis; `reach` of the dilated kernel less the padding of both sides."""
    return np.asarray(np.where(transposed, (into - 1.0) * stride + reach, np.floor((into - reach) / stride) + 1.0))


@dataclass(frozen=True)
class _Chip:
    sms: float
    rate: float  # FLOP/s of one SM
    bandwidth: float  # B/s that streaming kernels reach


def seconds(s: Shape, rates: Rates, stream: float, cost: Mapping[str, float] = COST) -> dict[str, Floats]:
    """Least time of each algorithm over its tiles, (rows,); infinite where the algorithm cannot run the shape."""
    rate = float(np.max(rates.vector["fp32"])) * float(np.max(rates.sm_clock))
    chip = _Chip(float(np.max(rates.sm_count)), rate, float(np.max(rates.hbm_bandwidth)) * stream)
    found = {"implicit_gemm": _implicit, "winograd": _winograd, "fft": _fft}
    return {name: np.minimum.reduce(list(tiles(s, chip, cost))) for name, tiles in found.items()}


def _loop(chip: _Chip, blocks: Floats, tile: float, depth: Floats, cost: float) -> Floats:
    """Whole waves of blocks, each `tile` FLOPs for one step of depth."""
    waves = np.maximum(np.ceil(blocks / chip.sms), 1.0)
    return np.asarray(cost * waves * tile * np.ceil(depth / K_STEP) * K_STEP / chip.rate)


def _over(*times: Any) -> Floats:
    """Overlapping times: the fourth root of the sum of their fourth powers."""
    return np.asarray(sum(np.asarray(t) ** 4 for t in times) ** 0.25)


def _implicit(s: Shape, chip: _Chip, cost: Mapping[str, float]) -> Iterator[Floats]:
    moved = cost["stream"] * ITEM * (s.x + s.w + s.y) / chip.bandwidth
    for m, n in ((256.0, 64.0), (128.0, 32.0)):
        blocks = s.groups * np.ceil(s.n * s.positions / m) * np.ceil(s.k / n)
        yield _over(_loop(chip, blocks, 2.0 * m * n, s.c * s.taps, cost[f"implicit {m:.0f}x{n:.0f}"]), moved)


def _winograd(s: Shape, chip: _Chip, cost: Mapping[str, float]) -> Iterator[Floats]:
    never = np.where(s.winograd > 0, 0.0, np.inf)
    moved = cost["stream"] * ITEM * (s.x + s.w + s.y) / chip.bandwidth
    _, h, w = s.out
    rows, columns, channels = FUSED
    blocks = s.n * np.ceil(h / rows) * np.ceil(w / columns) * np.ceil(s.k / channels)
    tiles = rows * columns / 4.0  # of 2x2 outputs, 16 products each
    depth = s.c + K_STEP  # a step to fill the loop
    yield never + _over(_loop(chip, blocks, 2.0 * 16.0 * tiles * channels, depth, cost["fused"]), moved)
    tiles4 = np.ceil(s.n / IMAGES) * IMAGES * np.ceil(h / 4.0) * np.ceil(w / 4.0)
    yield never + _planes(s, chip, cost, 36.0, tiles4, (*PLANES, cost["planes"]), ITEM, 2.0)


def _fft(s: Shape, chip: _Chip, cost: Mapping[str, float]) -> Iterator[Floats]:
    never = np.where((s.plain > 0) & (s.groups == 1), 0.0, np.inf)
    _, h, w = s.out
    for size in (16.0, 32.0):
        tiles = s.n * np.ceil(h / (size - 2.0)) * np.ceil(w / (size - 2.0))
        planes = size * (size / 2.0 + 1.0)  # frequencies of a real tile
        for m in (64.0, 32.0):
            yield never + _planes(s, chip, cost, planes, tiles, (m, m, cost[f"fft {m:.0f}x{m:.0f}"]), 2.0 * ITEM, 8.0)


def _planes(
    s: Shape, chip: _Chip, cost: Mapping[str, float], planes: float, tiles: Floats, tile: tuple[float, float, float],
    item: float, flops: float,
) -> Floats:  # fmt: skip
    """Transforms to `planes` and back through memory, and between them a product of tiles x k x c on each plane."""
    into, filters, out = item * planes * tiles * s.c, item * planes * s.c * s.k, item * planes * tiles * s.k
    around = (
        cost["input"] * (ITEM * s.x + into)
        + cost["filter"] * (ITEM * s.w + filters)
        + cost["output"] * (out + ITEM * s.y)
    )
    m, n, loop = tile
    blocks = planes * np.ceil(tiles / m) * np.ceil(s.k / n)
    products = _over(
        _loop(chip, blocks, flops * m * n, s.c, loop), cost["stream"] * (into + filters + out) / chip.bandwidth
    )
    return np.asarray(products + around / chip.bandwidth)
