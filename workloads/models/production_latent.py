"""A production-class latent diffusion model: what an image service of 2023 is assumed to run. None is published in full.

The study names no architecture. Emu is a production model whose outline is published (Dai et al. 2023, arXiv 2309.15807,
section 3.1): a latent UNet of 2.8 B parameters with more channels and more residual blocks than Stable Diffusion's, text
from CLIP ViT-L and T5-XXL, latents of 16 channels, images of 1024 x 1024. Its widths are not published: levels of 512, 1024,
2048 and 2048 channels (Stable Diffusion's multipliers), three residual blocks each, attention with the text at the middle two
with heads of 64 make 3.0 B. The upper level has none: the study says that today's models drop attention at high resolution for
its memory, and so does the public model of this size and resolution (SDXL, Podell et al. 2023, arXiv 2307.01952, section 2.1).
Both texts enter as one sequence, CLIP's padded to T5's width. The UNet is built of diffusers' blocks, whose unfused
attention it has.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG
from workloads.fields import Dtype, TextLen, passes
from workloads.model import Model, Stage
from workloads.models.stable_diffusion_1_5 import PIXELS, Height, Width
from workloads.parts import text
from workloads.parts.decoder import decoder
from workloads.parts.meta import meta, on_meta
from workloads.parts.request import ImageRequest
from workloads.transforms import transformed

LATENT_CHANNELS = 16  # Emu, section 3.1
CHANNELS, BLOCKS, HEAD_DIM = (512, 1024, 2048, 2048), 3, 64  # assumed


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request(ImageRequest):
    """What is asked of the pipeline."""

    height: Height = 1024
    width: Width = 1024
    text_len: TextLen = 128
    dtype: Dtype = "bf16"


@transformed()
def stages(request: Request) -> tuple[Stage, ...]:
    """Two text encoders (prompt and, under guidance, negative prompt), UNet for every step, VAE decoder."""
    dtype, batch, guided = request.dtype, request.batch, passes(request.guidance)
    size = (LATENT_CHANNELS, request.height // PIXELS, request.width // PIXELS)
    prompt = (guided.rows * batch, text.CLIP_LEN + request.text_len, text.T5_WIDTH)
    return (
        text.encoder("text_encoder", partial(text.clip_l, dtype), batch, text.CLIP_LEN, guided.prompts),
        text.encoder("text_encoder_2", partial(text.t5_xxl, dtype), batch, request.text_len, guided.prompts),
        Stage(
            "unet", "unet", guided.runs * request.steps, partial(unet, dtype),
            lambda: (
                (meta(dtype, guided.rows * batch, *size), meta("int64"), meta(dtype, *prompt)), {"return_dict": False}
            ),
            steps=request.steps,
        ),
        Stage(
            "vae_decoder", "vae_decoder", 1, partial(vae_decoder, dtype), lambda: ((meta(dtype, batch, *size),), {})
        ),
    )  # fmt: skip


def unet(dtype: str) -> Any:
    """The latent UNet; on the meta device."""
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor2_0

    module = on_meta(
        lambda: UNet2DConditionModel(
            sample_size=128, in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS, layers_per_block=BLOCKS,
            block_out_channels=CHANNELS, attention_head_dim=tuple(c // HEAD_DIM for c in CHANNELS),
            cross_attention_dim=text.T5_WIDTH, act_fn="silu", norm_num_groups=32, norm_eps=1e-5,
            use_linear_projection=True,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        ),
        dtype,
    )  # fmt: skip
    module.set_attn_processor(AttnProcessor2_0())
    return module


def vae_decoder(dtype: str) -> Any:
    """Stable Diffusion's decoder with latents of 16 channels; on the meta device."""
    from diffusers import AutoencoderKL

    return decoder(
        lambda: AutoencoderKL(
            in_channels=3, out_channels=3, latent_channels=LATENT_CHANNELS, block_out_channels=(128, 256, 512, 512),
            layers_per_block=2, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            act_fn="silu", norm_num_groups=32, sample_size=1024,
        ),
        dtype, 1.0,
    )  # fmt: skip


MODEL = Model(
    id="production-latent",
    title="Production-class latent diffusion (assumed)",
    request=Request,
    stages=stages,
    repeat_fields=("steps",),
    sources="Dai et al. (Emu), arXiv 2309.15807, section 3.1; widths are our assumption",
    libraries=("torch", "diffusers", "transformers"),
)
