"""CogVideoX 2B and 5B: T5-XXL text encoder, a transformer with attention over text, space and time together, causal 3D decoder.

Yang et al., CogVideoX, 2024 (arXiv 2408.06072). Written from memory of transformer/config.json and vae/config.json of
THUDM/CogVideoX-{2b,5b}, which are diffusers' defaults but for heads, layers and rotary positions, and checked by the parameter
totals. The decoder takes two latent frames at a time (diffusers' default). Left out: the sampler's pointwise operators, the
table of rotary positions (made once).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG
from workloads.chunked import cut
from workloads.fields import Dtype, passes
from workloads.model import Model, Stage
from workloads.models.stable_diffusion_1_5 import PIXELS
from workloads.parts import text
from workloads.parts.decoder import decoder, in_one_piece
from workloads.parts.meta import meta, on_meta
from workloads.parts.request import Frames4, VideoRequest
from workloads.trace import Trace
from workloads.transforms import transformed

TEXT_LEN = 226  # tokens; transformer/config.json, max_text_seq_length
LATENT_CHANNELS = 16  # vae/config.json, latent_channels
HEAD = 64  # transformer/config.json, attention_head_dim
SIZES = {"2b": (30, 30, False), "5b": (48, 42, True)}  # heads, layers, rotary positions; transformer/config.json
LEVELS = 4  # of the decoder, each of twice the height and width of the one before; vae/config.json, block_out_channels
SCALES = {"2b": 1.15258426, "5b": 0.7}  # vae/config.json, scaling_factor


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request(VideoRequest):
    """What is asked of the pipeline."""

    frames: Frames4 = 49


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request2B(Request):
    """What is asked of the pipeline."""

    dtype: Dtype = "fp16"


@transformed()
def stages(size: str, request: Request) -> tuple[Stage, ...]:
    """Text encoder (prompt and, under guidance, negative prompt), transformer for every step, VAE decoder."""
    dtype, batch, guided = request.dtype, request.batch, passes(request.guidance)
    grid = ((request.frames - 1) // 4 + 1, request.height // PIXELS, request.width // PIXELS)
    tokens = grid[0] * (grid[1] // 2) * (grid[2] // 2)

    def latents() -> tuple[tuple[Any, ...], dict[str, Any]]:
        n = guided.rows * batch
        sample = meta(dtype, n, grid[0], LATENT_CHANNELS, *grid[1:])
        angles = (meta("fp32", tokens, HEAD), meta("fp32", tokens, HEAD)) if SIZES[size][2] else None
        known = {"image_rotary_emb": angles, "return_dict": False}
        return (sample, meta(dtype, n, TEXT_LEN, text.T5_WIDTH), meta("int64", n)), known

    return (
        text.encoder("text_encoder", partial(text.t5_xxl, dtype), batch, TEXT_LEN, guided.prompts),
        Stage(
            "transformer", "transformer", guided.runs * request.steps, partial(transformer, dtype, size), latents,
            frames=0, steps=request.steps,
        ),
        Stage(
            "vae_decoder", "vae_decoder", 1, partial(vae_decoder, dtype, SCALES[size]),
            lambda: ((meta(dtype, batch, LATENT_CHANNELS, *grid),), {}), frames=0,
            uncut=partial(vae_decoder, dtype, SCALES[size], uncut=True), cut=_cut,
        ),
    )  # fmt: skip


def _cut(trace: Trace, latents: tuple[int, ...]) -> Trace:
    return cut(trace, partial(_plane, latents[-2], latents[-1]))


def _plane(height: int, width: int, path: str) -> int:
    """Positions of a frame that the convolution at a path of the decoder reads."""
    level = re.search(r"decoder\.(?:(conv_in|mid_block)|up_blocks\.(\d))", path)
    doubled = LEVELS - 1 if level is None else 0 if level[1] else int(level[2])
    return (height << doubled) * (width << doubled)


def transformer(dtype: str, size: str) -> Any:
    """Expert transformer over patches of 2 x 2 latents; '2b' or '5b'; on the meta device."""
    from diffusers import CogVideoXTransformer3DModel

    heads, layers, rotary = SIZES[size]
    return on_meta(
        lambda: CogVideoXTransformer3DModel(
            num_attention_heads=heads, attention_head_dim=HEAD, in_channels=LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS, time_embed_dim=512, text_embed_dim=text.T5_WIDTH, num_layers=layers,
            attention_bias=True, sample_width=90, sample_height=60, sample_frames=49, patch_size=2,
            temporal_compression_ratio=4, max_text_seq_length=TEXT_LEN, use_rotary_positional_embeddings=rotary,
        ),
        dtype,
    )  # fmt: skip


def vae_decoder(dtype: str, scale: float, uncut: bool = False) -> Any:
    """The causal 3D decoder: 512, 256, 256, 128 channels, 4 x 8 x 8 in time, height and width; on the meta device.

    uncut: it takes every convolution in one piece.
    """
    from diffusers import AutoencoderKLCogVideoX

    found = decoder(
        lambda: AutoencoderKLCogVideoX(
            in_channels=3, out_channels=3, latent_channels=LATENT_CHANNELS, block_out_channels=(128, 256, 256, 512),
            layers_per_block=3, temporal_compression_ratio=4, down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4,
        ),
        dtype,
        scale,
    )  # fmt: skip
    return in_one_piece(found) if uncut else found


def _stages_of(size: str) -> Callable[[Request], tuple[Stage, ...]]:
    return lambda request: stages(size, request)


MODELS = tuple(
    Model(
        id=f"cogvideox-{size}",
        title=f"CogVideoX {size.upper()}",
        request=Request2B if size == "2b" else Request,
        stages=_stages_of(size),
        repeat_fields=("steps",),
        sources=f"Yang et al., arXiv 2408.06072; THUDM/CogVideoX-{size}, {{text_encoder,transformer,vae}}/config.json",
        libraries=("torch", "diffusers", "transformers"),
        frame_step=4,
    )
    for size in SIZES
)
