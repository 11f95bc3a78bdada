"""Wan 2.1 text-to-video 1.3B and 14B: UMT5-XXL text encoder, diffusion transformer, causal 3D decoder.

Wan team, Wan: Open and Advanced Large-Scale Video Generative Models, 2025 (arXiv 2503.20314). Written from memory of
transformer/config.json and vae/config.json of Wan-AI/Wan2.1-T2V-{1.3B,14B}-Diffusers (diffusers' defaults are the 14B's),
checked by the parameter totals. Self-attention runs over space and time together; guidance is a second pass in every step, as
diffusers' pipeline has it; the decoder runs in fp32 (as the model card loads it), one latent frame after the other. Taken as
dtype throughout: the modulation tables, which the checkpoint keeps in fp32 (0.1 % of the weights).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG
from workloads.fields import GuidanceInTurn, passes
from workloads.model import Model, Stage
from workloads.models.stable_diffusion_1_5 import PIXELS
from workloads.parts import text
from workloads.parts.decoder import decoder
from workloads.parts.meta import meta, on_meta
from workloads.parts.request import Frames4, Side16, VideoRequest
from workloads.transforms import transformed

TEXT_LEN = 512  # tokens; diffusers' WanPipeline, max_sequence_length
LATENT_CHANNELS = 16  # vae/config.json, z_dim
SIZES = {
    "1.3b": (12, 8960, 30),
    "14b": (40, 13824, 40),
}  # heads of 128, width of the MLP, layers; transformer/config.json


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request(VideoRequest):
    """What is asked of the pipeline."""

    height: Side16 = 480
    width: Side16 = 832
    frames: Frames4 = 81
    guidance: GuidanceInTurn = True


@transformed()
def stages(size: str, request: Request) -> tuple[Stage, ...]:
    """Text encoder (prompt and, under guidance, negative prompt), transformer (once or twice a step), VAE decoder."""
    dtype, batch, guided = request.dtype, request.batch, passes(request.guidance, "sequential")
    grid = (LATENT_CHANNELS, (request.frames - 1) // 4 + 1, request.height // PIXELS, request.width // PIXELS)

    def latents() -> tuple[tuple[Any, ...], dict[str, Any]]:
        n = guided.rows * batch
        prompts = meta(dtype, n, TEXT_LEN, text.T5_WIDTH)
        return (meta(dtype, n, *grid), meta("int64", n), prompts), {"return_dict": False}

    return (
        text.encoder("text_encoder", partial(text.umt5_xxl, dtype), batch, TEXT_LEN, guided.prompts, mask=True),
        Stage(
            "transformer", "transformer", guided.runs * request.steps, partial(transformer, dtype, size), latents,
            frames=0, steps=request.steps,
        ),
        Stage(
            "vae_decoder", "vae_decoder", 1, partial(vae_decoder, "fp32"), lambda: ((meta("fp32", batch, *grid),), {}),
            frames=0,
        ),
    )  # fmt: skip


def transformer(dtype: str, size: str) -> Any:
    """Blocks of self-attention, cross-attention and MLP over patches of 2 x 2; '1.3b' or '14b'; on the meta device."""
    from diffusers import WanTransformer3DModel

    heads, inner, layers = SIZES[size]
    return on_meta(
        lambda: WanTransformer3DModel(
            patch_size=(1, 2, 2), num_attention_heads=heads, attention_head_dim=128, in_channels=LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS, text_dim=text.T5_WIDTH, freq_dim=256, ffn_dim=inner, num_layers=layers,
            cross_attn_norm=True, qk_norm="rms_norm_across_heads", rope_max_seq_len=1024,
        ),
        dtype,
    )  # fmt: skip


def vae_decoder(dtype: str) -> Any:
    """The causal 3D decoder: 384, 384, 192, 96 channels, 4 x 8 x 8 in time, height and width; on the meta device."""
    from diffusers import AutoencoderKLWan

    return decoder(lambda: AutoencoderKLWan(base_dim=96, z_dim=LATENT_CHANNELS), dtype, 1.0)


def _stages_of(size: str) -> Callable[[Request], tuple[Stage, ...]]:
    return lambda request: stages(size, request)


MODELS = tuple(
    Model(
        id=f"wan2.1-{size}",
        title=f"Wan 2.1 text-to-video {size.upper()}",
        request=Request,
        stages=_stages_of(size),
        repeat_fields=("steps",),
        sources=f"Wan team, arXiv 2503.20314; Wan-AI/Wan2.1-T2V-{size.upper()}-Diffusers, */config.json",
        libraries=("torch", "diffusers", "transformers"),
        frame_step=4,
    )
    for size in SIZES
)
