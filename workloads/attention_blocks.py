"""Blocks of the fused attention kernels: the queries and keys that one step works on, and the head_dim that it pads to.

Each library compiles its kernels for fixed blocks and picks by head_dim, in part by device; those for an A100 (sm80) are taken on
every device, and for FlashAttention-3 those of an H100 (sm90): what a library would choose for a chip that nobody has built is
not known. All of a block is computed, whatever the sequence fills of it.
"""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from workloads.kind import Ints


class Blocks(TypedDict):
    """Columns (ops,): queries and keys of a block, and the padded head_dim; fields of `workloads.kind.Flash`."""

    rows: Ints
    keys: Ints
    depth: Ints


# head_dim up to -> (queries, keys, padded head_dim), without dropout. FlashAttention-2, csrc/flash_attn/src/
# flash_fwd_launch_template.h, run_mha_fwd_hdim32 to 256 (in PyTorch: aten/src/ATen/native/transformers/cuda/flash_attn/): the
# branch of sm80. Its later versions drop 160 and 224; its branches for sm86 and sm89 take 64 x 64 or 128 x 32 at 128.
FLASH_2 = {
    32: (128, 128, 32), 64: (128, 128, 64), 96: (128, 64, 96), 128: (128, 64, 128), 160: (128, 32, 160), 192: (128, 64, 192),
    224: (128, 64, 224), 256: (128, 64, 256),
}  # fmt: skip
# The same file, run_mha_fwd_splitkv_dispatch: "Fixed for all head dimensions" are the rows.
FLASH_2_SPLIT = {
    32: (64, 256, 32), 64: (64, 256, 64), 96: (64, 128, 96), 128: (64, 128, 128), 160: (64, 64, 160), 192: (64, 64, 192),
    224: (64, 64, 224), 256: (64, 64, 256),
}  # fmt: skip
# FlashAttention-3, hopper/flash_fwd_launch_template.h of 2024 (64, 128, 256; those that its paper measures) and later
# hopper/tile_size.h, tile_size_fwd_sm90 (96, 192; at 64 it now takes 192 keys); with a causal mask the keys of the second table.
FLASH_3 = {64: (192, 128, 64), 96: (192, 144, 96), 128: (128, 176, 128), 192: (128, 112, 192), 256: (128, 80, 256)}
FLASH_3_CAUSAL = FLASH_3 | {128: (128, 128, 128)}
# The first FlashAttention, fmha_fwd_hdim32.cu, 64 and 128 (PyTorch 2.0, same folder): a block of threads holds 128 or 256 keys
# and goes over the queries 16 at a time, so that only those are padded; up to 128 of them are taken to be one block here.
FLASH_1 = {32: (128, 256, 32), 64: (128, 256, 64), 128: (128, 128, 128)}
STEP_1, SHORT_1 = 16, 128  # queries at a time; keys up to which the block has no more
# xFormers' kernels (mem_eff_attention/kernels/generate_kernels.py, FwdKernel.get_all, sm80): the product with the values pads
# head_dim to a block of keys, that with the keys to 32, so that the mean counts; see `memory_efficient`.
MEMORY_EFFICIENT = {64: (64, 64), 128: (64, 128)}
WIDE = (32, 128)  # beyond
HEAD_STEP = 32


def flash_2(q_len: Ints, kv_len: Ints, head_dim: Ints) -> Blocks:
    """FlashAttention-2, of head_dim (ops,) up to 256. One query that reads a cache runs on the kernel that splits keys, in one
    part where that is enough (csrc/flash_attn/flash_api.cpp, force_split_kernel)."""
    plain, split = _of(FLASH_2, head_dim), flash_2_split(head_dim)
    decodes = (q_len == 1) & (kv_len > 1)
    rows, keys = (np.where(decodes, b, a) for a, b in ((plain["rows"], split["rows"]), (plain["keys"], split["keys"])))
    return Blocks(rows=rows, keys=keys, depth=plain["depth"])


def flash_2_split(head_dim: Ints) -> Blocks:
    """FlashAttention-2's kernel that splits the keys."""
    return _of(FLASH_2_SPLIT, head_dim)


def flash_3(head_dim: Ints, causal: Ints) -> Blocks:
    """FlashAttention-3; one number of queries to a block, split or not."""
    plain, masked = _of(FLASH_3, head_dim), _of(FLASH_3_CAUSAL, head_dim)
    return Blocks(rows=plain["rows"], keys=np.where(causal == 1, masked["keys"], plain["keys"]), depth=plain["depth"])


def flash_1(q_len: Ints, kv_len: Ints, head_dim: Ints) -> Blocks:
    """The first FlashAttention, of head_dim up to 128."""
    of = _of(FLASH_1, head_dim)
    rows = np.minimum(of["rows"], _whole(q_len, STEP_1))
    keys = np.where(kv_len <= SHORT_1, SHORT_1, of["keys"])
    return Blocks(rows=rows, keys=keys, depth=of["depth"])


def memory_efficient(head_dim: Ints) -> Blocks:
    """xFormers' kernels, of any head_dim."""
    sizes = np.array([*MEMORY_EFFICIENT.values(), WIDE])
    rows, keys = sizes[np.searchsorted(list(MEMORY_EFFICIENT), head_dim)].T
    return Blocks(rows=rows, keys=keys, depth=(_whole(head_dim, HEAD_STEP) + _whole(head_dim, keys)) // 2)


def _of(table: dict[int, tuple[int, int, int]], head_dim: Ints) -> Blocks:
    """Beyond its last head_dim, for which the library has no kernel, a table's last blocks, with head_dim padded by 32."""
    at = np.searchsorted(list(table), np.minimum(head_dim, max(table)))
    rows, keys, depth = np.array(list(table.values()))[at].T
    return Blocks(rows=rows, keys=keys, depth=np.maximum(depth, _whole(head_dim, HEAD_STEP)))


def _whole(length: Ints, step: Any) -> NDArray[np.int64]:
    return np.asarray(-(-length // step) * step)
