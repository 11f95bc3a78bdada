"""Latte-1: T5-XXL text encoder, a transformer whose blocks alternate between space and time, VAE decoder.

Ma et al., Latte: Latent Diffusion Transformer for Video Generation, 2024 (arXiv 2401.03048). Written from memory of
transformer/config.json of maxin-cn/Latte-1. The 28 + 28 blocks have 1.06 B parameters. Its positions in time are a table of sines
for 16 frames: at other frame counts the table is taken as long as the clip. The decoder is Stable Diffusion's, all frames of all
clips as one batch or, with `vae_slicing`, one frame at a time (diffusers: 14 at a time).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG
from workloads.fields import Dtype, passes
from workloads.model import Model, Stage
from workloads.models.stable_diffusion_1_5 import LATENT_CHANNELS, PIXELS, vae_decoder
from workloads.parts import text
from workloads.parts.meta import meta, on_meta
from workloads.parts.request import Side16, Slicing, VideoRequest
from workloads.transforms import transformed

TEXT_LEN = 120  # tokens; diffusers' LattePipeline, encode_prompt


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request(VideoRequest):
    """What is asked of the pipeline."""

    height: Side16 = 512
    width: Side16 = 512
    dtype: Dtype = "fp16"
    vae_slicing: Slicing = False


@transformed()
def stages(request: Request) -> tuple[Stage, ...]:
    """Text encoder (prompt and, under guidance, negative prompt), transformer for every step, VAE decoder."""
    dtype, batch, frames, guided = request.dtype, request.batch, request.frames, passes(request.guidance)
    size = (request.height // PIXELS, request.width // PIXELS)
    at_once = 1 if request.vae_slicing else batch * frames

    def latents() -> tuple[tuple[Any, ...], dict[str, Any]]:
        n = guided.rows * batch
        prompts = meta(dtype, n, TEXT_LEN, text.T5_WIDTH)
        known = {"enable_temporal_attentions": True, "return_dict": False}
        return (meta(dtype, n, LATENT_CHANNELS, frames, *size), meta("int64", n), prompts), known

    return (
        text.encoder("text_encoder", partial(text.t5_xxl, dtype), batch, TEXT_LEN, guided.prompts, mask=True),
        Stage(
            "transformer", "transformer", guided.runs * request.steps, partial(transformer, dtype, frames), latents,
            steps=request.steps,
        ),
        Stage(
            "vae_decoder", "vae_decoder", batch * frames // at_once, partial(vae_decoder, dtype),
            lambda: ((meta(dtype, at_once, LATENT_CHANNELS, *size),), {}), frames=0,
        ),
    )  # fmt: skip


def transformer(dtype: str, frames: int) -> Any:
    """28 spatial and 28 temporal blocks of width 1152, 16 heads; on the meta device."""
    from diffusers import LatteTransformer3DModel

    return on_meta(
        lambda: LatteTransformer3DModel(
            sample_size=64, num_layers=28, num_attention_heads=16, attention_head_dim=72, in_channels=LATENT_CHANNELS,
            out_channels=2 * LATENT_CHANNELS, patch_size=2, cross_attention_dim=1152, caption_channels=text.T5_WIDTH,
            attention_bias=True, activation_fn="gelu-approximate", norm_type="ada_norm_single",
            norm_elementwise_affine=False, norm_eps=1e-6, video_length=frames, num_embeds_ada_norm=1000,
        ),
        dtype,
    )  # fmt: skip


MODEL = Model(
    id="latte",
    title="Latte-1",
    request=Request,
    stages=stages,
    repeat_fields=("steps",),
    sources="Ma et al., arXiv 2401.03048; maxin-cn/Latte-1, {text_encoder,transformer,vae}/config.json",
    libraries=("torch", "diffusers", "transformers"),
)
