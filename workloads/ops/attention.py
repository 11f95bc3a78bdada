"""Scaled dot-product attention as one logical call: softmax(Q K^T / sqrt(d)) V.

Ways: `unfused` (QK^T, scale, softmax and PV as kernels of their own, the score matrix through memory); `flash-2`, one kernel
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
from workloads.aten import AtenCall, size
from workloads.kind import DISPATCH, Column, Dims, Flash, Gemm, Ints, OpKind, Read, Way, Work

DIMS = ("batch", "heads", "kv_heads", "q_len", "kv_len", "head_dim", "causal", "role", "interleaved", "mask")
ROLES = ("self", "cross", "temporal")
# role: index into ROLES; interleaved: 1 where q, k, v are views of [batch, length, heads, head_dim] tensors, which an
# unfused product has to copy into [batch, heads, length, head_dim] first; mask: bytes of an explicit mask or bias that is
# added to the scores (a broadcast axis counted once), 0 where there is none.

SOFTMAX_FLOPS = (
    5  # per score: subtract, multiply by log2(e), running maximum, sum, rescale share (FlashAttention-2, algorithm 1)
)

# Vector FLOPs beside the products of the first FlashAttention, per score and per element of its kernel's head_dim, up to 64 and
# above: the least mean error on 61 public fp16 times of flash-attention 1 on an A100 (fxmarty, efficient-attention-benchmark,
# 2023-03; head_dim 32, 64, 128), which those then meet within 15 %.
V1_FLOPS, V1_FLOPS_WIDE = 1.15, 1.95


def flops(d: Dims) -> Column:
    """The two products: 4 batch heads q_len kv_len head_dim; a causal mask is counted as the full rectangle."""
    return 4 * d.batch * d.heads * d.q_len * d.kv_len * d.head_dim


def _sizes(d: Dims, itemsize: Ints) -> tuple[Ints, Ints, Ints]:
    """Bytes of q (and of the output), of k (and of v), and number of scores."""
    q = itemsize * d.batch * d.heads * d.q_len * d.head_dim
    kv = itemsize * d.batch * d.kv_heads * d.kv_len * d.head_dim
    return q, kv, d.batch * d.heads * d.q_len * d.kv_len


def flash(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """One kernel. A causal mask skips the key blocks above the diagonal."""
    q, kv, scores = _sizes(d, itemsize)
    square = np.minimum(d.q_len, d.kv_len)  # a causal mask is aligned to the first key (torch's is_causal)
    below = square * (square + 1) // 2 + (d.q_len - square) * d.kv_len
    done = np.where(d.causal == 1, d.batch * d.heads * below, scores)
    return (
        Work(
            name="flash attention",
            pattern="tile",
            flash=Flash(d.batch * d.heads, d.q_len, d.kv_len, d.head_dim, d.causal, older=1),
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
    (kernel,) = flash(d, itemsize, software)
    assert kernel.flash is not None
    return (replace(kernel, name="flash attention 3", flash=replace(kernel.flash, older=0)),)


def has_flash(d: Dims, itemsize: Ints) -> Any:
    """Which ops (ops,) FlashAttention-2 has a kernel for: 2-byte types, head_dim at most 256, no explicit mask (its README)."""
    return (itemsize == 2) & (d.head_dim <= 256) & (d.mask == 0)


def _fused_allowed(software: Software) -> bool:
    return software.attention in ("flash-1", "flash-2", "flash-3", "auto")


def has_flash_1(d: Dims, itemsize: Ints) -> Any:
    """Which ops (ops,) the first FlashAttention has a kernel for: as the second, with head_dim at most 128 (its README, v0.2)."""
    return has_flash(d, itemsize) & (d.head_dim <= 128)


def flash_1(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """The first FlashAttention (Dao et al. 2022; in torch 2.0 and 2.1, and in xFormers of that time): the same products, and more
    arithmetic beside them, since it rescales the output at every block of keys and adds it up across warps (FlashAttention-2,
    Dao 2023, sections 3.1 and 3.3)."""
    (kernel,) = flash(d, itemsize, software)
    depth = np.where(d.head_dim <= 32, 32, np.where(d.head_dim <= 64, 64, 128))  # its kernels
    beside = np.where(depth <= 64, V1_FLOPS, V1_FLOPS_WIDE) * depth
    return (replace(kernel, name="flash attention 1", vector_flops=kernel.vector_flops + beside * kernel.exp_ops),)


def unfused(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """Head copies where the heads are interleaved, QK^T, scale, mask, softmax, PV, and the head copy of the output."""
    q, kv, scores = _sizes(d, itemsize)
    s = itemsize * scores
    groups = d.batch * d.heads
    product = 2 * scores * d.head_dim
    inter = d.interleaved == 1
    run = itemsize * d.head_dim
    fused_scale = software.fusion == "pointwise"
    copies = (
        _copy("q heads", "input0", np.where(inter, q, 0), run),
        _copy("k heads", "input1", np.where(inter, kv, 0), run),
        _copy("v heads", "input2", np.where(inter, kv, 0), run),
    )
    masked = np.where(d.mask > 0, s, 0)  # eager: a kernel of its own; a compiler adds the mask inside the softmax
    separate = (
        Work("scale", "stream", (Read("previous", s),), s, vector_flops=scores, final=False),
        Work(
            "mask", "stream", (Read("previous", masked), Read("input2", d.mask)), masked,
            vector_flops=masked // itemsize, final=False,
        ),
    )  # fmt: skip
    return (
        *copies,
        Work(
            "q k^t",
            "tile",
            (Read("input0", q), Read("input1", kv)),
            s,
            gemm=Gemm(groups, d.q_len, d.kv_len, d.head_dim),
            flops=product,
            final=False,
        ),
        *(() if fused_scale else separate),
        Work(
            "softmax",
            "reduce",
            (Read("previous", s), Read("input2", d.mask if fused_scale else 0 * d.mask)),
            s,
            vector_flops=SOFTMAX_FLOPS * scores,
            exp_ops=scores,
            final=False,
        ),
        Work(
            "p v",
            "tile",
            (Read("previous", s), Read("input2", kv)),
            q,
            gemm=Gemm(groups, d.q_len, d.head_dim, d.kv_len),
            flops=product,
        ),
        _copy("output heads", "previous", np.where(inter, q, 0), run),
    )


def _copy(name: str, source: Any, moved: Ints, run_bytes: Ints) -> Work:
    return Work(name, "stream", (Read(source, moved),), moved, run_bytes=run_bytes, final=source == "previous")


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
        ),
        Way("flash-1", flash_1, lambda software: software.attention == "flash-1", has_flash_1, DISPATCH["bmm"]),
        Way("flash-2", flash, lambda software: software.attention in ("flash-2", "auto"), has_flash, DISPATCH["bmm"]),
        Way("flash-3", flash_3, lambda software: software.attention == "flash-3", has_flash, DISPATCH["bmm"]),
        Way("memory-efficient", flash, _fused_allowed, lambda d, itemsize: ~has_flash(d, itemsize), DISPATCH["bmm"]),
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
)
