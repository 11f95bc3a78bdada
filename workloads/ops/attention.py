"""Scaled dot-product attention as one logical call: softmax(Q K^T / sqrt(d)) V.

Ways: `unfused` (QK^T, softmax, PV and what a library does between them as kernels of their own, the score matrix through memory);
`flash-2`, one kernel
that keeps scores on chip (Dao, FlashAttention-2, 2023), for 16-bit types and head_dim up to 256; `flash-1`, its slower
predecessor; `flash-3`, the same written for the device's own matrix instructions (Shah et al. 2024; cuDNN, TensorRT-LLM), where
the others use those of the generation before; and `memory-efficient`, the fused kernel that torch falls back to where those have
none (Rabe and Staats 2021; xFormers), priced by the same terms: an explicit mask is such a case. Its bytes are read once, with v.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from hwspecs.software import Software
from workloads import attention_blocks
from workloads.aten import AtenCall, size
from workloads.attention_blocks import Blocks
from workloads.baselines import columns
from workloads.kind import DISPATCH, Column, Dims, Flash, Gemm, Ints, OpKind, Read, Rows, Way, Work
from workloads.ops.elementwise import INDEX_OPS
from workloads.ops.softmax import on_rows

DIMS = ("batch", "heads", "kv_heads", "q_len", "kv_len", "head_dim", "causal", "role", "interleaved", "mask")
ROLES = ("self", "cross", "temporal")
# role: index into ROLES; interleaved: 1 where q, k, v are views of [batch, length, heads, head_dim] tensors, which an
# unfused product has to copy into [batch, heads, length, head_dim] first; mask: bytes of an explicit mask or bias that is
# added to the scores (a broadcast axis counted once), 0 where there is none.

SOFTMAX_FLOPS = (
    5  # per score: subtract, multiply by log2(e), running maximum, sum, rescale share (FlashAttention-2, algorithm 1)
)

WIDE, SMALL = 4, 4  # B of an fp32 value; a mask that is smaller than the scores by more than this broadcasts over them

# FlashAttention-2's kernel that splits keys: queries and keys of a block (`workloads.attention_blocks`; 64 to 256 keys by
# head_dim). How many parts: a fixed menu, of which the fastest counts.
QUERIES_SPLIT, KEYS_SPLIT, PARTS = 64, 128, (2, 4, 8, 16, 32)

# Vector FLOPs beside the products of the first FlashAttention, per element of the output and block of keys, for a padded head_dim
# up to 64 and above: the least mean error on 61 public fp16 times of flash-attention 1 on an A100 (fxmarty,
# efficient-attention-benchmark, 2023-03; head_dim 32, 64, 128; all of 100 us and more), 0.09 and 0.13. With a constant per score
# it was 0.15 and 0.15, and the shortest sequences took 0.37 of their time.
V1_FLOPS, V1_FLOPS_WIDE = 300.0, 240.0


def flops(d: Dims) -> Column:
    """The two products: 4 batch heads q_len kv_len head_dim; a causal mask is counted as the full rectangle."""
    return 4 * d.batch * d.heads * d.q_len * d.kv_len * d.head_dim


def _sizes(d: Dims, itemsize: Ints) -> tuple[Ints, Ints, Ints]:
    """Bytes of q (and of the output), of k (and of v), and number of scores."""
    q = itemsize * d.batch * d.heads * d.q_len * d.head_dim
    kv = itemsize * d.batch * d.kv_heads * d.kv_len * d.head_dim
    return q, kv, d.batch * d.heads * d.q_len * d.kv_len


def flash(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """FlashAttention-2."""
    return _fused(d, itemsize, attention_blocks.flash_2(d.q_len, d.kv_len, d.head_dim))


def memory_efficient(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """xFormers' kernel: the same in smaller blocks."""
    return _fused(d, itemsize, attention_blocks.memory_efficient(d.head_dim))


def _fused(d: Dims, itemsize: Ints, blocks: Blocks) -> tuple[Work, ...]:
    """One kernel. A causal mask skips the key blocks above the diagonal."""
    q, kv, scores = _sizes(d, itemsize)
    square = np.minimum(d.q_len, d.kv_len)  # a causal mask is aligned to the first key (torch's is_causal)
    below = square * (square + 1) // 2 + (d.q_len - square) * d.kv_len
    done = np.where(d.causal == 1, d.batch * d.heads * below, scores)
    return (
        Work(
            name="flash attention",
            pattern="tile",
            flash=Flash(d.batch * d.heads, d.q_len, d.kv_len, d.head_dim, d.causal, **blocks, older=1),
            flops=4 * done * d.head_dim,
            vector_flops=SOFTMAX_FLOPS * done,
            exp_ops=done,
            reads=(Read("input0", q), Read("input1", kv), Read("input2", kv + d.mask)),
            write_bytes=q,
        ),
    )


def flash_3(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """The same kernel on the device's own matrix instructions. FlashAttention-3 overlaps softmax and products only in part: the
    terms of one after the other meet its 497 and 648 TFLOP/s on an H100 (head_dim 64 and 128, Shah et al. 2024, figure 5)."""
    (kernel,) = _fused(d, itemsize, attention_blocks.flash_3(d.head_dim, d.causal))
    assert kernel.flash is not None
    return (replace(kernel, name="flash attention 3", flash=replace(kernel.flash, older=0)),)


def in_parts(
    parts: int, whole: Callable[[Dims, Ints, Software], tuple[Work, ...]], blocks: Callable[[Dims], Blocks]
) -> Rows:
    """The same for a few queries: `parts` of the keys worked on side by side, and a kernel that adds them up in fp32.

    FlashAttention-2 since 2.2 (2023-09; its README), in flash_attn_func and in torch by a heuristic (flash-attention issue 1002);
    for a single query, heads that share keys are rows of one block (flash_api.cpp, seqlenq_ngroups_swapped).
    """

    def rows(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
        (kernel,) = whole(d, itemsize, software)
        assert kernel.flash is not None
        shared = np.where(d.q_len == 1, d.heads // d.kv_heads, 1)
        outputs = d.batch * d.heads * d.q_len
        held = parts * WIDE * outputs * (d.head_dim + 1)  # sums, and the logarithm of each row's
        flash = Flash(
            d.batch * d.heads // shared * parts,
            d.q_len * shared,
            -(-d.kv_len // parts),
            d.head_dim,
            0,
            **blocks(d),
            older=kernel.flash.older,
        )
        added = Work(
            "add parts", "stream", (Read("previous", held),), itemsize * outputs * d.head_dim,
            vector_flops=2 * parts * outputs * d.head_dim, exp_ops=parts * outputs,
        )  # fmt: skip
        return replace(kernel, flash=flash, write_bytes=held, final=False), added

    return rows


def has_parts(parts: int) -> Callable[[Dims, Ints], Any]:
    """Which ops (ops,) may be cut into so many parts of keys: a block of keys to each, and one block of queries a head."""

    def possible(d: Dims, itemsize: Ints) -> Any:
        few = (d.q_len <= QUERIES_SPLIT) & (d.kv_len >= parts * KEYS_SPLIT) & (d.causal == 0)
        return has_flash(d, itemsize) & few

    return possible


def has_flash(d: Dims, itemsize: Ints) -> Any:
    """Which ops (ops,) FlashAttention-2 has a kernel for: 2-byte types, head_dim at most 256, no explicit mask (its README)."""
    return (itemsize == 2) & (d.head_dim <= 256) & (d.mask == 0)


def _fused_allowed(software: Software) -> bool:
    return software.attention in ("flash-1", "flash-2", "flash-3", "auto")


def _is_flash_2(software: Software) -> bool:
    return software.attention in ("flash-2", "auto")


def _is_flash_3(software: Software) -> bool:
    return software.attention == "flash-3"


def has_flash_1(d: Dims, itemsize: Ints) -> Any:
    """Which ops (ops,) the first FlashAttention has a kernel for: as the second, with head_dim at most 128 (its README, v0.2)."""
    return has_flash(d, itemsize) & (d.head_dim <= 128)


def flash_1(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """The first FlashAttention (Dao et al. 2022; in torch 2.0 and 2.1, and in xFormers of that time): the same products, and more
    arithmetic beside them, since it rescales the output at every block of keys and adds it up across warps (FlashAttention-2,
    Dao 2023, sections 3.1 and 3.3)."""
    blocks = attention_blocks.flash_1(d.q_len, d.kv_len, d.head_dim)
    (kernel,) = _fused(d, itemsize, blocks)
    outputs = d.batch * d.heads * -(-d.q_len // attention_blocks.STEP_1) * attention_blocks.STEP_1 * blocks["depth"]
    times = -(-d.kv_len // blocks["keys"]) * kernel.exp_ops / (d.batch * d.heads * d.q_len * d.kv_len)
    vector = kernel.vector_flops + np.where(blocks["depth"] <= 64, V1_FLOPS, V1_FLOPS_WIDE) * outputs * times
    return (replace(kernel, name="flash attention 1", vector_flops=vector),)


def unfused(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """The two products, the softmax, and in eager torch a kernel for each operator beside them, which differ by library: see
    `workloads.baselines`. A compiler makes one kernel of scale, mask, casts and softmax.

    Heads that are interleaved are copied apart, but for a batch of one, whose heads are views that a batched product takes, and
    for keys that are held apart already; the output's are always joined by a copy.
    """
    q, kv, scores = _sizes(d, itemsize)
    eager = int(software.fusion == "eager")
    groups, product = d.batch * d.heads, 2 * scores * d.head_dim
    wide = _said(d, "fp32_product")  # 1: queries and keys are cast to fp32, and so are the scores
    s, own = np.where(wide == 1, WIDE, itemsize) * scores, itemsize * scores
    q_read, k_read = (np.where(wide == 1, WIDE * size // itemsize, size) for size in (q, _keys(d, kv)))
    return (
        *_operands(d, itemsize, eager),
        Work(
            "q k^t", "tile", (Read("input0", q_read), Read("input1", k_read)), s,
            gemm=Gemm(groups, d.q_len, d.kv_len, d.head_dim), flops=product, final=False, fp32=wide,
        ),
        *_softmax(d, itemsize, s, software),
        Work(
            "p v", "tile", (Read("previous", own), Read("input2", _keys(d, kv))), q,
            gemm=Gemm(groups, d.q_len, d.head_dim, d.kv_len), flops=product,
        ),
        _copy("output heads", "previous", np.where((d.interleaved == 1) & (d.q_len > 1), q, 0), itemsize, d, eager),
    )  # fmt: skip


def _operands(d: Dims, itemsize: Ints, eager: int) -> tuple[Work, ...]:
    """What is done to queries, keys and values before the products: heads apart or repeated, scale, cast to fp32."""
    q, kv, _ = _sizes(d, itemsize)
    apart = (d.interleaved == 1) & (d.batch > 1)
    repeated = (_said(d, "repeats_keys") == 1) & (d.heads > d.kv_heads)
    split = np.where((apart & (_said(d, "held") == 0)) | repeated, kv, 0)
    scaled = (eager * _said(d, f"scale_{name}") * size for name, size in (("queries", q), ("keys", kv)))
    cast = _said(d, "fp32_product") * (itemsize < WIDE)
    return (
        _copy("q heads", "input0", np.where(apart & (d.q_len > 1), q, 0), itemsize, d, eager),
        _copy("k heads", "input1", split, itemsize, d, eager, np.where(split > 0, _keys(d, kv), 0)),
        _copy("v heads", "input2", split, itemsize, d, eager, np.where(split > 0, _keys(d, kv), 0)),
        *(
            Work(f"scale {n}", "stream", (Read(f"input{i}", x),), x, vector_flops=x // itemsize, final=False)  # type: ignore[arg-type]
            for i, (n, x) in enumerate(zip("qk", scaled, strict=True))
        ),
        *(
            Work(f"{n} to fp32", "stream", (Read(f"input{i}", cast * x),), cast * WIDE * x // itemsize, final=False)  # type: ignore[arg-type]
            for i, (n, x) in enumerate((("q", q), ("k", _keys(d, kv))))
        ),
    )  # fmt: skip


def _softmax(d: Dims, itemsize: Ints, s: Ints, software: Software) -> tuple[Work, ...]:
    """From scores of `s` bytes to probabilities in the dtype of the values: scale, mask, casts and softmax."""
    eager = int(software.fusion == "eager")
    scores = d.batch * d.heads * d.q_len * d.kv_len
    scaled = eager * (1 - _said(d, "unscaled")) * s
    zeros = (_said(d, "held") == 1) & (_said(d, "mask_at_decode") == 1)  # a mask that masks nothing, added all the same
    causal = ((d.causal == 1) & (d.q_len > 1)) | zeros
    mask = np.maximum(d.mask, np.where(causal, itemsize * d.q_len * d.kv_len, 0))
    masked = eager * np.where(mask > 0, s, 0)
    upcast = eager * _said(d, "upcast") * (s // scores < WIDE)
    one_kernel = (upcast == 1) & (_said(d, "fp16") == 1)  # softmax(dtype=float32) of fp16
    made = np.where(upcast > 0, WIDE * scores, s)
    before = np.where((upcast > 0) & ~one_kernel, s, 0)
    back = np.where(eager * made > itemsize * scores, made, 0)
    return (
        Work("scale", "stream", (Read("previous", scaled),), scaled, vector_flops=scaled // itemsize, final=False),
        Work(
            "mask", "stream", (Read("previous", masked), Read("input2", eager * mask)), masked, vector_flops=masked // itemsize,
            index_ops=np.where(SMALL * mask < s, INDEX_OPS, 0) * (masked // itemsize), final=False,
        ),
        Work("scores to fp32", "stream", (Read("previous", before),), np.where(before > 0, made, 0), final=False),
        on_rows(
            Work(
                "softmax", "reduce",
                (Read("previous", np.where(before > 0, made, s)), Read("input2", (1 - eager) * mask)),
                np.where(eager == 1, made, itemsize * scores), final=False,
            ),
            scores, d.kv_len, software,
        ),
        Work("from fp32", "stream", (Read("previous", back),), np.where(back > 0, itemsize * scores, 0), final=False),
    )  # fmt: skip


def _keys(d: Dims, kv: Ints) -> Ints:
    """Bytes of the keys, or of the values, that a product reads: of every head that reads them, where they are repeated."""
    repeats = _said(d, "repeats_keys") == 1
    return np.asarray(np.where(repeats, kv // d.kv_heads * d.heads, kv))


def _said(d: Dims, name: str) -> Ints:
    """What an operator's label says of it, see `workloads.baselines.columns`; nothing is plain torch."""
    return np.asarray(getattr(d, name, 0 * d.batch))


def _copy(name: str, source: Any, read: Ints, itemsize: Ints, d: Dims, eager: int, write: Ints | None = None) -> Work:
    """A copy of heads apart or together: rows of head_dim, whose addresses eager torch works out element by element."""
    made = read if write is None else write
    return Work(
        name, "stream", (Read(source, read),), made, run_bytes=itemsize * d.head_dim, final=source == "previous",
        index_ops=eager * INDEX_OPS * (made // itemsize),
    )  # fmt: skip


def _sdpa(call: AtenCall) -> tuple[dict[str, int], tuple[Any, ...]]:
    """scaled_dot_product_attention(q, k, v, attn_mask, dropout, is_causal): q [..., heads, q_len, head_dim].

    self or cross is read off the dataflow: whether the projections behind q and k share an input. A mask is read too.
    """
    q, k, v = (call.arg(i, name) for i, name in enumerate(("query", "key", "value")))
    mask = call.arg(3, "attn_mask")
    heads, kv_heads = (q.shape[-3], k.shape[-3]) if q.dim() > 3 else (1, 1)
    q_len, head_dim = q.shape[-2:]
    dims = {
        "batch": prod(q.shape[:-2]) // heads, "heads": heads, "kv_heads": kv_heads, "q_len": q_len,
        "kv_len": k.shape[-2], "head_dim": head_dim, "causal": int(bool(call.arg(5, "is_causal", False))),
        "role": ROLES.index("self" if call.origin(q) & call.origin(k) else "cross"),
        "interleaved": int(q.stride(-2) > head_dim), "mask": 0 if mask is None else size(mask),
    }  # fmt: skip
    return dims, (q, k, v) if mask is None else (q, k, v, mask)


def torch_call(d: Mapping[str, int], dtype: str) -> Callable[[], Any]:
    """The torch expression on the meta device; in self-attention q, k and v lie side by side in one storage."""
    import torch

    from workloads.dtypes import torch_dtype

    def parts(count: int, heads: int, length: int) -> tuple[Any, ...]:
        shape = (length, heads) if d["interleaved"] else (heads, length)
        x = torch.empty(count, d["batch"], *shape, d["head_dim"], device="meta", dtype=torch_dtype(dtype))
        return tuple((x.transpose(2, 3) if d["interleaved"] else x).unbind(0))

    if d["role"] == ROLES.index("cross"):
        (q,), (k, v) = parts(1, d["heads"], d["q_len"]), parts(2, d["kv_heads"], d["kv_len"])
    else:
        q, k, v = parts(3, max(d["heads"], d["kv_heads"]), max(d["q_len"], d["kv_len"]))
        q = q[:, : d["heads"], : d["q_len"]]
        k, v = (x[:, : d["kv_heads"], : d["kv_len"]] for x in (k, v))
    mask = torch.empty(d["mask"] // d["kv_len"], d["kv_len"], device="meta", dtype=torch.bool) if d["mask"] else None
    return lambda: torch.nn.functional.scaled_dot_product_attention(
        q, k, v, mask, is_causal=bool(d["causal"]), enable_gqa=d["heads"] != d["kv_heads"]
    )


def _example(
    batch: int, heads: int, q_len: int, kv_len: int, head_dim: int, causal: int = 0, role: int = 0, mask: int = 0
) -> dict[str, int]:
    return {
        "batch": batch, "heads": heads, "kv_heads": heads, "q_len": q_len, "kv_len": kv_len, "head_dim": head_dim,
        "causal": causal, "role": role, "interleaved": int(heads > 1), "mask": mask,
    }  # fmt: skip


EXAMPLES = (
    _example(2, 8, 4096, 4096, 40),
    _example(2, 8, 4096, 77, 40, role=1),
    _example(2, 12, 77, 77, 64, causal=1),
    _example(4096, 8, 16, 16, 40, role=2),
    _example(1, 1, 1, 1000, 512),
    _example(1, 32, 1, 2048, 128),
    _example(1, 8, 120, 120, 64, mask=120 * 120),
)

CAPTURE = {"aten.scaled_dot_product_attention": _sdpa}

KIND = OpKind(
    "attention",
    "Attention",
    DIMS,
    flops,
    (
        Way(
            "unfused",
            unfused,
            lambda software: software.attention in ("unfused", "auto"),
            dispatch=2 * DISPATCH["bmm"] + DISPATCH["softmax"],
            streams=1.0,
        ),
        Way("flash-1", flash_1, lambda software: software.attention == "flash-1", has_flash_1, DISPATCH["bmm"]),
        Way("flash-2", flash, _is_flash_2, has_flash, DISPATCH["bmm"]),
        Way("flash-3", flash_3, _is_flash_3, has_flash, DISPATCH["bmm"]),
        *(
            Way(f"{name}, keys in {parts}", in_parts(parts, whole, blocks), allowed, has_parts(parts), DISPATCH["bmm"])
            for name, whole, blocks, allowed in (
                ("flash-2", flash, lambda d: attention_blocks.flash_2_split(d.head_dim), _is_flash_2),
                ("flash-3", flash_3, lambda d: attention_blocks.flash_3(d.head_dim, d.causal), _is_flash_3),
            )
            for parts in PARTS
        ),
        Way(
            "memory-efficient",
            memory_efficient,
            _fused_allowed,
            lambda d, itemsize: ~has_flash(d, itemsize),
            DISPATCH["bmm"],
        ),
        Way(
            "memory-efficient 1",
            flash_1,
            lambda software: software.attention == "flash-1",
            lambda d, itemsize: has_flash(d, itemsize) & ~has_flash_1(d, itemsize),
            DISPATCH["bmm"],
        ),
    ),
    torch_call,
    EXAMPLES,
    capture=CAPTURE,
    flags=columns,
)
