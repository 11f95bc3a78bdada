"""How attention libraries cut the cache of a decoding step into parts that run side by side, by the rules in their sources.

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
NEAR_BEST, FULL = (
    0.85,
    0.8,
)  # share of the best occupancy that is enough; share of the slots from which nothing is split
UNSPLIT_BLOCKS = 4.0  # of keys, which FlashAttention 3 never splits
AHEAD = 1.1  # blocks dealt to an SM over its share (FlashAttention 3)
SECOND_KEYS = ((64.0, 256.0), (128.0, 128.0), (np.inf, 64.0))  # head_dim up to, keys of a block (FlashAttention 2)
THIRD_KEYS = (
    (64.0, 80.0),
    (96.0, 48.0),
    (128.0, 112.0),
    (np.inf, 64.0),
)  # the same, split, on SM 8.x (FlashAttention 3)
SECOND_ROWS, THIRD_ROWS = (
    64.0,
    128.0,
)  # query rows of a block, most of them padding: set_params_splitkv, tile_size_fwd_sm8x
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


def cut(
    groups: Floats, kv_heads: Floats, ratio: Floats, kv_len: Floats, head_dim: Floats, third: Floats, sms: float
) -> Cut:
    """How `groups` caches (batch x kv_heads, (rows,)) are cut on a device of `sms` SMs. `ratio`: query heads that share one;
    `third`: 1 where the library is FlashAttention 3, else it is 2."""
    second, newer = _second(groups, ratio, kv_len, head_dim, sms), _third(groups, kv_heads, kv_len, head_dim, sms)
    columns = zip(vars(second).items(), vars(newer).values(), strict=True)
    return Cut(**{name: np.where(third == 1, b, a) for (name, a), b in columns})


def features(of: Cut) -> dict[str, Floats]:
    """What a learned correction may see of a cut, dimensionless columns (rows,)."""
    whole = np.ceil(of.filled)
    return {
        "log parts": np.log2(of.parts), "log steps": np.log2(of.steps), "log filled": np.log2(of.filled),
        "tail filled": np.log2(whole / of.filled), "log work": np.log2(whole * of.steps), "split kernel": of.apart,
    }  # fmt: skip


def _second(groups: Floats, ratio: Floats, kv_len: Floats, head_dim: Floats, sms: float) -> Cut:
    blocks, slots = np.ceil(kv_len / _keys(SECOND_KEYS, head_dim)), SECOND_SLOTS * sms
    found = _fewest(groups, blocks, slots, slots, is_even=True)
    parts = np.where((groups >= FULL * slots) | (ratio <= 1.0), 1.0, found)
    rows = np.full(len(parts), SECOND_ROWS)
    return Cut(rows, parts, np.ceil(blocks / parts), groups * parts / slots, (parts > 1.0).astype(np.float64))


def _third(groups: Floats, kv_heads: Floats, kv_len: Floats, head_dim: Floats, sms: float) -> Cut:
    blocks = np.ceil(kv_len / _keys(THIRD_KEYS, head_dim))
    apart = (blocks > UNSPLIT_BLOCKS) & (kv_heads < FULL * sms)  # decided as if the batch were one sequence
    most = _fewest(kv_heads, blocks, sms, sms, is_even=False)
    each = np.ceil(AHEAD * groups * blocks / sms)
    parts = np.where(apart, np.clip(np.ceil(blocks / each), 1.0, most), 1.0)
    rows = np.full(len(parts), THIRD_ROWS)
    return Cut(rows, parts, np.ceil(blocks / parts), groups * parts / (THIRD_SLOTS * sms), apart.astype(np.float64))


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
