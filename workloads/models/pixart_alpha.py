"""PixArt-alpha XL/2 1024-MS: T5-XXL text encoder, diffusion transformer with cross-attention, VAE decoder.

Chen et al., PixArt-alpha: Fast Training of Diffusion Transformer for Photorealistic Text-to-Image Synthesis, 2023 (arXiv
2310.00426). Written from memory of transformer/config.json of PixArt-alpha/PixArt-XL-2-1024-MS; the paper's 0.6 B parameters
are the transformer's. Prompts are padded to 120 tokens and masked.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG
from workloads.fields import passes
from workloads.model import Model, Stage
from workloads.models.stable_diffusion_1_5 import LATENT_CHANNELS, PIXELS, vae_decoder
from workloads.parts import text
from workloads.parts.meta import meta, on_meta
from workloads.parts.request import ImageRequest, Side16, Steps
from workloads.transforms import transformed

TEXT_LEN = 120  # tokens; diffusers' PixArtAlphaPipeline, max_sequence_length


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request(ImageRequest):
    """What is asked of the pipeline."""

    height: Side16 = 1024
    width: Side16 = 1024
    steps: Steps = 20


@transformed()
def stages(request: Request) -> tuple[Stage, ...]:
    """Text encoder (prompt and, under guidance, negative prompt), transformer for every step, VAE decoder."""
    dtype, batch, guided = request.dtype, request.batch, passes(request.guidance)
    size = (LATENT_CHANNELS, request.height // PIXELS, request.width // PIXELS)

    def latents() -> tuple[tuple[Any, ...], dict[str, Any]]:
        n = guided.rows * batch
        return (meta(dtype, n, *size),), {
            "encoder_hidden_states": meta(dtype, n, TEXT_LEN, text.T5_WIDTH),
            "encoder_attention_mask": meta("int64", n, TEXT_LEN), "timestep": meta("int64", n),
            "added_cond_kwargs": {"resolution": meta(dtype, n, 2), "aspect_ratio": meta(dtype, n, 1)},
            "return_dict": False,
        }  # fmt: skip

    return (
        text.encoder("text_encoder", partial(text.t5_xxl, dtype), batch, TEXT_LEN, guided.prompts, mask=True),
        Stage(
            "transformer",
            "transformer",
            guided.runs * request.steps,
            partial(transformer, dtype),
            latents,
            steps=request.steps,
        ),
        Stage("vae_decoder", "vae_decoder", 1, partial(vae_decoder, dtype), lambda: ((meta(dtype, batch, *size),), {})),
    )


def transformer(dtype: str) -> Any:
    """28 blocks of width 1152: self-attention, cross-attention, one modulation for all; on the meta device."""
    from diffusers import PixArtTransformer2DModel

    return on_meta(
        lambda: PixArtTransformer2DModel(
            sample_size=128, num_layers=28, num_attention_heads=16, attention_head_dim=72, in_channels=LATENT_CHANNELS,
            out_channels=2 * LATENT_CHANNELS, patch_size=2, cross_attention_dim=1152, caption_channels=text.T5_WIDTH,
            use_additional_conditions=True, interpolation_scale=2,
        ),
        dtype,
    )  # fmt: skip


MODEL = Model(
    id="pixart-alpha",
    title="PixArt-α XL/2 1024-MS",
    request=Request,
    stages=stages,
    repeat_fields=("steps",),
    sources="Chen et al., arXiv 2310.00426; PixArt-alpha/PixArt-XL-2-1024-MS, {text_encoder,transformer,vae}/config.json",
    libraries=("torch", "diffusers", "transformers"),
)
