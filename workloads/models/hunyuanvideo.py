"""HunyuanVideo: Llama-3 8B and CLIP-L text encoders, a transformer of 20 joint and 40 single blocks, causal 3D decoder.

Kong et al., HunyuanVideo: A Systematic Framework For Large Video Generative Models, 2024 (arXiv 2412.03603). Written from
memory of transformer/config.json and vae/config.json of hunyuanvideo-community/HunyuanVideo, which are diffusers' defaults,
and checked by the parameter totals (13 B). Attention runs over text, space and time together, under a mask of the text's
padding. The Llama encoder takes the prompt's 256 tokens behind 95 of a template. Guidance is distilled into the model: one pass
a step, unless a negative prompt is asked for. The decoder runs in chunks of frames, as diffusers has it by default.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG
from workloads.fields import NegativePrompt, chunks, passes
from workloads.model import Model, Stage
from workloads.models.stable_diffusion_1_5 import PIXELS
from workloads.parts import text
from workloads.parts.decoder import decoder
from workloads.parts.meta import meta, on_meta
from workloads.parts.request import Frames4, Side16, VideoRequest
from workloads.transforms import transformed

TEXT_LEN = 256  # tokens; diffusers' HunyuanVideoPipeline, max_sequence_length
TEMPLATE_LEN = 95  # tokens before the prompt, cut off afterwards; DEFAULT_PROMPT_TEMPLATE, crop_start
LATENT_CHANNELS = 16  # vae/config.json, latent_channels
AT_ONCE = 3  # latents from one decoded stretch of time to the next; diffusers' AutoencoderKLHunyuanVideo
SCALE = 0.476986  # vae/config.json, scaling_factor


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request(VideoRequest):
    """What is asked of the pipeline."""

    height: Side16 = 720
    width: Side16 = 1280
    frames: Frames4 = 129
    guidance: NegativePrompt = False


@transformed()
def stages(request: Request) -> tuple[Stage, ...]:
    """Two text encoders (the prompt and a negative prompt, if any), transformer for every step, VAE decoder."""
    dtype, batch, guided = request.dtype, request.batch, passes(request.guidance, "sequential")
    grid = (LATENT_CHANNELS, (request.frames - 1) // 4 + 1, request.height // PIXELS, request.width // PIXELS)

    def latents() -> tuple[tuple[Any, ...], dict[str, Any]]:
        n = guided.rows * batch
        prompts, mask = meta(dtype, n, TEXT_LEN, text.T5_WIDTH), meta("int64", n, TEXT_LEN)
        known = {"guidance": meta(dtype, n), "return_dict": False}
        return (meta(dtype, n, *grid), meta("int64", n), prompts, mask, meta(dtype, n, 768)), known

    return (
        text.encoder(
            "text_encoder", partial(text.llama_3_8b, dtype), batch, TEMPLATE_LEN + TEXT_LEN, guided.prompts, mask=True
        ),
        text.encoder("text_encoder_2", partial(text.clip_l, dtype), batch, text.CLIP_LEN, guided.prompts),
        Stage(
            "transformer", "transformer", guided.runs * request.steps, partial(transformer, dtype), latents, frames=0,
            steps=request.steps,
        ),
        Stage(
            "vae_decoder", "vae_decoder", 1, partial(vae_decoder, dtype), lambda: ((meta(dtype, batch, *grid),), {}),
            frames=0, counts=chunks(grid[1], AT_ONCE),
        ),
    )  # fmt: skip


def transformer(dtype: str) -> Any:
    """Width 3072, 24 heads of 128, patches of 2 x 2, two blocks that refine the text; on the meta device."""
    from diffusers import HunyuanVideoTransformer3DModel

    return on_meta(
        lambda: HunyuanVideoTransformer3DModel(
            in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS, num_attention_heads=24, attention_head_dim=128,
            num_layers=20, num_single_layers=40, num_refiner_layers=2, mlp_ratio=4.0, patch_size=2, patch_size_t=1,
            qk_norm="rms_norm", guidance_embeds=True, text_embed_dim=text.T5_WIDTH, pooled_projection_dim=768,
        ),
        dtype,
    )  # fmt: skip


def vae_decoder(dtype: str) -> Any:
    """The causal 3D decoder: 512, 512, 256, 128 channels, 4 x 8 x 8 in time, height and width; on the meta device."""
    from diffusers import AutoencoderKLHunyuanVideo

    return decoder(
        lambda: AutoencoderKLHunyuanVideo(
            latent_channels=LATENT_CHANNELS, block_out_channels=(128, 256, 512, 512), layers_per_block=2,
            spatial_compression_ratio=8, temporal_compression_ratio=4, mid_block_add_attention=True,
        ),
        dtype,
        SCALE,
    )  # fmt: skip


MODEL = Model(
    id="hunyuanvideo",
    title="HunyuanVideo",
    request=Request,
    stages=stages,
    repeat_fields=("steps",),
    sources="Kong et al., arXiv 2412.03603; hunyuanvideo-community/HunyuanVideo, */config.json",
    libraries=("torch", "diffusers", "transformers"),
    frame_step=4,
)
