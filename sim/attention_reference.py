"""Attention priced alone, as tables of measurements hold it, and what a learned correction may see of a shape.

Three forms: one fused kernel (`sim.formulas.flash`); one query against a long cache, whose keys are split over the device and
whose parts are then added (Flash-Decoding, Dao et al. 2023); and products, scale and softmax as kernels of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.rates import Rates
from sim import attention_splits, formulas, gemm_reference, tiles, traffic
from sim.calibration import Terms
from sim.gemm_reference import SMALL, quantised
from workloads import attention_blocks

Floats: TypeAlias = NDArray[np.float64]
SPLITS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)  # parts of the cache that are worked on side by side
QUERY_BLOCKS = (128.0, 64.0, 16.0)  # query rows of a block: FlashAttention's, and the least that a tensor core takes
DECODE_BLOCKS = (64.0, 16.0)
KEYS = 64.0  # of a block of a serving library, and of a decoding step
HEAD_STEP = 32.0  # fused kernels are compiled for head_dim in steps of 32
SOFTMAX_FLOPS = 5.0  # per score; see workloads.ops.attention
PASSES = {"scale": 2.0, "softmax": 2.0}  # times that an unfused kernel goes through the scores


@dataclass(frozen=True)
class Shapes:
    """Columns (rows,). `cached`: bytes of keys and values that the layer writes to its cache beside the kernel.

    `writes_stay`: what is written over and over to the same buffer leaves L2 only where its traffic exceeds it. `third`: 1 where
    the library is FlashAttention 3, 0 for 2 (`sim.attention_splits`); None: a decoding step is cut as is fastest.
    `serves`: layers of a serving library, not encoders.
    """

    batch: Floats
    q_len: Floats
    kv_len: Floats
    heads: Floats
    kv_heads: Floats
    head_dim: Floats
    causal: Floats
    cached: Floats
    itemsize: float
    dtype: str
    writes_stay: bool = False
    third: Floats | None = None
    decodes: bool = False
    serves: bool = False

    def __len__(self) -> int:
        return len(self.batch)

    def cut(self, sms: float) -> attention_splits.Cut | None:
        """How the library cuts the keys on so many SMs; None where none is named."""
        if self.third is None:
            return None
        columns = (self.batch, self.heads, self.kv_heads, self.q_len, self.kv_len, self.head_dim, self.third)
        return attention_splits.cut(attention_splits.Work(*columns), sms)

    @property
    def scores(self) -> Floats:
        """Scores that are computed: half of the square, and the diagonal, under a causal mask."""
        square = self.batch * self.heads * self.q_len * self.kv_len
        share = np.where((self.causal == 1) & (self.q_len == self.kv_len), 0.5 * (1.0 + 1.0 / self.q_len), 1.0)
        return np.asarray(square * share)

    @property
    def depth(self) -> Floats:
        """head_dim as kernels pad it."""
        return np.asarray(np.ceil(self.head_dim / HEAD_STEP) * HEAD_STEP)

    @property
    def queries(self) -> Floats:
        """Bytes of the queries, and of the output."""
        return self.itemsize * self.batch * self.heads * self.q_len * self.head_dim

    @property
    def keys(self) -> Floats:
        """Bytes of the keys, and of the values."""
        return self.itemsize * self.batch * self.kv_heads * self.kv_len * self.head_dim


@dataclass(frozen=True)
class Priced:
    """Seconds (rows,) of the kernels and of their terms on one device; `lower` is what no kernel can beat."""

    time: Floats
    tensor: Floats
    l2: Floats
    hbm: Floats
    latency: Floats
    exp: Floats
    waves: Floats
    bound: NDArray[np.int64]  # code into sim.cost.BOUNDS
    lower: Floats


@dataclass(frozen=True)
class _Streams:
    """Seconds that no choice of blocks changes."""

    hbm: Floats
    exp: Floats
    vector: Floats
    lower: Floats


def fused(shapes: Shapes, rates: Rates, terms: Terms) -> Priced:
    """One kernel, and the write of new keys and values to a cache. Heads that share keys may lie in one block of rows.

    Encoders run on FlashAttention-2's own blocks. In a serving library the best of some rows of queries counts, and blocks cross
    L2 whole: terms that are fitted so carry from one chip to another better than those on each library's blocks for an A100 (left
    out, from the spec: 10 and 13 % on A100 and L40S, against 12 and 15 %).
    """
    chip, streams = _chip(shapes, rates, terms), _streams(shapes, rates, terms)
    packed, p = shapes.heads / shapes.kv_heads, tiles.tile_terms(terms)
    plain = shapes.batch * shapes.heads, shapes.q_len
    together = shapes.batch * shapes.kv_heads, shapes.q_len * packed
    blocks = [(rows, KEYS) for rows in QUERY_BLOCKS] if shapes.serves else [_of_library(shapes)]
    whole, choices = shapes.serves, []
    for groups, queries in (plain, together):
        for rows, keys in blocks:
            held = np.ceil(queries / rows) * rows if whole else queries
            read = np.ceil(shapes.kv_len / keys) * keys if whole else shapes.kv_len
            wide = shapes.depth if whole else shapes.head_dim
            choices.append(
                formulas.flash(
                    chip, p, groups, held, read, wide, shapes.causal, rows, keys, shapes.depth, 0.0, shapes.itemsize
                )
            )
    return _best(choices, streams)


def _of_library(shapes: Shapes) -> tuple[Floats, Floats]:
    """Query rows and keys of a block of FlashAttention-2."""
    of = attention_blocks.flash_2(
        *(np.asarray(v, dtype=np.int64) for v in (shapes.q_len, shapes.kv_len, shapes.head_dim))
    )
    return of["rows"].astype(np.float64), of["keys"].astype(np.float64)


def decoded(shapes: Shapes, rates: Rates, terms: Terms) -> Priced:
    """One query a sequence: the heads that share keys are the rows of a block, and the cache is split over the device, by the
    rule of the library where one is named. Blocks cross L2 whole, in steps of 64 keys: corrections learned on those meet unseen
    pairs of batch and length better than on the blocks of the libraries."""
    chip, streams = _chip(shapes, rates, terms), _streams(shapes, rates, terms)
    rows, p = np.ceil(shapes.heads / shapes.kv_heads) * shapes.q_len, tiles.tile_terms(terms)
    choices, own = [], shapes.cut(float(np.max(rates.sm_count)))
    for split in SPLITS if own is None else (own.parts,):
        part = np.ceil(shapes.kv_len / split)
        groups = shapes.batch * shapes.kv_heads * np.ceil(shapes.kv_len / part)
        parts = (split > 1) * 8.0 * shapes.batch * shapes.heads * shapes.q_len * shapes.head_dim * split
        added = (split > 1) * terms.split_reduction / np.asarray(rates.sm_clock)
        added = added + parts / np.asarray(rates.l2_bandwidth * rates.sm_clock)
        keys = np.ceil(part / KEYS) * KEYS
        for block in DECODE_BLOCKS if own is None else (own.rows,):
            held = np.ceil(rows / block) * block
            t = formulas.flash(
                chip, p, groups, held, keys, shapes.depth, 0.0, block, KEYS, shapes.depth, 0.0, shapes.itemsize
            )
            choices.append(t._replace(fixed=t.fixed + added))
    return _best(choices, streams)


def unfused(shapes: Shapes, rates: Rates, terms: Terms) -> Priced:
    """Q K^T, scale, softmax and P V as kernels of their own, the scores through memory."""
    groups, one = shapes.batch * shapes.heads, np.ones(len(shapes))
    scores = shapes.itemsize * groups * shapes.q_len * shapes.kv_len
    far = scores + 2.0 * (shapes.queries + shapes.keys)
    first = gemm_reference.Shapes(
        groups, shapes.q_len, shapes.kv_len, shapes.head_dim, 0.0 * one, far, shapes.itemsize, shapes.dtype
    )
    second = replace(first, n=shapes.head_dim, k=shapes.kv_len)
    a, b = (gemm_reference.price(product, rates, terms) for product in (first, second))
    missed = scores * (1.0 + traffic.miss(scores, rates, terms))  # written, and read back where it does not stay in L2
    shares = {"scale": terms.hbm_stream, "softmax": terms.hbm_reduce}
    bandwidth = np.asarray(rates.hbm_bandwidth * traffic.beside_check_bits(rates, terms))
    wire = sum(missed / (bandwidth * share) for share in shares.values())
    moved = PASSES["scale"] * scores + PASSES["softmax"] * scores
    streamed = moved / (np.asarray(rates.l2_bandwidth * rates.sm_clock) * terms.l2_stream)
    between = 2.0 * terms.fill_drain_stream / np.asarray(rates.sm_clock) + 3.0 * np.asarray(rates.launch_gap)
    time = a.time + b.time + tiles.combine(wire, streamed) + between
    streams = _streams(shapes, rates, terms)
    columns = {n: getattr(a, n) + getattr(b, n) for n in ("tensor", "l2", "latency")}
    hbm = np.asarray(a.hbm + b.hbm + wire)
    bound = np.argmax(
        np.stack([columns["tensor"], columns["l2"] + streamed, hbm, columns["latency"] + between]), axis=0
    )
    return Priced(
        time,
        hbm=hbm,
        exp=streams.exp,
        waves=a.waves + b.waves,
        bound=bound.astype(np.int64),
        lower=streams.lower,
        **columns,
    )


def _chip(shapes: Shapes, rates: Rates, terms: Terms) -> formulas.Chip:
    return tiles.chip(rates, terms, rates.tensor[shapes.dtype], rates.vector[shapes.dtype])


def _streams(shapes: Shapes, rates: Rates, terms: Terms) -> _Streams:
    """Memory, exponentials and vector arithmetic. The buffers of a repeated call are read again after one call's traffic."""
    read, written = shapes.queries + 2.0 * shapes.keys, shapes.queries + shapes.cached
    missing = traffic.miss(read + written, rates, terms)
    moved = read * missing + written * (missing if shapes.writes_stay else 1.0)
    chip = np.asarray(rates.sm_count * rates.sm_clock)
    peak = chip * np.asarray(rates.matmul(shapes.dtype))
    lower = np.maximum(4.0 * shapes.scores * shapes.head_dim / peak, moved / np.asarray(rates.hbm_bandwidth))
    return _Streams(
        moved / (np.asarray(rates.hbm_bandwidth) * terms.hbm_tile),
        shapes.scores / (chip * np.asarray(rates.exp)),
        SOFTMAX_FLOPS * shapes.scores / (chip * np.asarray(rates.vector["fp32"])),
        lower,
    )


def _best(choices: list[formulas.Terms], streams: _Streams) -> Priced:
    """The fastest of several ways to cut a kernel into blocks."""
    stack = [
        np.stack([np.broadcast_to(column, streams.hbm.shape) for column in columns])
        for columns in zip(*choices, strict=True)
    ]
    t = formulas.Terms(*stack)
    times = tiles.combine(t.tensor, t.l2, t.latency, streams.hbm, streams.exp, streams.vector) + t.fixed
    best = np.argmin(times, axis=0)[None, :]
    tensor, l2, latency, fixed, waves = (
        np.take_along_axis(c, best, axis=0)[0] for c in (t.tensor, t.l2, t.latency, t.fixed, t.waves)
    )
    largest = np.argmax(np.stack([np.maximum(tensor, streams.exp), l2, streams.hbm, latency + fixed]), axis=0)
    return Priced(
        times.min(axis=0),
        tensor,
        l2,
        streams.hbm,
        latency + fixed,
        streams.exp,
        waves,
        largest.astype(np.int64),
        streams.lower,
    )


def features(shapes: Shapes, priced: Priced, time: Floats, sm_count: float) -> dict[str, Floats]:
    """Dimensionless columns (rows,) that a correction may see. `time`: of the row, layer and launch floors included, seconds."""
    s = shapes
    ratio = s.heads / s.kv_heads
    counts = {
        "batch": s.batch, "q_len": s.q_len, "kv_len": s.kv_len, "heads": s.heads, "kv_heads": s.kv_heads, "group": ratio,
        "head_dim": s.head_dim, "sequences": s.batch * s.heads, "caches": s.batch * s.kv_heads, "tokens": s.batch * s.q_len,
        "keys": s.batch * s.kv_heads * s.kv_len, "flops": s.scores * s.head_dim, "queries": s.queries,
    }  # fmt: skip
    out = {f"log {name}": np.log2(value) for name, value in counts.items()} | {"log time": np.log2(time * 1e6)}
    for name in ("tensor", "l2", "hbm", "latency", "exp"):
        out[f"share {name}"] = np.log2(getattr(priced, name) / time + SMALL)
    for block in (64.0, 128.0):
        blocks = np.ceil(s.q_len / block)
        out[f"tail {block:.0f}"] = quantised(s.batch * s.heads * blocks / sm_count)
        out[f"pad q {block:.0f}"] = np.log2(blocks * block / s.q_len)
    out["pad kv 128"] = np.log2(np.ceil(s.kv_len / 128.0) * 128.0 / s.kv_len)
    out["pad head_dim 32"] = np.ceil(s.head_dim / 32.0) * 32.0 / s.head_dim
    for part in (128.0, 256.0, 1024.0):
        out[f"tail kv {part:.0f}"] = quantised(s.batch * s.kv_heads * np.ceil(s.kv_len / part) / sm_count)
    cut = s.cut(sm_count)
    out |= attention_splits.features(cut, s.decodes) if cut else {}
    return out | {
        "log waves": np.log2(np.maximum(priced.waves, 1.0)),
        "tail caches": quantised(s.batch * s.kv_heads / sm_count),
    }
