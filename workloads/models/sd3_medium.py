"""Stable Diffusion 3 medium: CLIP-L, OpenCLIP-bigG and T5-XXL text encoders, MMDiT of 24 blocks, VAE decoder of 16 channels.

Esser et al., Scaling Rectified Flow Transformers for High-Resolution Image Synthesis, 2024 (arXiv 2403.03206). Written from
memory of transformer/config.json and vae/config.json of stabilityai/stable-diffusion-3-medium-diffusers; the published 2 B
parameters are the transformer's. Attention runs over the tokens of the text (77 + 256) and of the image together.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG, Quantity
from workloads.fields import multiple_of, passes
from workloads.model import Model, Stage
from workloads.models.stable_diffusion_1_5 import PIXELS
from workloads.parts import text
from workloads.parts.decoder import decoder
from workloads.parts.meta import meta, on_meta
from workloads.parts.request import ImageRequest, Steps
from workloads.transforms import transformed

LATENT_CHANNELS = 16  # vae/config.json, latent_channels
SCALE = 1.5305  # vae/config.json, scaling_factor
T5_LEN = 256  # tokens; diffusers' StableDiffusion3Pipeline, max_sequence_length
POSITIONS = 192  # patches a side that the table of positions holds; transformer/config.json, pos_embed_max_size
Side: TypeAlias = Annotated[
    int,
    Quantity(ge=16, le=16 * POSITIONS, doc="in pixels, a multiple of 16; positions reach to 3072"),
    AfterValidator(multiple_of(16)),
]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request(ImageRequest):
    """What is asked of the pipeline."""

    height: Side = 1024
    width: Side = 1024
    steps: Steps = 28


@transformed()
def stages(request: Request) -> tuple[Stage, ...]:
    """Three text encoders (prompt and, under guidance, negative prompt), transformer for every step, VAE decoder."""
    dtype, batch, guided = request.dtype, request.batch, passes(request.guidance)
    size = (LATENT_CHANNELS, request.height // PIXELS, request.width // PIXELS)

    def latents() -> tuple[tuple[Any, ...], dict[str, Any]]:
        n = guided.rows * batch
        return (meta(dtype, n, *size),), {
            "encoder_hidden_states": meta(dtype, n, text.CLIP_LEN + T5_LEN, text.T5_WIDTH),
            "pooled_projections": meta(dtype, n, 2048), "timestep": meta("int64", n), "return_dict": False,
        }  # fmt: skip

    return (
        text.encoder("text_encoder", partial(text.clip_l, dtype), batch, text.CLIP_LEN, guided.prompts),
        text.encoder("text_encoder_2", partial(text.clip_g, dtype), batch, text.CLIP_LEN, guided.prompts),
        text.encoder("text_encoder_3", partial(text.t5_xxl, dtype), batch, T5_LEN, guided.prompts),
        Stage(
            "transformer",
            "transformer",
            guided.runs * request.steps,
            partial(transformer, dtype),
            latents,
            steps=request.steps,
        ),
        Stage(
            "vae_decoder",
            "vae_decoder",
            1,
            partial(vae_decoder, dtype, SCALE),
            lambda: ((meta(dtype, batch, *size),), {}),
        ),
    )


def transformer(dtype: str) -> Any:
    """24 joint blocks of width 1536, 24 heads; on the meta device."""
    from diffusers import SD3Transformer2DModel

    return on_meta(
        lambda: SD3Transformer2DModel(
            sample_size=128, patch_size=2, in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS, num_layers=24,
            attention_head_dim=64, num_attention_heads=24, joint_attention_dim=text.T5_WIDTH,
            caption_projection_dim=1536, pooled_projection_dim=2048, pos_embed_max_size=POSITIONS,
        ),
        dtype,
    )  # fmt: skip


def vae_decoder(dtype: str, scale: float) -> Any:
    """Stable Diffusion's decoder for 16 latent channels, without the 1x1 convolution before it; on the meta device."""
    from diffusers import AutoencoderKL

    return decoder(
        lambda: AutoencoderKL(
            in_channels=3, out_channels=3, latent_channels=LATENT_CHANNELS, block_out_channels=(128, 256, 512, 512),
            layers_per_block=2, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            use_quant_conv=False, use_post_quant_conv=False,
        ),
        dtype,
        scale,
    )  # fmt: skip


MODEL = Model(
    id="sd3-medium",
    title="Stable Diffusion 3 medium",
    request=Request,
    stages=stages,
    repeat_fields=("steps",),
    sources="Esser et al., arXiv 2403.03206; stabilityai/stable-diffusion-3-medium-diffusers, */config.json",
    libraries=("torch", "diffusers", "transformers"),
)
