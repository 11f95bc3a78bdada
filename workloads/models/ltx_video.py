"""LTX-Video 0.9: T5-XXL text encoder, diffusion transformer over latents of 8 x 32 x 32 pixels, 3D decoder.

HaCohen et al., LTX-Video: Realtime Video Latent Diffusion, 2024 (arXiv 2501.00103). Written from memory of
transformer/config.json and vae/config.json of Lightricks/LTX-Video, which are diffusers' defaults, and checked by the
parameter totals (1.9 B). A latent is a token: self-attention runs over space and time together. Prompts are padded to 128
tokens; the transformer is told which are padding, the text encoder is not.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG, Quantity
from workloads.fields import multiple_of, passes
from workloads.model import Model, Stage
from workloads.parts import text
from workloads.parts.decoder import decoder
from workloads.parts.meta import meta, on_meta
from workloads.parts.request import Side32, VideoRequest
from workloads.transforms import transformed

TEXT_LEN = 128  # tokens; diffusers' LTXPipeline, max_sequence_length
LATENT_CHANNELS = 128  # vae/config.json, latent_channels
PIXELS = 32  # pixels per latent along a side; vae/config.json, spatio_temporal_scaling and patch_size
GROUP = 8  # frames per latent after the first
RATE = 25  # frames/s that positions are scaled by; diffusers' LTXPipeline, frame_rate
Frames8: TypeAlias = Annotated[
    int,
    Quantity(ge=1, le=65537, doc="frames of a clip: the first, and groups of 8"),
    AfterValidator(multiple_of(GROUP, 1)),
]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request(VideoRequest):
    """What is asked of the pipeline."""

    height: Side32 = 512
    width: Side32 = 704
    frames: Frames8 = 161


@transformed(pixels=PIXELS)
def stages(request: Request) -> tuple[Stage, ...]:
    """Text encoder (prompt and, under guidance, negative prompt), transformer for every step, VAE decoder."""
    dtype, batch, guided = request.dtype, request.batch, passes(request.guidance)
    frames, height, width = (request.frames - 1) // GROUP + 1, request.height // PIXELS, request.width // PIXELS

    def latents() -> tuple[tuple[Any, ...], dict[str, Any]]:
        n = guided.rows * batch
        sample = meta(dtype, n, frames * height * width, LATENT_CHANNELS)
        prompts, mask = meta(dtype, n, TEXT_LEN, text.T5_WIDTH), meta("int64", n, TEXT_LEN)
        known = {"num_frames": frames, "height": height, "width": width, "return_dict": False}
        return (sample, prompts, meta("int64", n), mask), {
            **known, "rope_interpolation_scale": (GROUP / RATE, PIXELS, PIXELS),
        }  # fmt: skip

    return (
        text.encoder("text_encoder", partial(text.t5_xxl, dtype), batch, TEXT_LEN, guided.prompts),
        Stage(
            "transformer", "transformer", guided.runs * request.steps, partial(transformer, dtype), latents,
            frames=0, steps=request.steps,
        ),
        Stage(
            "vae_decoder", "vae_decoder", 1, partial(vae_decoder, dtype),
            lambda: ((meta(dtype, batch, LATENT_CHANNELS, frames, height, width),), {}), frames=0,
        ),
    )  # fmt: skip


def transformer(dtype: str) -> Any:
    """28 blocks of width 2048, 32 heads, cross-attention to the text; on the meta device."""
    from diffusers import LTXVideoTransformer3DModel

    return on_meta(
        lambda: LTXVideoTransformer3DModel(
            in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS, patch_size=1, patch_size_t=1,
            num_attention_heads=32, attention_head_dim=64, cross_attention_dim=2048, num_layers=28,
            caption_channels=text.T5_WIDTH,
        ),
        dtype,
    )  # fmt: skip


def vae_decoder(dtype: str) -> Any:
    """The decoder of version 0.9.0: 512, 512, 256, 128 channels, a last step of patches of 4 x 4; on the meta device."""
    from diffusers import AutoencoderKLLTXVideo

    return decoder(
        lambda: AutoencoderKLLTXVideo(
            latent_channels=LATENT_CHANNELS, block_out_channels=(128, 256, 512, 512),
            decoder_block_out_channels=(128, 256, 512, 512), layers_per_block=(4, 3, 3, 3, 4),
            decoder_layers_per_block=(4, 3, 3, 3, 4), patch_size=4, patch_size_t=1,
        ),
        dtype,
        1.0,
    )  # fmt: skip


MODEL = Model(
    id="ltx-video",
    title="LTX-Video 0.9",
    request=Request,
    stages=stages,
    repeat_fields=("steps",),
    sources="HaCohen et al., arXiv 2501.00103; Lightricks/LTX-Video, {text_encoder,transformer,vae}/config.json",
    libraries=("torch", "diffusers", "transformers"),
    frame_step=GROUP,
)
