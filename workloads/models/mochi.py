"""Mochi 1 preview: T5-XXL text encoder, asymmetric diffusion transformer, causal 3D decoder.

Genmo, Mochi 1, 2024. Written from memory of transformer/config.json and vae/config.json of genmo/mochi-1-preview, which are
diffusers' defaults, and checked by the parameter totals (10 B; decoder 362 M). Attention runs over text, space and time together,
one sample after the other, over the text's tokens that are not padding: the library looks those up by their values, and the
mask is taken to be full (256 tokens).
"""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG, Quantity
from workloads.chunked import cut
from workloads.fields import multiple_of, passes
from workloads.kept import ALL, NONZERO
from workloads.model import Model, Stage
from workloads.models.stable_diffusion_1_5 import PIXELS
from workloads.parts import text
from workloads.parts.decoder import decoder, in_one_piece
from workloads.parts.meta import meta, on_meta
from workloads.parts.request import Side16, Steps, VideoRequest
from workloads.trace import Trace
from workloads.transforms import transformed

TEXT_LEN = 256  # tokens; diffusers' MochiPipeline, max_sequence_length
LATENT_CHANNELS = 12  # vae/config.json, latent_channels
GROUP = 6  # frames per latent after the first; vae/config.json, temporal_expansions (1, 2, 3)
NORMED = 8  # frames that the decoder normalises at a time; diffusers' MochiChunkedGroupNorm3D
SIDES = (1, 2, 4, 8)  # positions per latent along a side, at the decoder's levels; vae/config.json, spatial_expansions
EDGES = 2  # positions along each side that are added around what a convolution reads; diffusers' CogVideoXCausalConv3d, replicate
Frames6: TypeAlias = Annotated[
    int,
    Quantity(ge=1, le=65536, doc="frames of a clip: the first, and groups of 6"),
    AfterValidator(multiple_of(GROUP, 1)),
]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request(VideoRequest):
    """What is asked of the pipeline."""

    height: Side16 = 480
    width: Side16 = 848
    frames: Frames6 = 163  # 5.4 s at 30 frames/s, the longest that the model was published for
    steps: Steps = 64


@transformed()
def stages(request: Request) -> tuple[Stage, ...]:
    """Text encoder (prompt and, under guidance, negative prompt), transformer for every step, VAE decoder."""
    dtype, batch, guided = request.dtype, request.batch, passes(request.guidance)
    grid = (LATENT_CHANNELS, (request.frames - 1) // GROUP + 1, request.height // PIXELS, request.width // PIXELS)

    def latents() -> tuple[tuple[Any, ...], dict[str, Any]]:
        n = guided.rows * batch
        prompts, mask = meta(dtype, n, TEXT_LEN, text.T5_WIDTH), meta("bool", n, TEXT_LEN)
        return (meta(dtype, n, *grid), prompts, meta("int64", n), mask), {"return_dict": False}

    return (
        text.encoder("text_encoder", partial(text.t5_xxl, dtype), batch, TEXT_LEN, guided.prompts, mask=True),
        Stage(
            "transformer", "transformer", guided.runs * request.steps, partial(transformer, dtype), latents, frames=0,
            assume={NONZERO: ALL}, steps=request.steps,
        ),
        Stage(
            "vae_decoder", "vae_decoder", 1, partial(vae_decoder, dtype), lambda: ((meta(dtype, batch, *grid),), {}),
            frames=0, uncut=partial(vae_decoder, dtype, uncut=True),
            cut=_cut,
        ),
    )  # fmt: skip


def _cut(trace: Trace, latents: tuple[int, ...]) -> Trace:
    return cut(trace, partial(_plane, latents[-2], latents[-1]), NORMED)


def _plane(height: int, width: int, path: str) -> int:
    """Positions of a frame, with those at its edges, that the convolution at a path of the decoder reads; 0: it is not cut."""
    level = re.search(r"decoder\.(?:(block_in)|up_blocks\.(\d)|(block_out))", path)
    if level is None:
        return 0
    side = SIDES[0 if level[1] else -1 if level[3] else int(level[2])]
    return (side * height + EDGES) * (side * width + EDGES)


def transformer(dtype: str) -> Any:
    """48 blocks, width 3072 for the video and 1536 for the text, 24 heads of 128; on the meta device."""
    from diffusers import MochiTransformer3DModel

    return on_meta(
        lambda: MochiTransformer3DModel(
            patch_size=2, num_attention_heads=24, attention_head_dim=128, num_layers=48, pooled_projection_dim=1536,
            in_channels=LATENT_CHANNELS, text_embed_dim=text.T5_WIDTH, time_embed_dim=256, activation_fn="swiglu",
            max_sequence_length=TEXT_LEN,
        ),
        dtype,
    )  # fmt: skip


def vae_decoder(dtype: str, uncut: bool = False) -> Any:
    """The causal 3D decoder: 768, 512, 256, 128 channels, 6 x 8 x 8 in time, height and width; on the meta device.

    uncut: it takes every convolution and norm in one piece.
    """
    from diffusers import AutoencoderKLMochi

    found = decoder(
        lambda: AutoencoderKLMochi(
            latent_channels=LATENT_CHANNELS, decoder_block_out_channels=(128, 256, 512, 768),
            layers_per_block=(3, 3, 4, 6, 3), temporal_expansions=(1, 2, 3), spatial_expansions=(2, 2, 2),
        ),
        dtype,
        1.0,
    )  # fmt: skip
    return in_one_piece(found) if uncut else found


MODEL = Model(
    id="mochi",
    title="Mochi 1 preview",
    request=Request,
    stages=stages,
    repeat_fields=("steps",),
    sources="Genmo, 2024; genmo/mochi-1-preview, {text_encoder,transformer,vae}/config.json",
    libraries=("torch", "diffusers", "transformers"),
    frame_step=GROUP,
)
