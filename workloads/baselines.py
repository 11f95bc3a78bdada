"""Unfused attention as libraries write it: which kernels stand between the two products, and which module follows which library.

A kernel over the scores moves them twice, and eager torch runs one for each operator of the library's code: so what unfused
attention costs depends on who wrote it. Each `Baseline` is read off the code that its source names. A stage's attention
operators carry the name of theirs in their label, which is given after the capture: a trace of a user's own model has none, and
is priced as plain torch.

No library carries Imagen, Muse, Parti, Phenaki or Make-A-Video; theirs is that of the open code that our modules follow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from workloads.kind import Ints
    from workloads.model import Stage
    from workloads.trace import Trace

SEPARATOR, HELD = ", ", "held keys"


@dataclass(frozen=True)
class Baseline:
    """What a library's unfused attention does beside its two products and the softmax.

    Attributes:
        source: file, version and lines or names that it was read off.
        scale: where 1 / sqrt(head_dim) goes: a kernel over the scores; kernels over queries, or over queries and keys; or none,
            since it is a factor of the product (baddbmm), or left out (T5).
        softmax: in the dtype of the scores; `cast`: cast to fp32 by a kernel, softmax in fp32, cast back by a kernel;
            `asked`: softmax(dtype=fp32), which torch does in one kernel for fp16 and with a cast before for bf16
            (aten/src/ATen/native/SoftMax.cpp), then cast back.
        mask_at_decode: the causal mask is added where it masks nothing too, for a single query on held keys.
        fp32_product: queries and keys are cast to fp32 before their product (`upcast_attention` of a diffusers model).
        repeats_keys: keys and values of grouped heads are copied once for every head that reads them (`repeat_kv`).
    """

    source: str
    scale: Literal["scores", "queries", "queries and keys", "none"]
    softmax: Literal["as scores", "cast", "asked"] = "as scores"
    mask_at_decode: bool = False
    fp32_product: bool = False
    repeats_keys: bool = False


PLAIN = "plain"
BASELINES: Mapping[str, Baseline] = {
    PLAIN: Baseline("softmax(q @ k.mT * scale + mask, -1) @ v in torch, an operator a kernel", "scores"),
    "diffusers": Baseline(
        "diffusers to 0.42, models/attention_processor.py: Attention.get_attention_scores (baddbmm with beta=0 and alpha=scale, "
        "softmax) and AttnProcessor (bmm); in 0.11 CrossAttention._attention of models/attention.py. baddbmm with beta=0 reads "
        "no third operand (torch, aten/src/ATen/native/LinearAlgebra.cpp, common_checks_baddbmm_bmm)",
        "none",
    ),
    "diffusers upcast": Baseline(
        "the same with upcast_attention (stabilityai/stable-diffusion-2-1, unet/config.json): query.float(), key.float()",
        "none",
        softmax="as scores",
        fp32_product=True,
    ),
    "transformers llama": Baseline(
        "transformers 4.31 to 4.34, models/llama/modeling_llama.py, LlamaAttention.forward: repeat_kv, matmul / sqrt(head_dim), "
        "+ attention_mask, softmax(dtype=float32).to(dtype), matmul; 5.23, eager_attention_forward: the same kernels",
        "scores", softmax="asked", mask_at_decode=True, repeats_keys=True,
    ),
    "transformers clip": Baseline(
        "transformers 4.34, models/clip/modeling_clip.py, CLIPAttention.forward: q_proj(x) * scale, bmm, "
        "+ causal_attention_mask, softmax, bmm",
        "queries",
    ),
    "transformers t5": Baseline(
        "transformers 4.34, models/t5/modeling_t5.py, T5Attention.forward: matmul, += position_bias, "
        "softmax(scores.float()).type_as(scores), matmul",
        "none", softmax="cast",
    ),
    "guided-diffusion": Baseline(
        "openai/guided-diffusion, guided_diffusion/unet.py, QKVAttention.forward: einsum(q * scale, k * scale), "
        "softmax(weight.float()).type(dtype), einsum",
        "queries and keys", softmax="cast",
    ),
    "muse-maskgit": Baseline(
        "lucidrains/muse-maskgit-pytorch, muse_maskgit_pytorch/attend.py, Attend.forward without flash: einsum * scale, softmax, "
        "einsum",
        "scores",
    ),
    "phenaki": Baseline(
        "lucidrains/phenaki-pytorch, phenaki_pytorch/attention.py, Attention.forward: einsum * scale, masked_fill where causal, "
        "softmax, einsum",
        "scores",
    ),
    "parti": Baseline(
        "lucidrains/parti-pytorch, parti_pytorch/parti_pytorch.py, Attention.forward: q * scale, einsum, masked_fill, "
        "softmax(dtype=float32), einsum; the cast back, which that code lacks and a product in 16 bits needs, is assumed",
        "queries", softmax="asked",
    ),
}  # fmt: skip

# The function that builds a stage's module, or all functions of a file -> its baseline. What is not here is plain.
# Of diffusers' transformers with two streams (SD3, FLUX.1, HunyuanVideo, ...) the library has no code without
# scaled_dot_product_attention: for them that of AttnProcessor is assumed.
FOLLOWS: Mapping[str, str] = {
    "models.llama_2.language_model": "transformers llama",
    "parts.text.llama_3_8b": "transformers llama",
    "parts.text.t5_xxl": "transformers t5",
    "parts.text.umt5_xxl": "transformers t5",
    "parts.text.clip_l": "transformers clip",
    "parts.text.clip_g": "transformers clip",
    "models.stable_diffusion_1_5.text_encoder": "transformers clip",
    "models.modelscope_t2v.text_encoder": "transformers clip",
    "models.svd_xt.image_encoder": "transformers clip",
    "models.imagen.base": "guided-diffusion",
    "models.imagen.super_resolution": "guided-diffusion",
    "models.make_a_video.decoder": "guided-diffusion",
    "models.make_a_video.super_resolution_1": "guided-diffusion",
    "models.make_a_video.super_resolution_2": "guided-diffusion",
    "models.make_a_video.prior": "muse-maskgit",  # assumed: unCLIP's prior has no published code; its layers are our Muse's
    "models.muse": "muse-maskgit",
    "models.phenaki": "phenaki",
    "models.parti": "parti",
    "models.stable_diffusion_2_1.unet": "diffusers upcast",
    **dict.fromkeys(
        (
            "models.stable_diffusion_1_5", "models.modelscope_t2v", "models.svd_xt", "models.production_latent", "models.sdxl",
            "models.sd3_medium", "models.animatediff", "models.dit_xl_2", "models.pixart_alpha", "models.latte",
            "models.flux_1_dev", "models.cogvideox", "models.hunyuanvideo", "models.ltx_video", "models.mochi", "models.wan_2_1",
            "parts.decoder.encoder", "parts.decoder.decoder",
        ),
        "diffusers",
    ),
}  # fmt: skip


def followed(build: Callable[..., Any]) -> str:
    """The baseline that the module of a stage follows, by the function that builds it."""
    found: Any = build
    while isinstance(found, partial) or hasattr(found, "__wrapped__"):
        found = found.func if isinstance(found, partial) else found.__wrapped__
    name = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}".removeprefix("workloads.")
    return FOLLOWS.get(name) or FOLLOWS.get(name.rpartition(".")[0], PLAIN)


def told(part: Trace, stage: Stage) -> Trace:
    """The trace of a stage, its attention labelled with the baseline that its module follows, and where it reads held keys."""
    name = followed(stage.build)
    ops = part.ops_of("attention")
    if not len(ops):
        return part
    of = [part.labels[i] for i in part.op_label]
    for op, is_held in zip(ops.tolist(), _reads_held(part, ops).tolist(), strict=True):
        of[op] = SEPARATOR.join((of[op], name, *((HELD,) if is_held else ())))
    labels = {label: i for i, label in enumerate(dict.fromkeys(of))}  # numbered by the ops, as a capture numbers them
    return replace(part, labels=tuple(labels), op_label=np.array([labels[label] for label in of], dtype=np.int64))


def renamed(trace: Trace, name: str) -> Trace:
    """The trace with every attention operator of a library said to be another's; the same where `name` is ''."""
    if not name:
        return trace
    parts = (label.split(SEPARATOR) for label in trace.labels)
    return replace(trace, labels=tuple(SEPARATOR.join(name if p in BASELINES else p for p in label) for label in parts))


def _reads_held(part: Trace, ops: Ints) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which of some ops read keys and values that rest in memory, bool (ops,): a cache, or keys made once."""
    weights = np.add.reduceat(np.append(part.tensor_is_weight[part.input_ids], 0), part.input_offsets[:-1]) > 0
    weights &= np.diff(part.input_offsets) > 0
    reads = np.bincount(part.call_op, weights, len(part.op_kind))
    return reads[ops] > 0


@cache
def columns(label: str) -> Mapping[str, int]:
    """What a label says of an attention operator, as whole numbers: the traits of its baseline, and whether its keys are held."""
    said = label.split(SEPARATOR)[1:]
    found = next((BASELINES[name] for name in said if name in BASELINES), BASELINES[PLAIN])
    return {
        "unscaled": int(found.scale != "scores"),
        "scale_queries": int(found.scale.startswith("queries")),
        "scale_keys": int(found.scale == "queries and keys"),
        "upcast": ("as scores", "asked", "cast").index(found.softmax),
        "mask_at_decode": int(found.mask_at_decode),
        "fp32_product": int(found.fp32_product),
        "repeats_keys": int(found.repeats_keys),
        "held": int(HELD in said),
    }
