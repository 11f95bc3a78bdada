"""Stable Diffusion 2.1: OpenCLIP ViT-H/14 text encoder, latent UNet with heads of 64, VAE decoder of Stable Diffusion 1.5.

Written from memory of {text_encoder,unet,vae}/config.json of stabilityai/stable-diffusion-2-1 and checked by the parameter
totals of its checkpoints. Its `upcast_attention` (scores in fp32) changes nothing under scaled_dot_product_attention, which
diffusers takes where torch has it; unfused, queries and keys are cast and their product is of fp32. Left out as for Stable
Diffusion 1.5: the sampler, the conversion to pixels.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG
from workloads.fields import passes
from workloads.model import Model, Stage
from workloads.models.modelscope_t2v import TEXT_WIDTH, text_encoder
from workloads.models.stable_diffusion_1_5 import LATENT_CHANNELS, PIXELS, TEXT_LEN, vae_decoder
from workloads.parts import text
from workloads.parts.meta import meta, on_meta
from workloads.parts.request import ImageRequest, Side8
from workloads.transforms import transformed


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request(ImageRequest):
    """What is asked of the pipeline."""

    height: Side8 = 768
    width: Side8 = 768


@transformed()
def stages(request: Request) -> tuple[Stage, ...]:
    """Text encoder (prompt and, under guidance, negative prompt), UNet for every step, VAE decoder."""
    dtype, batch = request.dtype, request.batch
    guided = passes(request.guidance)
    size = (LATENT_CHANNELS, request.height // PIXELS, request.width // PIXELS)

    def latents() -> tuple[tuple[Any, ...], dict[str, Any]]:
        prompts = meta(dtype, guided.rows * batch, TEXT_LEN, TEXT_WIDTH)
        return (meta(dtype, guided.rows * batch, *size), meta("int64"), prompts), {"return_dict": False}

    return (
        text.encoder("text_encoder", partial(text_encoder, dtype), batch, TEXT_LEN, guided.prompts),
        Stage("unet", "unet", guided.runs * request.steps, partial(unet, dtype), latents, steps=request.steps),
        Stage("vae_decoder", "vae_decoder", 1, partial(vae_decoder, dtype), lambda: ((meta(dtype, batch, *size),), {})),
    )


def unet(dtype: str) -> Any:
    """The latent UNet: 320, 640, 1280, 1280 channels in heads of 64; on the meta device."""
    from diffusers import UNet2DConditionModel

    return on_meta(
        lambda: UNet2DConditionModel(
            sample_size=96, in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS, layers_per_block=2,
            block_out_channels=(320, 640, 1280, 1280), attention_head_dim=(5, 10, 20, 20),
            cross_attention_dim=TEXT_WIDTH, use_linear_projection=True, upcast_attention=True,
        ),
        dtype,
    )  # fmt: skip


MODEL = Model(
    id="stable-diffusion-2.1",
    title="Stable Diffusion 2.1",
    request=Request,
    stages=stages,
    repeat_fields=("steps",),
    sources="Rombach et al., CVPR 2022; stabilityai/stable-diffusion-2-1, {text_encoder,unet,vae}/config.json",
    libraries=("torch", "diffusers", "transformers"),
)
