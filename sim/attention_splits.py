"""How attention libraries cut the keys of a sequence into parts that run side by side, by the rules in their sources.

Both rules take the least number of parts that keeps the device 0.85 as busy as the best number does:
- FlashAttention 2 (csrc/flash_attn/flash_api.cpp, num_splits_heuristic): two blocks an SM; one part where the groups alone fill
  0.8 of them. Where every head has keys of its own, the queries of a group are not packed, and variable lengths run unsplit.
- FlashAttention 3 (hopper/heuristics.h, flash_prepare_scheduler.cu): up to four blocks of keys are never split. Beyond, lengths
  that vary run another kernel, with larger blocks and the sums in fp32, even where it has one part; parts are dealt so that each
  SM has a tenth more blocks than its share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
MOST_PARTS = 128  # of both rules
NEAR_BEST = 0.85  # share of the best occupancy that is enough
FULL = 0.8  # share of the slots from which nothing is split
UNSPLIT_BLOCKS = 4.0  # of keys, which FlashAttention 3 never splits
AHEAD = 1.1  # blocks dealt to an SM over its share (FlashAttention 3)
SECOND_KEYS = ((64.0, 256.0), (128.0, 128.0), (np.inf, 64.0))  # head_dim up to, keys of a block (FlashAttention 2)
# The same, split, on SM 8.x (FlashAttention 3).
THIRD_KEYS = ((64.0, 80.0), (96.0, 48.0), (128.0, 112.0), (np.inf, 64.0))
# Query rows of a block, most of them padding: set_params_splitkv, tile_size_fwd_sm8x.
SECOND_ROWS, THIRD_ROWS = 64.0, 128.0
SECOND_SLOTS, THIRD_SLOTS = 2.0, 1.0  # blocks of threads that an SM holds at once, as the rules assume


@dataclass(frozen=True)
class Cut:
    """Columns (rows,): query rows of a block, parts of a cache, blocks of keys in the longest part, parts of all caches over what
    the device holds at once, and 1 where a kernel of its own adds parts up, even if there is one."""

    rows: Floats
    parts: Floats
    steps: Floats
    filled: Floats
    apart: Floats


@dataclass(frozen=True)
class Work:
    """Columns (rows,): sequences, query heads, heads of keys, queries of a sequence, keys, head_dim; and 1 where the library is
    FlashAttention 3, else it is 2."""

    batch: Floats
    heads: Floats
    kv_heads: Floats
    q_len: Floats
    kv_len: Floats
    head_dim: Floats
    third: Floats

    @property
    def packed(self) -> Floats:
        """Query rows that share keys, of one sequence."""
        return np.asarray(self.q_len * self.heads / self.kv_heads)


def cut(work: Work, sms: float) -> Cut:
    """How the caches of every row are cut on a device of `sms` SMs."""
    second, newer = _second(work, sms), _third(work, sms)
    columns = zip(vars(second).items(), vars(newer).values(), strict=True)
    return Cut(**{name: np.where(work.third == 1, b, a) for (name, a), b in columns})


def features(of: Cut, decodes: bool) -> dict[str, Floats]:
    """What a learned correction may see of a cut, dimensionless columns (rows,): of a prefill, whether and how it is split."""
    whole, split = np.ceil(of.filled), {"log parts": np.log2(of.parts), "split kernel": of.apart}
    if not decodes:
        return split
    return split | {
        "log steps": np.log2(of.steps), "log filled": np.log2(of.filled),
        "tail filled": np.log2(whole / of.filled), "log work": np.log2(whole * of.steps),
    }  # fmt: skip


def _second(work: Work, sms: float) -> Cut:
    blocks, slots = np.ceil(work.kv_len / _keys(SECOND_KEYS, work.head_dim)), SECOND_SLOTS * sms
    groups = work.batch * work.kv_heads * np.ceil(work.packed / SECOND_ROWS)
    unsplit = (groups >= FULL * slots) | (work.heads <= work.kv_heads) | (work.q_len > 1.0)
    parts = np.where(unsplit, 1.0, _fewest(groups, blocks, slots, slots, is_even=True))
    rows, apart = np.full(len(parts), SECOND_ROWS), (parts > 1.0).astype(np.float64)
    return Cut(rows, parts, np.ceil(blocks / parts), groups * parts / slots, apart)


def _third(work: Work, sms: float) -> Cut:
    blocks = np.ceil(work.kv_len / _keys(THIRD_KEYS, work.head_dim))
    one = work.kv_heads * np.ceil(work.packed / THIRD_ROWS)  # of one sequence: what the choice of a kernel looks at
    apart, groups = (blocks > UNSPLIT_BLOCKS) & (one < FULL * sms), work.batch * one
    each = np.ceil(AHEAD * groups * blocks / sms)
    most = _fewest(one, blocks, sms, sms, is_even=False)
    parts = np.where(apart, np.clip(np.ceil(blocks / each), 1.0, most), 1.0)
    rows, filled = np.full(len(parts), THIRD_ROWS), groups * parts / (THIRD_SLOTS * sms)
    return Cut(rows, parts, np.ceil(blocks / parts), filled, apart.astype(np.float64))


def _fewest(groups: Floats, blocks: Floats, slots: float, most: float, is_even: bool) -> Floats:
    """The least number of parts (rows,) that is nearly as good as the best; `is_even`: only numbers that shorten the longest."""
    (groups, blocks), at = np.unique(np.stack([groups, blocks]), axis=1, return_inverse=True)
    parts = np.arange(1.0, MOST_PARTS + 1.0)[:, None]
    allowed = (parts == 1.0) | (parts <= np.minimum(most, blocks))
    if is_even:
        allowed &= (parts == 1.0) | (np.ceil(blocks / parts) != np.ceil(blocks / np.maximum(parts - 1.0, 1.0)))
    waves = groups * parts / slots
    busy = np.where(allowed, waves / np.ceil(waves), 0.0)
    fewest = 1.0 + np.argmax(allowed & (busy >= NEAR_BEST * busy.max(axis=0)), axis=0)
    return np.asarray(fewest[at.ravel()])


def _keys(table: tuple[tuple[float, float], ...], head_dim: Floats) -> Floats:
    """Keys of a block (rows,) by head_dim."""
    edges, keys = np.array(table).T
    return np.asarray(keys[np.searchsorted(edges, head_dim)])
