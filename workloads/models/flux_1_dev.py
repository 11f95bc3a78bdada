"""FLUX.1-dev: CLIP-L and T5-XXL text encoders, a transformer of 19 joint and 38 single blocks, VAE decoder of 16 channels.

Black Forest Labs, FLUX.1, 2024. Written from memory of transformer/config.json and vae/config.json of
black-forest-labs/FLUX.1-dev; the published 12 B parameters are the transformer's. Latents are packed in patches of 2 x 2.
Guidance is distilled into the model: one pass a step, unless a negative prompt is asked for. Left out: packing, the
sampler's pointwise operators.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG
from workloads.fields import Dtype, NegativePrompt, passes
from workloads.model import Model, Stage
from workloads.models.sd3_medium import LATENT_CHANNELS, vae_decoder
from workloads.models.stable_diffusion_1_5 import PIXELS
from workloads.parts import text
from workloads.parts.meta import meta, on_meta
from workloads.parts.request import ImageRequest, Side16
from workloads.transforms import transformed

T5_LEN = 512  # tokens; diffusers' FluxPipeline, max_sequence_length
SCALE = 0.3611  # vae/config.json, scaling_factor


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request(ImageRequest):
    """What is asked of the pipeline."""

    height: Side16 = 1024
    width: Side16 = 1024
    guidance: NegativePrompt = False
    dtype: Dtype = "bf16"


@transformed()
def stages(request: Request) -> tuple[Stage, ...]:
    """Two text encoders (the prompt and a negative prompt, if any), transformer for every step, VAE decoder."""
    dtype, batch, guided = request.dtype, request.batch, passes(request.guidance, "sequential")
    size = (LATENT_CHANNELS, request.height // PIXELS, request.width // PIXELS)
    tokens = size[1] // 2 * (size[2] // 2)

    def latents() -> tuple[tuple[Any, ...], dict[str, Any]]:
        n = guided.rows * batch
        return (meta(dtype, n, tokens, 4 * LATENT_CHANNELS),), {
            "encoder_hidden_states": meta(dtype, n, T5_LEN, text.T5_WIDTH),
            "pooled_projections": meta(dtype, n, 768), "timestep": meta(dtype, n),
            "guidance": meta("fp32", n), "img_ids": meta(dtype, tokens, 3), "txt_ids": meta(dtype, T5_LEN, 3),
            "return_dict": False,
        }  # fmt: skip

    return (
        text.encoder("text_encoder", partial(text.clip_l, dtype), batch, text.CLIP_LEN, guided.prompts),
        text.encoder("text_encoder_2", partial(text.t5_xxl, dtype), batch, T5_LEN, guided.prompts),
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
    """Width 3072, 24 heads of 128, rotary positions over 3 axes; on the meta device."""
    from diffusers import FluxTransformer2DModel

    return on_meta(
        lambda: FluxTransformer2DModel(
            patch_size=1, in_channels=4 * LATENT_CHANNELS, num_layers=19, num_single_layers=38, attention_head_dim=128,
            num_attention_heads=24, joint_attention_dim=text.T5_WIDTH, pooled_projection_dim=768, guidance_embeds=True,
            axes_dims_rope=(16, 56, 56),
        ),
        dtype,
    )  # fmt: skip


MODEL = Model(
    id="flux.1-dev",
    title="FLUX.1-dev",
    request=Request,
    stages=stages,
    repeat_fields=("steps",),
    sources="Black Forest Labs, 2024; black-forest-labs/FLUX.1-dev, {text_encoder,text_encoder_2,transformer,vae}/config.json",
    libraries=("torch", "diffusers", "transformers"),
)
